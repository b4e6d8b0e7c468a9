"""Export: what the graphs hold, every option, and nothing left behind by a failure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from samtrt.backends import BackendOptions
from samtrt.backends.pytorch import PyTorchBackend
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import AttentionForm, Precision, Stage
from samtrt.cli import main
from samtrt.errors import ExportError, ManifestError, OutputError
from samtrt.export import onnx as exporting
from samtrt.export import precision as half
from samtrt.export.finish import finish_graph
from samtrt.export.onnx import ExportOptions, default_opset, export_model
from samtrt.export.plugin import attend_to_memories
from samtrt.manifest import FileEntry, Manifest
from samtrt.models import build_sam
from samtrt.models.rotary import Kernel, RotaryAttention, mix_values
from samtrt.predictor import Predictor
from samtrt.registry import get_spec
from support.samples import relative


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}


def compare(directory: Path, checkpoint: Path, batch: int = 1) -> dict[str, float]:
    """Run both stages on ONNX Runtime and PyTorch; return the relative error of each output."""
    rng = np.random.default_rng(0)
    manifest = Manifest.load(directory)
    sam = load_sam(load_checkpoint(checkpoint))
    images = rng.normal(size=(batch, 3, 256, 256)).astype(np.float32)
    with Predictor.load(directory) as predictor:
        got = predictor.encoder.run({"images": images})
        feeds = {
            "image_embeddings": got["image_embeddings"][:1],
            "point_coords": rng.uniform(0, 256, (2, 3, 2)).astype(np.float32),
            "point_labels": np.array([[1, 0, -1], [1, 2, 3]], dtype=np.float32),
            "mask_input": rng.normal(size=(2, 1, 64, 64)).astype(np.float32),
            "has_mask_input": np.array([0, 1], dtype=np.float32),
        }
        got.update(predictor.decoder.run(feeds))
    encoder = PyTorchBackend(sam, manifest, Stage.ENCODER)
    decoder = PyTorchBackend(sam, manifest, Stage.DECODER)
    expected = {**encoder.run({"images": images}), **decoder.run(feeds)}
    return {name: relative(got[name], expected[name]) for name in expected}


def test_defaults(tiny_model: Path, tiny_checkpoint: Path) -> None:
    assert sorted(path.name for path in tiny_model.iterdir()) == [
        "decoder.onnx",
        "encoder.onnx",
        "samtrt.json",
    ]
    assert max(compare(tiny_model, tiny_checkpoint).values()) <= 1e-4
    for stage in Stage:
        path = tiny_model / f"{stage.value}.onnx"
        model = onnx.load(path)
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
        # What TensorRT's parser rejects, and what would tell an in-graph image size.
        assert not operators(path) & {"OneHot", "Tile", "Resize", "If", "Loop", "NonZero"}
        assert str(Path.cwd()).encode() not in path.read_bytes()
        assert model.producer_name == "samtrt"
    manifest = json.loads((tiny_model / "samtrt.json").read_text())
    assert manifest["model"] == "vit_t"
    assert manifest["encoder"] == {"width": 64, "depth": 4, "heads": 2, "window": 14}
    assert manifest["checkpoint"]["name"] == "tiny.pth"
    assert manifest["versions"]["torch"] == torch.__version__
    assert (tiny_model / "samtrt.json").stat().st_mode & 0o044, "others must be able to read it"


@pytest.mark.usefixtures("traced_once")
@pytest.mark.parametrize(
    ("options", "limit"),
    [
        pytest.param(
            ExportOptions(
                opset=17, dynamic_batch=True, simplify=False, attention=AttentionForm.FOLDED
            ),
            1e-4,
            id="opset 17, dynamic batch, folded, not simplified",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ExportOptions(precision=Precision.FP16, opset=22),
            2e-2,
            id="fp16, opset 22",
            marks=pytest.mark.long,
        ),
    ],
)
def test_options(
    options: ExportOptions, limit: float, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    manifest = export_model(
        load_checkpoint(tiny_checkpoint), tmp_path / "model", options, steps.append
    )
    errors = compare(tmp_path / "model", tiny_checkpoint, batch=3 if options.dynamic_batch else 1)
    assert max(errors.values()) <= limit, errors
    assert Manifest.load(tmp_path / "model") == manifest
    assert manifest.opset == options.opset
    assert any("simplifying" in step for step in steps) == options.simplify
    for stage in Stage:
        model = onnx.load(manifest.path_of(tmp_path / "model", stage))
        assert model.opset_import[0].version == options.opset
        kinds = {tensor.data_type for tensor in model.graph.initializer}
        assert (onnx.TensorProto.FLOAT16 in kinds) == (options.precision is Precision.FP16)
        types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        norms = [n for n in model.graph.node if n.op_type == "LayerNormalization"]
        assert len(norms) > 5
        assert {types[name] for node in norms for name in node.input[1:]} == {
            onnx.TensorProto.FLOAT
        }


@pytest.mark.long
@pytest.mark.usefixtures("traced_once")
def test_bfloat16(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """ONNX Runtime has no bfloat16 on CPUs: `test_typed` checks the numbers."""
    options = ExportOptions(precision=Precision.BF16, opset=default_opset(Precision.BF16))
    manifest = export_model(load_checkpoint(tiny_checkpoint), tmp_path / "model", options)
    assert (manifest.precision, manifest.opset) == (Precision.BF16, 22)
    for stage in Stage:
        model = onnx.load(manifest.path_of(tmp_path / "model", stage))
        sizes = {onnx.TensorProto.FLOAT: 0, onnx.TensorProto.BFLOAT16: 0}
        for tensor in model.graph.initializer:
            if tensor.data_type in sizes:
                sizes[tensor.data_type] += len(tensor.raw_data)
        is_half = sizes[onnx.TensorProto.BFLOAT16] > sizes[onnx.TensorProto.FLOAT]
        assert is_half == (stage is Stage.ENCODER)
        assert is_half or not sizes[onnx.TensorProto.BFLOAT16], "logits decide what is mask"
    with pytest.raises(ExportError, match="bf16 needs opset 22: in 20 not every operator has it"):
        ExportOptions(precision=Precision.BF16, opset=20)


def test_weights_beside_the_graph_where_it_would_pass_2_gib(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(tiny_model, tmp_path / "model")
    monkeypatch.setattr(half, "SINGLE_FILE_LIMIT", 10_000_000)  # the decoder has 16 MB
    decoder = directory / "decoder.onnx"
    finish_graph(tiny_model / "decoder.onnx", decoder, 20)
    assert decoder.stat().st_size < 1_000_000
    parts = (FileEntry.of(decoder), FileEntry.of(directory / "decoder.onnx.data"))
    manifest = Manifest.load(directory)
    files = {**manifest.files, Stage.DECODER: parts}
    manifest.model_copy(update={"files": files}).save(directory)
    with Predictor.load(directory) as predictor, Predictor.load(tiny_model) as whole:
        for one in (predictor, whole):
            one.set_image(np.zeros((50, 60, 3), np.uint8))
        got, expected = (one.predict([[30, 20]], [1]) for one in (predictor, whole))
        assert np.array_equal(got.low_res_logits, expected.low_res_logits)
    (directory / "decoder.onnx.data").unlink()
    with pytest.raises(ManifestError, match=r"decoder.onnx.data is missing"):
        Predictor.load(directory)


@pytest.mark.parametrize("opset", [16, 23, 0])
def test_unsupported_opset(opset: int) -> None:
    with pytest.raises(ExportError, match=f"opset {opset} is not supported: choose 17 .* to 22"):
        ExportOptions(opset=opset)


@pytest.mark.parametrize(
    ("options", "kernel"),
    [
        (ExportOptions(), mix_values),
        (ExportOptions(opset=17), None),  # TensorRT 8.6 wants values as wide as keys
        (ExportOptions(opset=17, attention=AttentionForm.PLUGIN), attend_to_memories),
    ],
)
def test_memories_are_mixed_before_they_are_projected(
    options: ExportOptions, kernel: Kernel | None
) -> None:
    sam = build_sam(get_spec("sam2.1_hiera_t"))
    exporting._set_memory_attention(sam, options)
    found = {module.kernel for module in sam.modules() if isinstance(module, RotaryAttention)}
    assert found == {kernel}


def test_form_for_pytorch_alone_is_not_exported() -> None:
    with pytest.raises(ExportError, match="export 'add', 'tiled', 'folded' or 'plugin'"):
        ExportOptions(attention=AttentionForm.MASK)


def test_graphs_for_videos_are_of_models_with_a_memory(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    with pytest.raises(ExportError, match="vit_t has no modules for videos, which a whole SAM 2"):
        export_model(checkpoint, tmp_path / "model", ExportOptions(video=True))
    assert not (tmp_path / "model").exists()


def test_exporter_failure_is_one_line_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first line\nsecond line") from ValueError("the cause\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match=r"^cannot export the encoder: the cause$"):
        export_model(load_checkpoint(tiny_checkpoint), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_told_beforehand(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(OutputError, match=r"needs about 0.1 GB free .* there are 0.0 GB"):
        export_model(load_checkpoint(tiny_checkpoint), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_output(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export_model(load_checkpoint(tiny_checkpoint), tmp_path / "file" / "model")


@pytest.mark.usefixtures("traced_once")
def test_disk_that_fills_during_export_keeps_the_old_model(
    tiny_checkpoint: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files may not grow past 8 MB in this process: the write of the decoder fails for real."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    target = shutil.copytree(tiny_model, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    monkeypatch.setenv("COLUMNS", "200")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, hard))  # Python ignores SIGXFSZ
    try:
        code = main(["export", str(tiny_checkpoint), "-o", str(target)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    errors = capsys.readouterr().err
    assert code == 2, errors
    assert "samtrt: error: cannot" in errors
    assert "Traceback" not in errors
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_reference_needs_the_same_checkpoint(tiny_model: Path, tiny_checkpoint: Path) -> None:
    with Predictor.load(
        tiny_model, "pytorch", BackendOptions(checkpoint=tiny_checkpoint)
    ) as predictor:
        assert predictor.manifest.checkpoint.name == "tiny.pth"
