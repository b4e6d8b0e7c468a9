"""The linear layers of an encoder's graph, and its nodes in an order that saves memory."""

from __future__ import annotations

from pathlib import Path

from samtrt.choices import Family
from samtrt.errors import ExportError, MissingExtraError

try:
    import onnx
except ImportError:
    raise MissingExtraError("Quantizing", "export", "onnx") from None

LAYERS = {
    Family.VIT: ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"),
    Family.TINY_VIT: ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"),
    Family.HIERA: ("attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2"),
}
"""The linear layers of a block in the order in which an encoder's graph has them. Of a TinyViT,
whose other blocks are convolutions, those with windows are counted."""


def linear_layers(path: Path, family: Family) -> dict[str, str]:
    """Return the linear layers of the blocks, by name, in order, as names of their nodes.

    Raises:
        ExportError: where the graph is not an encoder of the family.
    """
    graph = onnx.load(path, load_external_data=False).graph
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer if len(tensor.dims) == 2}
    layers: dict[str, str] = {}
    names, block, place = LAYERS[family], 0, 0
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in sizes:
            continue
        width, out = sizes[node.input[1]]
        # A Hiera's block that begins a stage has one layer more, which doubles the width.
        if family is Family.HIERA and not place and out == 2 * width:
            layers[f"blocks.{block}.proj"] = node.name
            continue
        layers[f"blocks.{block}.{names[place]}"] = node.name
        place = (place + 1) % len(names)
        block += not place
    if not layers or place:
        raise ExportError(f"{path} is not an encoder that samtrt exported and simplified")
    return layers


def order_by_need(path: Path) -> None:
    """Put each node of a file right before the first that needs it; the quantizer goes by levels.

    ONNX Runtime keeps to the order it finds; by levels, all tiles of attention's scores would be in
    memory at once, which takes three times as much.
    """
    model = onnx.load(path)
    nodes = list(model.graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output}
    ordered: dict[int, None] = {}
    waiting = [maker[output.name] for output in reversed(model.graph.output)]
    while waiting:
        needed = (maker.get(name) for name in reversed(nodes[waiting[-1]].input))
        missing = [index for index in needed if index is not None and index not in ordered]
        if missing:
            waiting += missing
        else:
            ordered[waiting.pop()] = None
    del model.graph.node[:]
    model.graph.node.extend(nodes[index] for index in ordered)
    onnx.save(model, path)
