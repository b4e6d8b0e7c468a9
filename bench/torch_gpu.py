"""PyTorch's side of the comparison: eager and torch.compile, encoder and decoder, on one GPU.

    python bench/torch_gpu.py --models vit_b vit_l vit_h --json torch.json
    python bench/torch_gpu.py --models vit_t --device cpu --precisions fp32 --runs 5   # a rehearsal

Seeded weights: what they are changes no time. Inputs and outputs stay on the device, so that the
figures are of the network alone; on a GPU they are its own clock's (CUDA events). The subjects:

    eager, add       scores plus two broadcast terms, as the official code writes it
    eager, mask      the two terms as the mask of scaled_dot_product_attention
    compiled graph   torch.compile, the terms folded into q and k, replayed as a CUDA graph
                     (on a CPU: torch.compile alone)

A subject that fails is recorded with its error, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from samtrt.benchmark import summarize
from samtrt.choices import AttentionForm
from samtrt.models import build_sam, seed_weights
from samtrt.models.graphs import DecoderGraph, EncoderGraph
from samtrt.registry import get_spec

SUBJECTS = {
    "eager, add": (AttentionForm.ADD, False),
    "eager, mask": (AttentionForm.MASK, False),
    "compiled graph": (AttentionForm.FOLDED, True),
}
POINTS = 2  # one point and the padding point


def measure(model: str, precision: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every subject on one model's encoder and decoder."""
    spec = get_spec(model)
    sam = build_sam(spec)
    seed_weights(sam)
    if precision == "fp16":
        sam.image_encoder.half()
        sam.mask_decoder.half()
    sam = sam.to(options.device).eval()
    grid, low = spec.embedding_size, spec.mask_size

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=options.device)

    cases = [("encoder", 1, EncoderGraph(sam), (random(1, 3, spec.image_size, spec.image_size),))]
    for count in options.prompts:
        prompts = (
            random(1, spec.prompt_embed_dim, grid, grid),
            random(count, POINTS, 2) * spec.image_size,
            torch.ones(count, POINTS, device=options.device),
            torch.zeros(count, 1, low, low, device=options.device),
            torch.zeros(count, device=options.device),
        )
        cases.append(("decoder", count, DecoderGraph(sam), prompts))
    records = []
    for name in options.subjects:
        form, compiled = SUBJECTS[name]
        sam.image_encoder.set_attention_form(form)
        for part, items, graph, inputs in cases:
            if name == "eager, mask" and part == "decoder":
                continue  # the forms are the encoder's
            record = {"model": model, "precision": precision, "subject": name}
            try:
                call = prepare(graph, inputs, compiled)
                seconds = clock(call, options)
                record |= asdict(summarize(part, items, seconds))
            except Exception as error:  # a compiler may fail in any way
                message = str(error).strip().splitlines() or [type(error).__name__]
                record |= {"part": part, "items": items, "error": message[0][:300]}
            records.append(record)
            shown = record.get("error") or f"{record['p50']:.3f} ms"
            print(f"{model} {precision} {name}: {part} x {items}: {shown}", flush=True)
    return records


def prepare(
    graph: torch.nn.Module, inputs: tuple[torch.Tensor, ...], compiled: bool
) -> Callable[[], Any]:
    """Return a call of the module, compiled and recorded where asked for."""
    if not compiled:
        return lambda: graph(*inputs)
    torch._dynamo.reset()
    fast = torch.compile(graph, dynamic=False)
    if inputs[0].device.type != "cuda":
        return lambda: fast(*inputs)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            fast(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        fast(*inputs)
    return recorded.replay


def clock(call: Callable[[], Any], options: argparse.Namespace) -> list[float]:
    """Return the seconds of each timed call."""
    on_gpu = torch.device(options.device).type == "cuda"
    for _ in range(options.warmup):
        call()
    seconds = []
    for _ in range(options.runs):
        if on_gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            seconds.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--precisions", nargs="+", default=["fp16"], choices=["fp32", "fp16"])
    parser.add_argument("--subjects", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--prompts", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    on_gpu = torch.device(options.device).type == "cuda"
    records = []
    with torch.inference_mode():
        for model in options.models:
            for precision in options.precisions:
                records += measure(model, precision, options)
    document = {
        "torch": torch.__version__,
        "machine": {
            "system": platform.platform(),
            "cpu_count": os.cpu_count(),
            "gpu": torch.cuda.get_device_name(options.device) if on_gpu else None,
        },
        "settings": {k: v for k, v in vars(options).items() if k != "json"},
        "records": records,
    }
    text = json.dumps(document, indent=2) + "\n"
    if options.json:
        options.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
