"""TensorRT 8.6, 10, 11 and TensorRT-RTX behind one door: only this module knows how they differ.

`load_api` imports the Python bindings of a target, finds its libraries, and returns an `Api` that
says what the version can do. Nothing is imported before that.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

from samtrt.choices import Target
from samtrt.errors import BackendError, MissingExtraError
from samtrt.tensorrt.libraries import library_name, preload_rtx

_MODULES = {
    Target.TENSORRT: ("tensorrt", "tensorrt_bindings"),
    Target.TENSORRT_RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_LEAN_MODULES = ("tensorrt_lean", "tensorrt_lean_bindings")
"""Runtimes without a builder; they run version-compatible engines of the same target."""

_PRODUCTS = {Target.TENSORRT: "TensorRT", Target.TENSORRT_RTX: "TensorRT-RTX"}
_INSTALL = {
    Target.TENSORRT: ("TensorRT", "tensorrt", "tensorrt"),
    Target.TENSORRT_RTX: ("TensorRT-RTX", "rtx", "tensorrt-rtx-cu13-bindings"),
}


@dataclass(frozen=True)
class Message:
    """One line that the library logged; `severity` is as in `ILogger.Severity`, lower case."""

    severity: str
    text: str

    @property
    def is_error(self) -> bool:
        return self.severity in ("error", "internal_error")


def is_tensorrt_8(target: Target, version: tuple[int, ...]) -> bool:
    """Tell whether a library is TensorRT 8.6, or what else came before 9."""
    return target is Target.TENSORRT and version < (9,)


@dataclass(frozen=True)
class Api:
    """One TensorRT library and what it can do.

    Attributes:
        target: Which product.
        trt: The bindings module (`tensorrt`, `tensorrt_rtx_bindings`, ...).
        version: Version of the library itself, which may differ from the bindings'.
        has_builder: False for a lean runtime.
        logger: The process's one logger for this library; it must outlive every object.
        is_here: Whether it is installed; else nothing but questions about it can be asked.
    """

    target: Target
    trt: Any
    version: tuple[int, ...]
    has_builder: bool
    logger: Any = field(repr=False)
    is_here: bool = True

    @property
    def product(self) -> str:
        """Return "TensorRT 8.6.1" and the like."""
        return f"{_PRODUCTS[self.target]} {self.version_text}"

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def is_tensorrt_8(self) -> bool:
        """Tell what `is_tensorrt_8` does."""
        return is_tensorrt_8(self.target, self.version)

    @property
    def is_strongly_typed(self) -> bool:
        """Tell whether networks take each tensor's type from the graph.

        They do in TensorRT 10 and later, and in TensorRT-RTX. In TensorRT 8.6 flags and constraints
        of layers choose types.
        """
        return not self.is_tensorrt_8

    @property
    def newest_opset(self) -> int | None:
        """Return the newest ONNX opset that is known to parse whole; None leaves it to the parser.

        From the support matrix of onnx-tensorrt's release/8.6-GA: operators of opset 17.
        """
        return 17 if self.is_tensorrt_8 else None

    @property
    def has_progress_monitor(self) -> bool:
        return hasattr(self.trt, "IProgressMonitor")

    @property
    def sets_compute_capabilities(self) -> bool:
        """Tell whether engines can be compiled for GPUs other than the one at hand."""
        return self.has_builder and hasattr(self.trt, "ComputeCapability")

    @property
    def keeps_compiled_kernels(self) -> bool:
        """Tell whether engines are finished at run time, and what was compiled can be kept."""
        return hasattr(self.trt, "IRuntimeCache") and hasattr(self.trt, "CudaGraphStrategy")

    def has_flag(self, name: str) -> bool:
        """Tell whether `BuilderFlag` has a member of this name."""
        return name in self.trt.BuilderFlag.__members__

    def create_builder(self) -> Any:
        """Return a new builder.

        Raises:
            BackendError: where the library cannot start here: no GPU, or too old a driver.
        """
        if not self.has_builder:
            raise BackendError(
                f"{self.product} here is a runtime without a builder; build on a machine with "
                "the whole TensorRT"
            )
        return self._create("Builder")

    def create_runtime(self) -> Any:
        """Return a new runtime.

        Raises:
            BackendError: where the library cannot start here: no GPU, or too old a driver.
        """
        return self._create("Runtime")

    def plugin_registry(self) -> tuple[int, int | None]:
        """Return the addresses of the library's `IPluginRegistry` and of its logger.

        The bindings have the registry too, but not safely: bindings of 8.6.1 on a library of 8.6.0
        call another of its methods than `load_library`, and get None.

        Raises:
            BackendError: where the library cannot be asked.
        """
        try:
            library = ctypes.CDLL(library_name(self.target, self.version, self.has_builder))
            for function in (library.getPluginRegistry, library.getLogger):
                function.restype = ctypes.c_void_p
            registry, logger = library.getPluginRegistry(), library.getLogger()
        except (OSError, AttributeError) as error:
            raise BackendError(f"{self.product} takes no plugins here: {error}") from None
        if not registry:
            raise BackendError(f"{self.product} has no plugin registry")
        return registry, logger

    def _create(self, kind: str) -> Any:
        # Some bindings hand out an object around a null pointer, whose first use is a crash:
        # what the library logged is the only sign.
        with capture(self.logger) as messages:
            try:
                made = getattr(self.trt, kind)(self.logger)
            except Exception as error:  # bindings raise bare TypeError or RuntimeError
                raise BackendError(self._cannot_start(messages, str(error))) from None
        if any(message.is_error for message in messages):
            # Its destructor would follow the null pointer too, so it is never destroyed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
            raise BackendError(self._cannot_start(messages, ""))
        return made

    def _cannot_start(self, messages: list[Message], fallback: str) -> str:
        # TensorRT 8.6 logs a CUDA failure as a warning.
        reason = explain_cuda_failure(" ".join(message.text for message in messages))
        errors = [message.text for message in messages if message.is_error] or [fallback]
        return (
            f"{self.product} cannot start: {reason or errors[0].strip()}; "
            "check the GPU and its driver with: nvidia-smi"
        )


def explain_cuda_failure(text: str) -> str | None:
    """Put a CUDA failure that a library logged into words; None where it is none that we know."""
    found = re.search(r"(?:CUDA initialization failure with error: |cudaError )(\d+)", text)
    known = {
        "35": "there is no NVIDIA driver, or it is older than this TensorRT needs",
        "100": "there is no GPU that CUDA can see",
        "999": "the NVIDIA driver is in a bad state",
        "2": "the GPU is out of memory",
    }
    if found and found[1] in known:
        return f"{known[found[1]]} (CUDA error {found[1]})"
    return "the GPU is out of memory" if "out of memory" in text.lower() else None


@contextmanager
def capture(logger: Any) -> Iterator[list[Message]]:
    """Collect what a logger of `load_api` gets while the block runs, from every thread."""
    messages: list[Message] = []
    logger.listeners.append(messages)
    try:
        yield messages
    finally:
        # By identity: two lists of the same messages are equal.
        logger.listeners[:] = [one for one in logger.listeners if one is not messages]


@cache
def load_api(target: Target, runtime_only: bool = False) -> Api:
    """Import the bindings of a target and find out what they can do.

    Args:
        target: Which product.
        runtime_only: Also take a lean runtime, which cannot build.

    Raises:
        MissingExtraError: where no bindings are installed.
        BackendError: where they are installed and do not load.
    """
    names: tuple[str, ...] = _MODULES[target]
    if runtime_only and target is Target.TENSORRT:
        names += _LEAN_MODULES
    module = _import_first(target, names)
    has_builder = hasattr(module, "Builder")
    version = _library_version(target, module, has_builder)
    return Api(target, module, version, has_builder, _make_logger(module))


def assumed_api(target: Target) -> Api:
    """Return what the newest release with flags of precision can do, where none is installed."""
    rtx = target is Target.TENSORRT_RTX
    flags = () if rtx else ("FP16", "BF16", "VERSION_COMPATIBLE")
    described = SimpleNamespace(
        BuilderFlag=Enum("BuilderFlag", flags),
        HardwareCompatibilityLevel=Enum(
            "HardwareCompatibilityLevel", ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY")
        ),
        ComputeCapability=Enum(
            "ComputeCapability", ("SM75", "SM80", "SM86", "SM89", "SM120") if rtx else ()
        ),
    )
    return Api(target, described, (1,) if rtx else (10,), True, None, is_here=False)


def _import_first(target: Target, names: tuple[str, ...]) -> ModuleType:
    failure: Exception | None = None
    for name in names:
        # "tensorrt" alone may be a placeholder or a folder: what counts is that it has a Runtime.
        if importlib.util.find_spec(name) is None:
            continue
        try:
            if target is Target.TENSORRT_RTX:
                preload_rtx()
            module = importlib.import_module(name)
        except Exception as error:  # ImportError, or OSError from a library that does not load
            failure = error
            continue
        if hasattr(module, "Runtime"):
            return module
    if failure is not None:
        raise BackendError(
            f"the Python bindings of {_PRODUCTS[target]} are installed and do not load: "
            f"{str(failure).splitlines()[0]}; see docs/tensorrt.md, Installing"
        )
    raise MissingExtraError(*_INSTALL[target])


def _library_version(target: Target, module: ModuleType, has_builder: bool) -> tuple[int, ...]:
    """Ask the loaded library; bindings of 8.6.1 drive a library of 8.6.0 and say 8.6.1."""
    version = tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:3])
    with suppress(OSError, AttributeError):  # another way of linking
        library = ctypes.CDLL(library_name(target, version, has_builder))
        number = int(library.getInferLibVersion())
        # 8.6.0 is 8600; from 10 on, 10.0.1 is 100001, and TensorRT-RTX 1.7.1 is 10701.
        thousands = 1000 if number < 10000 else 10000
        version = (number // thousands, number % thousands // 100, number % 100)
    return version


def _make_logger(module: Any) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        """Hands messages to whoever listens; prints nothing."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.listeners: list[list[Message]] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity == module.ILogger.Severity.VERBOSE:  # hundreds of thousands in a build
                return
            message = Message(severity.name.lower(), msg)
            for listener in self.listeners:
                listener.append(message)

    return Logger()
