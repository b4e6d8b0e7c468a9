"""What `bench/one_gpu.py` does: every export, build, check and timing, as commands of a shell."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

FILTERS = {"vit_b": "1.9 0.93", "vit_s": "0.6 0.88"}
"""For automatic masks: of seeded noise the official thresholds keep nearly everything."""
STAGES = ("encoder", "decoder", "memory_attention", "memory_encoder", "video_decoder")
FAMILIES = ("mobile_sam", "efficientvit_sam_l0", "slim_sam_50", "sam_hq_vit_tiny", "sam_hq_vit_b")
VIDEOS = ("sam2.1_hiera_tiny", "sam2.1_hiera_large")
NOT_BUILT = {
    "plain": ("plain/decoder.onnx", "identity-reshape-after-gelu small-transposes primitive-norms"),
    "sam2.1_hiera_tiny": (
        "sam2.1_hiera_tiny/encoder.onnx",
        "linear-as-convolution primitive-norms",
    ),
    "efficientvit_sam_l0": ("efficientvit_sam_l0/plugin/encoder.onnx", "mul-for-pow"),
}
"""Graphs that TensorRT 8.6.0 did not build, and other ways to write them."""


@dataclass(frozen=True)
class Task:
    """One command of a shell; `kind` is one of MOST's, `needs` are names of tasks before it."""

    kind: str
    command: str
    needs: tuple[str, ...] = ()
    seconds: float = 600


def planned(options: argparse.Namespace) -> dict[str, Task]:
    """Return all tasks by name, in the order in which they are begun where they can be."""
    tasks: dict[str, Task] = {}
    for model in ("vit_b", "vit_s", "vit_l", "vit_h", *FAMILIES):
        tasks |= image_tasks(model, options)
    tasks |= batch_tasks(options)
    tasks |= plain_tasks(options)
    for model in VIDEOS:
        tasks |= video_tasks(model, options)
    kernels = f"{options.gpu_python} bench/kernels.py {options.plugin}"
    tasks["kernels"] = Task("time", f"{kernels} --models vit_s vit_b vit_l vit_h {put('kernels')}")
    tests = f"{options.trt_python} -m pytest -m gpu -q --maxfail 30 -p no:cacheprovider"
    tests = " ".join([tests, *options.tests])
    tasks["tests"] = Task("build", tests)
    for name, python, subject in (
        ("sanitizer-plugin", options.gpu_python, "plugin"),
        ("sanitizer-masks", options.trt_python, "'masks and preparation'"),
    ):
        clean = f"{python} bench/sanitize.py {options.plugin} --subjects {subject}"
        tasks[name] = Task("build", f"{clean} {put(name)}")
    return tasks


def put(name: str) -> str:
    return f"--json $OUT/{name}.json"


def image_tasks(model: str, options: argparse.Namespace) -> dict[str, Task]:
    """Return what is done with one model of images: engines, masks, times, PyTorch beside."""
    python, torch = options.trt_python, f"{options.gpu_python} bench/torch_gpu.py --models {model}"
    steps = f"{python} bench/trt.py --models {model} --variants fp16-plugin --plugin $PLUGIN"
    steps += " --work $WORK --out $OUT/steps-$TASK.json --build-arguments '--stage encoder'"
    engines, checkpoint = f"$WORK/{model}/fp16-plugin", f"$WORK/{model}/checkpoint.safetensors"
    if model == "vit_s":
        checkpoint = "src/samtrt_assets/vit_s.safetensors"
    copy = f"$WORK/{model}/decoders"
    build = f"{python} -m samtrt build {copy} -t tensorrt --precision fp16 --stage decoder"
    decoders = f"cp -r $WORK/{model}/plugin {copy} && {build} --plugin $PLUGIN --exact 1x2,64x2"
    joined = f"cp {copy}/decoder*.tensorrt.* {copy}/samtrt_plugin.so {engines}/"
    run = f"{engines} --backend tensorrt --device cuda"
    reference = f"--reference $WORK/{model}/reference.safetensors"
    verify = f"{joined} && {python} -m samtrt verify {run} {reference}"
    both = (f"encoder-{model}", f"decoders-{model}")
    tasks = {
        f"export-{model}": Task("cpu", f"{steps} --only seed export reference"),
        both[0]: Task("build", f"{steps} --only build", (f"export-{model}",)),
        both[1]: Task("build", decoders, (f"export-{model}",)),
        f"warm-{model}": Task("build", f"{torch} --warm {put(f'warm-{model}')}"),
        f"verify-{model}": Task("build", f"{verify} {put(f'verify-{model}')}", both),
    }
    timed = {"device": f"{python} bench/device.py model {engines}"}
    if model not in FAMILIES:
        timed["profile"] = f"{python} bench/trt_profile.py {engines} --stage encoder"
    if model in FILTERS:
        least, stable = FILTERS[model].split()
        filters = f"--pred-iou-thresh {least} --stability-score-thresh {stable}"
        timed["auto"] = f"{python} bench/auto_gpu.py samtrt {engines} {filters}"
        official = f"bench/auto_gpu.py official {checkpoint} {filters} --rounds 5"
        timed["official"] = f"{options.gpu_python} {official}"
    for name, command in timed.items():
        tasks[f"{name}-{model}"] = Task(
            "time", f"{command} {put(f'{name}-{model}')}", (f"verify-{model}",), 120
        )
    tasks[f"torch-{model}"] = Task("time", f"{torch} {put(f'torch-{model}')}", (f"warm-{model}",))
    return tasks


def batch_tasks(options: argparse.Namespace) -> dict[str, Task]:
    """Return what counts images a second of ViT-B, in batches of up to 8 and on two streams."""
    python, folder = options.trt_python, "$WORK/vit_b/batches"
    export = f"{python} -m samtrt export $WORK/vit_b/checkpoint.safetensors --model vit_b"
    export += f" -o {folder} --opset 17 --attention plugin --dynamic-batch"
    build = f"{python} -m samtrt build {folder} -t tensorrt --precision fp16 --plugin $PLUGIN"
    count = f"{python} bench/device.py throughput {folder} {put('batches')}"
    return {
        "export-batches": Task("cpu", export, ("export-vit_b",)),
        "build-batches": Task(
            "build", f"{build} --stage encoder --batch 1:8:8", ("export-batches",)
        ),
        "batches": Task("time", count, ("build-batches",)),
    }


def plain_tasks(options: argparse.Namespace) -> dict[str, Task]:
    """Return what tells of TensorRT 8.6 without the plugin: whole builds, and why others fail."""
    python, tasks = options.trt_python, {}
    for precision in ("fp32", "fp16"):
        work = f"--work $WORK/plain-{precision} --out $OUT/plain-{precision}.json"
        steps = f"{python} bench/trt.py --models vit_s --variants {precision} {work}"
        tasks[f"plain-{precision}"] = Task("build", f"{steps} --only export reference build verify")
    export = f"{python} -m samtrt export src/samtrt_assets/vit_s.safetensors -o $WORK/plain"
    tasks["export-plain"] = Task("cpu", f"{export} --opset 17")
    for name, (graph, edits) in NOT_BUILT.items():
        bisect = f"{python} bench/trt_bisect.py $WORK/{graph} --jobs 3"
        needs = (f"export-{name}",)
        tasks[f"edits-{name}"] = Task(
            "build", f"{bisect} --edits {edits} {put(f'edits-{name}')}", needs, 200
        )
        tasks[f"part-{name}"] = Task("build", f"{bisect} {put(f'part-{name}')}", needs, 400)
    return tasks


def video_tasks(model: str, options: argparse.Namespace) -> dict[str, Task]:
    """Return what is done with a model of videos: five engines, and the official package beside."""
    python, work = options.trt_python, f"$WORK/{model}"
    export = f"{python} bench/seeded.py {model} {work}.pt && {python} -m samtrt export {work}.pt"
    tasks = {
        f"export-{model}": Task("cpu", f"{export} -o {work} --model {model} --video --opset 17")
    }
    sizes = "--exact 1x2 --prompts 1:1:8 --points 1:2:8 --exact-objects 1,8"
    for stage in STAGES:
        copy = f"cp -r {work} {work}-{stage} && {python} -m samtrt build {work}-{stage}"
        build = f"{copy} -t tensorrt --stage {stage} --precision fp16 {sizes}"
        built = f"{build} --memories 7 --pointers 16 && cp {work}-{stage}/*.tensorrt.* {work}/"
        tasks[f"{stage}-{model}"] = Task("build", built, (f"export-{model}",))
    needs = tuple(f"{stage}-{model}" for stage in STAGES)
    for part in ("image", "1", "8"):
        name = f"ours-{part}-{model}"
        ours = f"{python} bench/video_ours.py {work} {part} --masks $OUT/{name}.npz {put(name)}"
        tasks[name] = Task("time", ours, needs, 120)
    for subject in ("eager", "float32", "compiled"):
        name = f"{subject}-{model}"
        theirs = f"{options.gpu_python} bench/video_official.py {model} {work}.pt {subject}"
        theirs += f" --masks $OUT/{name}.npz {put(name)}"
        tasks[name] = Task("time", theirs, (f"export-{model}",), 300)
    return tasks
