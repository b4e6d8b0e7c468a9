"""Which model tensors are of: every number of its encoder is in their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING

from samtrt.checkpoints.layouts import EDGETAM, EFFICIENTVIT, OFFICIAL, SAM2, TINY_VIT
from samtrt.checkpoints.wording import dims
from samtrt.errors import CheckpointError
from samtrt.registry import (
    MODELS,
    EfficientViTSpec,
    HieraSpec,
    ModelSpec,
    RepViTSpec,
    TinyViTSpec,
    ViTSpec,
)

if TYPE_CHECKING:
    from torch import Tensor

_ENCODER = "image_encoder."
_HQ = "mask_decoder.hf_token.weight"

State = Mapping[str, "Tensor"]

UNUSED = re.compile(
    r"\.num_batches_tracked$"  # what batch norms count while they are trained
    r"|^image_encoder\.(norm_)?head\."  # the classifier that TinyViT was trained with
    r"|\.attn\.(ab|attention_bias_idxs)$"  # made of attention_biases
)
"""Names of tensors that official checkpoints hold and no result depends on."""


def detect(state: State) -> ModelSpec:
    """Return the known spec with the tensors' shapes, or a custom one.

    What no tensor tells (a TinyViT's image size, and how images are prepared) is the known model's,
    or else that of the family's published ones.

    Raises:
        CheckpointError: where a tensor that tells a number is missing or is not as it should be.
    """
    spec: ModelSpec
    if TINY_VIT.anchor in state:
        spec = _tiny_vit(state)
    elif EFFICIENTVIT.anchor in state:
        spec = _efficientvit(state)
    elif SAM2.anchor in state:
        spec = _hiera(state)
    elif EDGETAM.anchor in state:
        spec = _repvit(state)
    else:
        spec = _vit(state)
    spec = replace(spec, hq=_HQ in state)
    if isinstance(spec, ViTSpec) and spec.hq:
        spec = _early_block(spec)
    return next((known for known in MODELS.values() if _is_like(spec, known)), spec)


def _is_like(spec: ModelSpec, known: ModelSpec) -> bool:
    """Tell whether a spec has the numbers of a known one, as far as tensors tell them."""
    if type(spec) is not type(known):
        return False
    untold = {"name", "download", "preparation", "thresholds"}
    if not isinstance(spec, ViTSpec):
        untold |= {"image_size", "input_size"}
    told = (each.name for each in fields(known) if each.name not in untold)
    return all(getattr(spec, name) == getattr(known, name) for name in told)


def _vit(state: State) -> ViTSpec:
    encoder = _ENCODER
    embed_dim, _, patch_size, _ = _shape_of(state, OFFICIAL.anchor, 4)
    grid = _shape_of(state, encoder + "pos_embed", 4)[1]
    depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
    tables = [_shape_of(state, f"{encoder}blocks.{i}.attn.rel_pos_h", 2) for i in range(depth)]
    if not tables:
        raise CheckpointError("the image encoder has no blocks")
    head_dim = tables[0][1]
    if embed_dim % head_dim:
        raise CheckpointError(f"width {embed_dim} is not a multiple of the head width {head_dim}")
    # A block is global where its table of relative positions spans the whole grid.
    windows = {(rows + 1) // 2 for rows, _ in tables if rows != 2 * grid - 1}
    if len(windows) > 1:
        raise CheckpointError(
            f"blocks have windows of {' and '.join(map(str, sorted(windows)))} patches; "
            "all windowed blocks of a SAM have the same"
        )
    return ViTSpec(
        name="custom",
        embed_dim=embed_dim,
        depth=depth,
        num_heads=embed_dim // head_dim,
        global_attn_indexes=tuple(i for i in range(depth) if tables[i][0] == 2 * grid - 1),
        image_size=grid * patch_size,
        patch_size=patch_size,
        window_size=windows.pop() if windows else ViTSpec.window_size,
        mlp_ratio=_shape_of(state, encoder + "blocks.0.mlp.lin1.weight", 2)[0] / embed_dim,
        prompt_embed_dim=_shape_of(state, encoder + "neck.0.weight", 4)[0],
    )


def _early_block(spec: ViTSpec) -> ViTSpec:
    """Return the spec where its first global block is sure: SAM-HQ's decoder takes its features.

    Windows as wide as the grid have the tables of global blocks. Which ones are global is then as
    in the published model of these sizes.
    """
    if not spec.global_attn_indexes:
        raise CheckpointError(
            "a SAM-HQ's decoder takes features of the first block without windows, and all blocks "
            "have some"
        )
    if len(spec.global_attn_indexes) < spec.depth or spec.depth == 1:
        return spec
    sizes = (spec.embed_dim, spec.depth, spec.num_heads, spec.embedding_size)
    for known in MODELS.values():
        if isinstance(known, ViTSpec):
            windowed = (known.embed_dim, known.depth, known.num_heads, known.window_size)
            if windowed == sizes:
                return replace(
                    spec,
                    global_attn_indexes=known.global_attn_indexes,
                    window_size=known.window_size,
                )
    raise CheckpointError(
        "a SAM-HQ's decoder takes features of the first block without windows, and no tensor tells "
        f"which it is where windows may be as wide as the grid of {spec.embedding_size} patches; "
        "train it at another size of image"
    )


def _tiny_vit(state: State) -> TinyViTSpec:
    layers = _ENCODER + "layers."
    merged = [_shape_of(state, f"{layers}{i}.downsample.conv1.c.weight", 4)[:2] for i in range(3)]
    biases = [_shape_of(state, f"{layers}{i}.blocks.0.attn.attention_biases", 2) for i in (1, 2, 3)]
    depths = [_count(state, rf"image_encoder\.layers\.{i}\.blocks\.(\d+)\.") for i in range(4)]
    return TinyViTSpec(
        name="custom",
        widths=(merged[0][1], merged[0][0], merged[1][0], merged[2][0]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
        heads=(biases[0][0], biases[1][0], biases[2][0]),
        windows=(isqrt(biases[0][1]), isqrt(biases[1][1]), isqrt(biases[2][1])),
        prompt_embed_dim=_shape_of(state, _ENCODER + "neck.0.weight", 4)[0],
    )


def _efficientvit(state: State) -> EfficientViTSpec:
    stages, neck = _ENCODER + "backbone.stages.", _ENCODER + "neck."
    count = _count(state, r"image_encoder\.backbone\.stages\.(\d+)\.")
    widths, depths = [_shape_of(state, EFFICIENTVIT.anchor, 4)[0]], []
    blocks, fewer = [], []
    for i in range(count):
        depths.append(_count(state, rf"image_encoder\.backbone\.stages\.{i}\.op_list\.(\d+)\.") - 1)
        if not i:
            continue
        first = f"{stages}{i}.op_list.0.main."
        widths.append(_shape_of(state, first + "point_conv.conv.weight", 4)[0])
        fused = first + "spatial_conv.conv.weight" in state
        attends = f"{stages}{i}.op_list.1.context_module.main.qkv.conv.weight" in state
        blocks.append("att" if attends else "fmb" if fused else "mb")
        before = "spatial_conv" if fused else "inverted_conv"
        fewer.append(f"{first}{before}.norm.weight" not in state)
    if count < 4 or "att" not in blocks:
        raise CheckpointError("its stages are not those of an EfficientViT-SAM")
    attention = f"{stages}{count - 1}.op_list.1.context_module.main.aggreg.0."
    middle = _shape_of(state, neck + "middle.op_list.0.main.spatial_conv.conv.weight", 4)
    return EfficientViTSpec(
        name="custom",
        # Published ones have five stages at 512 or six at 1024.
        input_size=512 if count == 5 else None,
        widths=tuple(widths),
        depths=tuple(depths),
        blocks=tuple(blocks),
        fewer_norms=tuple(fewer),
        head_dim=_shape_of(state, attention + "1.weight", 4)[1],
        kernel=_shape_of(state, attention + "0.weight", 4)[2],
        neck_width=middle[1],
        neck_depth=_count(state, r"image_encoder\.neck\.middle\.op_list\.(\d+)\."),
        neck_ratio=middle[0] // middle[1],
        prompt_embed_dim=_shape_of(state, _ENCODER + "norm.weight", 1)[0],
    )


def _hiera(state: State) -> HieraSpec:
    """Find the known model with these tensors, as heads and global blocks are in none of them."""
    trunk = _ENCODER + "trunk."
    width = _shape_of(state, SAM2.anchor, 4)[0]
    depth = _count(state, r"image_encoder\.trunk\.blocks\.(\d+)\.")
    starts = [0, *(i for i in range(depth) if f"{trunk}blocks.{i}.proj.weight" in state), depth]
    stages = tuple(stop - start for start, stop in pairwise(starts))
    tables = [_shape_of(state, trunk + name, 4)[-1] for name in ("pos_embed_window", "pos_embed")]
    for known in MODELS.values():
        if isinstance(known, HieraSpec) and (known.embed_dim, known.stages) == (width, stages):
            if tables != [known.windows[0], known.background]:
                continue
            return replace(known, name="custom", version=_version(state), download=None)
    raise CheckpointError(
        f"it is a SAM 2 with stages of {', '.join(map(str, stages))} blocks, {width} channels wide "
        f"at first; samtrt knows the published sizes alone, as no tensor tells a Hiera's heads and "
        "global blocks"
    )


def _repvit(state: State) -> RepViTSpec:
    body, memory = _ENCODER + "trunk.body.", "memory.spatial_perceiver."
    stages = range(4)
    widths = [_shape_of(state, body + "stem.conv2.c.weight", 4)[0]]
    widths += [
        _shape_of(state, f"{body}stages_{i}.downsample.channel_downsample.c.weight", 4)[0]
        for i in stages[1:]
    ]
    blocks = r"image_encoder\.trunk\.body\.stages_{}\.blocks\.(\d+)\."
    depths = [_count(state, blocks.format(i)) for i in stages]
    spec = RepViTSpec(
        name="custom",
        widths=(widths[0], widths[1], widths[2], widths[3]),
        depths=(depths[0], depths[1], depths[2], depths[3]),
    )
    for known in MODELS.values():
        shape = (spec.widths, spec.depths)
        if isinstance(known, RepViTSpec) and (known.widths, known.depths) == shape:
            spec = replace(known, name="custom", download=None)
    spec = replace(
        spec,
        version=_version(state),
        prompt_embed_dim=_shape_of(state, _ENCODER + "no_mem_embed", 3)[2],
    )
    if spec.version is None:
        return spec
    latents_2d = _shape_of(state, memory + "latents_2d", 2)[0]
    side = isqrt(latents_2d)
    if side**2 != latents_2d or spec.embedding_size % side:
        raise CheckpointError(
            f"{memory}latents_2d has {latents_2d} rows, which do not cut the image's "
            f"{spec.embedding_size} x {spec.embedding_size} cells into squares"
        )
    return replace(
        spec,
        memory_layers=_count(state, r"memory\.memory_attention\.layers\.(\d+)\."),
        latents=_shape_of(state, memory + "latents", 2)[0],
        latents_2d=latents_2d,
    )


def _version(state: State) -> str | None:
    """Tell which SAM 2's modules for video a model has; None for none."""
    if not any(name.startswith("memory.") for name in state):
        return None
    return "2.1" if "memory.no_obj_embed_spatial" in state else "2.0"


def _count(state: State, pattern: str) -> int:
    """Count the different numbers that names have at a place."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})


def _shape_of(state: State, name: str, ndim: int) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(f"the tensor {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointError(f"{name} is {dims(shape)}, expected {ndim} axes, none empty")
    return shape
