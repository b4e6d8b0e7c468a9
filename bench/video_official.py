"""The official side of `bench/video_gpu.py`: `sam2==1.1.0` eager, or compiled as its VOS predictor.

Frames are resized and on the device before time begins. `float32` gives masks to compare with.
Compiling tries no Triton products in the place of cuBLAS's and cuDNN's: with them, as the official
`max-autotune` has it, it was not done after ten minutes on an H100. With `--when FILE` everything
is done once before, briefly, and nothing is measured until that file is there: compiling can go on
beside other work, and times are taken when nothing else runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam2_official import official_sam2, official_sam2_predictor, sam2_package
from samtrt.registry import get_spec
from video_scene import (
    KEPT,
    SIZE,
    SUBJECTS,
    arguments,
    clicks,
    frames,
    percentiles,
    save_masks,
    write,
)

BRIEF = 12
"""Frames that are followed so that everything is compiled."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prepared(shown: list[np.ndarray], side: int, device: str) -> torch.Tensor:
    """Return frames as official `load_video_frames` does: float32 [T, 3, S, S]."""
    mean, std = (torch.tensor(one)[:, None, None] for one in (MEAN, STD))
    made = []
    for frame in shown:
        pixels = np.array(Image.fromarray(frame).resize((side, side)))
        made.append(((torch.from_numpy(pixels).permute(2, 0, 1) / 255.0) - mean) / std)
    return torch.stack(made).to(device)


def clock(call: Callable[[], Any], device: str, runs: int) -> dict[str, float]:
    """Return wall times of a call that is waited for and, on a GPU, its own clock's."""
    on_gpu = device.startswith("cuda")
    for _ in range(5):
        call()
    wall, own = [], []
    for _ in range(runs):
        if on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
        begun = time.perf_counter()
        call()
        if on_gpu:
            end.record()
            end.synchronize()
            own.append(start.elapsed_time(end))
        wall.append(time.perf_counter() - begun)
    result = percentiles(wall)
    return {**result, "gpu_ms": round(float(np.median(own)), 3)} if own else result


def follow(
    model: Any, objects: int, images: torch.Tensor, options: argparse.Namespace
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Follow objects; return figures, and the first frames' masks."""
    on_gpu = options.device.startswith("cuda")
    module = sam2_package().sam2_video_predictor
    module.load_video_frames = lambda **_: (images, *SIZE)
    module.tqdm = lambda numbers, **_: numbers
    state = model.init_state("")
    for number, click in enumerate(clicks(objects)):
        model.add_new_points_or_box(state, 0, number, points=[click], labels=[1])
    kept, times, begun = [], [], time.perf_counter()
    most = KEPT - 1 if options.subject == "float32" else None
    for number, _, logits in model.propagate_in_video(state, max_frame_num_to_track=most):
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
        if number < KEPT:
            kept.append((logits[:, 0] > 0).cpu().numpy())
        begun = time.perf_counter()
    counted = times[options.warmup :] or times
    rate = round(len(counted) / sum(counted), 2)
    return {"objects": objects, "frames_per_second": rate, **percentiles(counted)}, kept


def compile_sooner() -> None:
    """Have products and convolutions by libraries alone."""
    from torch._inductor import config

    config.max_autotune_gemm_backends = config.max_autotune_conv_backends = "ATEN"


def keep_results(model: Any) -> None:
    """Have results copied out of a CUDA graph's memory, where the package leaves them in it.

    It copies others itself. Its predictor of images does not know that the model may be compiled,
    and what attention to memories gives is read after the next object's, which is an error.
    """
    for module in (model.sam_prompt_encoder, model.memory_attention):
        module.forward = copied(module.forward)


def copied(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the same results, tensors or tuples of them, in memory of their own."""

    def call_and_copy(*arguments: Any, **words: Any) -> Any:
        found = call(*arguments, **words)
        return found.clone() if torch.is_tensor(found) else tuple(one.clone() for one in found)

    return call_and_copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--when", type=Path, help="a file: measure once it is there")
    arguments(parser)
    options = parser.parse_args()
    device, exact = options.device, options.subject == "float32"
    spec = get_spec(options.model)
    if options.subject == "compiled":
        compile_sooner()
    model = official_sam2(spec, video=True, compiled=options.subject == "compiled")
    weights = torch.load(options.checkpoint, map_location="cpu", weights_only=True)["model"]
    model.load_state_dict(weights)
    model.to(device)
    if options.subject == "compiled":
        keep_results(model)
    model.fill_hole_area = 0  # takes an extension that PyPI's package has not
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact
    # Distances in time are shares of a short video's length: all sides need one that is not short.
    shown = frames(min(16, options.frames) if exact else options.frames)
    images = prepared(shown, spec.image_size, device)
    half = torch.autocast(device.partition(":")[0], torch.bfloat16)
    with torch.inference_mode(), nullcontext() if exact else half:
        if options.when:
            brief = {"runs": 3, "json": options.when.with_suffix(".brief.json")}
            measure(model, shown, images[:BRIEF], argparse.Namespace(**vars(options) | brief))
            while not options.when.exists():
                time.sleep(0.1)
        measure(model, shown, images, options)


def measure(
    model: Any, shown: list[np.ndarray], images: torch.Tensor, options: argparse.Namespace
) -> None:
    """Write all figures, and masks; where time runs out, there is what was done by then."""
    exact = options.subject == "float32"
    result: dict[str, Any] = {"torch": torch.__version__}
    begun = options.json.with_suffix(".begun.json")
    predictor = official_sam2_predictor(model)
    predictor.set_image(shown[0])
    click = {"point_coords": np.array(clicks(1)), "point_labels": np.ones(1)}
    masks: dict[int, list[np.ndarray]] = {0: [predictor.predict(**click)[0] > 0]}
    if not exact:
        for name, call in (
            ("encode", lambda: model.forward_image(images[:1])),
            ("click", lambda: predictor.predict(**click)),
        ):
            result[name] = clock(call, options.device, options.runs)
        write(begun, result)
    for objects in options.objects:
        found, masks[objects] = follow(model, objects, images, options)
        if not exact:
            result[f"objects_{objects}"] = found
            write(begun, result)
        save_masks(options.masks, masks)
    write(options.json, result)
    begun.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
