"""PyTorch's side of the comparison: eager and torch.compile, encoder and decoder, on one GPU.

    python bench/torch_gpu.py --models vit_b vit_l vit_h --json torch.json
    python bench/torch_gpu.py --models mobile_sam efficientvit_sam_l0 sam2.1_hiera_tiny
    python bench/torch_gpu.py --models vit_t --device cpu --precisions fp32 --runs 5   # a rehearsal

Models as of bench/seeded.py. Seeded weights: what they are changes no time. Inputs and outputs stay
on the device, so that the figures are of the network alone; on a GPU they are its own clock's (CUDA
events). Batch norms are folded into their convolutions, for every subject. The subjects:

    eager, add             a ViT's scores plus two broadcast terms, as the official code writes it
    eager, mask            the two terms as the mask of scaled_dot_product_attention
    eager                  other encoders, whose attention has one form
    eager, channels last   encoders of convolutions, so laid out in memory
    compiled graph         torch.compile, a ViT's terms folded into q and k, replayed as a CUDA
                           graph (on a CPU: torch.compile alone)

`--warm` compiles alone: what it compiles is kept on the disk, and the next run need not wait. A
subject that fails is recorded with its error, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from samtrt.benchmark import summarize
from samtrt.choices import AttentionForm
from samtrt.models import Sam, build_sam, seed_weights
from samtrt.models.graphs import DecoderGraph, EncoderGraph
from samtrt.models.layers import fold_norms
from samtrt.models.pyramid import PyramidEncoder
from samtrt.registry import (
    EfficientViTSpec,
    HieraSpec,
    ModelSpec,
    RepViTSpec,
    TinyViTSpec,
    ViTSpec,
)
from seeded import spec_of


@dataclass(frozen=True)
class Subject:
    """One way of PyTorch.

    Attributes:
        form: Of a ViT's attention.
        compiled: By torch.compile, and replayed as a CUDA graph.
        families: Whose encoders it is for; others have been timed by another subject.
        decodes: Whether it runs the decoder another way too.
        layout: Of the weights of convolutions.
    """

    form: AttentionForm = AttentionForm.ADD
    compiled: bool = False
    families: tuple[type[ModelSpec], ...] = (ModelSpec,)
    decodes: bool = True
    layout: torch.memory_format = torch.contiguous_format


CONVOLUTIONS = TinyViTSpec, EfficientViTSpec, RepViTSpec
SUBJECTS = {
    "eager, add": Subject(families=(ViTSpec,)),
    "eager, mask": Subject(AttentionForm.MASK, families=(ViTSpec,), decodes=False),
    "eager": Subject(families=(*CONVOLUTIONS, HieraSpec)),
    "eager, channels last": Subject(
        families=CONVOLUTIONS, decodes=False, layout=torch.channels_last
    ),
    "compiled graph": Subject(AttentionForm.FOLDED, compiled=True),
}
POINTS = 2  # one point and the padding point


def seeded_model(spec: ModelSpec, precision: str, device: str) -> Sam:
    """Build a model of noise, as `load_sam` prepares one that was read."""
    sam = build_sam(spec)
    seed_weights(sam)
    fold_norms(sam.image_encoder)
    if isinstance(sam.image_encoder, PyramidEncoder):
        sam.image_encoder.trunk.fold()
    if precision == "fp16":
        sam.image_encoder.half()
        sam.mask_decoder.half()
    return sam.to(device).eval()


def measure(model: str, precision: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every subject on one model's encoder and decoder."""
    spec = spec_of(model)
    sam = seeded_model(spec, precision, options.device)
    grid, low = spec.embedding_size, spec.mask_size

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, device=options.device)

    pixels = random(1, 3, spec.encoder_size, spec.encoder_size)
    cases = [("encoder", 1, EncoderGraph(sam), (pixels,))]
    further = tuple(random(1, *one.shape) for one in spec.maps[1:])
    for count in options.prompts:
        prompts = (
            random(1, spec.prompt_embed_dim, grid, grid),
            random(count, POINTS, 2) * spec.image_size,
            torch.ones(count, POINTS, device=options.device),
            torch.zeros(count, 1, low, low, device=options.device),
            torch.zeros(count, device=options.device),
            *further,
        )
        cases.append(("decoder", count, DecoderGraph(sam), prompts))
    records = []
    for name in options.subjects:
        subject = SUBJECTS[name]
        if not isinstance(spec, subject.families) or (options.warm and not subject.compiled):
            continue
        sam.set_attention_form(subject.form)
        sam.image_encoder.to(memory_format=subject.layout)
        for part, items, graph, inputs in cases:
            if part == "decoder" and not subject.decodes:
                continue
            record = {"model": model, "precision": precision, "subject": name}
            try:
                call = prepare(graph, inputs, subject.compiled)
                if options.warm:
                    continue
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
    parser.add_argument("--warm", action="store_true", help="compile, and time nothing")
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
