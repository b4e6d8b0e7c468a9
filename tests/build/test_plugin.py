"""Builds of encoders that were exported with the plugin's operators, on stand-ins for TensorRT."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from samtrt.build import compile as compiling
from samtrt.build import engines
from samtrt.build import graph as graphs
from samtrt.build.checks import check_options
from samtrt.build.engines import build_engines
from samtrt.build.graph import graph_to_build, slow_operators
from samtrt.build.jobs import make_job
from samtrt.build.options import BuildOptions, Built, Job
from samtrt.build.trtexec import trtexec_command
from samtrt.choices import Float32Part, HardwareCompatibility, Precision, Stage, Target
from samtrt.errors import BackendError, BuildError, ExportError, ManifestError
from samtrt.export.operators import graph as operators
from samtrt.export.operators.gelu import GELU
from samtrt.export.operators.layer_norm import LAYER_NORM
from samtrt.export.operators.linear_gelu import LINEAR_GELU
from samtrt.export.operators.memory_attention import MEMORY_ATTENTION
from samtrt.export.operators.operator import PLUGIN_ATTRIBUTES
from samtrt.export.operators.registry import OPERATORS
from samtrt.manifest import FileEntry, Manifest
from samtrt.tensorrt.api import Api, load_api
from samtrt.tensorrt.engine_files import load_engine_record
from samtrt.tensorrt.gpu import Gpu
from samtrt.tensorrt.record import EngineRecord
from support import plugin_cases
from support.rtx_cases import needs_rtx
from support.samples import make_manifest
from support.weak_tensorrt import weak_api

GPU = Gpu(0, "NVIDIA H100 80GB HBM3", "9.0", 85_000_000_000, "13.0")
FORM = {"opset": 17, "attention": "plugin"}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library.so"
    path.write_bytes(b"compiled")
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An encoder of one layer norm, exported as a function of the plugin's domain."""
    directory = tmp_path / "model"
    directory.mkdir()
    path = directory / "encoder.onnx"
    write_graph(path)
    manifest = make_manifest(**FORM, files={Stage.ENCODER: [FileEntry.of(path)]})
    manifest.save(directory)
    return directory


def write_graph(path: Path) -> None:
    """Write a graph whose norm's name is what a norm's is in a standard graph too."""
    floats = {"x": [1, 8, 4, 4], "y": [1, 8, 4, 4]}
    value = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in floats.items()}
    weights = [helper.make_tensor(n, TensorProto.FLOAT, [8], [1.0] * 8) for n in ("weight", "bias")]
    attributes = {"epsilon": 1e-6, **PLUGIN_ATTRIBUTES}
    node = helper.make_node(
        *(LAYER_NORM.name, ["x", "weight", "bias"], ["y"], "node_layer_norm"),
        domain=operators.DOMAIN,
        **attributes,
    )
    graph = helper.make_graph([node], "encoder", [value["x"]], [value["y"]], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    operators.add_functions(model)
    onnx.save(model, path)


def write_linear_gelu(directory: Path, weight: float = 0.25, inputs: int = 64) -> Path:
    """Put a graph of one linear layer with GELU, to twice its width, into a model directory."""
    shapes = {"x": [1, inputs, 4, 4], "y": [1, 2 * inputs, 4, 4]}
    value = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()}
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, dims, [weight] * math.prod(dims))
        for name, dims in (("weight", (2 * inputs, inputs)), ("bias", (2 * inputs,)))
    ]
    names = ["x", "weight", "bias"], ["y"], "node_linear"
    node = helper.make_node(LINEAR_GELU.name, *names, domain=operators.DOMAIN, **PLUGIN_ATTRIBUTES)
    graph = helper.make_graph([node], "encoder", [value["x"]], [value["y"]], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    operators.add_functions(model)
    path = directory / "encoder.onnx"
    onnx.save(model, path)
    make_manifest(**FORM, files={Stage.ENCODER: [FileEntry.of(path)]}).save(directory)
    return path


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """TensorRT 8.6 that builds in this process."""
    api = weak_api()

    def run(job: Job, _report: object) -> Built:
        return compiling.compile_engine(api, Job.model_validate_json(job.model_dump_json()))

    monkeypatch.setattr(engines, "load_api", lambda _: api)
    monkeypatch.setattr(engines, "run_job", run)
    monkeypatch.setattr(compiling, "find_gpu", lambda: GPU)
    return api


def build(directory: Path, **options: object) -> tuple[EngineRecord, Built]:
    values = {"precision": Precision.FP16, "timing_cache": False, **options}
    built = build_engines(
        directory, Target.TENSORRT, BuildOptions.model_validate(values), [Stage.ENCODER]
    )
    return built[Stage.ENCODER]


def test_build_with_the_plugin(
    api: Api, directory: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stand-in's parser takes the plugin's operators from when the library is registered.
    registered = plugin_cases.install(
        monkeypatch, on_register=lambda: api.trt.OnnxParser.plugins.update(OPERATORS)
    )
    record, facts = build(directory, plugin=library)
    assert facts.warnings == ("weights were rounded",)
    copy = directory / "samtrt_plugin.so"
    assert copy.read_bytes() == library.read_bytes()
    assert record.plugin == FileEntry.of(copy)
    assert [path.parent.parent for path, *_ in registered] == [directory], "not the user's own file"
    asked = json.loads((directory / "encoder.tensorrt.engine").read_bytes())
    assert asked["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
    assert not {"CUBLAS", "CUBLAS_LT", "CUDNN"} & set(asked["tactic_sources"]), "not needed"
    assert asked["layers"] == {"node_layer_norm": "PLUGIN_V2"}
    assert asked["float32"] == {}, "plugins choose their own types"
    assert sorted(path.name for path in directory.iterdir() if path.suffix != ".lock") == [
        *("encoder.onnx", "encoder.tensorrt.engine", "encoder.tensorrt.json"),
        *("samtrt.json", "samtrt_plugin.so"),
    ]
    loaded = load_engine_record(directory, Manifest.load(directory), Stage.ENCODER, Target.TENSORRT)
    assert loaded == record


def test_build_without_the_plugin_says_so(
    api: Api, directory: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_cases.install(
        monkeypatch, on_register=lambda: api.trt.OnnxParser.plugins.update(OPERATORS)
    )
    build(directory, plugin=library)
    record, facts = build(directory)
    assert record.plugin is None
    assert not (directory / "samtrt_plugin.so").exists(), "no engine has it any more"
    assert facts.warnings[0].startswith("built without the plugin, in standard operators")
    asked = json.loads((directory / "encoder.tensorrt.engine").read_bytes())
    kept = asked["float32"].values()
    assert ["NORMALIZATION", {"0": "FLOAT"}] in kept, "the function's norm"
    assert len(asked["layers"]) == 3, "and what moves the channels"

    _, facts = build(directory, precision=Precision.FP32)
    assert facts.warnings == ("weights were rounded",), "the plugin is not for float32"


@pytest.mark.usefixtures("api")
def test_failed_build_leaves_no_library(
    directory: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_cases.install(monkeypatch)  # registers nothing that the parser knows
    with pytest.raises(BuildError, match="cannot parse"):
        build(directory, plugin=library)
    assert not {"samtrt_plugin.so", "encoder.tensorrt.engine"} & {
        path.name for path in directory.iterdir()
    }


@pytest.mark.usefixtures("api")
def test_code_for_another_gpu_is_told_before_the_build(
    directory: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_cases.install(monkeypatch, architectures=b"sm_89")
    with pytest.raises(BackendError, match=r"compiled for sm_89 and this GPU is NVIDIA H100"):
        build(directory, plugin=library)


@pytest.mark.parametrize(
    ("exported", "options", "words"),
    [
        ({"attention": "add"}, {}, r"was exported with --attention add; .* --attention plugin"),
        ({}, {"precision": Precision.FP32}, "computes in half precision; add --precision fp16"),
    ],
)
def test_refused(
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    exported: dict[str, object],
    options: dict[str, object],
    words: str,
) -> None:
    plugin_cases.install(monkeypatch, head_dims=(32,))
    values = {"precision": Precision.FP16, "plugin": library, **options}
    manifest = make_manifest(**{**FORM, **exported})
    with pytest.raises(BuildError, match=words):
        check_options(weak_api(), manifest, BuildOptions.model_validate(values), Path("model"))


@pytest.mark.parametrize(
    ("exported", "words"),
    [
        (
            {"model": "slim", "encoder": {"width": 168, "depth": 12, "heads": 12, "window": 14}},
            r"no kernels for slim's encoder \(168 channels, heads of 14, windows of 14, 16 x 16",
        ),
        (
            {"model": "custom", "encoder": {"width": 1536, "depth": 2, "heads": 48, "window": 14}},
            r"no kernels for custom's encoder \(1536 channels, heads of 32",
        ),
        (
            {
                **{"model": "custom", "family": "hiera"},
                "encoder": {"width": 256, "depth": 5, "heads": 8, "window": 3},
            },
            r"no kernels for custom's encoder \(256 channels, heads of 32, .* 64 x 64 tokens",
        ),
        ({"model": "mobile_sam", "family": "tiny_vit"}, "no operators for the encoder of mobile_s"),
    ],
)
def test_encoders_that_the_plugin_is_not_for_fall_back_and_tell(
    api: Api,
    directory: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    exported: dict[str, object],
    words: str,
) -> None:
    plugin_cases.install(monkeypatch, on_register=lambda: api.trt.OnnxParser.plugins.update({}))
    files = Manifest.load(directory).files
    make_manifest(**FORM, files=files, **exported).save(directory)
    record, facts = build(directory, plugin=library)
    assert re.search(
        f"encoder is built without the plugin, in standard .*{words}", facts.warnings[0]
    )
    assert record.plugin is None
    assert not (directory / "samtrt_plugin.so").exists()
    asked = json.loads((directory / "encoder.tensorrt.engine").read_bytes())
    assert "PLUGIN_V2" not in asked["layers"].values()


@pytest.mark.parametrize("version", [(8, 6, 0), (10, 3, 0), (11, 0, 0)])
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_allowed(
    library: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], precision: Precision
) -> None:
    plugin_cases.install(monkeypatch, major=version[0])
    api, options = weak_api(version), BuildOptions(precision=precision, plugin=library)
    if api.is_strongly_typed or precision is Precision.FP16:
        check_options(api, make_manifest(**FORM), options, Path("model"))
    else:
        with pytest.raises(BuildError, match=r"TensorRT 8\.6\.0 has no bf16"):
            check_options(api, make_manifest(**FORM), options, Path("model"))


def test_model_of_no_known_name(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_cases.install(monkeypatch)
    options = BuildOptions(precision=Precision.FP16, plugin=library)
    sizes = {"width": 96, "depth": 5, "heads": 3, "window": 14}
    custom = make_manifest(**FORM, model="custom", encoder=sizes)
    check_options(weak_api(), custom, options, Path("model"))
    older = make_manifest(**FORM, model="custom")
    with pytest.raises(ManifestError, match=r"this 'custom' model is of an older samtrt .* again"):
        check_options(weak_api(), older, options, Path("model"))


@pytest.mark.parametrize("version", [(10, 3, 0), (11, 0, 0)])
def test_typed_graph_keeps_the_plugins_operators(
    directory: Path, library: Path, tmp_path: Path, version: tuple[int, ...]
) -> None:
    # Without PROMPTS: what this graph makes does not depend on an image.
    options = BuildOptions(precision=Precision.FP16, plugin=library, float32=(Float32Part.NORMS,))
    (tmp_path / "work").mkdir()
    graph = graph_to_build(
        *(weak_api(version), Manifest.load(directory), Stage.ENCODER),
        *(directory / "encoder.onnx", options, tmp_path / "work", lambda _: None),
    )
    model = onnx.load(graph)
    assert not model.functions
    (norm,) = (node for node in model.graph.node if node.domain == operators.DOMAIN)
    weights = {t.name: t.data_type for t in model.graph.initializer}
    assert [weights[name] for name in norm.input[1:]] == [TensorProto.FLOAT] * 2
    casts = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Cast"}
    assert norm.input[0] == casts["x"]
    assert casts[norm.output[0]] == "y"


def graph_of(
    directory: Path, library: Path, work: Path, precision: Precision = Precision.FP16
) -> onnx.ModelProto:
    """Return the graph that TensorRT 8.6 gets."""
    work.mkdir()
    options = BuildOptions(precision=precision, plugin=library)
    arguments = directory / "encoder.onnx", options, work, lambda _: None
    manifest = Manifest.load(directory)
    return onnx.load(graph_to_build(weak_api(), manifest, Stage.ENCODER, *arguments))


def test_weakly_typed_graph_has_weights_in_half(
    directory: Path, library: Path, tmp_path: Path
) -> None:
    write_linear_gelu(directory)
    model = graph_of(directory, library, tmp_path / "work")
    weights = {t.name: t for t in model.graph.initializer}
    (node,) = model.graph.node
    types = [weights[name].data_type for name in node.input[1:]]
    assert types == [TensorProto.FLOAT16, TensorProto.FLOAT], "the bias is added to sums"
    assert len(weights) == 2, "the weight in float32 is gone"
    assert (numpy_helper.to_array(weights[node.input[1]]) == 0.25).all()


def test_weight_that_half_precision_cannot_hold(
    directory: Path, library: Path, tmp_path: Path
) -> None:
    write_linear_gelu(directory, weight=1e5)
    with pytest.raises(ExportError, match="the weight weight has values that float16 cannot hold"):
        graph_of(directory, library, tmp_path / "work")


@pytest.mark.parametrize(
    ("capability", "architectures", "inputs", "options", "is_slow"),
    [
        ("9.0", b"sm_90a", 64, {}, False),
        ("9.0", b"sm_80+sm_90a", 128, {}, False),
        ("9.0", b"sm_90", 64, {}, True),
        ("9.0", b"sm_90a", 96, {}, True),
        ("8.0", b"sm_80", 64, {}, True),
        ("8.9", b"sm_89+sm_90a", 64, {}, True),
        ("10.0", b"sm_100", 64, {}, True),
        ("9.0", b"sm_90a", 64, {"hardware_compatible": HardwareCompatibility.AMPERE_PLUS}, True),
    ],
)
def test_linear_gelu_is_for_hopper(
    directory: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    architectures: bytes,
    inputs: int,
    options: dict[str, object],
    is_slow: bool,
) -> None:
    plugin_cases.install(monkeypatch, architectures=architectures)
    gpus = [GPU, replace(GPU, index=1, compute_capability=capability)]
    monkeypatch.setattr(graphs, "find_gpu", gpus.__getitem__)
    asked = BuildOptions.model_validate(
        {"precision": Precision.FP16, "plugin": library, "device": 1, **options}
    )
    found = slow_operators(write_linear_gelu(directory, inputs=inputs), asked)
    assert found == ({LINEAR_GELU.name} if is_slow else set())


@pytest.mark.parametrize(
    ("capability", "architectures", "is_slow"),
    [("9.0", b"sm_90a", False), ("9.0", b"sm_90", True), ("8.0", b"sm_80+sm_90a", True)],
)
def test_attention_to_memories_is_for_hopper(
    directory: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    architectures: bytes,
    is_slow: bool,
) -> None:
    plugin_cases.install(monkeypatch, architectures=architectures)
    gpu = replace(GPU, compute_capability=capability)
    monkeypatch.setattr(graphs, "find_gpu", lambda _: gpu)
    graph = helper.make_graph(
        [
            helper.make_node(
                *(MEMORY_ATTENTION.name, ["q", "k", "v", "mask"], ["y"], "node_attention"),
                domain=operators.DOMAIN,
                **PLUGIN_ATTRIBUTES,
            )
        ],
        *("memory_attention", [], []),
    )
    path = directory / "memory_attention.onnx"
    onnx.save(helper.make_model(graph), path)
    options = BuildOptions(precision=Precision.FP16, plugin=library)
    assert slow_operators(path, options) == ({MEMORY_ATTENTION.name} if is_slow else set())


def test_a_graph_without_such_an_operator_asks_no_gpu(directory: Path, library: Path) -> None:
    options = BuildOptions(precision=Precision.FP16, plugin=library)
    assert slow_operators(directory / "encoder.onnx", options) == frozenset()


def test_build_for_another_gpu_than_hopper(
    api: Api, directory: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin_cases.install(
        *(monkeypatch, 8, b"sm_80+sm_90a"),
        on_register=lambda: api.trt.OnnxParser.plugins.update(OPERATORS),
    )
    write_linear_gelu(directory)
    layers = {}
    for capability in ("9.0", "8.0"):
        gpu = replace(GPU, compute_capability=capability)
        monkeypatch.setattr(graphs, "find_gpu", lambda _, gpu=gpu: gpu)
        monkeypatch.setattr(compiling, "find_gpu", lambda gpu=gpu: gpu)
        _, facts = build(directory, plugin=library)
        asked = json.loads((directory / "encoder.tensorrt.engine").read_bytes())
        layers[capability] = list(asked["layers"].values())
    # The stand-in has one kind for what is no plugin.
    assert layers == {"9.0": ["PLUGIN_V2"], "8.0": ["ELEMENTWISE", "PLUGIN_V2"]}
    assert facts.warnings[0] == (
        f"built with standard operators in the place of {LINEAR_GELU.name}, whose fast kernel is "
        "for Hopper (compute capability 9.0) and for whole tiles of channels"
    )


@pytest.mark.parametrize("version", [(10, 3, 0), (11, 0, 0)])
def test_typed_graph_without_linear_gelu(
    directory: Path, library: Path, tmp_path: Path, version: tuple[int, ...]
) -> None:
    graph = graphs.without_operators(write_linear_gelu(directory), {LINEAR_GELU.name}, tmp_path)
    options = BuildOptions(precision=Precision.FP16, plugin=library)
    (tmp_path / "work").mkdir()
    typed = graph_to_build(
        *(weak_api(version), Manifest.load(directory), Stage.ENCODER),
        *(graph, options, tmp_path / "work", lambda _: None),
    )
    model = onnx.load(typed)
    kinds = [node.op_type for node in model.graph.node if node.op_type != "Cast"]
    assert kinds == ["Conv", GELU.name]
    assert not model.functions


@needs_rtx
def test_tensorrt_rtx_has_none(library: Path) -> None:
    options = BuildOptions(precision=Precision.FP16, plugin=library)
    api = load_api(Target.TENSORRT_RTX)
    with pytest.raises(BuildError, match=r"TensorRT-RTX .* has no plugins \(TensorRT has\)"):
        check_options(api, make_manifest(**FORM), options, Path("model"))


def test_library_that_is_missing(tmp_path: Path) -> None:
    options = BuildOptions(precision=Precision.FP16, plugin=tmp_path / "none.so")
    with pytest.raises(BackendError, match=r"no plugin library .*none\.so; compile it with"):
        check_options(weak_api(), make_manifest(**FORM), options, Path("model"))


def test_equivalent_command(directory: Path, library: Path) -> None:
    options = BuildOptions(precision=Precision.FP16, plugin=library)
    manifest, graph = Manifest.load(directory), directory / "encoder.onnx"
    job = make_job(weak_api(), manifest, Stage.ENCODER, graph, Path("engine"), options)
    assert f"--dynamicPlugins={library}" in trtexec_command(weak_api(), job).split()
