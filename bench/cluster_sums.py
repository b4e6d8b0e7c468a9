"""The arithmetic of docs/cluster.md: measured times and sizes, times what is assumed.

    python bench/cluster_sums.py                      # print the tables
    python bench/cluster_sums.py --write              # and put them into docs/cluster.md
    python bench/cluster_sums.py --gpus 8 --images 100000 --price 2.5 --users 500

Takes a JSON of `bench/device.py` and `bench/trt.py`, for one GPU, and one of `bench/cluster.py`,
for what surrounds it. Nothing is run, and the sums are estimates: they scale without loss.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
DOCUMENT = ROOT / "docs" / "cluster.md"
MIB = 2**20
EMBEDDING = 256 * 64 * 64
"""Values of an embedding of SAM."""


@dataclass(frozen=True)
class Measured:
    """Seconds and bytes of one image or prompt.

    Attributes:
        automatic, encode, boxes: Of a GPU: 32 x 32 points; an image; 64 boxes to RLE.
        upload, click: Of a GPU, as a server does them: an image; a prompt, three masks to the host.
        read: Of a core: a JPEG.
        write, merge: Of a core: an image's COCO file; its part of the file about all images.
        result, image: Bytes of such a file, and of a JPEG.
        ray: Of a core: what a worker takes for an image whose own work takes nothing.
        run: Of a core, a second: what a run takes beside its workers.
    """

    automatic: float
    encode: float
    boxes: float
    upload: float
    click: float
    read: float
    write: float
    merge: float
    result: float
    image: float
    ray: float
    run: float

    @classmethod
    def of(cls, gpu: dict[str, Any], cluster: dict[str, Any]) -> Measured:
        """Take them from the two JSONs."""
        model = gpu["models"]["vit_b"]
        parts = {one["part"]: one["p50"] for one in model["bench"]}
        device, coco = model["device"], cluster["results_of_an_image"]["COCO"]
        runs = cluster["a_run_a_second"]
        return cls(
            automatic=model["automatic_masks"]["ms"]["p50"] / 1e3,
            encode=parts["preprocess and encode"] / 1e3,
            boxes=device["64 boxes to RLE"]["wall_ms"] / 1e3,
            upload=device["set_image"]["wall_ms"] / 1e3,
            click=device["click: three masks on the host"]["wall_ms"] / 1e3,
            read=parts["read image"] / 1e3,
            write=coco["cpu_s"],
            merge=coco["merge_cpu_s"],
            result=coco["bytes"],
            image=cluster["image_bytes"],
            ray=max(
                one["cpu_share_of"]["actor MapWorker"] / one["images_a_second"] for one in runs
            ),
            run=max(one["above_idle_cpu_share"] for one in runs),
        )


@dataclass(frozen=True)
class Assumed:
    """What is not measured.

    Attributes:
        gpus, images: Of a run.
        price: Of a GPU for an hour, in dollars.
        users: At work at once.
        upload_seconds, prompt_seconds: Between two uploads, and two prompts, of a user.
        kept_seconds: How long an embedding is wanted.
        kept_bytes: Of embeddings that one GPU's server holds.
        load: Share of a GPU's time that is planned for.
    """

    gpus: int = 64
    images: int = 10_000_000
    price: float = 3.0
    users: int = 100_000
    upload_seconds: float = 120.0
    prompt_seconds: float = 2.0
    kept_seconds: float = 300.0
    kept_bytes: float = 128 * 2**30
    load: float = 0.7


def of_a_run(one: Measured, given: Assumed) -> str:
    """Return the tables about many images."""
    works = {
        "automatic masks, 32 x 32 points": (one.automatic, one.write, one.result),
        "64 boxes": (one.encode + one.boxes, one.write, one.result),
        "embeddings": (one.encode, 0.0, EMBEDDING * 2.0),
    }
    head = f"| work | one GPU, ms an image | {given.gpus} GPUs, images/s | {number(given.images)} "
    lines = [f"{head}images | GPU hours | at {given.price:g} $/h |", "|---|---|---|---|---|---|"]
    columns: list[list[str]] = []
    for name, (gpu, write, result) in works.items():
        rate = given.gpus / gpu
        hours = given.images * gpu / 3600
        lines.append(
            f"| {name} | {number(gpu * 1e3)} | {number(rate)} | {duration(given.images / rate)} | "
            f"{number(hours)} | {number(hours * given.price)} $ |"
        )
        columns.append(
            [
                number(rate * one.read),
                number(rate * write) if write else "none",
                number(rate * one.ray + one.run),
                f"{number(rate * one.image / 1e9)} GB/s",
                f"{number(rate * result / 1e9)} GB/s, {number(given.images * result / 1e12)} TB",
                number(rate),
                number(rate / 128),
            ]
        )
    rows = [
        f"cores to read JPEG, {number(one.read * 1e3)} ms",
        f"cores to write COCO alone, {number(one.write * 1e3)} ms",
        f"cores for Ray, {number(one.ray * 1e3)} ms, and {number(one.run)} for the run",
        f"images read, {number(one.image / 1e6)} MB each",
        f"results, {number(one.result / 1e3)} kB, or 2 MiB of an embedding",
        "files made a second",
        "blocks of 128 a second, for the command and Ray",
    ]
    lines += ["", "| | " + " | ".join(works) + " |", "|---|---|---|---|"]
    lines += [
        f"| {row} | " + " | ".join(column[index] for column in columns) + " |"
        for index, row in enumerate(rows)
    ]
    whole = given.images * one.merge
    lines += [
        "",
        *wrapped(
            f"The end of a run, `annotations.json`: {number(one.merge * 1e3)} ms of one core an "
            f"image, {duration(100_000 * one.merge)} for 100,000 images, {duration(whole)} for "
            f"{number(given.images)}, in a file of {number(given.images * one.result / 1e9)} GB."
        ),
    ]
    return "\n".join(lines)


def of_users(one: Measured, given: Assumed) -> str:
    """Return the table about interactive users."""
    uploads, prompts = given.users / given.upload_seconds, given.users / given.prompt_seconds
    held = uploads * given.kept_seconds
    encoding, decoding = uploads * one.upload, prompts * one.click
    size = EMBEDDING * 4.0
    cache = held * size / given.kept_bytes
    gpus = max((encoding + decoding) / given.load, cache)
    hour = gpus * given.price
    lines = [
        "| | a second | of one GPU | GPUs |",
        "|---|---|---|---|",
        f"| uploads | {number(uploads)} | {number(one.upload * 1e3)} ms | {number(encoding)} |",
        f"| prompts, three masks to the host | {number(prompts)} | {number(one.click * 1e3)} ms | "
        f"{number(decoding)} |",
        f"| embeddings held, {given.kept_seconds:g} s each | {number(held)} x 4 MiB = "
        f"{number(held * size / 2**40)} TiB | {number(given.kept_bytes / 2**30)} GiB, half of it "
        f"the GPU's own | {number(cache)} |",
        "",
        *wrapped(
            f"In all {number(gpus)} GPUs at {given.load:.0%} load, {number(hour)} $ an hour, "
            f"{number(100 * hour / given.users)} cents an hour for each user. One that dies takes "
            f"{number(held / gpus)} images with it, which the others encode anew in "
            f"{number(held / gpus * one.upload)} s of one GPU's time. Embeddings sent for each "
            f"prompt would be {number(prompts * size / 1e9)} GB/s; browsers that decode by "
            f"themselves take {number(uploads * size / 2 / 1e9)} GB/s, in fp16."
        ),
    ]
    return "\n".join(lines)


def wrapped(text: str) -> list[str]:
    """Return lines of a document."""
    return textwrap.wrap(text, 104, break_long_words=False, break_on_hyphens=False)


def number(value: float) -> str:
    """Write a number with three digits, or all of those before the point."""
    if value >= 99.5:
        digits = 2 - len(str(int(value)))
        return f"{round(value, min(0, digits + 1)):,.0f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Write a time."""
    for name, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{number(seconds / size)} {name}"
    return f"{number(seconds)} s"


def put_in(text: str, name: str, table: str) -> str:
    """Return a document with the text between two marks replaced."""
    begin, end = f"<!-- {name} -->\n", "<!-- end -->\n"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    changed, count = re.subn(pattern, lambda _: f"{begin}\n{table}\n\n{end}", text, flags=re.S)
    if count != 1:
        raise SystemExit(f"{DOCUMENT} has no place for {name}")
    return changed


def newest(pattern: str) -> Path:
    return max(RESULTS.glob(pattern))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--gpu", type=Path, default=RESULTS / "trt-device-2026-11-27.json")
    parser.add_argument("--cluster", type=Path, help="default: the newest")
    parser.add_argument("--write", action="store_true", help="into docs/cluster.md")
    for name in ("gpus", "images", "price", "users"):
        kind = type(getattr(Assumed, name))
        parser.add_argument(f"--{name}", type=kind, default=getattr(Assumed, name))
    options = parser.parse_args()
    cluster = options.cluster or newest("cluster-*.json")
    given = Assumed(options.gpus, options.images, options.price, options.users)
    one = Measured.of(json.loads(options.gpu.read_text()), json.loads(cluster.read_text()))
    tables = {"many images": of_a_run(one, given), "users": of_users(one, given)}
    for table in tables.values():
        print(table, end="\n\n")
    if options.write:
        if given != Assumed():
            sys.exit("the document has the sums of the default assumptions")
        text = DOCUMENT.read_text(encoding="utf-8")
        for name, table in tables.items():
            text = put_in(text, name, table)
        DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
