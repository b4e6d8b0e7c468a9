"""The encoder in the plugin's operators: what the graph holds, and the same numbers everywhere."""

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
from onnx import AttributeProto, ModelProto, helper

from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import AttentionForm, Precision, Stage, Target
from samtrt.errors import ExportError
from samtrt.export import precision as half
from samtrt.export.finish import finish_graph
from samtrt.export.onnx import ExportOptions
from samtrt.export.operators import graph as operators
from samtrt.export.operators.add_layer_norm import ADD_LAYER_NORM
from samtrt.export.operators.gelu import GELU
from samtrt.export.operators.graph import inline_fallback, strip_functions
from samtrt.export.operators.layer_norm import LAYER_NORM
from samtrt.export.operators.linear_gelu import LINEAR_GELU
from samtrt.export.operators.patches import PATCHES
from samtrt.export.operators.place_layer_norm import PLACE_LAYER_NORM
from samtrt.export.operators.rel_pos_attention import REL_POS_ATTENTION
from samtrt.export.plugin import PluginEncoder
from samtrt.manifest import Manifest
from samtrt.models import build_sam, seed_weights
from samtrt.predictor import Predictor
from samtrt.registry import ViTSpec, get_spec
from support.rtx_cases import needs_rtx
from support.samples import relative

TINY = get_spec("vit_t")
OPERATORS = {
    REL_POS_ATTENTION.name,
    LAYER_NORM.name,
    ADD_LAYER_NORM.name,
    PLACE_LAYER_NORM.name,
    LINEAR_GELU.name,
    PATCHES.name,
}


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


Export = Callable[..., Path]


@pytest.fixture(scope="module")
def model(exported: Export) -> Path:
    """A model directory as for TensorRT 8.6."""
    return exported(attention=AttentionForm.PLUGIN, opset=17)


@pytest.fixture(scope="module")
def encoder(model: Path) -> Path:
    return model / "encoder.onnx"


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 3, 256, 256)).astype(np.float32)


@pytest.fixture(scope="module")
def embedding(tiny_checkpoint: Path, images: np.ndarray) -> np.ndarray:
    """What the checkpoint gives for `images`: two window blocks with padding, two global ones."""
    sam = load_sam(load_checkpoint(tiny_checkpoint))
    with torch.inference_mode():
        return sam.image_encoder(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(TINY, id="16 tokens a side: padded to 28"),
        pytest.param(replace(TINY, image_size=224), id="14 tokens: one whole window"),
        pytest.param(replace(TINY, image_size=144), id="9 tokens: less than a window"),
        pytest.param(replace(TINY, window_size=5, image_size=208), id="13 tokens in windows of 5"),
        pytest.param(replace(TINY, embed_dim=96, num_heads=3, mlp_ratio=2.0), id="other widths"),
    ],
)
def test_module_gives_the_encoders_embedding_with_its_weights(spec: ViTSpec) -> None:
    sam = build_sam(spec)
    seed_weights(sam)
    plugin_encoder = PluginEncoder(sam.image_encoder)
    images = torch.randn(2, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        got, expected = plugin_encoder(images), sam.image_encoder(images)
    assert expected.std() > 0.05
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
    kept = {p.data_ptr() for p in sam.image_encoder.parameters()}
    copied = [p.numel() for p in plugin_encoder.parameters() if p.data_ptr() not in kept]
    out, hidden = spec.prompt_embed_dim, round(spec.mlp_ratio * spec.embed_dim)
    assert copied == [out * hidden, out], "all weights are shared but of the layer that was joined"


def test_last_block_keeps_its_sum_where_somebody_else_needs_it() -> None:
    """As the features for SAM-HQ, if the only global block is the last one."""
    spec = replace(TINY, global_attn_indexes=(TINY.depth - 1,))
    sam = build_sam(spec)
    seed_weights(sam)
    images = torch.randn(1, 3, spec.image_size, spec.image_size)
    with torch.inference_mode():
        got = PluginEncoder(sam.image_encoder).forward_early(images)
        expected = sam.image_encoder.forward_early(images)
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def test_nodes_are_as_the_plugins_take_them(encoder: Path) -> None:
    graph_model = onnx.load(encoder)
    onnx.checker.check_model(graph_model, full_check=True)
    graph = graph_model.graph
    assert {(o.domain, o.version) for o in graph_model.opset_import} == {("", 17), ("samtrt", 1)}
    custom = [node for node in graph.node if node.domain == operators.DOMAIN]
    assert Counter(node.op_type for node in custom) == {
        REL_POS_ATTENTION.name: TINY.depth,
        # Of each block the norm in its middle, and all but the first block's norm before it.
        ADD_LAYER_NORM.name: 2 * TINY.depth - 1,
        PLACE_LAYER_NORM.name: 1,
        LAYER_NORM.name: 2,
        LINEAR_GELU.name: TINY.depth,
        PATCHES.name: 1,
    }
    # Nothing else moves or reshapes anything: weights are ready, activations stay [B, C, G, G].
    others = {node.op_type for node in graph.node if node.domain != operators.DOMAIN}
    assert others == {"Conv", "Add"}

    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    channels, head = TINY.embed_dim, TINY.head_dim
    windows = []
    for node in custom:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes.pop("plugin_version") == b"1"
        assert attributes.pop("plugin_namespace") == b""
        if node.op_type == PATCHES.name:
            assert (attributes, len(node.input), len(node.output)) == ({}, 1, 1)
            continue
        if node.op_type == LINEAR_GELU.name:
            hidden = int(TINY.mlp_ratio * channels)
            expected = [(hidden, channels), (hidden,)]
            assert (attributes, [shapes[name] for name in node.input[1:]]) == ({}, expected)
            continue
        if node.op_type == REL_POS_ATTENTION.name:
            windows.append(attributes["window"])
            side = windows[-1] or TINY.embedding_size
            assert attributes == {"num_heads": TINY.num_heads, "window": windows[-1]}
            expected = [(3 * channels,), (2 * side - 1, head), (2 * side - 1, head)]
            assert [shapes[name] for name in node.input[1:]] == expected
            assert len(node.output) == 1
        else:
            added = node.op_type != LAYER_NORM.name
            assert attributes == {"epsilon": pytest.approx(1e-6)}
            assert len(node.output) == 1 + added
            if node.op_type == PLACE_LAYER_NORM.name:
                assert shapes[node.input[1]] == (*(TINY.embedding_size,) * 2, channels)
            width = {shapes[name] for name in node.input[1 + added :]}
            assert len(node.input) == 3 + added
            assert width <= {(channels,), (TINY.prompt_embed_dim,)}
    expected_windows = [
        0 if i in TINY.global_attn_indexes else TINY.window_size for i in range(TINY.depth)
    ]
    assert windows == expected_windows
    types = {a.name: a.type for a in custom[-1].attribute}
    assert types["epsilon"] == AttributeProto.FLOAT
    assert types["plugin_version"] == AttributeProto.STRING


def test_onnxruntime_gives_the_checkpoints_embedding(
    model: Path, images: np.ndarray, embedding: np.ndarray
) -> None:
    with Predictor.load(model) as predictor:
        got = predictor.encoder.run({"images": images})["image_embeddings"]
    assert relative(got, embedding) <= 1e-5


def test_other_options(
    exported: Export, tmp_path: Path, images: np.ndarray, embedding: np.ndarray
) -> None:
    form = AttentionForm.PLUGIN
    directory = exported(attention=form, opset=20, dynamic_batch=True, simplify=False)
    assert Manifest.load(directory).attention == "plugin"
    encoder = directory / "encoder.onnx"
    graph_model = onnx.load(encoder)
    assert {o.version for o in graph_model.opset_import if not o.domain} == {20}
    nodes = {node.op_type for node in graph_model.graph.node}
    assert nodes <= OPERATORS | {"Conv", "Add", "Gelu"}
    batch = np.concatenate([images[..., ::-1], images, images[:, ::-1]])
    got = run(encoder, batch)
    assert relative(got[1:2], embedding) <= 1e-5
    inline_fallback(encoder, tmp_path / "inlined.onnx")
    assert relative(run(tmp_path / "inlined.onnx", batch), got) <= 1e-5


def test_stripped_graph_has_the_nodes_alone(encoder: Path, tmp_path: Path) -> None:
    strip_functions(encoder, tmp_path / "stripped.onnx")
    before, after = onnx.load(encoder), onnx.load(tmp_path / "stripped.onnx")
    assert {function.name for function in before.functions} == OPERATORS | {GELU.name}
    assert len(after.functions) == 0
    assert after.graph == before.graph


def inlined_graph(path: Path) -> ModelProto:
    graph_model = onnx.load(path)
    onnx.checker.check_model(graph_model, full_check=True)
    assert [(o.domain, o.version) for o in graph_model.opset_import] == [("", 17)]
    assert len(graph_model.functions) == 0
    assert {node.domain for node in graph_model.graph.node} == {""}
    return graph_model


def test_inlined_graph_gives_the_same_embedding(
    encoder: Path, tmp_path: Path, images: np.ndarray, embedding: np.ndarray
) -> None:
    path = tmp_path / "inlined.onnx"
    inline_fallback(encoder, path)
    nodes = inlined_graph(path).graph.node
    assert relative(run(path, images), embedding) <= 1e-5
    # By their names weakly typed builds know what to keep in float32, and messages are read.
    names = Counter(node.name for node in nodes)
    assert "" not in names
    assert max(names.values()) == 1
    norms = [node.name for node in nodes if node.op_type == "LayerNormalization"]
    assert len(norms) == 2 * TINY.depth + 2
    assert all("layer_norm" in name for name in norms)


def test_some_operators_inlined(
    encoder: Path, tmp_path: Path, images: np.ndarray, embedding: np.ndarray
) -> None:
    path = tmp_path / "inlined.onnx"
    inline_fallback(encoder, path, {LINEAR_GELU.name})
    graph_model = onnx.load(path)
    onnx.checker.check_model(graph_model, full_check=True)
    counts = Counter(node.op_type for node in graph_model.graph.node)
    assert {name for name in counts if name.startswith("Samtrt")} == {
        *(OPERATORS - {LINEAR_GELU.name}),
        GELU.name,
    }
    assert counts.keys() - OPERATORS == {GELU.name, "Conv", "Add"}, "kernels are weights"
    assert counts[GELU.name] == TINY.depth
    assert relative(run(path, images), embedding) <= 1e-5
    names = [node.name for node in graph_model.graph.node]
    assert len(set(names) - {""}) == len(names)


def test_inlined_graph_in_half_precision(
    encoder: Path, tmp_path: Path, images: np.ndarray, embedding: np.ndarray
) -> None:
    inline_fallback(encoder, tmp_path / "inlined.onnx")
    typed = half.convert(half.load_graph(tmp_path / "inlined.onnx"), Precision.FP16, "images")
    half.save_graph(typed, tmp_path / "half.onnx")
    assert 1e-6 < relative(run(tmp_path / "half.onnx", images), embedding) <= 5e-3


def test_weights_beside_the_graph(
    encoder: Path,
    tmp_path: Path,
    images: np.ndarray,
    embedding: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with ViT-H, whose weights pass what one file may hold."""
    monkeypatch.setattr(half, "SINGLE_FILE_LIMIT", 1_000_000)
    large = tmp_path / "large" / "encoder.onnx"
    large.parent.mkdir()
    finish_graph(encoder, large, 17)
    data = (large.parent / "encoder.onnx.data").read_bytes()
    assert len(data) > 1_000_000
    for place in ("elsewhere", "large"):
        stripped, inlined = (tmp_path / place / f"{form}.onnx" for form in ("stripped", "inlined"))
        stripped.parent.mkdir(exist_ok=True)
        strip_functions(large, stripped)
        inline_fallback(large, inlined)
        assert stripped.stat().st_size < 200_000
        assert (stripped.parent / "encoder.onnx.data").read_bytes() == data
        onnx.checker.check_model(str(stripped))
        assert relative(run(inlined, images), embedding) <= 1e-5
    shutil.rmtree(large.parent)
    assert relative(run(tmp_path / "elsewhere" / "inlined.onnx", images), embedding) <= 1e-5


@needs_rtx
def test_tensorrt_rtx_builds_from_the_directory(model: Path, tmp_path: Path) -> None:
    from samtrt.build.engines import build_engines
    from samtrt.build.options import BuildOptions

    directory = shutil.copytree(model, tmp_path / "model")
    options = BuildOptions(compute_capabilities=("8.9",), optimization_level=0)
    record, _ = build_engines(directory, Target.TENSORRT_RTX, options, [Stage.ENCODER])[
        Stage.ENCODER
    ]
    assert record.plugin is None
    assert (directory / "encoder.tensorrt-rtx.engine").stat().st_size > 100_000
    assert Manifest.load(directory) == Manifest.load(model)


@pytest.mark.parametrize("function", [strip_functions, inline_fallback])
def test_what_is_no_graph_is_told(function: object, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportError, match=r"cannot read .*encoder\.onnx"):
        function(tmp_path / "encoder.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_half_precision_is_the_builders_business(precision: Precision) -> None:
    with pytest.raises(ExportError, match=f"leave out --precision {precision.value}"):
        ExportOptions(precision=precision, opset=22, attention=AttentionForm.PLUGIN)
