"""Typed graphs of the plugin's operators: the types that the plugins take, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from samtrt.backends.base import image_inputs
from samtrt.choices import AttentionForm, Precision, Stage
from samtrt.export.operators import graph as operators
from samtrt.export.operators.registry import OPERATORS
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.manifest import Manifest
from support.samples import relative, tiny_feeds

TYPES = {Precision.FP16: TensorProto.FLOAT16, Precision.BF16: TensorProto.BFLOAT16}


@pytest.fixture(scope="module")
def directory(exported: Callable[..., Path]) -> Path:
    """The tiny model in the plugin form."""
    return exported(attention=AttentionForm.PLUGIN)


def run(path: Path, stage: Stage) -> list[np.ndarray]:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, tiny_feeds(stage)
    )


def runnable(model: onnx.ModelProto, low: int) -> dict[str, int]:
    """Let each operator be its function, in float32 between casts; return its inputs' types.

    What the casts come from and go to has the type of the plugin.
    """
    types: dict[str, int] = {}
    nodes = []
    for node in model.graph.node:
        if node.domain != operators.DOMAIN:
            nodes.append(node)
            continue
        for k, name in enumerate(node.input):
            node.input[k] = f"{node.name}_in{k}"
            types[name] = TensorProto.UNDEFINED
            nodes.append(helper.make_node("Cast", [name], [node.input[k]], to=TensorProto.FLOAT))
        nodes.append(node)
        for k, name in enumerate(node.output):
            is_float32 = k in OPERATORS[node.op_type].float32_outputs
            kind = TensorProto.FLOAT if is_float32 else low
            node.output[k] = f"{node.name}_out{k}"
            nodes.append(helper.make_node("Cast", [node.output[k]], [name], to=kind))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    operators.add_functions(model)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    types |= {v.name: v.type.tensor_type.elem_type for v in values if v.name in types}
    return types | {t.name: t.data_type for t in inferred.initializer if t.name in types}


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("precision", TYPES)
def test_inputs_have_the_plugins_types(
    directory: Path, tmp_path: Path, stage: Stage, precision: Precision
) -> None:
    source, low = directory / f"{stage.value}.onnx", TYPES[precision]
    model = convert(load_graph(source), precision, image_inputs(stage, Manifest.load(directory)))
    assert not model.functions
    save_graph(model, tmp_path / "typed.onnx")  # checks it
    ours = [n for n in model.graph.node if n.domain == operators.DOMAIN]
    wanted = {
        name: TensorProto.FLOAT if k in OPERATORS[node.op_type].float32_inputs else low
        for node in ours
        for k, name in enumerate(node.input)
    }
    assert len(ours) >= 6
    assert runnable(model, low) == wanted


@pytest.mark.parametrize("stage", Stage)
def test_half_precision_gives_the_same_numbers(
    directory: Path, tmp_path: Path, stage: Stage
) -> None:
    source = directory / f"{stage.value}.onnx"
    model = convert(
        load_graph(source), Precision.FP16, image_inputs(stage, Manifest.load(directory))
    )
    runnable(model, TensorProto.FLOAT16)
    onnx.save(model, tmp_path / "typed.onnx")
    pairs = zip(run(tmp_path / "typed.onnx", stage), run(source, stage), strict=True)
    errors = [relative(got, expected) for got, expected in pairs]
    assert 1e-6 < max(errors) < 2e-2
