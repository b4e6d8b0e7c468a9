"""TensorRT on one GPU, whole: export, build, verify and bench each model in several variants.

    python bench/trt.py --models vit_b vit_l vit_h vit_s --out results.json
    python bench/trt.py --variants fp16 fp16-plugin --tensorrt-root TENSORRT --out results.json

Models are those of bench/seeded.py: every family, and two pruned SAMs. A variant is a precision,
then what the model is exported as where that is not the plain form: `plugin` for the plugin
library, as far as it has operators for the family, `fallback` for the same export built without it.

Every step is a `samtrt` command in a process of its own, so that two Pythons can share the work
where no one of them has both PyTorch and TensorRT: `--torch-python` exports, computes the reference
and runs PyTorch's side of the comparison, `--trt-python` builds, verifies and benches. Finished
steps are kept in `--work` and not done again; `--seconds` ends the run between two steps, and the
same command goes on from there. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = ROOT / "src" / "samtrt_assets" / "vit_s.safetensors"
"""Trained; the other models get seeded weights."""


@dataclass(frozen=True)
class Step:
    """One command; `result` is a JSON file that it writes, `needs` are steps before it."""

    name: str
    python: str
    arguments: list[str]
    needs: tuple[str, ...] = ()
    result: Path | None = None
    also: list[Path] = field(default_factory=list)


def steps(model: str, work: Path, options: argparse.Namespace) -> Iterator[Step]:
    """Yield what is done with one model, in order."""
    checkpoint = BUNDLED if model == "vit_s" else work / "checkpoint.safetensors"
    reference, library = work / "reference.safetensors", options.work / "samtrt_plugin.so"
    if checkpoint is not BUNDLED:
        yield Step("seed", "torch", [str(ROOT / "bench" / "seeded.py"), model, str(checkpoint)])
    forms = list(dict.fromkeys(attention_form(variant) for variant in options.variants))
    for form in forms:
        export = ["export", str(checkpoint), "-o", str(work / form)]
        export += ["--opset", str(options.opset), "--attention", form]
        yield Step(f"export-{form}", "torch", samtrt(*export), needs=("seed",))
    save = ["verify", str(work / forms[0]), "-c", str(checkpoint)]
    save += ["--save-reference", str(reference)]
    yield Step("reference", "torch", samtrt(*save), needs=(f"export-{forms[0]}",))
    has_plugin = any(variant.endswith("-plugin") for variant in options.variants)
    if has_plugin and options.plugin is None and not library.exists():
        compiled = ["plugin", "--tensorrt-root", str(options.tensorrt_root), "-o", str(library)]
        yield Step("plugin", "trt", samtrt(*compiled))
    for variant in options.variants:
        yield from variant_steps(variant, work, options.plugin or library, options)
    if options.torch_bench:
        result = work / "torch.json"
        script = [str(ROOT / "bench" / "torch_gpu.py"), "--models", model, "--json", str(result)]
        yield Step("torch", "torch", script, result=result)


def variant_steps(
    variant: str, work: Path, library: Path, options: argparse.Namespace
) -> Iterator[Step]:
    """Yield the building, verifying and timing of one variant."""
    directory, form = work / variant, attention_form(variant)
    build = ["build", str(directory), "--target", options.target]
    build += ["--precision", variant.split("-")[0]]
    if variant.endswith("-plugin"):
        build += ["--plugin", str(library)]
    build += shlex.split(options.build_arguments)
    yield Step(f"build-{variant}", "trt", samtrt(*build), needs=(f"export-{form}", "plugin"))
    run = [str(directory), "--backend", options.target, "--device", "cuda"]
    result = work / f"verify-{variant}.json"
    verify = ["verify", *run, "--reference", str(work / "reference.safetensors")]
    verify += ["--json", str(result)]
    yield Step(
        f"verify-{variant}", "trt", samtrt(*verify), (f"build-{variant}", "reference"), result
    )
    for stage in options.profile:
        for prompts in (1, 64) if stage == "decoder" else (1,):
            name = f"profile-{stage}{prompts if stage == 'decoder' else ''}-{variant}"
            result = work / f"{name}.json"
            script = [str(ROOT / "bench" / "trt_profile.py"), str(directory), "--stage", stage]
            script += ["--prompts", str(prompts), "--json", str(result)]
            yield Step(name, "trt", script, (f"build-{variant}",), result)
    result = work / f"bench-{variant}.json"
    bench = ["bench", *run, "--json", str(result)]
    yield Step(f"bench-{variant}", "trt", samtrt(*bench), (f"build-{variant}",), result)


def attention_form(variant: str) -> str:
    """Return how the encoder of a variant is exported."""
    return "plugin" if variant.endswith(("-plugin", "-fallback")) else "add"


def samtrt(*arguments: str) -> list[str]:
    return ["-m", "samtrt", *arguments]


def prepare(step: Step, work: Path) -> None:
    """Give each variant a model directory of its own: engines of two would share a name."""
    if step.name.startswith("build-"):
        variant = step.name.removeprefix("build-")
        directory = work / variant
        directory.mkdir(exist_ok=True)
        for file in (work / attention_form(variant)).iterdir():
            if file.is_file() and not (directory / file.name).exists():
                shutil.copy(file, directory)  # onnx refuses links to weights beside a graph


def run(step: Step, work: Path, options: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run one step; return its record."""
    prepare(step, work)
    python, site = (getattr(options, f"{step.python}_{word}") for word in ("python", "site"))
    # What this Python has is not for one of another version, which is told its own.
    more = site or os.environ.get("PYTHONPATH")
    paths = [str(ROOT / "src"), *([more] if more else [])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "COLUMNS": "160",
        "SAMTRT_CACHE": str(options.work / "cache"),  # kernel times, for the next run as well
    }
    start = time.perf_counter()
    with (work / f"{step.name}.log").open("w") as log:
        try:
            code = subprocess.run(
                [python, *step.arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=limit,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    record: dict[str, Any] = {
        "seconds": round(time.perf_counter() - start, 1),
        "exit_code": code,
        "command": step.arguments,
    }
    if code != 0:
        log_text = (work / f"{step.name}.log").read_text(errors="replace")
        record["log"] = log_text.strip().splitlines()[-15:]
    if step.result is not None and step.result.exists():
        record["result"] = json.loads(step.result.read_text())
    if step.name.startswith("build-"):
        directory = work / step.name.removeprefix("build-")
        record["engines"] = {
            path.name: json.loads(path.read_text())
            for path in directory.glob(f"*.{options.target}.json")
        }
    return record


def finished(record: dict[str, Any] | None) -> bool:
    # `verify` exits with 1 where masks differ too much: that is a result.
    return record is not None and (record["exit_code"] == 0 or "result" in record)


def work_through(
    options: argparse.Namespace,
    plan: Callable[[str, Path, argparse.Namespace], Iterator[Step]] = steps,
) -> bool:
    """Do what is left of every model; return whether all of it is done."""
    end = time.monotonic() + options.seconds
    whole = True
    for model in options.models:
        work = options.work / model
        work.mkdir(parents=True, exist_ok=True)
        path = work / "records.json"
        records = json.loads(path.read_text()) if path.exists() else {}
        planned = list(plan(model, work, options))
        names = {step.name for step in planned}
        for step in planned:
            if finished(records.get(step.name)):
                continue
            missing = [n for n in step.needs if n in names and not finished(records.get(n))]
            if options.only and not step.name.startswith(tuple(options.only)):
                continue
            left = end - time.monotonic()
            if missing or left < options.least_seconds:
                whole = False
                continue
            print(f"{model}: {step.name} ...", end=" ", flush=True)
            records[step.name] = record = run(step, work, options, left)
            print(f"{record['seconds']} s, exit code {record['exit_code']}", flush=True)
            for line in record.get("log", []):
                print(f"    {line}")
            path.write_text(json.dumps(records, indent=1))
            whole = whole and finished(record)
        collect(options)
    return whole


def collect(options: argparse.Namespace) -> None:
    """Write all records, of this run and of earlier ones, as one file."""
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(options.work.glob("*/records.json"))
    }
    document = {
        "date": datetime.date.today().isoformat(),
        "machine": {"system": platform.platform(), "cpu_count": os.cpu_count(), "gpu": gpu()},
        "settings": {k: str(v) for k, v in sorted(vars(options).items())},
        "models": found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n")


def gpu() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["vit_s", "vit_b", "vit_l", "vit_h"])
    parser.add_argument("--variants", nargs="+", default=["fp32", "fp16"])
    parser.add_argument("--only", nargs="+", help="do steps of such names alone, such as build-")
    parser.add_argument("--target", default="tensorrt", choices=["tensorrt", "tensorrt-rtx"])
    parser.add_argument("--opset", type=int, default=17, help="TensorRT 8.6 needs 17")
    parser.add_argument("--plugin", type=Path, help="plugin library; made where none is given")
    parser.add_argument("--tensorrt-root", type=Path, help="headers to make it with")
    parser.add_argument(
        "--profile", nargs="*", default=[], choices=["encoder", "decoder"], help="layer by layer"
    )
    parser.add_argument("--build-arguments", default="", help="more words for samtrt build")
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--trt-python", default=sys.executable)
    parser.add_argument("--torch-site", help="packages that --torch-python lacks")
    parser.add_argument("--trt-site", help="packages that --trt-python lacks")
    parser.add_argument("--torch-bench", action="store_true", help="also run bench/torch_gpu.py")
    parser.add_argument("--work", type=Path, default=Path("/tmp/samtrt-bench"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1e9, help="time for this run")
    parser.add_argument("--least-seconds", type=float, default=5, help="begin no step with less")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    done = work_through(options)
    print(f"written to {options.out}" + ("" if done else "; not all is done: run it again"))
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
