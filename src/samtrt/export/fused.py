"""The encoder's operators that a TensorRT plugin runs, and what they mean in standard ones.

`samtrt export --attention plugin` writes nodes of the domain `samtrt`. Each comes with a function
of standard operators in the same file, so that ONNX Runtime and everything else that knows ONNX's
functions runs the graph; TensorRT gets it with the functions stripped, where it has the plugin, or
inlined, where it has not. Needs `onnx` and not PyTorch.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from samtrt.errors import ExportError, MissingExtraError
from samtrt.files import write_atomic

try:
    import onnx
    import onnx.inliner
    import onnx.parser
    from onnx import ModelProto
except ImportError:
    raise MissingExtraError("The encoder's plugin form", "export", "onnx") from None

DOMAIN = "samtrt"
ATTENTION = "SamtrtRelPosAttention"
LAYER_NORM = "SamtrtLayerNorm"
ADD_LAYER_NORM = "SamtrtAddLayerNorm"

PLUGIN_ATTRIBUTES = {"plugin_version": "1", "plugin_namespace": ""}
"""On every node: what TensorRT's parser looks a plugin up by, beside the operator's name."""

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


_FUNCTIONS = {ATTENTION: _ATTENTION, LAYER_NORM: _LAYER_NORM, ADD_LAYER_NORM: _ADD_LAYER_NORM}


def add_functions(model: ModelProto) -> None:
    """Give each of the plugin's operators that a graph has its function, in place.

    A graph without any, such as a decoder, stays as it is.
    """
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    if not used:
        return
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    header = f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]>'
    del model.functions[:]
    model.functions.extend(
        onnx.parser.parse_function(header + text)
        for name, text in _FUNCTIONS.items()
        if name in used
    )
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))


def strip_functions(path: Path, out: Path) -> None:
    """Write a graph of the plugin's operators alone, as TensorRT's parser takes it with the plugin.

    Args:
        path: As exported.
        out: Where to write. Weights that lie in a file of their own are never read: where `out` is
            in another directory, that file is copied there.

    Raises:
        ExportError: where the graph cannot be read.
        OutputError: where `out` cannot be written.
    """
    model = _load(path)
    del model.functions[:]
    _save(model, path, out)


def inline_fallback(path: Path, out: Path) -> None:
    """Write a graph of standard operators alone, with the functions' bodies in their place.

    Args:
        path: As exported.
        out: Where to write. Weights that lie in a file of their own are never read: where `out` is
            in another directory, that file is copied there.

    Raises:
        ExportError: where the graph cannot be read.
        OutputError: where `out` cannot be written.
    """
    model = onnx.inliner.inline_local_functions(_load(path))
    kept = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:], model.functions[:]
    model.opset_import.extend(kept)
    for node in model.graph.node:
        # As PyTorch's exporter names nodes. TensorRT's layers get these names, by which norms are
        # told and kept in float32.
        node.name = node.name or f"node_{node.output[0]}"
    _save(model, path, out)


def _load(path: Path) -> ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf and the file system share no base class
        raise ExportError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def _save(model: ModelProto, path: Path, out: Path) -> None:
    data = path.with_name(f"{path.name}.data")  # the graph knows it by this name
    if data.exists() and not path.parent.samefile(out.parent):
        # A copy: what reads graphs refuses links, lest they lead out of the directory.
        with write_atomic(out.with_name(data.name)) as temporary:
            shutil.copyfile(data, temporary)
    with write_atomic(out) as temporary:
        onnx.save(model, temporary)
