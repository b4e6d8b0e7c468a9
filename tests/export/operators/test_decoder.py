"""The decoder in the plugin's operators: what the graph holds, and the same numbers everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto, helper

from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import AttentionForm, Precision, Stage, Target
from samtrt.export.operators import graph as operators
from samtrt.export.operators.embed_masks import EMBED_MASKS
from samtrt.export.operators.graph import inline_fallback, strip_functions
from samtrt.export.operators.image_queries import IMAGE_QUERIES
from samtrt.export.operators.image_to_tokens import IMAGE_TO_TOKENS
from samtrt.export.operators.self_attention import SELF_ATTENTION
from samtrt.export.operators.token_heads import TOKEN_HEADS
from samtrt.export.operators.token_keys import TOKEN_KEYS
from samtrt.export.operators.token_mlp import TOKEN_MLP
from samtrt.export.operators.tokens_to_image import TOKENS_TO_IMAGE
from samtrt.export.operators.upscale_masks import UPSCALE_MASKS
from samtrt.export.plugin import PluginKernels
from samtrt.export.plugin_decoder import PluginDecoder
from samtrt.models import Sam
from samtrt.predictor import Predictor
from support.rtx_cases import needs_rtx
from support.samples import relative

OPERATORS = {
    EMBED_MASKS.name: 1,
    TOKENS_TO_IMAGE.name: 3,
    IMAGE_TO_TOKENS.name: 2,
    UPSCALE_MASKS.name: 1,
    SELF_ATTENTION.name: 2,
    IMAGE_QUERIES.name: 3,
    TOKEN_MLP.name: 2,
    TOKEN_KEYS.name: 2,
    TOKEN_HEADS.name: 1,
}
TOKENS = {
    SELF_ATTENTION.name: [(768, 256), (768,), (256, 256), (256,), (256,), (256,)],
    IMAGE_QUERIES.name: [(128, 256), (128,), (8, 256, 16)],
    TOKEN_MLP.name: [
        *((128, 256), (128,), (256, 128), (256,), (256,), (256,)),
        *((2048, 256), (2048,), (256, 2048), (256,), (256,), (256,)),
    ],
    TOKEN_KEYS.name: [
        *((128, 256), (128,), (8, 256, 16), (128,)),
        *((128, 256), (128,), (8, 256, 16), (256,)),
    ],
    TOKEN_HEADS.name: [
        *((128, 256), (128,), (256, 128), (256,), (256,), (256,)),
        *((5, 256, 256), (5, 256), (5, 256, 256), (5, 256), (5, 32, 256), (5, 32)),
    ],
}
"""Shapes of the weights of operators on tokens, all of them constants."""
OUTPUTS = ("low_res_masks", "iou_predictions")


def feeds(sam: Sam, prompts: int, points: int) -> dict[str, np.ndarray]:
    spec, generator = sam.spec, np.random.default_rng(0)
    masks = generator.standard_normal((prompts, 1, spec.mask_size, spec.mask_size))
    values = {
        "image_embeddings": generator.standard_normal(
            (1, spec.prompt_embed_dim, spec.embedding_size, spec.embedding_size)
        ),
        "point_coords": generator.uniform(0, spec.image_size, (prompts, points, 2)),
        "point_labels": generator.integers(-1, 4, (prompts, points)),
        "mask_input": masks,
        "has_mask_input": np.arange(prompts) % 2,
    }
    return {name: value.astype(np.float32) for name, value in values.items()}


@pytest.fixture(scope="module")
def sam(tiny_checkpoint: Path) -> Sam:
    return load_sam(load_checkpoint(tiny_checkpoint))


@pytest.fixture(scope="module")
def model(exported: Callable[..., Path]) -> Path:
    return exported(attention=AttentionForm.PLUGIN, opset=17)


def expected(sam: Sam, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    with torch.inference_mode():
        return [t.numpy() for t in sam.decode(*(torch.from_numpy(v) for v in inputs.values()))]


def run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(OUTPUTS, inputs)


def nodes_of_ours(graph_model: ModelProto) -> list[onnx.NodeProto]:
    return [node for node in graph_model.graph.node if node.domain == operators.DOMAIN]


def test_module_gives_the_decoders_masks(tiny_checkpoint: Path, sam: Sam) -> None:
    other = load_sam(load_checkpoint(tiny_checkpoint))
    other.kernels = PluginKernels()
    other.mask_decoder = PluginDecoder(other.mask_decoder)
    inputs = feeds(sam, 3, 4)
    for got, wanted in zip(expected(other, inputs), expected(sam, inputs), strict=True):
        assert relative(got, wanted) <= 1e-5


def test_nodes_are_as_the_plugins_take_them(model: Path, sam: Sam) -> None:
    graph_model = onnx.load(model / "decoder.onnx")
    onnx.checker.check_model(graph_model, full_check=True)
    ours = nodes_of_ours(graph_model)
    assert Counter(node.op_type for node in ours) == OPERATORS
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph_model.graph.initializer}
    side = sam.spec.embedding_size
    for node in ours:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes.pop("plugin_version") == b"1"
        assert attributes.pop("plugin_namespace") == b""
        constants = [shapes[name] for name in node.input if name in shapes]
        if node.op_type == TOKENS_TO_IMAGE.name:
            assert attributes == {}
            assert constants == [(1, side * side, 256)], "the image's positions"
        elif node.op_type == IMAGE_TO_TOKENS.name:
            assert attributes == {"num_heads": 8, "epsilon": pytest.approx(1e-5)}
            assert constants == [(1, side * side, 256), (256,), (256,)]
        elif node.op_type == EMBED_MASKS.name:
            assert attributes == {"side": side, "epsilon": pytest.approx(1e-6)}
            weights = [(4, 4), (4,), (4,), (4,), (16, 16), (16,), (16,), (16,)]
            assert constants == [*weights, (256, 16), (256,), (256,)]
        elif node.op_type in TOKENS:
            assert constants == TOKENS[node.op_type]
        else:
            assert attributes == {"side": side, "epsilon": pytest.approx(1e-6)}
            weights = [(256, 256), (64,), (64,), (64,), (128, 64), (32,)]
            assert constants == weights, "ready to be multiplied with"


@pytest.mark.parametrize(("prompts", "points"), [(1, 2), (5, 0), (2, 20)])
def test_onnxruntime_gives_the_checkpoints_masks(
    model: Path, sam: Sam, prompts: int, points: int
) -> None:
    inputs = feeds(sam, prompts, points)
    wanted = expected(sam, inputs)
    for got, one in zip(run(model / "decoder.onnx", inputs), wanted, strict=True):
        assert relative(got, one) <= 1e-5


def test_predictor_runs_the_directory(model: Path) -> None:
    with Predictor.load(model) as predictor:
        predictor.set_image(np.zeros((40, 60, 3), np.uint8))
        assert predictor.predict([[30, 20]], [1]).masks.shape == (3, 40, 60)


def test_stripped_and_inlined(model: Path, sam: Sam, tmp_path: Path) -> None:
    stripped, inlined = tmp_path / "stripped.onnx", tmp_path / "inlined.onnx"
    strip_functions(model / "decoder.onnx", stripped)
    graph_model = onnx.load(stripped)
    assert not graph_model.functions
    assert len(nodes_of_ours(graph_model)) == sum(OPERATORS.values())
    inline_fallback(model / "decoder.onnx", inlined)
    graph_model = onnx.load(inlined)
    onnx.checker.check_model(graph_model, full_check=True)
    assert not nodes_of_ours(graph_model)
    norms = [n.name for n in graph_model.graph.node if n.op_type == "LayerNormalization"]
    assert len(norms) == 12
    assert all("layer_norm" in name for name in norms), "by which they are kept in float32"
    inputs = feeds(sam, 2, 3)
    for got, one in zip(run(inlined, inputs), expected(sam, inputs), strict=True):
        assert relative(got, one) <= 1e-5


@needs_rtx
def test_tensorrt_builds_the_fallback(model: Path) -> None:
    from samtrt.build.engines import build_engines
    from samtrt.build.options import BuildOptions

    options = BuildOptions(precision=Precision.FP16, compute_capabilities=("8.9",))
    built = build_engines(model, Target.TENSORRT_RTX, options, [Stage.DECODER])
    record, facts = built[Stage.DECODER]
    assert record.plugin is None
    assert {output.name for output in facts.outputs} == set(OUTPUTS)
