"""Every family's engines: exported, verified on each runtime, and built for TensorRT-RTX."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from samtrt.backends import BackendOptions
from samtrt.backends.base import image_inputs
from samtrt.build.engines import build_engines
from samtrt.build.options import BuildOptions, Range
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import AttentionForm, BackendName, Family, Float32Part, Precision, Stage, Target
from samtrt.errors import ExportError
from samtrt.export import onnx as exporting
from samtrt.export.float32_parts import float32_nodes
from samtrt.export.onnx import ExportOptions, export_model
from samtrt.export.operators.gelu_tanh import GELU_TANH
from samtrt.export.plugin import PluginKernels
from samtrt.export.plugin_decoder import PluginDecoder
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.export.quantize import QuantizeOptions, quantize_model
from samtrt.manifest import FileEntry, Manifest
from samtrt.models.efficientvit import ConvLayer
from samtrt.models.graphs import example_inputs
from samtrt.models.mask_decoder import MaskDecoder
from samtrt.predictor import Predictor
from samtrt.tensorrt.engine_files import load_engine_record
from samtrt.verification.compare import verify
from support.rtx_cases import needs_rtx

FAMILIES = {
    "vit_t, hq": Family.VIT,
    "mobile_sam_t": Family.TINY_VIT,
    "efficientvit_sam_t": Family.EFFICIENTVIT,
    "sam2.1_hiera_t": Family.HIERA,
    "edgetam_t": Family.REPVIT,
}


@dataclass(frozen=True)
class Model:
    """A model directory and the checkpoint's own results."""

    name: str
    directory: Path
    reference: Predictor


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest,
    family_model: Callable[[str], Path],
    family_checkpoint: Callable[[str], Path],
) -> Iterator[Model]:
    directory = family_model(request.param)
    options = BackendOptions(checkpoint=family_checkpoint(request.param))
    with Predictor.load(directory, "pytorch", options) as reference:
        yield Model(request.param, directory, reference)


@pytest.mark.parametrize("backend", [BackendName.ONNXRUNTIME, BackendName.OPENVINO])
def test_engines_give_the_checkpoints_masks(
    family: Model, picture: np.ndarray, backend: BackendName
) -> None:
    manifest = Manifest.load(family.directory)
    assert manifest.family is FAMILIES[family.name]
    with Predictor.load(family.directory, backend) as candidate:
        report = verify(family.reference, candidate, {"noise": picture})
    assert report.failures == ()
    assert min(report.ious) >= 0.999
    assert [one.map for one in report.embeddings] == [one.name for one in manifest.maps]


def test_graphs_hold_what_every_runtime_takes(family: Model) -> None:
    for stage in Stage:
        graph = onnx.load(family.directory / f"{stage.value}.onnx").graph
        kinds = {node.op_type for node in graph.node}
        assert not kinds & {
            "BatchNormalization", "Resize", "OneHot", "Tile", "If", "Loop", "NonZero",
        }  # fmt: skip


def test_half_precision_is_verified(family: Model, picture: np.ndarray, tmp_path: Path) -> None:
    """What `export --precision fp16` writes, made of the graphs that are there."""
    directory = Path(shutil.copytree(family.directory, tmp_path / "half"))
    manifest = Manifest.load(directory)
    files = dict(manifest.files)
    for stage in Stage:
        path = directory / f"{stage.value}.onnx"
        held = image_inputs(stage, manifest)
        save_graph(convert(load_graph(path), Precision.FP16, held), path)
        files[stage] = (FileEntry.of(path),)
    manifest.model_copy(update={"precision": Precision.FP16, "files": files}).save(directory)
    with Predictor.load(directory) as candidate:
        report = verify(family.reference, candidate, {"noise": picture})
    assert max(one.relative for one in report.embeddings) < 2e-2
    assert float(np.mean(report.ious)) > 0.95, "seeded weights have masks near the threshold"


def test_bfloat16_graphs_are_valid(family: Model, tmp_path: Path) -> None:
    """No runtime of a CPU computes in it: what `save_graph` checks is types and shapes."""
    manifest = Manifest.load(family.directory)
    for stage in Stage:
        graph = load_graph(family.directory / f"{stage.value}.onnx")
        path = tmp_path / f"{stage.value}.onnx"
        save_graph(convert(graph, Precision.BF16, image_inputs(stage, manifest)), path)
        saved = onnx.load(path)
        kinds = [tensor.data_type for tensor in saved.graph.initializer]
        assert kinds.count(onnx.TensorProto.BFLOAT16) > 0.3 * len(kinds)
        borders = (*saved.graph.input, *saved.graph.output)
        assert {one.type.tensor_type.elem_type for one in borders} == {onnx.TensorProto.FLOAT}


def test_linear_attention_divides_in_float32(family_model: Callable[[str], Path]) -> None:
    graph = load_graph(family_model("efficientvit_sam_t") / "encoder.onnx").graph
    kept = float32_nodes(graph, {"images"}, [Float32Part.DIVISIONS])
    kinds = [graph.node[i].op_type for i in kept]
    assert {"Div", "MatMul", "Slice"} < set(kinds)
    assert set(kinds) & {"Clip", "Max"}, "nothing is divided by 0"
    assert kinds.count("Div") == 1, "the model has one block of linear attention"
    assert kinds.count("MatMul") == 2
    plain = load_graph(family_model("mobile_sam_t") / "encoder.onnx").graph
    assert float32_nodes(plain, {"images"}, [Float32Part.DIVISIONS]) == []


def test_flat_images_have_numbers(family: Model) -> None:
    """Where no key answers a query, linear attention would divide nothing by nothing."""
    size = Manifest.load(family.directory).input_size
    zero = np.zeros((1, 3, size, size), np.float32)
    with Predictor.load(family.directory) as candidate:
        for predictor in (family.reference, candidate):
            out = predictor.encoder.run({"images": zero})
            assert all(np.isfinite(one).all() for one in out.values())


@needs_rtx
def test_engines_for_rtx(family: Model, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(family.directory, tmp_path / "model"))
    options = BuildOptions(
        compute_capabilities=("8.9",), prompts=Range(min=1, opt=1, max=4),
        points=Range(min=0, opt=2, max=6),
    )  # fmt: skip
    build_engines(directory, Target.TENSORRT_RTX, options)
    manifest = Manifest.load(directory)
    for stage in Stage:
        record = load_engine_record(directory, manifest, stage, Target.TENSORRT_RTX)
        assert record.compute_capabilities == ("8.9",)


def test_other_forms_of_attention_are_refused(
    family_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(family_checkpoint("mobile_sam_t"))
    with pytest.raises(ExportError, match=r"'tiled' is for ViT encoders.*leave out --attention"):
        export_model(checkpoint, tmp_path / "out", ExportOptions(attention=AttentionForm.TILED))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plugins_form_gives_the_same_masks(
    name: str, family_checkpoint: Callable[[str], Path]
) -> None:
    """And what of it the plugin does not have is told."""
    checkpoint = load_checkpoint(family_checkpoint(name))
    plain, other = load_sam(checkpoint), load_sam(checkpoint)
    told: list[str] = []
    exporting._set_form(other, AttentionForm.PLUGIN, told.append)
    assert isinstance(other.kernels, PluginKernels)
    own = type(plain.mask_decoder) is MaskDecoder
    assert isinstance(other.mask_decoder, PluginDecoder) is own
    has_encoder = checkpoint.spec.family in (Family.VIT, Family.HIERA)
    words = [] if has_encoder else ["the encoder"]
    activations = [module for module in other.modules() if isinstance(module, ConvLayer)]
    assert all(one.act in (None, GELU_TANH) for one in activations)
    words += [] if own else ["upscaling and its heads"]
    assert len(told) == len(words)
    assert all(word in line for word, line in zip(words, told, strict=True))
    example = example_inputs(plain, Stage.DECODER)
    inputs = {name: torch.randn_like(one) for name, one in example.items()}
    inputs["point_labels"] = torch.tensor([[1.0, 0.0, 2.0, 3.0, -1.0]]).repeat(3, 1)
    with torch.inference_mode():
        expected, got = (one.decode(*inputs.values()) for one in (plain, other))
    for mine, theirs in zip(got, expected, strict=True):
        assert theirs.std() > 0
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_a_token_of_sam_hq_is_asked_of_sam_hq(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="vit_t is no SAM-HQ and has no HQ token: leave out"):
        export_model(
            load_checkpoint(tiny_checkpoint), tmp_path / "out", ExportOptions(hq_token_only=True)
        )


@pytest.mark.parametrize("name", ["efficientvit_sam_t", "edgetam_t"])
def test_convolutions_are_not_quantized(
    name: str, family_model: Callable[[str], Path], picture: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="made of convolutions, and int8 is for linear layers"):
        quantize_model(family_model(name), tmp_path / "int8", {"noise": picture})


@pytest.mark.parametrize(("name", "blocks"), [("mobile_sam_t", 4), ("sam2.1_hiera_t", 5)])
def test_linear_layers_are_quantized(
    name: str, blocks: int, family_model: Callable[[str], Path], picture: np.ndarray, tmp_path: Path
) -> None:
    """Every layer of every block has a name; the masks are still those of the float32 model."""
    directory, output = family_model(name), tmp_path / "int8"
    options = QuantizeOptions(min_iou=0.5, keep=("blocks.0.attn.proj",))
    manifest = quantize_model(directory, output, {"noise": picture}, options)
    assert manifest.quantized is not None
    assert 0.5 < manifest.quantized.mean_iou <= 1
    graph = onnx.load(output / "encoder.onnx").graph
    whole = onnx.load(directory / "encoder.onnx").graph
    linear = sum(len(tensor.dims) == 2 for tensor in whole.initializer)
    kinds = [tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2]
    assert kinds.count(onnx.TensorProto.INT8) == linear - 1
    with pytest.raises(ExportError, match=rf"blocks\.0\..* to blocks\.{blocks - 1}\.mlp"):
        quantize_model(directory, output, {"noise": picture}, QuantizeOptions(keep=("none",)))
