"""Our CUDA kernels alone on one GPU: right against PyTorch in float32, and how fast.

    samtrt plugin --tensorrt-root TENSORRT -o samtrt_plugin.so
    python bench/kernels.py samtrt_plugin.so --json kernels.json

Inputs are random; the reference is the official formula written out in float32 on the same rounded
inputs. Ends with exit code 1 where a kernel is further off than rounding allows. Times are the
GPU's own clock (CUDA events) around many calls in one CUDA graph. TFLOP/s count what scores and
weighted values need, padding not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kernel_cases import TOLERANCE, TYPES, Case, Kernels, gpu_cases, small_cases
from samtrt.registry import MODELS

NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in TYPES}


def microseconds(call: Callable[[], None], runs: int) -> float:
    """Return the time of one call among many, following one another as in a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(runs):
            call()
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3 / runs


def measure(case: Case, runs: int) -> dict[str, Any]:
    """Run a case, compare it and time it, unless `runs` is 0."""
    case.run()
    error = case.error()
    record = {
        "kernel": case.kernel, **case.shape, "type": str(case.dtype).removeprefix("torch."),
        "error": error, "right": error <= TOLERANCE[case.dtype],
    }  # fmt: skip
    if not runs:
        return record
    time = microseconds(case.run, runs)
    return record | {
        "microseconds": round(time, 2),
        "gigabytes_per_second": round(case.bytes / time / 1e3),
        **({"tflops": round(case.flop / time / 1e6, 1)} if case.flop else {}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--only", nargs="+", default=[""], help="kernels whose names hold a word")
    parser.add_argument("--types", nargs="+", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument(
        "--small", action="store_true", help="small shapes, not timed: for compute-sanitizer"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    kernels = Kernels(options.library.resolve())
    records = []
    for name in options.types:
        dtype = NAMES[name]
        cases = small_cases(kernels, dtype) if options.small else None
        for case in cases or gpu_cases(kernels, options.models, dtype):
            if not any(word in case.kernel for word in options.only):
                continue
            records.append(measure(case, 0 if options.small else options.runs))
            print(records[-1], flush=True)
    right = sum(record["right"] for record in records)
    if options.json:
        document = {"gpu": torch.cuda.get_device_name(), "records": records}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{right} of {len(records)} right")
    return 0 if right == len(records) else 1


if __name__ == "__main__":
    sys.exit(main())
