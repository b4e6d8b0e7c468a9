"""The last steps of an exported graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from samtrt.errors import ExportError
from samtrt.export.finish import EXPORTER_OLDEST, finish_graph


def graph_of_shapes(path: Path, opset: int) -> Path:
    """Write a graph whose outputs are parts of its input's shape."""
    parts = {
        "first": {"end": 1},
        "middle": {"start": 1, "end": 3},
        "last": {"start": -1},
        "all": {},
    }
    nodes = [
        helper.make_node("Shape", ["x"], [name], f"node_{name}", **bounds)
        for name, bounds in parts.items()
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in parts]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b", "c", "d"])
    model = helper.make_model(
        helper.make_graph(nodes, "shapes", [given], outputs),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def test_opset_17_has_whole_shapes_and_slices_of_them(tmp_path: Path) -> None:
    final = tmp_path / "final.onnx"
    finish_graph(graph_of_shapes(tmp_path / "traced.onnx", EXPORTER_OLDEST), final, 17)
    nodes = onnx.load(final).graph.node
    assert all(not node.attribute for node in nodes if node.op_type == "Shape")
    assert [node.op_type for node in nodes].count("Slice") == 3
    session = ort.InferenceSession(final)
    found = session.run(None, {"x": np.zeros((2, 3, 5, 7), np.float32)})
    assert [part.tolist() for part in found] == [[2], [3, 5], [7], [2, 3, 5, 7]]


def graph_of_resize(path: Path, **attributes: object) -> Path:
    """Write a graph that makes an image twice as large, as PyTorch's exporter does."""
    float32 = TensorProto.FLOAT
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], "up", mode="linear", **attributes)
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", float32, ["n", 1, 3, 4])],
        [helper.make_tensor_value_info("y", float32, ["n", 1, 6, 8])],
        [scales],
    )
    opsets = [helper.make_opsetid("", EXPORTER_OLDEST)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_opset_17_resizes_without_what_came_later(tmp_path: Path) -> None:
    """Where that says what 17 does; else the graph is refused, as it would mean something else."""
    final = tmp_path / "final.onnx"
    path = graph_of_resize(
        tmp_path / "traced.onnx", antialias=0, keep_aspect_ratio_policy="stretch"
    )
    finish_graph(path, final, 17)
    (node,) = onnx.load(final).graph.node
    assert [attribute.name for attribute in node.attribute] == ["mode"]
    picture = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    found, traced = (
        ort.InferenceSession(one).run(None, {"x": picture})[0] for one in (final, path)
    )
    np.testing.assert_array_equal(found, traced)
    with pytest.raises(onnx.checker.ValidationError, match="antialias"):
        finish_graph(graph_of_resize(path, antialias=1), final, 17)


@pytest.mark.parametrize("rows", [6, 5])
def test_opset_17_splits_by_its_outputs(tmp_path: Path, rows: int) -> None:
    """Where parts are equal; else the graph is refused, as it would mean something else."""
    names = ("one", "two")
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Split", ["x"], names, "cut", axis=0, num_outputs=2)],
        "split",
        [helper.make_tensor_value_info("x", float32, [rows, 2])],
        [helper.make_tensor_value_info(name, float32, [None, 2]) for name in names],
    )
    opsets = [helper.make_opsetid("", EXPORTER_OLDEST)]
    traced, final = tmp_path / "traced.onnx", tmp_path / "final.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), traced)
    if rows % 2:
        with pytest.raises(onnx.shape_inference.InferenceError):
            finish_graph(traced, final, 17)
        return
    finish_graph(traced, final, 17)
    values = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    found = ort.InferenceSession(final).run(None, {"x": values})
    np.testing.assert_array_equal(np.concatenate(found), values)
    assert [len(part) for part in found] == [3, 3]


def test_later_opsets_keep_their_shapes(tmp_path: Path) -> None:
    final = tmp_path / "final.onnx"
    finish_graph(graph_of_shapes(tmp_path / "traced.onnx", 20), final, 20)
    assert [node.op_type for node in onnx.load(final).graph.node] == ["Shape"] * 4


@pytest.mark.parametrize(("opset", "oldest"), [(17, 8), (19, 9), (20, 9), (22, 10)])
def test_ir_version_is_that_of_the_opset(tmp_path: Path, opset: int, oldest: int) -> None:
    """Of https://github.com/onnx/onnx/blob/main/docs/Versioning.md, Released Versions."""
    final = tmp_path / "final.onnx"
    finish_graph(graph_of_shapes(tmp_path / "traced.onnx", max(opset, 18)), final, opset)
    assert onnx.load(final).ir_version == oldest


def test_another_opset_is_refused(tmp_path: Path) -> None:
    traced = graph_of_shapes(tmp_path / "traced.onnx", 20)
    with pytest.raises(ExportError, match="asked for opset 19 and got 20"):
        finish_graph(traced, tmp_path / "final.onnx", 19)


def attention(path: Path, shape: list[int], bias: tuple[int, ...]) -> Path:
    """Write a graph that adds a constant to its input, and takes the softmax."""
    values = np.random.default_rng(0).normal(size=bias).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["scores"]),
            helper.make_node("Add", ["bias", "scores"], ["sum"], "add"),
            helper.make_node("Softmax", ["sum"], ["y"]),
        ],
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *shape])],
        [onnx.numpy_helper.from_array(values, "bias")],
    )
    opsets = [helper.make_opsetid("", EXPORTER_OLDEST)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("bias", "constant"),
    [
        ((2, 3, 3), [18]),
        ((3, 3), [3, 3]),  # for every head: a row of it alone would lose them
        ((3,), [3]),
    ],
)
def test_opset_17_adds_biases_of_one_dimension(
    tmp_path: Path, bias: tuple[int, ...], constant: list[int]
) -> None:
    traced = attention(tmp_path / "traced.onnx", [2, 3, 3], bias)
    finish_graph(traced, tmp_path / "final.onnx", 17)
    weights = {
        one.name: list(one.dims) for one in onnx.load(tmp_path / "final.onnx").graph.initializer
    }
    assert weights["bias"] == constant
    x = np.random.default_rng(1).normal(size=(4, 2, 3, 3)).astype(np.float32)
    results = [
        ort.InferenceSession(tmp_path / name).run(None, {"x": x})[0]
        for name in ("traced.onnx", "final.onnx")
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(("power", "kinds"), [(3.0, ["Mul", "Mul"]), (2.0, ["Pow"])])
def test_opset_17_has_products_for_third_powers(
    tmp_path: Path, power: float, kinds: list[str]
) -> None:
    graph = helper.make_graph(
        [helper.make_node("Pow", ["x", "power"], ["y"], "node_pow")],
        "power",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(power, np.float32), "power")],
    )
    opsets = [helper.make_opsetid("", EXPORTER_OLDEST)]
    traced, final = tmp_path / "traced.onnx", tmp_path / "final.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), traced)
    finish_graph(traced, final, 17)
    nodes = onnx.load(final).graph.node
    assert [node.op_type for node in nodes] == kinds
    assert nodes[-1].name == "node_pow", "by which builds know it"
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    (y,) = ort.InferenceSession(final).run(None, {"x": x})
    np.testing.assert_allclose(y, x**power, rtol=1e-6)
