"""What the CUDA kernels are checked with: inputs, calls, and the same in float32 PyTorch.

For `kernels.py` on a GPU, and for the tests, which run the kernels in an emulator on a CPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samtrt.models.image_kernels import Image, MaskWeights, PlainKernels, upscale_rows
from samtrt.registry import MODELS, ViTSpec

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
    """The library's C functions on PyTorch's tensors, on the device that it was compiled for."""

    def __init__(self, path: Path, device: str = "cuda") -> None:
        self.library, self.device = ctypes.CDLL(str(path)), device
        for name in (
            "tokens_to_image",
            "self_attention",
            "token_mlp",
            "token_heads",
            "memory_attention",
        ):
            getattr(self.library, f"samtrt_{name}_workspace").restype = ctypes.c_int64

    def call(self, name: str, dtype: torch.dtype, *arguments: Tensor | float | int | None) -> None:
        """Call `samtrt_<name>` for a type of activations; tensors go by their address."""
        stream = torch.cuda.current_stream().cuda_stream if self.device == "cuda" else None
        typed: list[Any] = [ctypes.c_int(TYPES[dtype])]
        for value in arguments:
            if value is None or isinstance(value, Tensor):
                assert value is None or value.is_contiguous()
                typed.append(ctypes.c_void_p(None if value is None else value.data_ptr()))
            else:
                typed.append((ctypes.c_float if isinstance(value, float) else ctypes.c_int)(value))
        code = getattr(self.library, f"samtrt_{name}")(*typed, ctypes.c_void_p(stream))
        if code:
            raise RuntimeError(f"{name}: CUDA error {code}")

    def workspace(self, prompts: int, rows: int) -> int:
        """Return the bytes that tokens_to_image needs."""
        return int(self.library.samtrt_tokens_to_image_workspace(prompts, rows))


@dataclass
class Case:
    """One kernel in one shape.

    Attributes:
        kernel: What it is.
        dtype: Of the activations.
        run: Calls it.
        outputs: What it writes, not a number until then.
        expected: What it should write, in float32.
        shape: What tells cases of a kernel apart.
        flop: Arithmetic of its products; 0 for what is bound by memory.
        bytes: What it must read and write.
    """

    kernel: str
    dtype: torch.dtype
    run: Callable[[], None]
    outputs: list[Tensor]
    expected: Callable[[], list[Tensor]]
    shape: dict[str, Any] = field(default_factory=dict)
    flop: int = 0
    bytes: int = 0

    def error(self) -> float:
        """Return the largest error as a share of the largest value, not a number where one is."""
        pairs = zip(self.outputs, self.expected(), strict=True)
        return max(float((a.float() - b).abs().max() / b.abs().max()) for a, b in pairs)


class Inputs:
    """Random inputs of one type on one device."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        self.dtype, self.device = dtype, device

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Return noise in the type."""
        return (scale * torch.randn(*shape, device=self.device)).to(self.dtype)

    def floats(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Return noise in float32, of values that the type has."""
        return self.normal(*shape, scale=scale).float()

    def empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return what a kernel has to fill."""
        return torch.full(shape, torch.nan, device=self.device, dtype=dtype or self.dtype)


def attention(kernels: Kernels, spec: ViTSpec, window: int, batch: int, inputs: Inputs) -> Case:
    """The encoder's attention in windows, or with window 0 over the grid."""
    grid, dim, width = spec.embedding_size, spec.head_dim, spec.embed_dim
    side = window or grid
    qkv = inputs.normal(batch, grid, grid, 3 * width, scale=2)
    bias = inputs.floats(3 * width)
    rel_h, rel_w = (inputs.floats(2 * side - 1, dim, scale=0.5) for _ in range(2))
    out = inputs.empty(batch, grid, grid, width)
    heads = spec.num_heads
    sizes = (batch, grid, heads, dim, window)
    count = batch * (-(-grid // window)) ** 2 if window else batch
    return Case(
        f"attention, {'window ' + str(window) if window else 'global'}",
        inputs.dtype,
        lambda: kernels.call(
            "rel_pos_attention", inputs.dtype, qkv, bias, rel_h, rel_w, out, *sizes
        ),
        [out],
        lambda: [attend(qkv.float(), bias, rel_h, rel_w, heads, window)],
        {"model": spec.name, "batch": batch},
        flop=4 * count * heads * side**4 * dim,
        bytes=qkv.nbytes + out.nbytes,
    )


def square_attention(
    kernels: Kernels,
    sizes: tuple[int, int, int],
    window: int,
    stride: int,
    inputs: Inputs,
    batch: int = 1,
) -> Case:
    """Hiera's attention; sizes are the grid, the heads and the width of each."""
    from samtrt.export.operators.square_attention import SQUARE_ATTENTION

    grid, heads, dim = sizes
    qkv = inputs.normal(batch, grid, grid, 3 * heads * dim, scale=2)
    bias, short = inputs.floats(3 * heads * dim), grid // stride
    out = inputs.empty(batch, short, short, heads * dim)
    side = window or grid
    numbers = batch, grid, heads, dim, window, stride

    def expected() -> list[Tensor]:
        made = SQUARE_ATTENTION(qkv.float().permute(0, 3, 1, 2), bias, heads, window, stride)
        return [made.permute(0, 2, 3, 1)]

    return Case(
        "attention in squares",
        inputs.dtype,
        lambda: kernels.call("square_attention", inputs.dtype, qkv, bias, out, *numbers),
        [out],
        expected,
        {"grid": grid, "heads": heads, "width": dim, "window": window, "stride": stride},
        flop=4 * batch * (-(-grid // side)) ** 2 * heads * side**4 // stride**2 * dim,
        bytes=qkv.nbytes + out.nbytes,
    )


def memory_attention(
    kernels: Kernels, sizes: tuple[int, int, int, int], inputs: Inputs, masks: int = 1
) -> Case:
    """SAM 2's attention to memories; sizes are objects, queries, keys and the values' channels."""
    objects, queries, keys, channels = sizes
    q, k = (inputs.normal(objects, count, 256) for count in (queries, keys))
    v, out = inputs.normal(objects, keys, channels), inputs.empty(objects, queries, channels)
    mask = -30000.0 * (torch.rand(masks, keys, device=inputs.device) < 0.2).float()
    workspace = inputs.empty(
        int(kernels.library.samtrt_memory_attention_workspace(channels)) // 4, dtype=torch.float32
    )
    tensors = (q, k, v, mask, out, workspace)
    numbers = objects, masks, queries, keys, channels

    def expected() -> list[Tensor]:
        made = []  # an object and some queries at a time: scores of all may be too large
        for i in range(objects):
            for part in q[i].float().split(1024):
                scores = part @ k[i].float().T / 16 + mask[i % masks]
                made.append(scores.softmax(-1) @ v[i].float())
        return [torch.cat(made).reshape(out.shape)]

    return Case(
        "attention to memories",
        inputs.dtype,
        lambda: kernels.call("memory_attention", inputs.dtype, *tensors, *numbers),
        [out],
        expected,
        {"objects": objects, "queries": queries, "keys": keys, "channels": channels},
        flop=2 * objects * queries * keys * (256 + channels),
        bytes=q.nbytes + k.nbytes + v.nbytes + out.nbytes,
    )


def layer_norm(
    kernels: Kernels, spec: ViTSpec, added: bool, inputs: Inputs, wants_sum: bool = True
) -> Case:
    """The norm of one image's tokens, alone or of a sum, which may be wanted too."""
    rows, width = spec.embedding_size**2, spec.embed_dim
    x, delta = (inputs.normal(rows, width, scale=3) + 1 for _ in range(2))
    weight, bias = (inputs.floats(width) for _ in range(2))
    total, y = (inputs.empty(rows, width) for _ in range(2))
    summed = (lambda: x.float() + delta.float()) if added else x.float
    summing = added and wants_sum
    tensors = (x, delta if added else None, weight, bias, total if summing else None, y)

    def expected() -> list[Tensor]:
        normed = F.layer_norm(summed(), (width,), weight, bias, 1e-6)
        return [summed(), normed] if summing else [normed]

    return Case(
        "layer norm" + (" of a sum" if added else ""),
        inputs.dtype,
        lambda: kernels.call("layer_norm", inputs.dtype, *tensors, rows, width, 1e-6),
        [total, y] if summing else [y],
        expected,
        {"model": spec.name},
        bytes=(4 if added else 2) * x.nbytes,
    )


def place_layer_norm(kernels: Kernels, spec: ViTSpec, batch: int, inputs: Inputs) -> Case:
    """The norm of tokens with what their places add."""
    rows, width = spec.embedding_size**2, spec.embed_dim
    x, places = inputs.normal(batch, rows, width, scale=3) + 1, inputs.floats(rows, width)
    weight, bias = (inputs.floats(width) for _ in range(2))
    total, y = (inputs.empty(batch, rows, width) for _ in range(2))
    tensors, sizes = (x, places, weight, bias, total, y), (batch * rows, rows, width)

    def expected() -> list[Tensor]:
        summed = x.float() + places
        return [summed, F.layer_norm(summed, (width,), weight, bias, 1e-6)]

    return Case(
        "layer norm with places",
        inputs.dtype,
        lambda: kernels.call("place_layer_norm", inputs.dtype, *tensors, *sizes, 1e-6),
        [total, y],
        expected,
        {"model": spec.name, "batch": batch},
        bytes=3 * x.nbytes + places.nbytes,
    )


def gelu(kernels: Kernels, spec: ViTSpec, inputs: Inputs, by_tanh: bool = False) -> Case:
    """The activation of one image's MLP."""
    rows, width = spec.embedding_size**2, int(spec.embed_dim * spec.mlp_ratio)
    x, y = inputs.normal(rows, width, scale=3), inputs.empty(rows, width)
    return Case(
        "GELU by tanh" if by_tanh else "GELU",
        inputs.dtype,
        lambda: kernels.call("gelu", inputs.dtype, int(by_tanh), x, y, rows, width),
        [y],
        lambda: [F.gelu(x.float(), approximate="tanh" if by_tanh else "none")],
        {"model": spec.name},
        bytes=2 * x.nbytes,
    )


def linear_gelu(kernels: Kernels, spec: ViTSpec, inputs: Inputs) -> Case:
    """The first layer of one image's MLP, and its activation."""
    rows, width, out = spec.embedding_size**2, spec.embed_dim, int(spec.embed_dim * spec.mlp_ratio)
    x, y = inputs.normal(rows, width), inputs.empty(rows, out)
    weight, bias = inputs.normal(out, width, scale=width**-0.5), inputs.floats(out)
    sizes = rows, width, out
    return Case(
        "linear layer and GELU",
        inputs.dtype,
        lambda: kernels.call("linear_gelu", inputs.dtype, x, weight, bias, y, *sizes),
        [y],
        lambda: [F.gelu(F.linear(x.float(), weight.float(), bias))],
        {"model": spec.name},
        flop=2 * rows * width * out,
        bytes=x.nbytes + weight.nbytes + y.nbytes,
    )


def patches(kernels: Kernels, spec: ViTSpec, floats: bool, inputs: Inputs) -> Case:
    """Two images cut into patches, given in the type or in float32."""
    side, grid = spec.image_size, spec.embedding_size
    images, out = inputs.normal(2, 3, side, side), inputs.empty(2, grid, grid, 768)
    given = images.float() if floats else images

    def expected() -> list[Tensor]:
        cut = images.reshape(2, 3, grid, 16, grid, 16).permute(0, 2, 4, 1, 3, 5)
        return [cut.reshape(out.shape).float()]

    return Case(
        "patches",
        inputs.dtype,
        lambda: kernels.call("patches", inputs.dtype, given, int(floats), out, 2, side),
        [out],
        expected,
        {"model": spec.name, "batch": 2, "from": "float32" if floats else "the type"},
        bytes=given.nbytes + out.nbytes,
    )


def embed_masks(
    kernels: Kernels, side: int, prompts: int, given: bool, inputs: Inputs, images: int = 1
) -> Case:
    """The image plus each prompt's mask, given or not, and for every second one the reverse."""
    image, out = inputs.normal(images, side * side, 256), inputs.empty(prompts, side * side, 256)
    masks = torch.randn(prompts, 1, 4 * side, 4 * side, device=inputs.device) * 5
    has_mask = torch.full((prompts,), float(given), device=inputs.device)
    has_mask[1::2] = 1 - has_mask[1::2]
    shapes = ((4, 4), (4,), (4,), (4,), (16, 16), (16,), (16,), (16,), (256, 16), (256,), (256,))
    weights = MaskWeights(*(inputs.floats(*shape, scale=shape[-1] ** -0.5) for shape in shapes))
    addresses = torch.tensor([weight.data_ptr() for weight in weights])  # the call reads them here
    tensors = (image, masks, has_mask, addresses, out)
    return Case(
        "masks to image" if given else "no masks to image",
        inputs.dtype,
        lambda: kernels.call("embed_masks", inputs.dtype, *tensors, images, prompts, side, 1e-6),
        [out],
        lambda: [PlainKernels().embed_masks(image.float(), masks, has_mask, weights)],
        {"side": side, "prompts": prompts},
        bytes=int(has_mask.sum()) * masks[0].nbytes + out.nbytes,
    )


def tokens_to_image(kernels: Kernels, side: int, prompts: int, tokens: int, inputs: Inputs) -> Case:
    """The decoder's tokens attend to the image."""
    cells, rows = side * side, 8 * tokens
    image, pe = inputs.normal(prompts, cells, 256), inputs.normal(cells, 256)
    queries, out = inputs.normal(prompts, rows, 256, scale=0.1), inputs.empty(prompts, rows, 256)
    workspace = inputs.empty(kernels.workspace(prompts, rows) // 4, dtype=torch.float32)
    tensors = (queries, image, pe, out, workspace)
    return Case(
        "tokens to image",
        inputs.dtype,
        lambda: kernels.call("tokens_to_image", inputs.dtype, *tensors, prompts, rows, cells),
        [out],
        lambda: [PlainKernels().tokens_to_image(queries.float(), _placed(image, pe))],
        {"side": side, "prompts": prompts, "tokens": tokens},
        flop=4 * prompts * rows * cells * 256,
        bytes=image.nbytes,
    )


def image_to_tokens(kernels: Kernels, side: int, prompts: int, tokens: int, inputs: Inputs) -> Case:
    """The image attends to the decoder's tokens, and is added to and normalised."""
    cells, rows = side * side, 8 * tokens
    image, pe = inputs.normal(prompts, cells, 256), inputs.normal(cells, 256)
    keys, values = inputs.normal(prompts, rows, 256, scale=0.1), inputs.normal(prompts, rows, 256)
    offsets, out = inputs.normal(prompts, rows), inputs.empty(prompts, cells, 256)
    weight, bias = (inputs.floats(256) for _ in range(2))
    tensors = (image, pe, keys, offsets, values, weight, bias, out)

    def expected() -> list[Tensor]:
        floats = (tensor.float() for tensor in (keys, offsets, values))

        def norm(rows: Tensor) -> Tensor:
            return F.layer_norm(rows, (256,), weight, bias, 1e-5)

        return [PlainKernels().image_to_tokens(_placed(image, pe), *floats, norm)]

    return Case(
        "image to tokens",
        inputs.dtype,
        lambda: kernels.call(
            "image_to_tokens", inputs.dtype, *tensors, prompts, tokens, cells, 1e-5
        ),
        [out],
        expected,
        {"side": side, "prompts": prompts, "tokens": tokens},
        flop=4 * prompts * rows * cells * 256,
        bytes=image.nbytes + out.nbytes,
    )


def upscale_masks(kernels: Kernels, side: int, prompts: int, inputs: Inputs) -> Case:
    """From the image's cells to low-res logits."""
    image, hyper = inputs.normal(prompts, side * side, 256), inputs.normal(prompts, 4, 32)
    first, second = inputs.normal(256, 256, scale=1 / 16), inputs.normal(128, 64, scale=1 / 8)
    first_bias, weight, bias = (inputs.floats(64) for _ in range(3))
    second_bias = inputs.floats(32)
    masks = inputs.empty(prompts, 4, 4 * side, 4 * side, dtype=torch.float32)
    tensors = (image, hyper, first, first_bias, weight, bias, second, second_bias, masks)

    def expected() -> list[Tensor]:
        def norm(rows: Tensor) -> Tensor:
            return F.layer_norm(rows, (64,), weight, bias, 1e-6)

        linear = (first.float(), first_bias, second.float(), second_bias)
        return [upscale_rows(image.float(), hyper.float(), *linear, norm, side)]

    return Case(
        "upscaling to masks",
        inputs.dtype,
        lambda: kernels.call("upscale_masks", inputs.dtype, *tensors, prompts, side, 1e-6),
        [masks],
        expected,
        {"side": side, "prompts": prompts},
        flop=2 * prompts * side**2 * (256 * 256 + 4 * 64 * 128 + 16 * 32 * 4),
        bytes=image.nbytes + masks.nbytes,
    )


def self_attention(
    kernels: Kernels, prompts: int, tokens: int, is_first: bool, inputs: Inputs
) -> Case:
    """The decoder's tokens attend to one another."""
    from samtrt.export.operators.self_attention import SELF_ATTENTION

    x, pe, out = (maker(prompts, tokens, 256) for maker in (*(inputs.normal,) * 2, inputs.empty))
    weights = (
        *(inputs.normal(768, 256, scale=1 / 16), inputs.floats(768)),
        *(inputs.normal(256, 256, scale=1 / 16), *(inputs.floats(256) for _ in range(3))),
    )
    size = int(kernels.library.samtrt_self_attention_workspace(prompts, tokens))
    workspace = inputs.empty(size // 4, dtype=torch.float32)
    sizes = prompts, tokens, int(is_first)
    return Case(
        "tokens to tokens",
        inputs.dtype,
        lambda: kernels.call(
            "self_attention", inputs.dtype, x, pe, *weights, out, workspace, *sizes, 1e-5
        ),
        [out],
        lambda: [SELF_ATTENTION(*_floats(x, pe, *weights), int(is_first), 1e-5)],
        {"prompts": prompts, "tokens": tokens, "first": is_first},
        flop=2 * prompts * tokens * 4 * 256 * 256,
        bytes=2 * 4 * 256 * 256,
    )


def image_queries(kernels: Kernels, prompts: int, tokens: int, wanted: int, inputs: Inputs) -> Case:
    """What tokens ask of the image; `wanted` 0 is all of them."""
    from samtrt.export.operators.image_queries import IMAGE_QUERIES

    x, pe = (inputs.normal(prompts, tokens, 256) for _ in range(2))
    query, key = inputs.normal(128, 256, scale=1 / 16), inputs.normal(8, 256, 16, scale=1 / 4)
    bias, asking = inputs.floats(128), wanted or tokens
    out = inputs.empty(prompts, 8 * asking, 256)
    tensors = (x, pe, query, bias, key, out)
    return Case(
        "queries of tokens",
        inputs.dtype,
        lambda: kernels.call("image_queries", inputs.dtype, *tensors, prompts, tokens, asking),
        [out],
        lambda: [IMAGE_QUERIES(*_floats(x, pe, query, bias, key), wanted)],
        {"prompts": prompts, "tokens": tokens, "wanted": wanted},
        flop=2 * prompts * asking * 2 * 256 * 128,
        bytes=2 * 2 * 256 * 128 + out.nbytes,
    )


def _attention_weights(inputs: Inputs) -> list[Tensor]:
    """Value projection and output layer of attention to the image, a norm's weight and bias."""
    return [
        *(inputs.normal(128, 256, scale=1 / 16), inputs.floats(128)),
        *(inputs.normal(256, 128, scale=1 / 11), *(inputs.floats(256) for _ in range(3))),
    ]


def token_mlp(kernels: Kernels, prompts: int, tokens: int, inputs: Inputs) -> Case:
    """What tokens become that have attended to the image."""
    from samtrt.export.operators.token_mlp import TOKEN_MLP

    x, mixed = inputs.normal(prompts, tokens, 256), inputs.normal(prompts, 8 * tokens, 256)
    weights = [
        *_attention_weights(inputs),
        *(inputs.normal(2048, 256, scale=1 / 16), inputs.floats(2048)),
        *(inputs.normal(256, 2048, scale=1 / 45), *(inputs.floats(256) for _ in range(3))),
    ]
    addresses = torch.tensor([weight.data_ptr() for weight in weights])  # the call reads them here
    size = int(kernels.library.samtrt_token_mlp_workspace(prompts, tokens))
    out, workspace = inputs.empty(*x.shape), inputs.empty(size // 4, dtype=torch.float32)
    tensors = (mixed, x, addresses, out, workspace)

    def expected() -> list[Tensor]:
        return [TOKEN_MLP(*_floats(x, mixed, *weights), 1e-5)]

    return Case(
        "MLP of tokens",
        inputs.dtype,
        lambda: kernels.call("token_mlp", inputs.dtype, *tensors, prompts, tokens, 1e-5),
        [out],
        expected,
        {"prompts": prompts, "tokens": tokens},
        flop=2 * prompts * tokens * 2 * 256 * (128 + 2048),
        bytes=2 * 2 * 256 * (128 + 2048),
    )


def token_keys(kernels: Kernels, prompts: int, tokens: int, inputs: Inputs) -> Case:
    """What the image is to attend to."""
    from samtrt.export.operators.token_keys import TOKEN_KEYS

    x, pe = (inputs.normal(prompts, tokens, 256) for _ in range(2))
    weights = [
        *(inputs.normal(128, 256, scale=1 / 16), inputs.floats(128)),
        *(inputs.normal(8, 256, 16, scale=1 / 4), inputs.floats(128)),
        *(inputs.normal(128, 256, scale=1 / 16), inputs.floats(128)),
        *(inputs.normal(8, 256, 16, scale=1 / 4), inputs.floats(256)),
    ]
    addresses = torch.tensor([weight.data_ptr() for weight in weights])
    rows = 8 * tokens
    outputs = [inputs.empty(prompts, rows, *rest) for rest in ((256,), (), (256,))]
    tensors = (x, pe, addresses, *outputs)

    def expected() -> list[Tensor]:
        return list(TOKEN_KEYS(*_floats(x, pe, *weights)))

    return Case(
        "keys of tokens",
        inputs.dtype,
        lambda: kernels.call("token_keys", inputs.dtype, *tensors, prompts, tokens),
        outputs,
        expected,
        {"prompts": prompts, "tokens": tokens},
        flop=2 * prompts * tokens * 4 * 256 * 128,
        bytes=2 * 4 * 256 * 128 + 2 * outputs[0].nbytes,
    )


def token_heads(kernels: Kernels, prompts: int, tokens: int, inputs: Inputs) -> Case:
    """The masks' weights and predicted IoUs."""
    from samtrt.export.operators.token_heads import TOKEN_HEADS

    x, mixed = inputs.normal(prompts, tokens, 256), inputs.normal(prompts, 40, 256)
    weights = _attention_weights(inputs)
    for rows in (256, 256, 32):
        weights += [inputs.normal(5, rows, 256, scale=1 / 16), inputs.floats(5, rows)]
    addresses = torch.tensor([weight.data_ptr() for weight in weights])
    hyper, iou = inputs.empty(prompts, 4, 32), inputs.empty(prompts, 4, dtype=torch.float32)
    size = int(kernels.library.samtrt_token_heads_workspace(prompts))
    workspace = inputs.empty(size // 4, dtype=torch.float32)
    tensors = (mixed, x, addresses, hyper, iou, workspace)
    return Case(
        "heads of tokens",
        inputs.dtype,
        lambda: kernels.call("token_heads", inputs.dtype, *tensors, prompts, tokens, 1e-5),
        [hyper, iou],
        lambda: list(TOKEN_HEADS(*_floats(x, mixed, *weights), 1e-5)),
        {"prompts": prompts, "tokens": tokens},
        flop=2 * prompts * 5 * 256 * (2 * 128 + 2 * 256 + 32),
        bytes=2 * 256 * (2 * 128 + 5 * (2 * 256 + 32)),
    )


def _floats(*tensors: Tensor) -> list[Tensor]:
    return [tensor.float() for tensor in tensors]


def _placed(image: Tensor, pe: Tensor) -> Image:
    return Image(image.float(), pe.float(), (image + pe).float())


SQUARES = {
    "sam2.1_hiera_tiny": (
        *(((256, 1, 96), 8, 1), ((256, 2, 96), 8, 2), ((128, 2, 96), 4, 1), ((128, 4, 96), 4, 2)),
        *(((64, 4, 96), 14, 1), ((64, 4, 96), 0, 1), ((64, 8, 96), 14, 2), ((32, 8, 96), 7, 1)),
    ),
    "sam2.1_hiera_large": (
        *(((256, 2, 72), 8, 1), ((256, 4, 72), 8, 2), ((128, 4, 72), 4, 1), ((128, 8, 72), 4, 2)),
        *(((64, 8, 72), 16, 1), ((64, 8, 72), 0, 1), ((64, 16, 72), 16, 2), ((32, 16, 72), 8, 1)),
    ),
}
"""What attention in squares is asked for: grid, heads and their width; side; by which queries are
pooled."""


def small_cases(kernels: Kernels, dtype: torch.dtype) -> Iterator[Case]:
    """Make every kernel's cases in small, one at a time: for tools that slow a GPU down."""
    inputs, tiny = Inputs(dtype, "cuda"), MODELS["vit_t"]
    one_head = replace(tiny, embed_dim=32, num_heads=1)
    wide = replace(MODELS["vit_b"], embed_dim=64, num_heads=1)  # which Hopper has kernels for
    for spec, window in ((one_head, 14), (one_head, 0), (wide, 0), (wide, 14)):
        yield attention(kernels, spec, window, 1, inputs)
    for sizes, window, stride in (((16, 1, 72), 14, 1), ((16, 1, 96), 8, 2), ((18, 1, 56), 0, 1)):
        yield square_attention(kernels, sizes, window, stride, inputs)
    for channels in (64, 256):
        yield memory_attention(kernels, (2, 200, 333, channels), inputs, 2)
    yield layer_norm(kernels, tiny, True, inputs)
    yield place_layer_norm(kernels, tiny, 2, inputs)
    for by_tanh in (False, True):
        yield gelu(kernels, tiny, inputs, by_tanh)
    for size in (tiny.image_size, 144):
        yield linear_gelu(kernels, replace(tiny, image_size=size), inputs)
    for floats in (False, True):
        yield patches(kernels, tiny, floats, inputs)
    yield embed_masks(kernels, 8, 3, True, inputs)
    yield upscale_masks(kernels, 8, 2, inputs)
    for prompts, tokens in ((1, 7), (3, 7), (19, 7), (2, 25)):
        for case in (tokens_to_image, image_to_tokens):
            yield case(kernels, 8, prompts, tokens, inputs)
        for is_first in (True, False):
            yield self_attention(kernels, prompts, tokens, is_first, inputs)
        for wanted in (0, 5):
            yield image_queries(kernels, prompts, tokens, wanted, inputs)
        for case in (token_mlp, token_keys, token_heads):
            yield case(kernels, prompts, tokens, inputs)


def gpu_cases(kernels: Kernels, models: list[str], dtype: torch.dtype) -> Iterator[Case]:
    """Make every case of a GPU's run, one at a time."""
    inputs = Inputs(dtype, "cuda")
    for objects in (1, 8) if SQUARES.keys() & set(models) else ():
        for keys, channels in ((4096, 256), (7 * 4096 + 64, 64)):
            yield memory_attention(kernels, (objects, 4096, keys, channels), inputs, objects)
    for model in filter(SQUARES.__contains__, models):
        for sizes, window, stride in SQUARES[model]:
            yield square_attention(kernels, sizes, window, stride, inputs)
    specs = [spec for spec in map(MODELS.get, models) if isinstance(spec, ViTSpec)]
    for spec in specs:
        for window in (spec.window_size, 0):
            for batch in (1, 2) if spec.name == "vit_b" else (1,):
                yield attention(kernels, spec, window, batch, inputs)
        for added in (False, True):
            yield layer_norm(kernels, spec, added, inputs)
        yield place_layer_norm(kernels, spec, 1, inputs)
        for by_tanh in (False, True):
            yield gelu(kernels, spec, inputs, by_tanh)
        yield linear_gelu(kernels, spec, inputs)
        for floats in (False, True):
            yield patches(kernels, spec, floats, inputs)
    for prompts, tokens in ((1, 7), (1, 25), (4, 7), (16, 7), (64, 7), (64, 25)):
        for is_first in (True, False):
            yield self_attention(kernels, prompts, tokens, is_first, inputs)
        for wanted in (0, 5):
            yield image_queries(kernels, prompts, tokens, wanted, inputs)
        for case in (token_mlp, token_keys, token_heads):
            yield case(kernels, prompts, tokens, inputs)
    for side in sorted({spec.embedding_size for spec in specs}):
        # A point; points and a box; as many as there may be.
        for prompts, tokens in ((1, 7), (1, 26), (8, 11), (64, 7), (64, 26)):
            yield tokens_to_image(kernels, side, prompts, tokens, inputs)
            yield image_to_tokens(kernels, side, prompts, tokens, inputs)
        for prompts in (1, 8, 64):
            for given in (False, True):
                yield embed_masks(kernels, side, prompts, given, inputs)
            yield upscale_masks(kernels, side, prompts, inputs)
