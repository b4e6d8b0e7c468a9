"""The door to TensorRT: the real TensorRT-RTX, and modules that are absent, broken or sick."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from samtrt.choices import Target
from samtrt.errors import BackendError, MissingExtraError
from samtrt.tensorrt import api as trt_api
from samtrt.tensorrt.api import Api, Message, capture, explain_cuda_failure, load_api
from support.rtx_cases import needs_rtx


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory that is imported from first, and nothing remembered of earlier imports."""
    for name in [n for n in sys.modules if n.startswith("tensorrt")]:
        if not name.startswith("tensorrt_rtx"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    load_api.cache_clear()
    yield tmp_path
    load_api.cache_clear()


@needs_rtx
def test_rtx_as_it_is_installed() -> None:
    api = load_api(Target.TENSORRT_RTX)
    assert api is load_api(Target.TENSORRT_RTX)
    assert api.version[:2] == (1, 7)
    assert api.product == f"TensorRT-RTX {api.version_text}"
    assert api.has_builder
    assert api.is_strongly_typed
    assert api.newest_opset is None
    assert api.has_progress_monitor
    assert api.sets_compute_capabilities
    assert api.keeps_compiled_kernels
    assert api.has_flag("TF32")
    assert not api.has_flag("FP16")


@needs_rtx
def test_logger_hears_for_as_long_as_the_block_runs() -> None:
    api = load_api(Target.TENSORRT_RTX)
    with capture(api.logger) as outer:
        config = api.create_builder().create_builder_config()
        with capture(api.logger) as inner:
            config.hardware_compatibility_level = api.trt.HardwareCompatibilityLevel.AMPERE_PLUS
        again = len(inner)
        config.hardware_compatibility_level = api.trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert len(inner) == again
    warnings = [m for m in outer if m.severity == "warning"]
    assert len(warnings) == 2
    assert "unsupported in TensorRT-RTX" in warnings[0].text
    assert api.logger.listeners == []


@pytest.mark.usefixtures("fresh")
def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'samtrt\[tensorrt\]'"):
        load_api(Target.TENSORRT)
    with pytest.raises(MissingExtraError, match=r"pip install 'samtrt\[rtx\]'"):
        load_api(Target.TENSORRT_RTX)


def test_bindings_without_their_libraries(fresh: Path) -> None:
    (fresh / "tensorrt.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file\\nmore')"
    )
    with pytest.raises(BackendError) as caught:
        load_api(Target.TENSORRT)
    message = str(caught.value)
    assert "libnvinfer.so.10: cannot open shared object file" in message
    assert "docs/tensorrt.md" in message
    assert "\n" not in message


def test_folder_of_that_name_is_not_tensorrt(fresh: Path) -> None:
    (fresh / "tensorrt").mkdir()
    (fresh / "tensorrt" / "notes.txt").write_text("mine")
    with pytest.raises(MissingExtraError):
        load_api(Target.TENSORRT)


def test_builder_of_a_lean_runtime() -> None:
    api = Api(Target.TENSORRT, SimpleNamespace(), (11, 4, 0), False, None)
    with pytest.raises(
        BackendError, match=r"TensorRT 11\.4\.0 here is a runtime without a builder"
    ):
        api.create_builder()


@pytest.mark.parametrize("made", [object, None], ids=["around null", "refused"])
def test_library_that_cannot_start(made: type | None) -> None:
    """TensorRT 11 returns an object around a null pointer; 8.6 raises, and logs but a warning."""
    logger = SimpleNamespace(listeners=[])
    text = "CUDA initialization failure with error: 35"

    def start(log: SimpleNamespace) -> object:
        severity = "error" if made else "warning"
        log.listeners[-1].append(Message(severity, text))
        if made is None:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return made()

    api = Api(Target.TENSORRT, SimpleNamespace(Runtime=start, Builder=start), (8, 6), True, logger)
    for create in (api.create_runtime, api.create_builder):
        with pytest.raises(
            BackendError, match=r"TensorRT 8\.6 cannot start: there is no NVIDIA dr"
        ):
            create()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(cudaError 35: CUDA driver version is insufficient)", "older than this TensorRT needs"),
        ("CUDA initialization failure with error: 100", "no GPU that CUDA can see"),
        ("Cuda Runtime (cudaError 2: out of memory)", "out of memory"),
        ("Error Code 2: OutOfMemory (no further information): out of memory", "out of memory"),
    ],
)
def test_cuda_failures_in_words(text: str, words: str) -> None:
    assert words in (explain_cuda_failure(text) or "")


def test_what_is_no_cuda_failure_is_left_alone() -> None:
    assert explain_cuda_failure("node 3 (Foo) is not supported") is None


def test_version_comes_from_the_library_not_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(number: int) -> object:
        return lambda _: SimpleNamespace(getInferLibVersion=lambda: number)

    module = SimpleNamespace(__version__="8.6.1")
    for number, version in ((8600, (8, 6, 0)), (100001, (10, 0, 1)), (110400, (11, 4, 0))):
        monkeypatch.setattr(trt_api.ctypes, "CDLL", library(number))
        assert trt_api._library_version(Target.TENSORRT, module, True) == version

    def absent(_: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(trt_api.ctypes, "CDLL", absent)
    assert trt_api._library_version(Target.TENSORRT, module, True) == (8, 6, 1)


def test_importing_loads_no_tensorrt() -> None:
    code = (
        "import sys, samtrt.tensorrt.api\n"
        "print([m for m in sys.modules if 'tensorrt' in m and not m.startswith('samtrt')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
