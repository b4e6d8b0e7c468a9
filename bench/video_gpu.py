"""SAM 2 on one GPU: TensorRT's engines beside the official package, eager and compiled.

    python bench/video_gpu.py --out video.json --torch-python A --trt-python A --gpu-python B

Of each model: what an image's encoding and a click take, and frames a second with 1 and 8 objects.
Weights are seeded, and objects never lost. The official side (`bench/video_official.py`) runs in
bfloat16, as its notebooks do, and has its frames on the GPU beforehand; ours begins with bytes on
the host. Both find the same objects on the same frames, and their masks are compared with the
official model's in float32.

Steps, each in a process of its own, are resumed as in `bench/trt.py`: `--torch-python` makes the
checkpoint and exports (PyTorch), `--trt-python` builds and runs engines, and
`--gpu-python` runs the official side (PyTorch for the GPU, `sam2==1.1.0`, tqdm), and is the one to
start this with. A rehearsal on a CPU:

    python bench/video_gpu.py --models sam2.1_hiera_t --backend onnxruntime --device cpu \\
        --frames 24 --warmup 4 --subjects eager --out rehearsal.json
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trt import ROOT, Step, gpu, samtrt, work_through
from video_scene import SUBJECTS, compared

IMAGES = "--prompts 1 --points 2 --exact none"
VIDEOS = "--memories 7 --pointers 16 --points 2 --exact-objects none"
"""Every shape is fixed: TensorRT 8.6 does not build every decoder for a range of them."""
COPY = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)"


def steps(model: str, work: Path, options: argparse.Namespace) -> Iterator[Step]:
    """Yield what is done with one model, in order."""
    checkpoint, directory = work / "checkpoint.pt", work / "model"
    yield Step("seed", "torch", [str(ROOT / "bench" / "seeded.py"), model, str(checkpoint)])
    export = ["export", str(checkpoint), "-o", str(directory), "--model", model, "--video"]
    export += ["--opset", str(options.opset)]
    yield Step("export", "torch", samtrt(*export), needs=("seed",))
    is_built = options.backend in ("tensorrt", "tensorrt-rtx")

    def engine(stage: str, place: Path, sizes: str, needs: str) -> Step:
        build = ["build", str(place), "--target", options.backend, "--stage", stage]
        build += ["--precision", options.precision, *shlex.split(sizes)]
        build += shlex.split(options.build_arguments)
        name = "-".join(["engine", stage, *place.name.split("-")[1:]])
        return Step(name, "trt", samtrt(*build), needs=(needs,))

    def ours(part: str, place: Path, needs: tuple[str, ...]) -> Step:
        result, masks = work / f"ours-{part}.json", work / f"ours-{part}.npz"
        script = [str(ROOT / "bench" / "video_ours.py"), str(place), part, "--frames", *shown]
        script += ["--backend", options.backend, "--json", str(result), "--masks", str(masks)]
        return Step(f"ours-{part}", "trt", script, needs, result)

    shown = [str(options.frames), "--warmup", str(options.warmup), "--device", options.device]
    numbers = [number for number in ("1", "8") if int(number) <= options.most_objects]
    first = "engine-encoder" if is_built else "export"
    if is_built:
        yield engine("encoder", directory, "", "export")
    for number in numbers:
        place = work / f"model-{number}"  # engines of two would share a name
        copied, needs = f"copy-{number}", [f"copy-{number}"]
        yield Step(copied, "trt", ["-c", COPY, str(directory), str(place)], needs=(first,))
        for stage in ("memory_attention", "memory_encoder", "video_decoder") if is_built else ():
            one = engine(stage, place, f"--objects {number} {VIDEOS}", copied)
            needs.append(one.name)
            yield one
        yield ours(number, place, tuple(needs))
    if is_built:
        yield engine("decoder", directory, IMAGES, first)
    yield ours("image", directory, (first, *(["engine-decoder"] if is_built else [])))
    for subject in options.subjects:
        result, masks = work / f"official-{subject}.json", work / f"official-{subject}.npz"
        script = [str(ROOT / "bench" / "video_official.py"), model, str(checkpoint), subject]
        script += ["--frames", *shown, "--json", str(result), "--masks", str(masks)]
        script += ["--objects", *numbers]
        yield Step(f"official-{subject}", "gpu", script, ("seed",), result)


def summary(work: Path) -> dict[str, Any]:
    """Return the figures of one model, and how far its masks are from the float32 ones."""
    figures: dict[str, Any] = {}
    for path in sorted([*work.glob("ours-*.json"), *work.glob("official-*.json")]):
        figures[path.stem] = json.loads(path.read_text())
    reference = work / "official-float32.npz"
    if reference.exists():
        for path in sorted(work.glob("*.npz")):
            if path != reference:
                figures.setdefault(path.stem, {})["iou"] = compared(path, reference)
    return figures


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["sam2.1_hiera_tiny", "sam2.1_hiera_large"])
    parser.add_argument("--only", nargs="+", help="do steps of such names alone, such as engine-")
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--opset", type=int, default=17, help="TensorRT 8.6 needs 17")
    parser.add_argument("--build-arguments", default="", help="more words for samtrt build")
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--most-objects", type=int, default=8)
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--warmup", type=int, default=20, help="frames before those that count")
    for name in ("torch", "trt", "gpu"):
        parser.add_argument(f"--{name}-python", default=sys.executable)
        parser.add_argument(f"--{name}-site", help=f"packages that --{name}-python lacks")
    parser.add_argument("--work", type=Path, default=Path("/tmp/samtrt-video-bench"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1e9, help="time for this run")
    parser.add_argument("--least-seconds", type=float, default=5, help="begin no step with less")
    return parser.parse_args()


def main() -> int:
    options = parse()
    done = work_through(options, steps)
    records = json.loads(options.out.read_text())
    records["figures"] = {
        path.name: summary(path) for path in sorted(options.work.iterdir()) if path.is_dir()
    }
    records["machine"]["gpu"] = gpu()
    options.out.write_text(json.dumps(records, indent=1) + "\n")
    for model, figures in records["figures"].items():
        for name, found in figures.items():
            print(f"{model} {name}: {json.dumps(found)}")
    print(f"written to {options.out}" + ("" if done else "; not all is done: run it again"))
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
