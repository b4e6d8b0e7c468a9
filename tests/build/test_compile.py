"""Weakly typed builds (TensorRT 8.6), on a stand-in that `weak_tensorrt` describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from samtrt.build import compile as compiling
from samtrt.build.compile import WITHOUT_IMPLEMENTATION, compile_engine
from samtrt.build.float32 import keep_float32
from samtrt.build.jobs import make_job, mask_job
from samtrt.build.options import BuildOptions, Built, Job, NodePrecision
from samtrt.build.trtexec import trtexec_command
from samtrt.choices import Float32Part, HardwareCompatibility, Precision, Stage
from samtrt.errors import BuildError
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.gpu import Gpu
from support.weak_tensorrt import DataType, Layer, LayerType, Network, Tensor, weak_api

GPU = Gpu(0, "NVIDIA H100 80GB HBM3", "9.0", 85_000_000_000, "13.0")


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "find_gpu", lambda: GPU)


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, its encoder declared to take any number of images."""
    directory = shutil.copytree(tiny_model, tmp_path_factory.mktemp("weak") / "model")
    path = directory / "encoder.onnx"
    encoder = onnx.load(path)
    encoder.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(encoder, path)
    manifest = Manifest.load(directory)
    files = {**manifest.files, Stage.ENCODER: (FileEntry.of(path),)}
    manifest.model_copy(update={"files": files, "dynamic_batch": True}).save(directory)
    return directory


def job(model: Path, output: Path, stage: Stage = Stage.DECODER, **options: object) -> Job:
    manifest = Manifest.load(model)
    values = {"precision": Precision.FP16, "timing_cache": False, **options}
    graph = manifest.path_of(model, stage)
    return make_job(weak_api(), manifest, stage, graph, output, BuildOptions(**values))


def built(
    model: Path, tmp_path: Path, stage: Stage = Stage.DECODER, **options: object
) -> tuple[dict[str, object], Built]:
    """Build; return what TensorRT was asked for, and what was told of it."""
    work = job(model, tmp_path / "engine", stage, **options)
    facts = compile_engine(weak_api(), work)
    return json.loads(work.output.read_bytes()), facts


def nodes(model: Path, stage: Stage, operator: str) -> set[str]:
    graph = onnx.load(model / f"{stage.value}.onnx").graph
    return {node.name for node in graph.node if node.op_type == operator}


def test_masks_alone_have_an_engine_without_points(model: Path, tmp_path: Path) -> None:
    with_points = job(model, tmp_path / "engine")
    work = mask_job(with_points, tmp_path, with_points.options)
    facts = compile_engine(weak_api(), work)
    asked = json.loads(work.output.read_bytes())
    inputs = {"image_embeddings", "mask_input", "has_mask_input"}
    assert facts.profiles.keys() == inputs
    assert facts.profiles["mask_input"].min == (1, 1, 64, 64)
    assert facts.profiles["mask_input"].max == (1, 1, 64, 64)
    assert nodes(model, Stage.DECODER, "LayerNormalization") <= asked["float32"].keys()
    assert work.output.name == "engine-1x0"
    assert work.exact == (1, 0)


@pytest.mark.parametrize("stage", Stage)
def test_norms_stay_in_float32(model: Path, tmp_path: Path, stage: Stage) -> None:
    asked, facts = built(model, tmp_path, stage)
    assert asked["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    kept = asked["float32"]
    norms = nodes(model, stage, "LayerNormalization")
    assert len(norms) > 5
    assert norms <= set(kept)
    assert all(kept[name] == ["NORMALIZATION", {"0": "FLOAT"}] for name in norms)
    assert tuple(kept) == facts.float32_layers
    softmaxes = nodes(model, stage, "Softmax")
    if stage is Stage.ENCODER:
        assert set(kept) == norms, "everything depends on the image"
    else:
        assert nodes(model, stage, "Sin") | nodes(model, stage, "Cos") <= set(kept)
        # Tokens attend to one another before they see the image.
        assert len(softmaxes & set(kept)) == 1
        assert len(softmaxes) == 7


def test_tensorrt_10_takes_types_from_the_graph(model: Path, tmp_path: Path) -> None:
    api, manifest = weak_api((10, 3, 0)), Manifest.load(model)
    options = BuildOptions(precision=Precision.BF16, timing_cache=False)
    graph = manifest.path_of(model, Stage.ENCODER)
    work = make_job(api, manifest, Stage.ENCODER, graph, tmp_path / "engine", options)
    compile_engine(api, work)
    asked = json.loads(work.output.read_bytes())
    assert (asked["strongly_typed"], asked["flags"], asked["float32"]) == (True, [], {})
    assert "--stronglyTyped" in trtexec_command(api, work).split()


def test_types_of_a_half_precision_export_are_not_enough(model: Path, tmp_path: Path) -> None:
    """A weakly typed network does not take them for more than hints."""
    manifest = Manifest.load(model)
    typed = convert(load_graph(model / "encoder.onnx"), Precision.FP16, "images")
    save_graph(typed, tmp_path / "encoder.onnx")
    half = manifest.model_copy(update={"precision": Precision.FP16})
    graph, output = tmp_path / "encoder.onnx", tmp_path / "engine"
    work = make_job(weak_api(), half, Stage.ENCODER, graph, output, BuildOptions())
    kept = {node.name for node in work.nodes if node.is_float32}
    assert kept == nodes(model, Stage.ENCODER, "LayerNormalization")


def test_layers_between_a_nodes_layers_stay_in_float32_too() -> None:
    """A parser may make several layers of a node; tensors between them have no ONNX name."""

    def tensor(name: str, kind: str = "FLOAT") -> Tensor:
        return Tensor(name, DataType[kind])

    def layer(name: str, out: Tensor, kind: LayerType = LayerType.ELEMENTWISE) -> Layer:
        return Layer(name, kind, [], [out])

    network = Network(0)
    network.layers = [
        layer("(Unnamed Layer* 0) [Shuffle]", tensor("(Unnamed Layer* 0) [Shuffle]_output")),
        layer("product", tensor("m")),
        layer("(Unnamed Layer* 2) [Shuffle]", tensor("(Unnamed Layer* 2) [Shuffle]_output")),
        layer("(Unnamed Layer* 3) [Constant]", tensor("c"), LayerType.CONSTANT),
        layer("norm", tensor("(Unnamed Layer* 4) [Normalization]_output")),
        layer("(Unnamed Layer* 5) [Shape]", tensor("s", "INT32")),
        layer("(Unnamed Layer* 6) [Shuffle]", tensor("n")),
        layer("gelu", tensor("g")),
    ]
    graph = [("product", "m", False), ("norm", "n", True), ("gelu", "g", False)]
    made = [NodePrecision(name=a, outputs=(b,), is_float32=c) for a, b, c in graph]
    kept = keep_float32(weak_api().trt, network, made)
    assert kept == ["(Unnamed Layer* 2) [Shuffle]", "norm", "(Unnamed Layer* 6) [Shuffle]"]


def test_other_parts_in_float32(model: Path, tmp_path: Path) -> None:
    asked, _ = built(model, tmp_path, Stage.ENCODER, float32=(Float32Part.SOFTMAX,))
    assert set(asked["float32"]) == nodes(model, Stage.ENCODER, "Softmax")
    asked, _ = built(model, tmp_path, Stage.ENCODER, float32=())
    assert asked["float32"] == {}


def test_fp32_constrains_nothing(model: Path, tmp_path: Path) -> None:
    asked, facts = built(model, tmp_path, precision=Precision.FP32)
    assert (asked["flags"], asked["float32"], facts.float32_layers) == ([], {}, ())
    asked, _ = built(model, tmp_path, precision=Precision.FP32, tf32=True)
    assert asked["flags"] == ["TF32"]


def test_every_option_reaches_the_library(model: Path, tmp_path: Path) -> None:
    asked, facts = built(
        model,
        tmp_path,
        Stage.ENCODER,
        batch={"min": 1, "opt": 4, "max": 8},
        workspace=3 << 30,
        optimization_level=5,
        hardware_compatible=HardwareCompatibility.AMPERE_PLUS,
        version_compatible=True,
    )
    assert asked["pools"] == {"WORKSPACE": 3 << 30}
    assert (asked["level"], asked["compatible"]) == (5, "AMPERE_PLUS")
    assert "VERSION_COMPATIBLE" in asked["flags"]
    assert facts.profiles["images"].model_dump() == {
        "min": (1, 3, 256, 256),
        "opt": (4, 3, 256, 256),
        "max": (8, 3, 256, 256),
    }
    assert (facts.gpu, facts.compute_capabilities) == (None, ("8.0+",))


def test_facts_of_a_plain_build(model: Path, tmp_path: Path) -> None:
    _, facts = built(model, tmp_path)
    assert (facts.library_version, facts.gpu) == ("8.6.0", GPU.name)
    assert facts.compute_capabilities == ("9.0",)
    assert facts.warnings == ("weights were rounded",), "each once"
    assert facts.profiles["point_coords"].max == (1, 20, 2), "one prompt at a time"
    assert [t.name for t in facts.outputs] == ["low_res_masks", "iou_predictions"]


def test_timing_cache_is_kept_for_the_next_build(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        built(model, tmp_path, timing_cache=True)
    (kept,) = (tmp_path / "cache").rglob("*.timing")
    assert kept.name == "tensorrt-8.6.0-nvidia-h100-80gb-hbm3.timing"
    assert kept.read_bytes() == b"timestimes", "the second build began with the first one's"
    kept.write_bytes(b"damaged")
    built(model, tmp_path, timing_cache=True)
    assert kept.read_bytes() == b"times"


@pytest.mark.parametrize(
    ("logged", "words"),
    [
        ("Error Code 2: OutOfMemory (no further information)", "out of memory; allow more with"),
        ("Error Code 10: Internal Error\n(no kernel)", "Error Code 10: Internal Error (no kernel)"),
        ("(cudaError 35: driver)", "there is no NVIDIA driver, or it is older"),
        (
            "Could not find any implementation for node {ForeignNode[a...b]}.",
            "Could not find any implementation for node {ForeignNode[a...b]}."
            + WITHOUT_IMPLEMENTATION,
        ),
    ],
)
def test_failure_of_the_library(model: Path, tmp_path: Path, logged: str, words: str) -> None:
    api = weak_api()
    api.trt.Builder.fails_with = logged
    work = job(model, tmp_path / "engine")
    with pytest.raises(BuildError) as caught:
        compile_engine(api, work)
    assert f"TensorRT 8.6.0 cannot build the decoder: {words}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not work.output.exists()


def test_parser_that_tells_a_node_by_number(model: Path, tmp_path: Path) -> None:
    work = job(model, tmp_path / "engine")
    graph = onnx.load(work.onnx)
    graph.graph.node[3].domain = "somewhere"
    onnx.save(graph, tmp_path / "bad.onnx")
    bad = work.model_copy(update={"onnx": tmp_path / "bad.onnx"})
    with pytest.raises(BuildError, match=r"bad\.onnx: node 7: In node 7: unsupported operator$"):
        compile_engine(weak_api(), bad)


def explained(model: Path, api: Api | None = None, **options: object) -> list[str]:
    return trtexec_command(api or weak_api(), job(model, model / "x.engine", **options)).split()


def test_trtexec_command_names_the_layers_that_are_constrained(model: Path, tmp_path: Path) -> None:
    words = explained(model, workspace=1 << 30, optimization_level=4)
    assert words[0] == "trtexec"
    assert {"--fp16", "--noTF32", "--precisionConstraints=obey", "--skipInference"} <= set(words)
    assert {"--memPoolSize=workspace:1024", "--builderOptimizationLevel=4"} <= set(words)
    assert f"--onnx={model / 'decoder.onnx'}" in words
    (listed,) = (word for word in words if word.startswith("--layerPrecisions="))
    named = {entry.split(":")[0] for entry in listed.split("=", 1)[1].split(",")}
    asked, _ = built(model, tmp_path)
    assert named == set(asked["float32"])
    (shapes,) = (word for word in words if word.startswith("--maxShapes="))
    assert "point_coords:1x20x2" in shapes


def test_trtexec_command_in_float32(model: Path) -> None:
    words = explained(model, precision=Precision.FP32, tf32=True)
    assert not {"--fp16", "--noTF32", "--stronglyTyped"} & set(words)
    assert not any("layerPrecisions" in word for word in words)
