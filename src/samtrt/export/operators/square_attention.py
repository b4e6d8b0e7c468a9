"""SamtrtSquareAttention: attention within the squares of a grid, whose queries may be pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.export.operators.operator import FLOAT, Operator, meaning, op
from samtrt.export.operators.squares import attend_padded

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtSquareAttention(
    qkv: FLOAT, qkv_bias: FLOAT, num_heads: int, window: int, stride: int
) -> FLOAT:
    """`models.hiera.HieraAttention` between its two linear layers.

    qkv [B, 3C, G, G], bias added; channels are q, k, v, each by head. qkv_bias [3C], q, k and v of
    the tokens that pad squares. window is the side of the squares in tokens, 0 for one of the whole
    grid; stride is 2 where queries are the largest of 2 x 2, else 1. Gives
    [B, C, G / stride, G / stride].

    Keys and values are [squares and heads, tokens, C / num_heads]; queries too, with fewer tokens.
    """
    none, one, two = (
        op.Constant(value_ints=[0]),
        op.Constant(value_ints=[1]),
        op.Constant(value_ints=[2]),
    )
    three, rest = op.Constant(value_ints=[3]), op.Constant(value_ints=[-1])
    heads = op.Reshape(num_heads, one)
    window_size = op.Reshape(window, one)
    step = op.Reshape(stride, one)
    shape = op.Shape(qkv)
    batch = op.Gather(shape, none)
    width = op.Gather(shape, one)
    grid = op.Gather(shape, two)
    side = op.Where(op.Greater(window_size, none), window_size, grid)
    count = op.Div(op.Add(grid, op.Sub(side, one)), side)
    whole = op.Mul(side, count)
    # What lies outside the grid is the bias.
    pad = op.Sub(whole, grid)
    pads = op.Concat(none, none, none, none, none, none, pad, pad, axis=0)
    unit = op.Constant(value_floats=[1.0])
    ones = op.Expand(unit, op.Concat(one, one, grid, grid, axis=0))
    outside = op.Sub(unit, op.Pad(ones, pads))
    bias = op.Reshape(qkv_bias, op.Concat(one, rest, one, one, axis=0))
    tokens = op.Add(op.Pad(qkv, pads), op.Mul(bias, outside))
    part = op.Div(width, three)
    dim = op.Div(part, heads)
    channel, twice, second = op.Constant(value_ints=[1]), op.Mul(part, two), part
    queries = op.Slice(tokens, none, part, channel)
    keys = op.Slice(tokens, second, twice, channel)
    values = op.Slice(tokens, twice, width, channel)
    # The largest of what is apart in the fourth and the last dimension, which may be one alone.
    short = op.Div(whole, step)
    apart = op.Reshape(queries, op.Concat(batch, part, short, step, short, step, axis=0))
    largest = op.ReduceMax(apart, axes=[3, 5], keepdims=0)
    few = op.Div(side, step)
    squared = op.Mul(few, few)
    square = op.Mul(side, side)
    q_shape = op.Concat(batch, heads, dim, count, few, count, few, axis=0)
    k_shape = op.Concat(batch, heads, dim, count, side, count, side, axis=0)
    q_moved = op.Transpose(op.Reshape(largest, q_shape), perm=[0, 3, 5, 1, 4, 6, 2])
    k_moved = op.Transpose(op.Reshape(keys, k_shape), perm=[0, 3, 5, 1, 2, 4, 6])
    v_moved = op.Transpose(op.Reshape(values, k_shape), perm=[0, 3, 5, 1, 4, 6, 2])
    q = op.Reshape(q_moved, op.Concat(rest, squared, dim, axis=0))
    k = op.Reshape(k_moved, op.Concat(rest, dim, square, axis=0))
    v = op.Reshape(v_moved, op.Concat(rest, square, dim, axis=0))
    scaled = op.Div(q, op.Sqrt(op.Cast(dim, to=1)))
    mixed = op.MatMul(op.Softmax(op.MatMul(scaled, k), axis=-1), v)
    # The squares put together again.
    mixed_shape = op.Concat(batch, count, count, heads, few, few, dim, axis=0)
    ordered = op.Transpose(op.Reshape(mixed, mixed_shape), perm=[0, 3, 6, 1, 4, 2, 5])
    image = op.Reshape(ordered, op.Concat(batch, rest, short, short, axis=0))
    left = op.Div(grid, step)
    starts, axes = op.Constant(value_ints=[0, 0]), op.Constant(value_ints=[2, 3])
    out = op.Slice(image, starts, op.Concat(left, left, axis=0), axes)
    return out


def _compute(qkv: Tensor, qkv_bias: Tensor, num_heads: int, window: int, stride: int) -> Tensor:
    from samtrt.models.hiera import attend_squares

    side = window or qkv.shape[2]
    return attend_padded(
        qkv, qkv_bias, side, lambda padded: attend_squares(padded, num_heads, side, stride)
    )


def _shape(qkv: Tensor, _bias: Tensor, _heads: int, _window: int, stride: int) -> Tensor:
    batch, width, height, across = qkv.shape
    return qkv.new_empty(batch, width // 3, height // stride, across // stride)


SQUARE_ATTENTION = Operator(SamtrtSquareAttention, _compute, _shape, float32={"qkv_bias"})
