"""What `bench/one_gpu.py` does: every export, build, check and timing, as commands of a shell."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

FILTERS = {"vit_b": "1.9 0.93", "vit_s": "0.6 0.88"}
"""For automatic masks: of seeded noise the official thresholds keep nearly everything."""
VIDEO_STAGES = ("memory_attention", "memory_encoder", "video_decoder")
FAMILIES = ("mobile_sam", "efficientvit_sam_l0", "slim_sam_50", "sam_hq_vit_tiny", "sam_hq_vit_b")
KERNELS = "vit_s vit_b vit_l vit_h sam2.1_hiera_tiny sam2.1_hiera_large"
VIDEOS = ("sam2.1_hiera_tiny", "sam2.1_hiera_large")
NOT_BUILT = {
    "plain": ("plain/decoder.onnx", "identity-reshape-after-gelu small-transposes primitive-norms"),
    "efficientvit_sam_l0": (
        "efficientvit_sam_l0/plugin/encoder.onnx",
        "sigmoid-for-tanh cast-after-depthwise",
    ),
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
    tasks["kernels"] = Task("time", f"{kernels} --models {KERNELS} {put('kernels')}")
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
    tasks = {"export-batches": Task("cpu", export, ("export-vit_b",))}
    for name, sizes, counts in (("batches", "1:8:8", "1 2 4 8"), ("batch8", "8", "8")):
        place = f"$WORK/vit_b/{name}-engine"
        build = f"{python} -m samtrt build {place} -t tensorrt --precision fp16 --stage encoder"
        build = f"cp -r {folder} {place} && {build} --plugin $PLUGIN --batch {sizes}"
        tasks[f"build-{name}"] = Task("build", build, ("export-batches",))
        count = f"{python} bench/device.py throughput {place} --counts {counts} --runs 200"
        tasks[name] = Task("time", f"{count} {put(name)}", (f"build-{name}",))
        for batch in sorted({counts[0], counts[-1]}):
            profile = f"{python} bench/trt_profile.py {place} --batch {batch}"
            found = f"profile-{name}-{batch}"
            tasks[found] = Task("time", f"{profile} {put(found)}", (f"build-{name}",))
    return tasks


def plain_tasks(options: argparse.Namespace) -> dict[str, Task]:
    """Return what tells of TensorRT 8.6 without the plugin: whole builds, and why others fail."""
    python, work = options.trt_python, "$WORK/plain"
    checkpoint = "src/samtrt_assets/vit_s.safetensors"
    export = f"{python} -m samtrt export {checkpoint} -o {work} --opset 17"
    save = f"{python} -m samtrt verify {work} -c {checkpoint} --save-reference"
    tasks = {
        "export-plain": Task("cpu", export),
        "reference-plain": Task("cpu", f"{save} {work}.safetensors", ("export-plain",)),
    }
    for precision in ("fp32", "fp16"):
        name = f"plain-{precision}"
        build = f"{python} -m samtrt build $WORK/{name} -t tensorrt --precision {precision}"
        verify = f"{python} -m samtrt verify $WORK/{name} --backend tensorrt --device cuda"
        verify += f" --reference {work}.safetensors {put(name)}"
        command = f"cp -r {work} $WORK/{name} && {build} && {verify}"
        tasks[name] = Task("build", command, ("export-plain", "reference-plain"))
    for name, (graph, edits) in NOT_BUILT.items():
        bisect = f"{python} bench/trt_bisect.py $WORK/{graph} --jobs 3"
        needs = (f"export-{name}",)
        tasks[f"edits-{name}"] = Task(
            "build", f"{bisect} --edits {edits} {put(f'edits-{name}')}", needs, 200
        )
        slow = "--slow" if name in FAMILIES else ""  # it is not refused, but not done either
        part = f"{bisect} {slow} {put(f'part-{name}')}"
        tasks[f"part-{name}"] = Task("build", part, needs, 600)
    return tasks


def video_tasks(model: str, options: argparse.Namespace) -> dict[str, Task]:
    """Return what is done with a model of videos: its engines, and the official package beside.

    Times are of engines for one number of objects; what `verify` checks are those for all.
    """
    python, work = options.trt_python, f"$WORK/{model}"
    seed = f"{python} bench/seeded.py {model} {work}.pt"
    export = f"{python} -m samtrt export {work}.pt -o {work} --model {model} --video --opset 17"
    check = f"{python} -m samtrt verify {work} --checkpoint {work}.pt"
    tasks = {
        f"export-{model}": Task("cpu", f"{seed} && {export} --attention plugin"),
        f"reference-{model}": Task(
            "cpu", f"{check} --save-reference {work}.safetensors", (f"export-{model}",)
        ),
    }

    def engine(stage: str, kind: str, sizes: str) -> str:
        name = f"{stage}-{kind}-{model}" if kind else f"{stage}-{model}"
        place = f"$WORK/{name}"
        build = f"{python} -m samtrt build {place} -t tensorrt --stage {stage} --precision fp16"
        build = f"cp -r {work} {place} && {build} --plugin $PLUGIN {sizes}"
        tasks[name] = Task("build", build, (f"export-{model}",))
        return name

    def joined(place: str, names: list[str]) -> str:
        copies = [f"cp $WORK/{name}/*.tensorrt.* {place}/" for name in names]
        library = f"cp $WORK/{names[0]}/samtrt_plugin.so {place}/"
        return " && ".join([f"cp -r {work} {place}", library, *copies])

    def ours(part: str, names: list[str]) -> None:
        name = f"ours-{part}-{model}"
        run = f"{python} bench/video_ours.py $WORK/{name} {part} --masks $OUT/{name}.npz"
        command = f"{joined(f'$WORK/{name}', names)} && {run} {put(name)}"
        tasks[name] = Task("time", command, tuple(names), 120)

    encoder = engine("encoder", "", "")
    ours("image", [encoder, engine("decoder", "", "--exact 1x2")])
    for number in ("1", "8"):
        sizes = f"--objects {number} --points 2 --exact-objects none --memories 7 --pointers 16"
        ours(number, [encoder, *(engine(stage, number, sizes) for stage in VIDEO_STAGES)])
    every = [encoder, f"decoder-{model}"]
    every += [engine(stage, "all", "--exact-objects none") for stage in VIDEO_STAGES]
    run = f"$WORK/all-{model} --backend tensorrt --device cuda --reference {work}.safetensors"
    verify = f"{python} -m samtrt verify {run} {put(f'verify-{model}')}"
    tasks[f"verify-{model}"] = Task(
        "build",
        f"{joined(f'$WORK/all-{model}', every)} && {verify}",
        (*every, f"reference-{model}"),
    )
    official = f"{options.gpu_python} bench/video_official.py {model} {work}.pt"
    short = "--frames 12 --runs 3 --warmup 4"
    warm = f"{official} compiled {short} --masks $WORK/warm-{model}.npz --json $WORK/warm.json"
    # Compiling is nearly all of it: nothing that is timed waits for it, but it is halted meanwhile.
    tasks[f"warm-{model}"] = Task("cpu", warm, (f"export-{model}",), 900)
    for subject in ("eager", "float32", "compiled"):
        name = f"{subject}-{model}"
        needs = (f"warm-{model}" if subject == "compiled" else f"export-{model}",)
        command = f"{official} {subject} --masks $OUT/{name}.npz {put(name)}"
        tasks[name] = Task("time", command, needs, 300)
    return tasks
