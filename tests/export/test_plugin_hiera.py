"""SAM 2 in the plugin's operators: what the graphs hold, and the same numbers everywhere."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from samtrt.backends.base import image_inputs
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import AnyStage, AttentionForm, Precision, Stage, Target, VideoStage
from samtrt.export.onnx import ExportOptions, export_model
from samtrt.export.operators.graph import DOMAIN, inline_fallback
from samtrt.export.plugin_hiera import PluginHiera
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.manifest import Manifest
from samtrt.models import build_sam, seed_weights
from samtrt.models.graphs import example_inputs
from samtrt.registry import HieraSpec, get_spec
from support.rtx_cases import needs_rtx
from support.samples import relative

TINY = get_spec("sam2.1_hiera_t")
assert isinstance(TINY, HieraSpec)
STAGES: list[AnyStage] = [Stage.ENCODER, Stage.DECODER, *VideoStage]
OURS = {
    Stage.ENCODER: {
        # Of each block the norm in its middle, and all but the first block's norm before it.
        "SamtrtAddLayerNorm": 9,
        "SamtrtPlaceLayerNorm": 1,
        "SamtrtSquareAttention": 5,
        "SamtrtLinearGelu": 4,  # of stages that are wide enough
        "SamtrtGelu": 1,
    },
    VideoStage.MEMORY_ATTENTION: {"SamtrtMemoryAttention": 8},
    VideoStage.MEMORY_ENCODER: {},
}
DECODER = {
    "SamtrtEmbedMasks": 1,
    "SamtrtSelfAttention": 2,
    "SamtrtImageQueries": 3,
    "SamtrtTokensToImage": 3,
    "SamtrtTokenMlp": 2,
    "SamtrtTokenKeys": 2,
    "SamtrtImageToTokens": 2,
}


@pytest.fixture(scope="module")
def model(sam2_checkpoint: Path, shared: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A model directory as for TensorRT 8.6, with the graphs for videos."""
    options = ExportOptions(attention=AttentionForm.PLUGIN, opset=17, video=True)

    def make(directory: Path) -> None:
        export_model(load_checkpoint(sam2_checkpoint), directory, options)

    return shared("sam2-plugin", make)


def run(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def feeds(stage: AnyStage) -> dict[str, np.ndarray]:
    """Return noise in the shapes of a stage's inputs; what is told by 0 and 1 is."""
    rng = np.random.default_rng(0)
    made = {}
    for name, one in example_inputs(build_sam(TINY), stage).items():
        given = one[:1] if stage is Stage.ENCODER else one
        is_word = name.startswith(("has_", "bare", "absent", "binarize", "point_labels"))
        noise = rng.integers(0, 2, given.shape) if is_word else rng.normal(size=given.shape)
        made[name] = np.asarray(noise, np.float32)
    return made


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(TINY, id="narrow stages"),
        pytest.param(replace(TINY, embed_dim=64, num_heads=2), id="wide enough for one kernel"),
        pytest.param(replace(TINY, windows=(4, 8, 6, 2), stages=(2, 1, 3, 2)), id="other windows"),
        pytest.param(replace(TINY, global_attn_indexes=(0, 2, 4)), id="global blocks that pool"),
    ],
)
def test_module_gives_the_stages_with_the_same_weights(spec: HieraSpec) -> None:
    sam = build_sam(spec)
    seed_weights(sam)
    trunk = sam.image_encoder.trunk
    trunk.fold()
    other = PluginHiera(trunk)
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        pairs = list(zip(other(images), trunk(images), strict=True))
    for got, expected in pairs:
        assert expected.std() > 0.05
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    kept = {p.data_ptr() for p in trunk.parameters()}
    copied = [p.shape for p in other.parameters() if p.data_ptr() not in kept]
    assert copied == [trunk.positions().shape[1:]], "all weights are shared"


@pytest.mark.parametrize("stage", STAGES)
def test_graphs_have_the_operators(model: Path, stage: AnyStage) -> None:
    graph_model = onnx.load(model / f"{stage.value}.onnx")
    onnx.checker.check_model(graph_model, full_check=True)
    found = Counter(node.op_type for node in graph_model.graph.node if node.domain == DOMAIN)
    assert found == OURS.get(stage, DECODER)
    if stage is Stage.ENCODER:  # nothing else normalises, activates or attends
        others = {node.op_type for node in graph_model.graph.node if node.domain != DOMAIN}
        assert others == {"Conv", "Add", "MaxPool", "Expand", "Unsqueeze", "Reshape"}


@pytest.mark.parametrize("stage", STAGES)
def test_graphs_give_the_usual_ones_results(
    model: Path, sam2_model: Path, stage: AnyStage, tmp_path: Path
) -> None:
    """As they are, and with standard operators in the place of the plugin's."""
    given = feeds(stage)
    expected = run(sam2_model / f"{stage.value}.onnx", given)
    inline_fallback(model / f"{stage.value}.onnx", tmp_path / "inlined.onnx")
    for path in (model / f"{stage.value}.onnx", tmp_path / "inlined.onnx"):
        for got, wanted in zip(run(path, given), expected, strict=True):
            assert wanted.std() > 0
            assert relative(got, wanted) <= 1e-4


@pytest.mark.parametrize("stage", [Stage.ENCODER, VideoStage.MEMORY_ATTENTION])
def test_graphs_are_typed_for_strongly_typed_networks(
    model: Path, stage: AnyStage, tmp_path: Path
) -> None:
    held = image_inputs(stage, Manifest.load(model))
    typed = convert(load_graph(model / f"{stage.value}.onnx"), Precision.FP16, held)
    save_graph(typed, tmp_path / "typed.onnx")  # checks it
    kinds = {tensor.name: tensor.data_type for tensor in typed.graph.initializer}
    floats = {"SamtrtSquareAttention": 1, "SamtrtMemoryAttention": 3}
    for node in typed.graph.node:
        if node.op_type in floats and node.input[floats[node.op_type]] in kinds:
            assert kinds[node.input[floats[node.op_type]]] == onnx.TensorProto.FLOAT


@needs_rtx
@pytest.mark.parametrize("stage", [Stage.ENCODER, VideoStage.MEMORY_ATTENTION])
def test_tensorrt_rtx_builds_from_the_directory(
    model: Path, tmp_path: Path, stage: AnyStage
) -> None:
    from samtrt.build.engines import build_engines
    from samtrt.build.options import BuildOptions

    directory = shutil.copytree(model, tmp_path / "model")
    options = BuildOptions(compute_capabilities=("8.9",), optimization_level=0)
    record, _ = build_engines(directory, Target.TENSORRT_RTX, options, [stage])[stage]
    assert record.plugin is None
