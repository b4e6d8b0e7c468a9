"""CUDA kernels compiled at run time: no toolkit is needed, and what was compiled is kept."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from samtrt.cuda.runtime import Cuda
from samtrt.errors import BackendError, MissingExtraError
from samtrt.files import cache_dir, write_atomic
from samtrt.types import DeviceArray

_OPTIONS = {"std": "c++17"}


class Kernels:
    """The kernels of one CUDA C++ source, on one GPU.

    They run in the calling thread's stream, after what it queued before.
    """

    def __init__(self, source: Path, compute_capability: str) -> None:
        self._core = core = import_core()
        self._code = core.ObjectCode.from_cubin(compiled(source, compute_capability))
        self._found: dict[str, Any] = {}

    def launch(
        self, name: str, blocks: tuple[int, int], threads: int, *arguments: DeviceArray | Any
    ) -> None:
        """Queue a kernel.

        Args:
            name: The kernel's name, `extern "C"` in the source.
            blocks: Along x and y; nothing is run where one is 0.
            threads: In each block.
            arguments: Arrays of the GPU are passed as pointers, None as a null pointer, Python's
                int as `int`, its float as `float`.

        Raises:
            BackendError: where the GPU does not take it.
        """
        if 0 in blocks:
            return
        core = self._core
        try:
            if name not in self._found:
                self._found[name] = self._code.get_kernel(name)
            core.launch(
                core.PER_THREAD_DEFAULT_STREAM,
                core.LaunchConfig(grid=blocks, block=threads),
                self._found[name],
                *map(as_argument, arguments),
            )
        except Exception as error:  # the package's own errors are in a private module
            raise BackendError(f"the GPU does not run the kernel {name}: {error}") from None


def as_argument(value: Any) -> Any:
    """Return a kernel's argument as the C type that it has there."""
    match value:
        case DeviceArray():
            return np.uint64(value.pointer)
        case None:
            return np.uint64(0)
        case int():
            return np.int32(value)
        case float():
            return np.float32(value)
    return value


def load_kernels(source: Path, cuda: Cuda) -> Kernels:
    """Return the kernels of a source on a GPU, compiled when they are first asked for.

    Raises:
        BackendError: where NVRTC does not know the GPU, or the driver does not take its code.
        MissingExtraError: where cuda-core or NVRTC is not installed.
    """
    return _loaded(source, cuda.index, cuda.compute_capability)


@cache
def _loaded(source: Path, index: int, compute_capability: str) -> Kernels:
    del index  # each GPU has its own
    return Kernels(source, compute_capability)


def compiled(source: Path, compute_capability: str) -> bytes:
    """Return a source's machine code for one kind of GPU, from the cache where it was compiled.

    Args:
        source: CUDA C++ that includes nothing.
        compute_capability: "9.0" and the like.

    Raises:
        BackendError: where NVRTC does not know such a GPU.
        MissingExtraError: where cuda-core or NVRTC is not installed.
    """
    core = import_core()
    text = source.read_text(encoding="utf-8")
    arch = "sm_" + compute_capability.replace(".", "")
    made_of = repr((text, arch, sorted(_OPTIONS.items()), nvrtc_version()))
    key = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    path = cache_dir() / "kernels" / f"{source.stem}-{arch}-{key}.cubin"
    try:
        return path.read_bytes()
    except OSError:  # not yet
        pass
    options = core.ProgramOptions(arch=arch, name=source.name, **_OPTIONS)
    try:
        code = bytes(core.Program(text, "c++", options).compile("cubin").code)
    except Exception as error:  # the package's own errors are in a private module
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BackendError(
            f"NVRTC {nvrtc_version()} cannot compile {source.name} for a GPU of compute capability "
            f"{compute_capability}: {reason}; a newer one may: pip install -U nvidia-cuda-nvrtc"
        ) from None
    with write_atomic(path) as temporary:
        temporary.write_bytes(code)
    return code


def nvrtc_version() -> str:
    """Return the version of NVRTC, "13.0" and the like.

    Raises:
        MissingExtraError: where it is not installed.
    """
    try:
        from cuda.bindings import nvrtc

        status, major, minor = nvrtc.nvrtcVersion()
    except Exception:  # the package's own errors are in another package
        raise MissingExtraError(_FEATURE, "kernels", "nvidia-cuda-nvrtc") from None
    if int(status):
        raise BackendError(f"NVRTC does not start (error {int(status)}); install it anew")
    return f"{major}.{minor}"


_FEATURE = "Preparing images and forming masks on a GPU (--pixels host does it on the host)"


def check_kernels() -> None:
    """Make sure that kernels can be compiled and run.

    Raises:
        MissingExtraError: where cuda-core or NVRTC is not installed.
    """
    import_core()
    nvrtc_version()


def import_core() -> Any:
    """Import cuda-core.

    Raises:
        MissingExtraError: where it is not installed.
    """
    try:
        import cuda.core as core
    except ImportError:
        raise MissingExtraError(_FEATURE, "kernels", "cuda-core") from None
    return core
