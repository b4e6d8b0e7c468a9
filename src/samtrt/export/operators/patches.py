"""SamtrtPatches: the image cut into patches, whose pixels are the channels of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op

if TYPE_CHECKING:
    from torch import Tensor

PATCH = 16


@meaning
def SamtrtPatches(images: FLOAT) -> FLOAT:
    """[B, 3, S, S] to [B, 768, S / 16, S / 16], channels by color, row and column in the patch."""
    none, colors = op.Constant(value_ints=[0]), op.Constant(value_ints=[3])
    patch, rest = op.Constant(value_ints=[16]), op.Constant(value_ints=[-1])
    shape = op.Shape(images)
    batch, side = op.Gather(shape, none), op.Gather(shape, colors)
    grid = op.Div(side, patch)
    apart = op.Reshape(images, op.Concat(batch, colors, grid, patch, grid, patch, axis=0))
    moved = op.Transpose(apart, perm=[0, 1, 3, 5, 2, 4])
    out = op.Reshape(moved, op.Concat(batch, rest, grid, grid, axis=0))
    return out


def _compute(images: Tensor) -> Tensor:
    grid = images.shape[-1] // PATCH
    apart = images.reshape(*images.shape[:2], grid, PATCH, grid, PATCH)
    return apart.permute(0, 1, 3, 5, 2, 4).flatten(1, 3).contiguous()


def _shape(images: Tensor) -> Tensor:
    batch, colors, height, width = images.shape
    return images.new_empty(batch, colors * PATCH * PATCH, height // PATCH, width // PATCH)


PATCHES = Operator(SamtrtPatches, _compute, _shape)
