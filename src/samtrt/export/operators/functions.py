"""What each of the plugin's operators means, as an ONNX function of standard operators.

All work from opset 17 on.
"""

from __future__ import annotations


def _gelu_lines(x: str, y: str) -> str:
    """Return y = x / 2 (1 + erf(x / sqrt 2)), in names that begin with y."""
    return f"""\
  {y}_root = Constant <value_float = 1.4142135> ()
  {y}_unit = Constant <value_float = 1.0> ()
  {y}_half = Constant <value_float = 0.5> ()
  {y}_scaled = Div ({x}, {y}_root)
  {y}_erf = Erf ({y}_scaled)
  {y}_factor = Add ({y}_erf, {y}_unit)
  {y}_halved = Mul ({y}_factor, {y}_half)
  {y} = Mul ({x}, {y}_halved)"""


ATTENTION = "SamtrtRelPosAttention"
LAYER_NORM = "SamtrtLayerNorm"
ADD_LAYER_NORM = "SamtrtAddLayerNorm"
GELU = "SamtrtGelu"
EMBED_MASKS = "SamtrtEmbedMasks"
TOKENS_TO_IMAGE = "SamtrtTokensToImage"
IMAGE_TO_TOKENS = "SamtrtImageToTokens"
UPSCALE_MASKS = "SamtrtUpscaleMasks"

_LAYER_NORM = """
SamtrtLayerNorm <epsilon, plugin_version, plugin_namespace> (x, weight, bias) => (y)
{
  last = Transpose <perm = [0, 2, 3, 1]> (x)
  layer_norm = LayerNormalization <axis = -1, epsilon: float = @epsilon> (last, weight, bias)
  y = Transpose <perm = [0, 3, 1, 2]> (layer_norm)
}
"""

_ADD_LAYER_NORM = """
SamtrtAddLayerNorm <epsilon, plugin_version, plugin_namespace>
(x, delta, weight, bias) => (sum, y)
{
  sum = Add (x, delta)
  last = Transpose <perm = [0, 2, 3, 1]> (sum)
  layer_norm = LayerNormalization <axis = -1, epsilon: float = @epsilon> (last, weight, bias)
  y = Transpose <perm = [0, 3, 1, 2]> (layer_norm)
}
"""

_GELU = f"""
SamtrtGelu <plugin_version, plugin_namespace> (x) => (y)
{{
{_gelu_lines("x", "y")}
}}
"""

# As `models.vit.Attention` between its two linear layers. n counts squares and heads together,
# y and x are a query's place in its square, k a key's row or column.
_ATTENTION = """
SamtrtRelPosAttention <num_heads, window, plugin_version, plugin_namespace>
(qkv, qkv_bias, rel_pos_h, rel_pos_w) => (out)
{
  none = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  two = Constant <value_ints = [2]> ()
  three = Constant <value_ints = [3]> ()
  rest = Constant <value_ints = [-1]> ()
  first = Constant <value_int = 0> ()
  second = Constant <value_int = 1> ()
  third = Constant <value_int = 2> ()
  heads_number = Constant <value_int: int = @num_heads> ()
  window_number = Constant <value_int: int = @window> ()
  heads = Reshape (heads_number, one)
  window_size = Reshape (window_number, one)
  shape = Shape (qkv)
  batch = Gather (shape, none)
  width = Gather (shape, one)
  grid = Gather (shape, two)
  is_window = Greater (window_size, none)
  side = Where (is_window, window_size, grid)
  side_less = Sub (side, one)
  grid_more = Add (grid, side_less)
  count = Div (grid_more, side)
  whole = Mul (side, count)
  pad = Sub (whole, grid)
  pads = Concat <axis = 0> (none, none, none, none, none, none, pad, pad)
  padded = Pad (qkv, pads)
  unit = Constant <value_floats = [1.0]> ()
  plane = Concat <axis = 0> (one, one, grid, grid)
  ones = Expand (unit, plane)
  inside = Pad (ones, pads)
  outside = Sub (unit, inside)
  bias_shape = Concat <axis = 0> (one, rest, one, one)
  bias = Reshape (qkv_bias, bias_shape)
  padding = Mul (bias, outside)
  tokens = Add (padded, padding)
  all_heads = Mul (three, heads)
  dim = Div (width, all_heads)
  apart_shape = Concat <axis = 0> (batch, three, heads, dim, count, side, count, side)
  apart = Reshape (tokens, apart_shape)
  moved = Transpose <perm = [1, 0, 4, 6, 2, 5, 7, 3]> (apart)
  square = Mul (side, side)
  flat_shape = Concat <axis = 0> (three, rest, square, dim)
  flat = Reshape (moved, flat_shape)
  q = Gather <axis = 0> (flat, first)
  k = Gather <axis = 0> (flat, second)
  v = Gather <axis = 0> (flat, third)
  side_number = Squeeze (side)
  places = Range (first, side_number, second)
  down = Unsqueeze (places, one)
  across = Unsqueeze (places, none)
  difference = Sub (down, across)
  distance = Add (difference, side_less)
  rel_h = Gather <axis = 0> (rel_pos_h, distance)
  rel_w = Gather <axis = 0> (rel_pos_w, distance)
  rel_h_t = Transpose <perm = [0, 2, 1]> (rel_h)
  rel_w_t = Transpose <perm = [0, 2, 1]> (rel_w)
  queries_shape = Concat <axis = 0> (rest, side, side, dim)
  queries = Reshape (q, queries_shape)
  lines_shape = Concat <axis = 0> (side, rest, dim)
  terms_shape = Concat <axis = 0> (side, rest, side, side)
  ynxd = Transpose <perm = [1, 0, 2, 3]> (queries)
  rows = Reshape (ynxd, lines_shape)
  row_products = MatMul (rows, rel_h_t)
  ynxk = Reshape (row_products, terms_shape)
  row_terms = Transpose <perm = [1, 0, 2, 3]> (ynxk)
  xnyd = Transpose <perm = [2, 0, 1, 3]> (queries)
  columns = Reshape (xnyd, lines_shape)
  column_products = MatMul (columns, rel_w_t)
  xnyk = Reshape (column_products, terms_shape)
  column_terms = Transpose <perm = [1, 2, 0, 3]> (xnyk)
  down_shape = Concat <axis = 0> (rest, square, side, one)
  across_shape = Concat <axis = 0> (rest, square, one, side)
  row_term = Reshape (row_terms, down_shape)
  column_term = Reshape (column_terms, across_shape)
  term_grid = Add (row_term, column_term)
  scores_shape = Concat <axis = 0> (rest, square, square)
  terms = Reshape (term_grid, scores_shape)
  dim_float = Cast <to = 1> (dim)
  root = Sqrt (dim_float)
  scaled = Div (q, root)
  k_t = Transpose <perm = [0, 2, 1]> (k)
  products = MatMul (scaled, k_t)
  scores = Add (products, terms)
  weights = Softmax <axis = -1> (scores)
  mixed = MatMul (weights, v)
  mixed_shape = Concat <axis = 0> (batch, count, count, heads, side, side, dim)
  windows = Reshape (mixed, mixed_shape)
  ordered = Transpose <perm = [0, 3, 6, 1, 4, 2, 5]> (windows)
  image_shape = Concat <axis = 0> (batch, rest, whole, whole)
  image = Reshape (ordered, image_shape)
  starts = Constant <value_ints = [0, 0]> ()
  ends = Concat <axis = 0> (grid, grid)
  axes = Constant <value_ints = [2, 3]> ()
  out = Slice (image, starts, ends, axes)
}
"""

# As `models.image_kernels.PlainKernels`, here and below.
_EMBED_MASKS = f"""
SamtrtEmbedMasks <side, epsilon, plugin_version, plugin_namespace>
(image, masks, has_mask, first, first_bias, first_norm_weight, first_norm_bias, second, second_bias,
 second_norm_weight, second_norm_bias, third, third_bias, no_mask) => (out)
{{
  one = Constant <value_ints = [1]> ()
  two = Constant <value_ints = [2]> ()
  four = Constant <value_ints = [4]> ()
  sixteen = Constant <value_ints = [16]> ()
  rest = Constant <value_ints = [-1]> ()
  side_number = Constant <value_int: int = @side> ()
  side = Reshape (side_number, one)
  zero = Constant <value_float = 0.0> ()
  apart_shape = Concat <axis = 0> (rest, side, two, two, side, two, two)
  apart = Reshape (masks, apart_shape)
  moved = Transpose <perm = [0, 1, 4, 2, 5, 3, 6]> (apart)
  cells = Mul (side, side)
  places = Mul (cells, four)
  places_shape = Concat <axis = 0> (rest, places, four)
  pixels = Reshape (moved, places_shape)
  first_t = Transpose <perm = [1, 0]> (first)
  first_product = MatMul (pixels, first_t)
  first_sum = Add (first_product, first_bias)
  first_layer_norm = LayerNormalization <axis = -1, epsilon: float = @epsilon>
    (first_sum, first_norm_weight, first_norm_bias)
{_gelu_lines("first_layer_norm", "first_out")}
  cells_shape = Concat <axis = 0> (rest, cells, sixteen)
  parts = Reshape (first_out, cells_shape)
  second_t = Transpose <perm = [1, 0]> (second)
  second_product = MatMul (parts, second_t)
  second_sum = Add (second_product, second_bias)
  second_layer_norm = LayerNormalization <axis = -1, epsilon: float = @epsilon>
    (second_sum, second_norm_weight, second_norm_bias)
{_gelu_lines("second_layer_norm", "hidden")}
  third_t = Transpose <perm = [1, 0]> (third)
  third_product = MatMul (hidden, third_t)
  embedded = Add (third_product, third_bias)
  column = Concat <axis = 0> (rest, one, one)
  flag = Reshape (has_mask, column)
  has = Greater (flag, zero)
  added = Where (has, embedded, no_mask)
  out = Add (image, added)
}}
"""

_TOKENS_TO_IMAGE = """
SamtrtTokensToImage <plugin_version, plugin_namespace> (queries, image, image_pe) => (out)
{
  keys = Add (image, image_pe)
  keys_t = Transpose <perm = [0, 2, 1]> (keys)
  scores = MatMul (queries, keys_t)
  weights = Softmax <axis = -1> (scores)
  out = MatMul (weights, image)
}
"""

_IMAGE_TO_TOKENS = """
SamtrtImageToTokens <num_heads, epsilon, plugin_version, plugin_namespace>
(image, image_pe, keys, offsets, values, weight, bias) => (out)
{
  none = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  rest = Constant <value_ints = [-1]> ()
  heads_number = Constant <value_int: int = @num_heads> ()
  heads = Reshape (heads_number, one)
  queries = Add (image, image_pe)
  keys_t = Transpose <perm = [0, 2, 1]> (keys)
  products = MatMul (queries, keys_t)
  offset = Unsqueeze (offsets, one)
  scores = Add (products, offset)
  apart_shape = Concat <axis = 0> (none, none, heads, rest)
  apart = Reshape (scores, apart_shape)
  by_head = Softmax <axis = -1> (apart)
  flat_shape = Concat <axis = 0> (none, none, rest)
  weights = Reshape (by_head, flat_shape)
  attended = MatMul (weights, values)
  sum = Add (image, attended)
  out = LayerNormalization <axis = -1, epsilon: float = @epsilon> (sum, weight, bias)
}
"""

# Rows are (y, x) of the embedding, then (dy, dx) of each convolution.
_UPSCALE_MASKS = f"""
SamtrtUpscaleMasks <side, epsilon, plugin_version, plugin_namespace>
(image, hyper, first, first_bias, norm_weight, norm_bias, second, second_bias) => (masks)
{{
  none = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  two = Constant <value_ints = [2]> ()
  four = Constant <value_ints = [4]> ()
  rest = Constant <value_ints = [-1]> ()
  side_number = Constant <value_int: int = @side> ()
  side = Reshape (side_number, one)
  first_t = Transpose <perm = [1, 0]> (first)
  first_width = Shape (first_bias)
  first_shape = Concat <axis = 0> (none, rest, first_width)
  first_product = MatMul (image, first_t)
  first_rows = Reshape (first_product, first_shape)
  first_sum = Add (first_rows, first_bias)
  layer_norm = LayerNormalization <axis = -1, epsilon: float = @epsilon>
    (first_sum, norm_weight, norm_bias)
{_gelu_lines("layer_norm", "first_out")}
  second_t = Transpose <perm = [1, 0]> (second)
  second_width = Shape (second_bias)
  second_shape = Concat <axis = 0> (none, rest, second_width)
  second_product = MatMul (first_out, second_t)
  second_rows = Reshape (second_product, second_shape)
  second_sum = Add (second_rows, second_bias)
{_gelu_lines("second_sum", "second_out")}
  pixels_t = Transpose <perm = [0, 2, 1]> (second_out)
  products = MatMul (hyper, pixels_t)
  apart_shape = Concat <axis = 0> (rest, four, side, side, two, two, two, two)
  apart = Reshape (products, apart_shape)
  moved = Transpose <perm = [0, 1, 2, 4, 6, 3, 5, 7]> (apart)
  large = Mul (side, four)
  masks_shape = Concat <axis = 0> (rest, four, large, large)
  masks = Reshape (moved, masks_shape)
}}
"""

FUNCTIONS = {
    ATTENTION: _ATTENTION,
    LAYER_NORM: _LAYER_NORM,
    ADD_LAYER_NORM: _ADD_LAYER_NORM,
    GELU: _GELU,
    EMBED_MASKS: _EMBED_MASKS,
    TOKENS_TO_IMAGE: _TOKENS_TO_IMAGE,
    IMAGE_TO_TOKENS: _IMAGE_TO_TOKENS,
    UPSCALE_MASKS: _UPSCALE_MASKS,
}
"""The text of each function, by the operator's name."""
