"""The linear layers of encoders' graphs, and the order of nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from samtrt.backends import BackendOptions
from samtrt.backends.ort import OnnxRuntimeBackend
from samtrt.choices import Family
from samtrt.errors import ExportError
from samtrt.export.linear import linear_layers, order_by_need


def test_other_graphs_are_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph([node], "other", [value], [])),
        tmp_path / "other.onnx",
    )
    with pytest.raises(ExportError, match="is not an encoder that samtrt exported"):
        linear_layers(tmp_path / "other.onnx", Family.VIT)


def test_nodes_are_ordered_by_need_and_give_the_same(tiny_model: Path, tmp_path: Path) -> None:
    source = tiny_model / "encoder.onnx"
    model = onnx.load(source)
    before = list(model.graph.node)
    made = {name: i for i, node in enumerate(before) for name in node.output}
    level = [0] * len(before)
    for i, node in enumerate(before):  # by levels, as the quantizer leaves them
        level[i] = 1 + max((level[made[name]] for name in node.input if name in made), default=0)
    del model.graph.node[:]
    model.graph.node.extend(before[i] for i in sorted(range(len(before)), key=level.__getitem__))
    path = tmp_path / "encoder.onnx"
    onnx.save(model, path)
    order_by_need(path)
    onnx.checker.check_model(str(path), full_check=True)  # also that nothing is used before it is
    after = onnx.load(path).graph.node
    assert sorted(node.name for node in after) == sorted(node.name for node in before)
    feeds = {"images": np.ones((1, 3, 256, 256), np.float32)}
    got, expected = (
        OnnxRuntimeBackend(p, BackendOptions()).run(feeds)["image_embeddings"]
        for p in (path, source)
    )
    assert np.abs(got - expected).max() < 1e-5
