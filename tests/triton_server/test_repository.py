"""What is written for Triton, read with Triton's own protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samtrt.choices import BackendName, Precision, Stage, Target, TritonPlatform
from samtrt.errors import EngineError, ManifestError, OutputError
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.engine_files import engine_path, onnx_hashes, record_path
from samtrt.tensorrt.record import BuildFlags, EngineRecord, Profile
from samtrt.triton.config import Word, render
from samtrt.triton.models import Scaling
from samtrt.triton.repository import RepositoryOptions, write_repository
from samtrt.triton.settings import Settings
from support.fake_runtime import write_directory
from support.samples import make_manifest

TWO_MAPS = (
    {"name": "image_embeddings", "shape": (256, 16, 16)},
    {"name": "high_res_feats", "shape": (32, 64, 64)},
)
MODELS = ("sam_encoder", "sam_decoder", "sam_auto", "sam")


def config_of(repository: Path, name: str) -> Any:
    """Parse a configuration as Triton does."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text = (repository / name / "config.pbtxt").read_text()
    return text_format.Parse(text, messages.ModelConfig())


def tensors(infos: Any) -> dict[str, list[int]]:
    return {one.name: list(one.dims) for one in infos}


def write(directory: Path, repository: Path, **options: Any) -> list[Path]:
    return write_repository(directory, repository, RepositoryOptions(**options))


def add_engines(directory: Path, images: int, prompts: int) -> None:
    """Lay engines of TensorRT that nobody runs into a model directory."""
    manifest = Manifest.load(directory)
    shapes = {
        Stage.ENCODER: {"images": ((1, 3, 256, 256), (images, 3, 256, 256))},
        Stage.DECODER: {
            "image_embeddings": ((1, 256, 16, 16), (1, 256, 16, 16)),
            "point_coords": ((1, 0, 2), (prompts, 20, 2)),
            "point_labels": ((1, 0), (prompts, 20)),
            "mask_input": ((1, 1, 64, 64), (prompts, 1, 64, 64)),
            "has_mask_input": ((1,), (prompts,)),
        },
    }
    for stage in Stage:
        path = engine_path(directory, stage, Target.TENSORRT)
        path.write_bytes(f"engine of the {stage.value}".encode())
        record = EngineRecord(
            stage=stage,
            target=Target.TENSORRT,
            library_version="10.0.0",
            gpu=None,
            compute_capabilities=("9.0",),
            precision=Precision.FP16,
            tf32=False,
            profiles={
                name: Profile(min=least, opt=most, max=most)
                for name, (least, most) in shapes[stage].items()
            },
            flags=BuildFlags(strongly_typed=True),
            onnx=onnx_hashes(manifest, stage),
            file=FileEntry.of(path),
            build_seconds=1.0,
            versions={},
        )
        record_path(directory, stage, Target.TENSORRT).write_text(record.to_json())


def test_a_message_is_text_of_protobuf() -> None:
    fields = {"name": 'a "b"\n', "kind": Word("KIND_CPU"), "dims": [1, -1], "on": True, "no": []}
    text = render({**fields, "group": [{"count": 1}, {"count": 2}], "deep": {"er": {"x": 1.5}}})
    assert text == (
        'name: "a \\"b\\"\\n"\nkind: KIND_CPU\ndims: [1, -1]\non: true\nno: []\n'
        "group {\n  count: 1\n}\ngroup {\n  count: 2\n}\ndeep {\n  er {\n    x: 1.5\n  }\n}\n"
    )


def test_the_models_of_a_repository(fake_directory: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    written = write(fake_directory, repository)
    assert written == [repository / name / "1" for name in MODELS]
    assert {path.name for path in repository.iterdir()} == set(MODELS)
    files = {path.name for path in (repository / "sam_encoder" / "1").iterdir()}
    assert files == {"model.py", "encoder.onnx", "samtrt.json", "samtrt-triton.json"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    sam = config_of(repository, "sam")
    assert sam.backend == "python"
    assert all(one.optional for one in sam.input)
    assert tensors(sam.input)["mask_input"] == [-1, 1, 64, 64]
    assert sam.sequence_batching.oldest.max_candidate_sequences == 1024
    assert sam.sequence_batching.max_sequence_idle_microseconds == 600_000_000
    assert [(one.count, one.kind) for one in sam.instance_group] == [(2, 2)]  # KIND_CPU
    assert sam.version_policy.latest.num_versions == 2
    encoder = config_of(repository, "sam_encoder")
    assert (encoder.max_batch_size, tensors(encoder.input)) == (0, {"images": [1, 3, 256, 256]})
    assert tensors(encoder.output) == {"image_embeddings": [1, 256, 16, 16]}
    decoder = config_of(repository, "sam_decoder")
    assert tensors(decoder.input)["point_coords"] == [-1, -1, 2]
    (warm,) = decoder.model_warmup
    assert list(warm.inputs["point_coords"].dims) == [1, 2, 2]
    assert set(warm.inputs) == set(tensors(decoder.input))
    settings = Settings.load(repository / "sam" / "1")
    assert (settings.encoder, settings.backend) == ("sam_encoder", BackendName.ONNXRUNTIME)


def test_maps_are_named_from_encoder_to_decoder(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model", make_manifest(maps=TWO_MAPS))
    write(directory, tmp_path / "models")
    encoder = tensors(config_of(tmp_path / "models", "sam_encoder").output)
    decoder = tensors(config_of(tmp_path / "models", "sam_decoder").input)
    assert encoder == {"image_embeddings": [1, 256, 16, 16], "high_res_feats": [1, 32, 64, 64]}
    assert {name: decoder[name] for name in encoder} == encoder


def test_onnxruntime_loads_the_graphs_and_batches_images(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model", make_manifest(dynamic_batch=True))
    scaling = Scaling(encoders=2, encoder_batch=4, batch_delay=0.005)
    options = {"platform": TritonPlatform.ONNXRUNTIME, "device": "cuda", "threads": 3}
    write(directory, tmp_path / "models", scaling=scaling, **options)
    encoder = config_of(tmp_path / "models", "sam_encoder")
    assert encoder.platform == "onnxruntime_onnx"
    assert encoder.default_model_filename == "encoder.onnx"
    assert (encoder.max_batch_size, tensors(encoder.input)) == (4, {"images": [3, 256, 256]})
    assert encoder.dynamic_batching.max_queue_delay_microseconds == 5000
    assert [one.batch_size for one in encoder.model_warmup] == [1, 4]
    assert [(one.count, one.kind, list(one.gpus)) for one in encoder.instance_group] == [(2, 1, [])]
    assert encoder.parameters["intra_op_thread_count"].string_value == "3"
    files = {path.name for path in (tmp_path / "models" / "sam_encoder" / "1").iterdir()}
    assert files == {"encoder.onnx"}


def test_tensorrt_loads_the_engines_within_their_profiles(
    fake_directory: Path, tmp_path: Path
) -> None:
    options = {"platform": TritonPlatform.TENSORRT, "device": "cuda:1"}
    with pytest.raises(EngineError, match="samtrt build"):
        write(fake_directory, tmp_path / "models", **options)
    assert not (tmp_path / "models").exists()
    add_engines(fake_directory, images=4, prompts=64)
    write(fake_directory, tmp_path / "models", **options)
    encoder = config_of(tmp_path / "models", "sam_encoder")
    assert (encoder.platform, encoder.max_batch_size) == ("tensorrt_plan", 4)
    assert encoder.default_model_filename == "encoder.tensorrt.engine"
    assert [list(one.gpus) for one in encoder.instance_group] == [[1]]
    decoder = config_of(tmp_path / "models", "sam_decoder")
    assert tensors(decoder.input)["image_embeddings"] == [1, 256, 16, 16]
    assert tensors(decoder.input)["mask_input"] == [-1, 1, 64, 64]
    settings = Settings.load(tmp_path / "models" / "sam" / "1")
    assert (settings.prompts_per_run, settings.most_points) == (64, 20)
    assert (settings.precision, settings.encoder_batch) == ("fp16", 4)


def test_engines_run_in_the_python_backend_too(fake_directory: Path, tmp_path: Path) -> None:
    add_engines(fake_directory, images=1, prompts=16)
    write(fake_directory, tmp_path / "models", backend=BackendName.TENSORRT, device="cuda")
    config = config_of(tmp_path / "models", "sam_encoder")
    assert (config.backend, config.max_batch_size) == ("python", 0)
    files = {path.name for path in (tmp_path / "models" / "sam_encoder" / "1").iterdir()}
    assert {"encoder.tensorrt.engine", "encoder.tensorrt.json", "model.py"} <= files


def test_versions_lie_side_by_side(fake_directory: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write(fake_directory, repository)
    write(fake_directory, repository, version=2, scaling=Scaling(instances=5))
    assert {path.name for path in (repository / "sam").iterdir()} == {"1", "2", "config.pbtxt"}
    assert config_of(repository, "sam").instance_group[0].count == 5
    (repository / "sam" / "1" / "model.py").write_text("of before")
    write(fake_directory, repository)
    assert "of before" not in (repository / "sam" / "1" / "model.py").read_text()


def test_a_version_with_other_tensors_needs_another_name(
    fake_directory: Path, tmp_path: Path
) -> None:
    other = write_directory(tmp_path / "other", make_manifest(maps=TWO_MAPS))
    write(fake_directory, tmp_path / "models")
    with pytest.raises(OutputError, match=r"version 1 of sam_encoder .* choose another --name"):
        write(other, tmp_path / "models", version=2)
    assert not (tmp_path / "models" / "sam" / "2").exists()
    write(other, tmp_path / "models")  # in its place
    write(fake_directory, tmp_path / "models", name="small")
    assert (tmp_path / "models" / "small_encoder" / "1").is_dir()


def test_models_of_others_are_left_alone(fake_directory: Path, tmp_path: Path) -> None:
    place = tmp_path / "models" / "sam"
    place.mkdir(parents=True)
    (place / "config.pbtxt").write_text('name: "sam"\n')
    with pytest.raises(OutputError, match="was not written by samtrt"):
        write(fake_directory, tmp_path / "models")
    assert not (tmp_path / "models" / "sam_encoder").exists()
    write_repository(fake_directory, tmp_path / "models", force=True)
    assert config_of(tmp_path / "models", "sam").backend == "python"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../sam"}, "no name for a model"),
        ({"version": 0}, "a number from 1 on"),
        ({"device": "gpu"}, "use cpu, cuda or cuda:N"),
        ({"platform": TritonPlatform.TENSORRT}, "use --device cuda"),
        ({"backend": BackendName.PYTORCH}, "another --backend"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        RepositoryOptions(**options)


def test_a_changed_graph_is_not_served(fake_directory: Path, tmp_path: Path) -> None:
    (fake_directory / "decoder.onnx").write_bytes(b"not a Graph")
    with pytest.raises(ManifestError, match=r"decoder\.onnx"):
        write(fake_directory, tmp_path / "models")
    assert not (tmp_path / "models").exists()
