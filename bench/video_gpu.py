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

IMAGES = ("encoder", "decoder")
VIDEOS = ("encoder", "memory_attention", "memory_encoder", "video_decoder")
BUILD = "--prompts 1:1:16 --points 1:2:8 --exact 1x2 --objects 1:8:8 --exact-objects 1"
BUILD += " --memories 7 --pointers 16"
"""One click and one object in fixed shapes, and any number up to eight. With `--exact-objects 1,8`
eight objects have fixed shapes too, for half as much building again."""


def steps(model: str, work: Path, options: argparse.Namespace) -> Iterator[Step]:
    """Yield what is done with one model, in order."""
    checkpoint, directory = work / "checkpoint.pt", work / "model"
    yield Step("seed", "torch", [str(ROOT / "bench" / "seeded.py"), model, str(checkpoint)])
    export = ["export", str(checkpoint), "-o", str(directory), "--model", model, "--video"]
    export += ["--opset", str(options.opset)]
    yield Step("export", "torch", samtrt(*export), needs=("seed",))
    is_built = options.backend in ("tensorrt", "tensorrt-rtx")
    if is_built:
        for stage in dict.fromkeys((*VIDEOS, *IMAGES)):
            build = ["build", str(directory), "--target", options.backend, "--stage", stage]
            build += ["--precision", options.precision, *shlex.split(options.build_arguments)]
            yield Step(f"engine-{stage}", "trt", samtrt(*build), needs=("export",))
    shown = [str(options.frames), "--warmup", str(options.warmup), "--device", options.device]
    for part in ("image", "1", "8"):
        if part != "image" and not int(part) <= options.most_objects:
            continue
        result, masks = work / f"ours-{part}.json", work / f"ours-{part}.npz"
        script = [str(ROOT / "bench" / "video_ours.py"), str(directory), part, "--frames", *shown]
        script += ["--backend", options.backend, "--json", str(result), "--masks", str(masks)]
        engines = (IMAGES if part == "image" else VIDEOS) if is_built else ()
        needs = ("export", *(f"engine-{stage}" for stage in engines))
        yield Step(f"ours-{part}", "trt", script, needs, result)
    if options.verify:
        reference, result = work / "reference.safetensors", work / "verify.json"
        common = ["verify", str(directory), "--frames", "8"]
        save = [*common, "-c", str(checkpoint), "--save-reference", str(reference)]
        yield Step("reference", "torch", samtrt(*save), needs=("export",))
        compare = [*common, "--backend", options.backend, "--device", options.device]
        compare += ["--reference", str(reference), "--json", str(result)]
        engines = [f"engine-{stage}" for stage in (*VIDEOS, *IMAGES)] if is_built else []
        yield Step("verify", "trt", samtrt(*compare), ("reference", *engines), result)
    for subject in options.subjects:
        result, masks = work / f"official-{subject}.json", work / f"official-{subject}.npz"
        script = [str(ROOT / "bench" / "video_official.py"), model, str(checkpoint), subject]
        script += ["--frames", *shown, "--json", str(result), "--masks", str(masks)]
        script += ["--objects", *(n for n in ("1", "8") if int(n) <= options.most_objects)]
        yield Step(f"official-{subject}", "gpu", script, ("seed",), result)


def summary(work: Path) -> dict[str, Any]:
    """Return the figures of one model, and how far its masks are from the float32 ones."""
    figures: dict[str, Any] = {}
    for path in sorted([*work.glob("ours-*.json"), *work.glob("official-*.json")]):
        figures[path.stem] = json.loads(path.read_text())
    verified = work / "verify.json"
    if verified.exists():
        figures["verify"] = json.loads(verified.read_text())["summary"]
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
    parser.add_argument("--build-arguments", default=BUILD, help="words for samtrt build")
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument(
        "--verify", action="store_true", help="samtrt verify too; the checkpoint's side on the CPU"
    )
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
