"""SamtrtRelPosAttention: attention with decomposed relative positions, over a grid or windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samtrt.choices import AttentionForm
from samtrt.export.operators.operator import FLOAT, Operator, meaning, op
from samtrt.export.operators.squares import attend_padded

if TYPE_CHECKING:
    from torch import Tensor


@meaning
def SamtrtRelPosAttention(
    qkv: FLOAT, qkv_bias: FLOAT, rel_pos_h: FLOAT, rel_pos_w: FLOAT, num_heads: int, window: int
) -> FLOAT:
    """`models.vit.Attention` between its two linear layers, within the grid or its windows.

    qkv [B, 3C, G, G], bias added; channels are q, k, v, each by head. qkv_bias [3C], q, k and v of
    the tokens that pad windows. rel_pos_h and rel_pos_w [2S - 1, C / num_heads] with S = window or
    G; a row for each distance of rows or columns. window is the side of the windows in tokens, 0
    for none. Gives [B, C, G, G].

    n counts squares and heads together, y and x are a query's place in its square, k a key's row or
    column.
    """
    none, one, two = (
        op.Constant(value_ints=[0]),
        op.Constant(value_ints=[1]),
        op.Constant(value_ints=[2]),
    )
    three, rest = op.Constant(value_ints=[3]), op.Constant(value_ints=[-1])
    first, second, third = (
        op.Constant(value_int=0),
        op.Constant(value_int=1),
        op.Constant(value_int=2),
    )
    heads = op.Reshape(num_heads, one)
    window_size = op.Reshape(window, one)
    shape = op.Shape(qkv)
    batch = op.Gather(shape, none)
    width = op.Gather(shape, one)
    grid = op.Gather(shape, two)
    side = op.Where(op.Greater(window_size, none), window_size, grid)
    side_less = op.Sub(side, one)
    count = op.Div(op.Add(grid, side_less), side)
    whole = op.Mul(side, count)
    # Cut into squares; what lies outside the grid is the bias.
    pad = op.Sub(whole, grid)
    pads = op.Concat(none, none, none, none, none, none, pad, pad, axis=0)
    padded = op.Pad(qkv, pads)
    unit = op.Constant(value_floats=[1.0])
    ones = op.Expand(unit, op.Concat(one, one, grid, grid, axis=0))
    outside = op.Sub(unit, op.Pad(ones, pads))
    bias = op.Reshape(qkv_bias, op.Concat(one, rest, one, one, axis=0))
    tokens = op.Add(padded, op.Mul(bias, outside))
    dim = op.Div(width, op.Mul(three, heads))
    apart_shape = op.Concat(batch, three, heads, dim, count, side, count, side, axis=0)
    moved = op.Transpose(op.Reshape(tokens, apart_shape), perm=[1, 0, 4, 6, 2, 5, 7, 3])
    square = op.Mul(side, side)
    flat = op.Reshape(moved, op.Concat(three, rest, square, dim, axis=0))
    q = op.Gather(flat, first, axis=0)
    k = op.Gather(flat, second, axis=0)
    v = op.Gather(flat, third, axis=0)
    # The terms of rows and of columns.
    places = op.Range(first, op.Squeeze(side), second)
    difference = op.Sub(op.Unsqueeze(places, one), op.Unsqueeze(places, none))
    distance = op.Add(difference, side_less)
    rel_h = op.Transpose(op.Gather(rel_pos_h, distance, axis=0), perm=[0, 2, 1])
    rel_w = op.Transpose(op.Gather(rel_pos_w, distance, axis=0), perm=[0, 2, 1])
    queries = op.Reshape(q, op.Concat(rest, side, side, dim, axis=0))
    lines_shape = op.Concat(side, rest, dim, axis=0)
    terms_shape = op.Concat(side, rest, side, side, axis=0)
    ynxd = op.Transpose(queries, perm=[1, 0, 2, 3])
    ynxk = op.Reshape(op.MatMul(op.Reshape(ynxd, lines_shape), rel_h), terms_shape)
    row_terms = op.Transpose(ynxk, perm=[1, 0, 2, 3])
    xnyd = op.Transpose(queries, perm=[2, 0, 1, 3])
    xnyk = op.Reshape(op.MatMul(op.Reshape(xnyd, lines_shape), rel_w), terms_shape)
    column_terms = op.Transpose(xnyk, perm=[1, 2, 0, 3])
    row_term = op.Reshape(row_terms, op.Concat(rest, square, side, one, axis=0))
    column_term = op.Reshape(column_terms, op.Concat(rest, square, one, side, axis=0))
    scores_shape = op.Concat(rest, square, square, axis=0)
    terms = op.Reshape(op.Add(row_term, column_term), scores_shape)
    # Attention, and the squares put together again.
    scaled = op.Div(q, op.Sqrt(op.Cast(dim, to=1)))
    scores = op.Add(op.MatMul(scaled, op.Transpose(k, perm=[0, 2, 1])), terms)
    mixed = op.MatMul(op.Softmax(scores, axis=-1), v)
    mixed_shape = op.Concat(batch, count, count, heads, side, side, dim, axis=0)
    ordered = op.Transpose(op.Reshape(mixed, mixed_shape), perm=[0, 3, 6, 1, 4, 2, 5])
    image = op.Reshape(ordered, op.Concat(batch, rest, whole, whole, axis=0))
    starts, axes = op.Constant(value_ints=[0, 0]), op.Constant(value_ints=[2, 3])
    out = op.Slice(image, starts, op.Concat(grid, grid, axis=0), axes)
    return out


def _compute(
    qkv: Tensor,
    qkv_bias: Tensor,
    rel_pos_h: Tensor,
    rel_pos_w: Tensor,
    num_heads: int,
    window: int,
) -> Tensor:
    from samtrt.models.vit import attend_squares, row_distances

    side = window or qkv.shape[2]
    distance = row_distances(side).to(qkv.device)
    rel_pos = rel_pos_h[distance], rel_pos_w[distance]
    return attend_padded(
        *(qkv, qkv_bias, side),
        lambda padded: attend_squares(padded, *rel_pos, num_heads, AttentionForm.TILED),
    )


def _shape(qkv: Tensor, *_: object) -> Tensor:
    return qkv.new_empty(qkv.shape[0], qkv.shape[1] // 3, *qkv.shape[2:])


REL_POS_ATTENTION = Operator(
    SamtrtRelPosAttention, _compute, _shape, float32={"qkv_bias", "rel_pos_h", "rel_pos_w"}
)
