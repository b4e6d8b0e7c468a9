"""The encoder's CUDA kernels alone on one GPU: right against PyTorch in float32, and how fast.

    samtrt plugin --tensorrt-root TENSORRT -o samtrt_plugin.so
    python bench/kernels.py samtrt_plugin.so --json kernels.json

Inputs are random; the reference is the official formula written out in float32 on the same rounded
inputs. Ends with exit code 1 where a kernel is further off than rounding allows. Times are the
GPU's own clock (CUDA events) around many calls in one CUDA graph. TFLOP/s count what scores and
weighted values need, padding not counted.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samtrt.registry import MODELS

TYPES = {torch.float16: 0, torch.bfloat16: 1}
TOLERANCE = {torch.float16: 3e-3, torch.bfloat16: 2.5e-2}
"""Largest error allowed, as a share of the largest value: a few roundings of the type."""


def attend(
    qkv: Tensor, bias: Tensor, rel_h: Tensor, rel_w: Tensor, heads: int, window: int
) -> Tensor:
    """Return [B, G, G, C] of qkv [B, G, G, 3C], by the official formula."""
    batch, grid, _, width = qkv.shape
    side, count = (window, -(-grid // window)) if window else (grid, 1)
    padded = bias.expand(batch, side * count, side * count, width).clone()
    padded[:, :grid, :grid] = qkv
    cut = padded.reshape(batch, count, side, count, side, 3, heads, -1)
    q, k, v = cut.permute(5, 0, 1, 3, 6, 2, 4, 7).flatten(1, 4).flatten(2, 3).unbind(0)
    distance = torch.arange(side)[:, None] - torch.arange(side)[None, :] + side - 1
    rows = q.reshape(-1, side, side, q.shape[-1])
    term_h = torch.einsum("nyxd,ykd->nyxk", rows, rel_h[distance])
    term_w = torch.einsum("nyxd,xkd->nyxk", rows, rel_w[distance])
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)
    terms = term_h[..., :, None] + term_w[..., None, :]
    weights = (scores + terms.reshape(scores.shape)).softmax(-1)
    out = (weights @ v).reshape(batch, count, count, heads, side, side, -1)
    out = out.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, side * count, side * count, -1)
    return out[:, :grid, :grid]


class Kernels:
    """The library's C functions on PyTorch's tensors."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))

    def _call(self, name: str, *arguments: Any) -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        typed = [
            ctypes.c_void_p(a.data_ptr() if a is not None else None)
            if a is None or isinstance(a, Tensor)
            else ctypes.c_float(a)
            if isinstance(a, float)
            else ctypes.c_int(a)
            for a in arguments
        ]
        code = getattr(self.library, name)(*typed, stream)
        if code:
            raise RuntimeError(f"{name}: CUDA error {code}")

    def attention(
        self, qkv: Tensor, bias: Tensor, rel_h: Tensor, rel_w: Tensor, out: Tensor, window: int
    ) -> None:
        batch, grid, _, width = out.shape
        dim = rel_h.shape[1]
        shapes = (batch, grid, width // dim, dim, window)
        self._call(
            "samtrt_rel_pos_attention", TYPES[qkv.dtype], qkv, bias, rel_h, rel_w, out, *shapes
        )

    def layer_norm(
        self,
        x: Tensor,
        delta: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        total: Tensor | None,
        y: Tensor,
    ) -> None:
        shape = (x.shape[0], x.shape[1], 1e-6)
        self._call("samtrt_layer_norm", TYPES[x.dtype], x, delta, weight, bias, total, y, *shape)


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


def off_by(found: Tensor, expected: Tensor) -> float:
    """Return the largest error as a share of the largest value."""
    return float((found.float() - expected).abs().max() / expected.abs().max())


def check_attention(
    kernels: Kernels, model: str, window: int, dtype: torch.dtype, batch: int, runs: int
) -> dict[str, Any]:
    """Compare and time one shape of attention."""
    spec = MODELS[model]
    grid, dim, width = spec.embedding_size, spec.head_dim, spec.embed_dim
    side = window or grid

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device="cuda")

    qkv = (2 * random(batch, grid, grid, 3 * width)).to(dtype)
    bias = random(3 * width).to(dtype).float()  # the kernel rounds it
    rel_h, rel_w = ((0.5 * random(2 * side - 1, dim)).to(dtype).float() for _ in range(2))
    out = torch.full((batch, grid, grid, width), torch.nan, device="cuda", dtype=dtype)
    kernels.attention(qkv, bias, rel_h, rel_w, out, window)
    expected = attend(qkv.float(), bias, rel_h, rel_w, spec.num_heads, window)
    error = off_by(out, expected)
    time = microseconds(lambda: kernels.attention(qkv, bias, rel_h, rel_w, out, window), runs)
    count = batch * (-(-grid // window)) ** 2 if window else batch
    work = 4 * count * spec.num_heads * side**4 * dim
    return {
        "kernel": f"attention, {'window ' + str(window) if window else 'global'}",
        "model": model, "type": str(dtype).removeprefix("torch."), "batch": batch,
        "error": error, "microseconds": round(time, 2), "tflops": round(work / time / 1e6, 1),
    }  # fmt: skip


def check_layer_norm(
    kernels: Kernels, model: str, dtype: torch.dtype, added: bool, runs: int
) -> dict[str, Any]:
    """Compare and time the norm of one model's tokens."""
    spec = MODELS[model]
    rows, width = spec.embedding_size**2, spec.embed_dim
    x, delta = (torch.randn(2, rows, width, device="cuda") * 3 + 1).to(dtype)
    weight, bias = torch.randn(2, width, device="cuda")
    y, total = torch.full((2, rows, width), torch.nan, device="cuda", dtype=dtype)
    arguments = (x, delta if added else None, weight, bias, total if added else None, y)
    kernels.layer_norm(*arguments)
    summed = x.float() + delta.float() if added else x.float()
    error = off_by(y, F.layer_norm(summed, (width,), weight, bias, 1e-6))
    if added:
        error = max(error, off_by(total, summed))
    time = microseconds(lambda: kernels.layer_norm(*arguments), runs)
    return {
        "kernel": "layer norm" + (" of a sum" if added else ""),
        "model": model, "type": str(dtype).removeprefix("torch."), "batch": 1, "error": error,
        "microseconds": round(time, 2),
        "gigabytes_per_second": round((4 if added else 2) * x.nbytes / time / 1e3),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    kernels = Kernels(options.library.resolve())
    records = []
    for dtype in TYPES:
        for model in options.models:
            for window in (MODELS[model].window_size, 0):
                for batch in (1, 2) if model == "vit_b" else (1,):
                    records.append(
                        check_attention(kernels, model, window, dtype, batch, options.runs)
                    )
                    print(records[-1], flush=True)
            for added in (False, True):
                records.append(check_layer_norm(kernels, model, dtype, added, options.runs))
                print(records[-1], flush=True)
    limits = {str(dtype).removeprefix("torch."): limit for dtype, limit in TOLERANCE.items()}
    wrong = [r for r in records if not r["error"] <= limits[r["type"]]]
    if options.json:
        document = {"gpu": torch.cuda.get_device_name(), "records": records}
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{len(records) - len(wrong)} of {len(records)} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
