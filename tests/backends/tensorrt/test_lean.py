"""The runtime code on the real TensorRT 11 lean runtime: all of it that needs no GPU.

It has the real `Runtime`, `ICudaEngine` and `IExecutionContext`, and no builder. Without a GPU it
refuses to start, so what comes after that is compared by names and arguments.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import Target
from samtrt.errors import BackendError, EngineError
from samtrt.export.operators.registry import OPERATORS
from samtrt.files import sha256_of
from samtrt.tensorrt import api as trt_api
from samtrt.tensorrt.plugin.library import register_plugins
from support import fake_cuda_streams, fake_tensorrt
from support.trt_cases import load

pytestmark = pytest.mark.skipif(
    find_spec("tensorrt_lean_bindings") is None, reason="needs the extra 'lean'"
)


@pytest.fixture
def lean() -> trt_api.Api:
    trt_api.load_api.cache_clear()
    return trt_api.load_api(Target.TENSORRT, runtime_only=True)


def test_it_is_found_and_told_from_the_whole_library(lean: trt_api.Api) -> None:
    assert lean.trt.__name__ == "tensorrt_lean_bindings"
    assert lean.version[:2] == (11, 4)
    assert not lean.has_builder
    assert lean.is_strongly_typed
    assert not lean.sets_compute_capabilities
    assert not lean.keeps_compiled_kernels
    with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0 here is a runtime without a buil"):
        lean.create_builder()


def test_without_a_gpu_it_does_not_start(lean: trt_api.Api) -> None:
    for _ in range(2):  # a null pointer was handed out, and nothing may touch it
        with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0 cannot start: there is no NV"):
            lean.create_runtime()
        gc.collect()


def test_its_logger_is_ours(lean: trt_api.Api) -> None:
    with trt_api.capture(lean.logger) as messages, pytest.raises(BackendError):
        lean.create_runtime()
    assert [message.severity for message in messages if message.is_error]
    assert lean.logger.listeners == []


def test_its_plugin_registry_is_found(lean: trt_api.Api) -> None:
    registry, _ = lean.plugin_registry()
    assert registry


def test_predictor_says_what_is_missing_and_frees_what_it_took(
    fake_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a GPU lets it: the stand-in for CUDA has one, on which TensorRT does not start."""
    fake_tensorrt.write_engines(fake_directory, library_version="11.4.0", version_compatible=True)
    cuda = fake_cuda_streams.install(monkeypatch)
    trt_api.load_api.cache_clear()
    with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0 cannot start") as caught:
        load(fake_directory)
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()
    assert cuda.faults == []
    assert not cuda.live()


def test_only_compatible_engines_are_for_it(
    fake_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda_streams.install(monkeypatch)
    trt_api.load_api.cache_clear()
    fake_tensorrt.write_engines(fake_directory)
    with pytest.raises(EngineError, match=r"built with tensorrt 10\.0\.0 and 11\.4\.0 is running"):
        load(fake_directory)
    fake_tensorrt.write_engines(fake_directory, library_version="11.4.0")
    with pytest.raises(EngineError, match=r"built without --version-compatible.* is a lean runt"):
        load(fake_directory)
    fake_tensorrt.write_engines(fake_directory, version_compatible=True)
    with pytest.raises(BackendError, match=r"TensorRT 11\.4\.0 cannot start"):
        load(fake_directory)


@pytest.mark.skipif("SAMTRT_PLUGIN_11" not in os.environ, reason="needs a compiled plugin library")
def test_our_plugins_are_registered_and_made(lean: trt_api.Api) -> None:
    """In the real registry of TensorRT 11; the library: `samtrt plugin` with headers of 11."""
    library = Path(os.environ["SAMTRT_PLUGIN_11"])
    register_plugins(lean, library, sha256_of(library))
    trt = lean.trt
    registry = trt.get_plugin_registry()
    ours = {c.name for c in registry.all_creators if isinstance(c, trt.IPluginCreatorV3One)}
    assert set(OPERATORS) <= ours
    creator = registry.get_creator("SamtrtRelPosAttention", "1", "")
    assert [field.name for field in creator.field_names] == ["num_heads", "window"]

    def made(heads: int) -> Any:
        values = {"num_heads": heads, "window": 14}
        fields = [
            trt.PluginField(name, np.array([value], np.int32), trt.PluginFieldType.INT32)
            for name, value in values.items()
        ]
        collection = trt.PluginFieldCollection(fields)
        return creator.create_plugin("a name", collection, trt.TensorRTPhase.BUILD)

    plugin = made(12)  # owns what follows
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    assert (core.plugin_name, core.plugin_version) == ("SamtrtRelPosAttention", "1")
    assert made(0) is None


@pytest.mark.parametrize("name", ["Runtime", "ICudaEngine", "IExecutionContext", "ILogger"])
def test_the_stand_in_is_called_as_the_real_one(lean: trt_api.Api, name: str) -> None:
    """Every method of the stand-in exists there, and one of its signatures takes as many."""
    real, ours = getattr(lean.trt, name), getattr(fake_tensorrt, name)
    for key, method in vars(ours).items():
        if key.startswith("_") or not inspect.isfunction(method):
            continue
        parameters = list(inspect.signature(method).parameters.values())[1:]
        given = sum(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters)
        # Bindings have no signature but what their documentation begins with.
        signatures = re.findall(rf"{key}\(self: [^ ,)]+,? ?(.*)\) ->", getattr(real, key).__doc__)
        assert signatures, key
        counts = [
            (len(re.findall(r"\w+: ", one)) - one.count(" = "), len(re.findall(r"\w+: ", one)))
            for one in signatures
        ]
        assert any(least <= given <= most for least, most in counts), (key, signatures)
