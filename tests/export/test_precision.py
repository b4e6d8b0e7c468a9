"""Typed graphs: what they compute in, what stays float32, and that they give the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from samtrt.backends.base import image_inputs
from samtrt.choices import Float32Part, Precision, Stage
from samtrt.errors import ExportError
from samtrt.export import precision as half
from samtrt.export.float32_parts import float32_nodes
from samtrt.export.precision import convert, float_tensors, load_graph, save_graph
from samtrt.manifest import Manifest
from support.samples import relative, tiny_feeds

NORMS_AND_PROMPTS = frozenset({Float32Part.NORMS, Float32Part.PROMPTS})


def run(path: Path, stage: Stage) -> list[np.ndarray]:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, tiny_feeds(stage)
    )


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(
    "parts", [NORMS_AND_PROMPTS, NORMS_AND_PROMPTS | {Float32Part.SOFTMAX}], ids=["", "softmax"]
)
def test_half_precision_gives_the_same_numbers(
    tiny_model: Path, tmp_path: Path, stage: Stage, parts: frozenset[Float32Part]
) -> None:
    source = tiny_model / f"{stage.value}.onnx"
    model = convert(
        load_graph(source), Precision.FP16, image_inputs(stage, Manifest.load(tiny_model)), parts
    )
    save_graph(model, tmp_path / "typed.onnx")
    errors = [
        relative(got, expected)
        for got, expected in zip(
            run(tmp_path / "typed.onnx", stage), run(source, stage), strict=True
        )
    ]
    assert max(errors) < 2e-2
    assert max(errors) > 1e-6, "nothing was rounded, so nothing was converted"

    types = types_of(model)
    matrix_products = [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm", "Conv")]
    halves = [n for n in matrix_products if types[n.output[0]] == TensorProto.FLOAT16]
    assert len(halves) > len(matrix_products) / 2
    for node in model.graph.node:
        float32 = node.op_type == "LayerNormalization" or (
            node.op_type == "Softmax" and Float32Part.SOFTMAX in parts
        )
        if float32 or node.op_type in ("Sin", "Cos"):
            assert types[node.output[0]] == TensorProto.FLOAT, node.name
    assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {
        TensorProto.FLOAT
    }
    # No float32 copy of a weight stays behind beside its half.
    assert (tmp_path / "typed.onnx").stat().st_size < 0.75 * source.stat().st_size


def test_everything_in_half_where_nothing_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    source = tiny_model / "decoder.onnx"
    model = convert(load_graph(source), Precision.FP16, "image_embeddings", frozenset())
    save_graph(model, tmp_path / "typed.onnx")
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    types = types_of(model)
    outputs = {value.name for value in model.graph.output}
    back = [n for n in casts if types[n.output[0]] == TensorProto.FLOAT]
    assert {name for node in back for name in node.output} == outputs


def small_graph(opset: int = 20) -> onnx.ModelProto:
    """y = softmax(norm(x + table[1]) @ w), with a weight that two precisions share."""
    f32 = TensorProto.FLOAT
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(8, 8)).astype(np.float32),
        "scale": np.ones(8, np.float32),
        "table": rng.normal(size=(2, 8)).astype(np.float32),
        "one": np.array(1),
    }
    nodes = [
        helper.make_node("Gather", ["table", "one"], ["row"], "gather"),
        helper.make_node("Add", ["x", "row"], ["a"], "add"),
        helper.make_node("LayerNormalization", ["a", "scale", "scale"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w"], ["m"], "product"),
        helper.make_node("Softmax", ["m"], ["s"], "softmax"),
        helper.make_node("Mul", ["s", "scale"], ["y"], "last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", f32, ["n", 8])],
        [helper.make_tensor_value_info("y", f32, ["n", 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@given(st.sets(st.sampled_from(Float32Part)), st.sampled_from([Precision.FP16, Precision.BF16]))
@settings(max_examples=16)
def test_any_choice_of_parts_is_a_valid_graph_of_the_same_function(
    parts: set[Float32Part], precision: Precision
) -> None:
    model = convert(small_graph(), precision, "x", parts)
    onnx.checker.check_model(model, full_check=True)
    x = np.linspace(-2, 2, 24, dtype=np.float32).reshape(3, 8)
    (expected,) = ReferenceEvaluator(small_graph()).run(None, {"x": x})
    (got,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert got.dtype == np.float32
    assert relative(got, expected) < {Precision.FP16: 2e-3, Precision.BF16: 2e-2}[precision]
    names = {model.graph.node[i].name for i in float32_nodes(model.graph, "x", parts)}
    assert ("norm" in names) == (Float32Part.NORMS in parts)
    assert ("softmax" in names) == (Float32Part.SOFTMAX in parts)
    assert ("gather" in names) == (Float32Part.PROMPTS in parts)


def test_means_over_an_image_are_norms() -> None:
    """In float16 the sum of 256 x 256 cells overflows from a mean of 1 on."""
    f32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x", "axes"], ["means"], "means"),
            helper.make_node("Mul", ["x", "means"], ["y"], "scaled"),
        ],
        "g",
        [helper.make_tensor_value_info("x", f32, [1, 8, 256, 256])],
        [helper.make_tensor_value_info("y", f32, [1, 8, 256, 256])],
        [numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    typed = convert(model, Precision.FP16, "x")
    onnx.checker.check_model(typed, full_check=True)
    (kept,) = float32_nodes(typed.graph, "x", [Float32Part.NORMS])
    assert typed.graph.node[kept].name == "means"
    types = {
        v.name: v.type.tensor_type.elem_type
        for v in onnx.shape_inference.infer_shapes(typed).graph.value_info
    }
    assert types[typed.graph.node[kept].output[0]] == f32
    assert TensorProto.FLOAT16 in types.values(), "all else is half"


def test_bfloat16_needs_opset_22_and_gets_it(tmp_path: Path) -> None:
    assert convert(small_graph(), Precision.BF16, "x").opset_import[0].version == 22
    assert convert(small_graph(), Precision.FP16, "x").opset_import[0].version == 20
    model = convert(small_graph(17), Precision.BF16, "x")
    save_graph(model, tmp_path / "typed.onnx")
    assert onnx.load(tmp_path / "typed.onnx").ir_version == 10, "as opset 22 has it"


def test_weight_that_half_precision_cannot_hold() -> None:
    model = small_graph()
    big = np.full((8, 8), 1e5, np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(big, "w"))
    with pytest.raises(ExportError, match="the weight w has values that float16 cannot hold"):
        convert(model, Precision.FP16, "x")
    model = small_graph()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(big, "w"))
    convert(model, Precision.BF16, "x")


def test_what_is_no_graph(tmp_path: Path, tiny_model: Path) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_bytes(b"not a graph at all" * 50)
    with pytest.raises(ExportError, match=r"cannot read .*encoder\.onnx: "):
        load_graph(path)
    # onnx does not follow weights that are linked, which must not be a traceback either.
    model = load_graph(tiny_model / "encoder.onnx")
    onnx.save(model, path, save_as_external_data=True, location="weights")
    (tmp_path / "link").hardlink_to(tmp_path / "weights")
    with pytest.raises(ExportError, match="hard link"):
        load_graph(path)


def test_types_are_found_without_the_weights(tiny_model: Path) -> None:
    model = load_graph(tiny_model / "decoder.onnx")
    sizes = [len(tensor.raw_data) for tensor in model.graph.initializer]
    assert {"image_embeddings", "low_res_masks"} <= float_tensors(model)
    assert [len(tensor.raw_data) for tensor in model.graph.initializer] == sizes


def test_weights_beside_the_graph_where_it_would_pass_2_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    monkeypatch.setattr(half, "SINGLE_FILE_LIMIT", 1_000_000)
    source = tiny_model / "encoder.onnx"
    model = convert(load_graph(source), Precision.FP16, "images")
    save_graph(model, tmp_path / "typed.onnx")
    beside = (tmp_path / "typed.onnx.data").stat()
    assert beside.st_size > 1_000_000
    assert beside.st_mode == (tmp_path / "typed.onnx").stat().st_mode, "others may read both"
    (got,), (expected,) = run(tmp_path / "typed.onnx", Stage.ENCODER), run(source, Stage.ENCODER)
    assert relative(got, expected) < 2e-2


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_factors_of_a_resize_stay_float32(tmp_path: Path, precision: Precision) -> None:
    """Half precision is of what is resized alone, in the graph's own weights."""
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "w"], ["scaled"], "scale"),
            helper.make_node("Resize", ["scaled", "", "factors"], ["y"], "up", mode="linear"),
        ],
        "resize",
        [helper.make_tensor_value_info("x", float32, [1, 1, 3, 4])],
        [helper.make_tensor_value_info("y", float32, [1, 1, 6, 8])],
        [
            numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "factors"),
            numpy_helper.from_array(np.full(1, 0.5, np.float32), "w"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    converted = convert(model, precision, {"x"})
    save_graph(converted, tmp_path / "typed.onnx")
    types = types_of(onnx.load(tmp_path / "typed.onnx"))
    low = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}[precision]
    assert (types["factors"], types["scaled"], types["y"]) == (float32, low, float32)
