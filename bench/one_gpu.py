"""All that is measured on one GPU, in one run: TensorRT's engines beside PyTorch.

    python bench/one_gpu.py --plugin samtrt_plugin.so --trt-python A --gpu-python B --out results
    python bench/one_gpu.py --list                             # what there is to do, in order
    python bench/one_gpu.py ... --only vit_b mobile_sam        # such names, in this order
    python bench/one_gpu.py --out results --collect all.json   # all figures in one file

Exports run on the CPU while engines are built, several at once; what is only checked runs beside
the builds. What is timed runs alone, with all exports halted. Engines of a directory are built in
copies of it, as one directory takes one build at a time. Where the host has a second GPU of the
same kind, `--builds-on 1` has it build and check while the first one times, on a quarter of the
cores, which nothing else gets. `--ready FILE` holds back what needs TensorRT until that file is
there. The same command goes on where an earlier one was cut off; each task's output is
OUT/NAME.log, its figures are OUT/NAME.json, and OUT/log.txt tells what ended when.

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
from pathlib import Path
from typing import Any

from one_gpu_tasks import Task, planned

ROOT = Path(__file__).resolve().parent.parent
QUARTER = max(1, (os.cpu_count() or 1) // 4)
"""Of the cores."""
MOST = {"cpu": 6, "build": 6, "time": 1}
"""Tasks of a kind at once: on the CPU, built or checked on a GPU, and timed there, alone."""


class Schedule:
    """Runs tasks, as many at once as their kinds allow."""

    def __init__(self, tasks: dict[str, Task], options: argparse.Namespace) -> None:
        self._tasks, self._options = tasks, options
        self._most = {**MOST, "build": options.builds}
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
            alone = self._holds_back(task.kind, kinds, builds)
            if ready and not held and not alone and kinds.count(task.kind) < self._most[task.kind]:
                yield name

    def _holds_back(self, kind: str, running: list[str], builds_left: bool) -> bool:
        """Tell whether what is timed, or to be timed, keeps a task of a kind from beginning."""
        if self._options.builds_on is not None:
            return kind == "time" and "time" in running
        return "time" in running or (kind == "time" and ("build" in running or builds_left))

    def _place(self, kind: str) -> tuple[list[str], dict[str, str]]:
        """Return words before a task's command, for its cores, and the variable for its GPU."""
        if self._options.builds_on is None:
            return [], {}
        cores, gpu = f"{QUARTER}-{(os.cpu_count() or 1) - 1}", self._options.builds_on
        if kind == "time":
            cores, gpu = f"0-{QUARTER - 1}", 0
        return ["taskset", "-c", cores], {"CUDA_VISIBLE_DEVICES": str(gpu)}

    def _start(self, name: str) -> None:
        task, options = self._tasks[name], self._options
        words, gpu = self._place(task.kind)
        environment = {
            **os.environ,
            **gpu,
            **{"TASK": name, "OUT": str(options.out), "WORK": str(options.work)},
            **{"PLUGIN": str(options.plugin), "SAMTRT_CACHE": str(options.work / "cache")},
        }
        if task.kind == "cpu":  # PyTorch would take all cores, for each of six at once
            environment["OMP_NUM_THREADS"] = str(QUARTER)
        with (options.out / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*words, "bash", "-c", task.command],
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
        if self._options.builds_on is not None:
            return
        what = signal.SIGSTOP if "time" in self._kinds() else signal.SIGCONT
        for name, (process, _) in self._running.items():
            if self._tasks[name].kind == "cpu":
                os.killpg(process.pid, what)


def chosen(tasks: dict[str, Task], words: list[str]) -> dict[str, Task]:
    """Return the tasks whose names hold one of the words, word by word, after what they need."""
    found: dict[str, Task] = {}

    def take(name: str) -> None:
        for need in tasks[name].needs:
            take(need)
        found.setdefault(name, tasks[name])

    for word in words:
        for name in tasks:
            if word in name:
                take(name)
    return found


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
    parser.add_argument("--builds", type=int, default=MOST["build"], help="at once")
    parser.add_argument(
        "--builds-on", type=int, help="number of another GPU, to build and check on"
    )
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
