"""All that is measured on one GPU, in one run: TensorRT's engines beside PyTorch.

    python bench/one_gpu.py --plugin samtrt_plugin.so --trt-python A --gpu-python B --out results
    python bench/one_gpu.py --list                             # what there is to do, in order
    python bench/one_gpu.py ... --only vit_b mobile_sam        # such names, and what they need
    python bench/one_gpu.py --out results --collect all.json   # all figures in one file

Exports run on the CPU while engines are built, several at once; what is only checked runs beside
the builds. What is timed runs alone, with all exports halted. Engines of a directory are built in
copies of it, as one directory takes one build at a time. `--ready FILE` holds back what needs
TensorRT until that file is there. The same command goes on where an earlier one was cut off; each
task's output is OUT/NAME.log, its figures are OUT/NAME.json, and OUT/log.txt tells what ended when.

`--trt-python` has PyTorch's CPU build and TensorRT, `--gpu-python` has PyTorch for the GPU. Needs
the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MOST = {"cpu": 6, "build": 7, "time": 1}
"""Tasks of a kind at once: on the CPU, built or checked on the GPU, and timed there, alone."""
FILTERS = {"vit_b": "1.9 0.93", "vit_s": "0.6 0.88"}
"""For automatic masks: of seeded noise the official thresholds keep nearly everything."""
STAGES = ("encoder", "decoder", "memory_attention", "memory_encoder", "video_decoder")
FAMILIES = ("mobile_sam", "efficientvit_sam_l0", "slim_sam_50", "sam_hq_vit_tiny", "sam_hq_vit_b")
VIDEOS = ("sam2.1_hiera_tiny", "sam2.1_hiera_large")


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
    build = f"{python} -m samtrt build $WORK/{model}/decoders -t tensorrt --precision fp16"
    decoders = f"cp -r $WORK/{model}/plugin $WORK/{model}/decoders && {build} --stage decoder"
    decoders += " --plugin $PLUGIN --exact 1x2,64x2"
    decoder = f"$WORK/{model}/decoders"
    joined = f"cp {decoder}/decoder*.tensorrt.* {decoder}/samtrt_plugin.so {engines}/"
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


class Schedule:
    """Runs tasks, as many at once as their kinds allow."""

    def __init__(self, tasks: dict[str, Task], options: argparse.Namespace) -> None:
        self._tasks, self._options = tasks, options
        self._began = time.monotonic()
        self._running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        kept = options.out / "done.json"
        self.done: dict[str, int] = json.loads(kept.read_text()) if kept.exists() else {}
        self.done = {name: code for name, code in self.done.items() if code == 0}

    def run(self) -> bool:
        """Run until nothing is left or time is up; return whether every task ended well."""
        end = self._began + self._options.seconds
        while time.monotonic() < end and (self._running or self._left()):
            self._collect()
            self._halt_or_go_on()
            for name in self._startable():
                self._start(name)
            time.sleep(0.1)
        for process, _ in self._running.values():
            os.killpg(process.pid, signal.SIGKILL)
        return all(self.done.get(name) == 0 for name in self._tasks)

    def _left(self) -> list[str]:
        return [name for name in self._tasks if name not in self.done | self._running]

    def _kinds(self) -> list[str]:
        return [self._tasks[name].kind for name in self._running]

    def _startable(self) -> Iterable[str]:
        builds = any(self._tasks[name].kind == "build" for name in self._left())
        for name in self._left():
            task, kinds = self._tasks[name], self._kinds()
            if any(self.done.get(need, 0) != 0 for need in task.needs):
                self._end(name, -1)
                continue
            ready = all(need in self.done for need in task.needs)
            held = self._options.ready and not self._options.ready.exists() and task.kind != "cpu"
            alone = "time" in kinds or (task.kind == "time" and ("build" in kinds or builds))
            if ready and not held and not alone and kinds.count(task.kind) < MOST[task.kind]:
                yield name

    def _start(self, name: str) -> None:
        task, options = self._tasks[name], self._options
        environment = {
            **os.environ,
            **{"TASK": name, "OUT": str(options.out), "WORK": str(options.work)},
            **{"PLUGIN": str(options.plugin), "SAMTRT_CACHE": str(options.work / "cache")},
        }
        if task.kind == "cpu":  # PyTorch would take all cores, for each of six at once
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // 4))
        with (options.out / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", task.command],
                **{"stdout": log, "stderr": log, "env": environment, "cwd": ROOT},
                start_new_session=True,
            )
        self._running[name] = process, time.monotonic()

    def _collect(self) -> None:
        for name, (process, began) in list(self._running.items()):
            code = process.poll()
            if code is None and time.monotonic() - began > self._tasks[name].seconds:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            if code is not None:
                del self._running[name]
                self._end(name, code, time.monotonic() - began)

    def _end(self, name: str, code: int, seconds: float = 0) -> None:
        self.done[name] = code
        (self._options.out / "done.json").write_text(json.dumps(self.done))
        at = time.monotonic() - self._began
        with (self._options.out / "log.txt").open("a") as log:
            print(f"{at:5.0f} s: {name}: exit code {code} after {seconds:.0f} s", file=log)

    def _halt_or_go_on(self) -> None:
        what = signal.SIGSTOP if "time" in self._kinds() else signal.SIGCONT
        for name, (process, _) in self._running.items():
            if self._tasks[name].kind == "cpu":
                os.killpg(process.pid, what)


def chosen(tasks: dict[str, Task], words: list[str]) -> dict[str, Task]:
    """Return the tasks whose names hold one of the words, and what they need."""
    wanted = {name for name in tasks if any(word in name for word in words)}
    for name in reversed(tasks):
        if name in wanted:
            wanted.update(tasks[name].needs)
    return {name: task for name, task in tasks.items() if name in wanted}


def collect(options: argparse.Namespace) -> None:
    """Put the figures of all tasks into one file; masks are counted."""
    figures: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "cpu_count": os.cpu_count()}
    for name in planned(options):
        kept = options.out / f"{name}.json"
        if kept.exists():
            found = json.loads(kept.read_text())
            if "masks" in found:
                found["masks"] = len(found["masks"])
            found.pop("layers", None)
            figures[name] = found
    options.collect.write_text(json.dumps(figures, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--plugin", type=Path, default=Path("samtrt_plugin.so"))
    python = shlex.quote(sys.executable)
    parser.add_argument("--trt-python", default=python, help="words of a shell")
    parser.add_argument("--gpu-python", default=python, help="such as 'env PYTHONPATH=A python3'")
    parser.add_argument("--work", type=Path, default=Path("/tmp/samtrt-one-gpu"))
    parser.add_argument("--out", type=Path, default=Path("one-gpu"))
    parser.add_argument("--ready", type=Path, help="a file: TensorRT is there once it is")
    parser.add_argument("--seconds", type=float, default=1e9, help="time for this run")
    parser.add_argument("--only", nargs="+", help="words of names")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="where a package is missing")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--collect", type=Path, help="put all figures of --out into one file")
    options = parser.parse_args()
    for name in ("plugin", "work", "out"):
        setattr(options, name, getattr(options, name).resolve())
    tasks = planned(options)
    tasks = chosen(tasks, options.only) if options.only else tasks
    if options.collect:
        collect(options)
        return 0
    if options.list:
        for name, task in tasks.items():
            print(f"{task.kind:5}  {name}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    return 0 if Schedule(tasks, options).run() else 1


if __name__ == "__main__":
    sys.exit(main())
