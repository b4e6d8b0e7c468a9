"""The plugin library: what is refused, and that a process registers one once."""

from __future__ import annotations

from pathlib import Path

import pydantic_core._pydantic_core as extension_module
import pytest

from samtrt.errors import BackendError
from samtrt.manifest import EncoderSizes
from samtrt.registry import get_spec
from samtrt.tensorrt.gpu import Gpu
from samtrt.tensorrt.plugin.library import PluginLibrary, register_plugins
from support import plugin_cases
from support.weak_tensorrt import weak_api

HIERAS = (
    "sam2.1_hiera_tiny",
    "sam2.1_hiera_base_plus",
    "sam2.1_hiera_large",
    "sam2.1_hiera_t",
)


def gpu(compute_capability: str) -> Gpu:
    return Gpu(0, "A GPU", compute_capability, 80_000_000_000, "13.0")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.so"
    path.write_bytes(b"a library")
    return path


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"no plugin library .*; compile it with: samtrt plugin"):
        PluginLibrary.open(tmp_path / "plugin.so")


def test_file_that_is_no_library(library: Path) -> None:
    with pytest.raises(BackendError, match=r"is no plugin library of samtrt \(.*plugin\.so: "):
        PluginLibrary.open(library)


def test_library_of_something_else() -> None:
    with pytest.raises(BackendError, match=r"is no plugin .*samtrt_plugin_tensorrt_major"):
        PluginLibrary.open(Path(extension_module.__file__))


def test_another_major_version(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_cases.install(monkeypatch, major=8)
    opened = PluginLibrary.open(library)
    opened.check_fits(weak_api((8, 6, 0)))
    with pytest.raises(
        BackendError, match=r"compiled for TensorRT 8 and TensorRT 10\.3\.0 is running; compile"
    ):
        opened.check_fits(weak_api((10, 3, 0)))


@pytest.mark.parametrize(
    ("architectures", "runs", "refused"),
    [
        (b"sm_90a", ["9.0"], ["8.9", "10.0", "12.0"]),
        (b"sm_80", ["8.0", "8.6", "8.9"], ["7.5", "9.0"]),
        (b"sm_86+sm_90", ["8.6", "8.9", "9.0"], ["8.0", "12.0"]),
        (b"sm_100f", ["10.0", "10.3"], ["12.0"]),
        (b"sm_103a", ["10.3"], ["10.0", "10.4"]),
        (b"", [], ["9.0"]),
    ],
)
def test_code_for_another_gpu(
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    architectures: bytes,
    runs: list[str],
    refused: list[str],
) -> None:
    plugin_cases.install(monkeypatch, architectures=architectures)
    opened = PluginLibrary.open(library)
    for capability in runs:
        opened.check_fits(weak_api(), gpu(capability))
    for capability in refused:
        with pytest.raises(BackendError, match=rf"this GPU is A GPU .*{capability}\); compile it"):
            opened.check_fits(weak_api(), gpu(capability))


def test_sizes_are_asked_of_the_library(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_cases.install(monkeypatch, head_dims=(64, 80))
    opened = PluginLibrary.open(library)
    huge = EncoderSizes.of(get_spec("vit_h"))
    assert opened.supports(huge, 64)
    assert not opened.supports(huge, 40)
    assert not opened.supports(EncoderSizes.of(get_spec("vit_t")), 16), "heads of 32"
    wider = huge.model_copy(update={"width": 1600, "heads": 20})
    assert not opened.supports(wider, 64), "norms of 1600 channels"


def test_sizes_of_a_hiera_are_asked_too(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin_cases.install(monkeypatch)
    opened = PluginLibrary.open(library)
    sizes = {name: EncoderSizes.of(get_spec(name)) for name in HIERAS}
    assert [one.head_width for one in sizes.values()] == [96, 56, 72, 32]
    assert [opened.supports_squares(one, 256) for one in sizes.values()] == [True] * 3 + [False]
    assert not opened.supports_squares(sizes["sam2.1_hiera_tiny"], 255), "queries are pooled"


def test_one_library_is_registered_once(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = plugin_cases.install(monkeypatch)
    register_plugins(weak_api(), library, "a" * 64, gpu("9.0"))
    assert registered == [(library, plugin_cases.REGISTRY, plugin_cases.LOGGER)]
    copy = tmp_path / "copy.so"
    copy.write_bytes(library.read_bytes())
    register_plugins(weak_api(), copy, "a" * 64)
    assert len(registered) == 1
    with pytest.raises(BackendError, match=r"cannot be loaded beside .*plugin\.so, another plugin"):
        register_plugins(weak_api(), copy, "b" * 64)
    assert len(registered) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"refused": 3}, r"TensorRT 8\.6\.0 refuses 3 of the plugins"),
        ({"major": 10}, "was compiled for TensorRT 10"),
        ({"architectures": b"sm_80"}, "was compiled for sm_80"),
    ],
)
def test_what_was_refused_is_not_remembered(
    library: Path, monkeypatch: pytest.MonkeyPatch, fault: dict[str, object], words: str
) -> None:
    plugin_cases.install(monkeypatch, **fault)
    for _ in range(2):
        with pytest.raises(BackendError, match=words):
            register_plugins(weak_api(), library, "a" * 64, gpu("9.0"))


def test_tensorrt_that_is_not_there_has_no_registry() -> None:
    with pytest.raises(BackendError, match=r"TensorRT 7\.0\.0 takes no plugins here: libnvinfer"):
        weak_api((7, 0, 0)).plugin_registry()
