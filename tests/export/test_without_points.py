"""The decoder's graph for prompts that are a mask alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from samtrt.backends.base import stage_tensors
from samtrt.choices import Stage
from samtrt.errors import ExportError
from samtrt.export.without_points import POINTS, drop_points, write_without_points
from samtrt.manifest import Manifest


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {one.name: feeds[one.name] for one in session.get_inputs()})


MODELS = ["vit_t", "vit_t, hq", pytest.param("sam2.1_hiera_t", marks=pytest.mark.long)]


@pytest.fixture(scope="module", params=MODELS)
def model(
    request: pytest.FixtureRequest, tiny_model: Path, family_model: Callable[[str], Path]
) -> Path:
    return tiny_model if request.param == MODELS[0] else family_model(request.param)


@pytest.fixture(scope="module")
def without(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("without") / "decoder.onnx"
    write_without_points(model / "decoder.onnx", path)
    return path


@pytest.mark.parametrize("prompts", [1, 3])
def test_it_gives_what_the_graph_gives_with_no_points(
    model: Path, without: Path, prompts: int
) -> None:
    rng = np.random.default_rng(prompts)
    sizes = {"prompts": prompts, "points": 0}
    feeds = {
        info.name: rng.normal(size=[sizes.get(str(size), size) for size in info.shape])
        for info in stage_tensors(Manifest.load(model), Stage.DECODER)[0]
    }
    feeds["has_mask_input"] = np.arange(prompts) % 2 == 0
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    for got, wanted in zip(run(without, feeds), run(model / "decoder.onnx", feeds), strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_nothing_is_left_of_the_points(without: Path) -> None:
    graph_model = onnx.load(without)
    onnx.checker.check_model(graph_model, full_check=True)
    assert "Shape" not in {node.op_type for node in graph_model.graph.node}
    inferred = onnx.shape_inference.infer_shapes(graph_model, strict_mode=True).graph
    assert not POINTS.keys() & {value.name for value in inferred.input}
    sizes = [d.dim_value for v in inferred.value_info for d in v.type.tensor_type.shape.dim]
    dynamic = {d.dim_param for v in inferred.value_info for d in v.type.tensor_type.shape.dim}
    assert "points" not in dynamic
    assert len(sizes) > 100


def test_a_graph_that_answers_from_points_alone_is_refused() -> None:
    node = helper.make_node("ReduceSum", ["point_labels"], ["sum"])
    floats = onnx.TensorProto.FLOAT
    names = ("point_labels", "has_mask_input")
    inputs = [helper.make_tensor_value_info(name, floats, ["p", "n"]) for name in names]
    output = helper.make_tensor_value_info("sum", floats, [1, 1])
    model = helper.make_model(helper.make_graph([node], "g", inputs, [output]))
    with pytest.raises(ExportError, match="computes sum of its points"):
        drop_points(model)


def test_what_is_no_graph_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match=r"cannot read .*a\.onnx"):
        write_without_points(tmp_path / "a.onnx", tmp_path / "b.onnx")
