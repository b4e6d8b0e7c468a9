"""The TensorRT plugin library: looked into, and registered with a TensorRT.

The library runs the graphs that `samtrt export --attention plugin` writes. It is compiled once for
a TensorRT (8.6, 10 or 11) and a kind of GPU, on Linux (see `compiler`), and copied into
every model directory that is built with it.
"""

from __future__ import annotations

import ctypes
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtrt.choices import Target
from samtrt.errors import BackendError
from samtrt.manifest import EncoderSizes
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.gpu import Gpu

LIBRARY_NAME = "samtrt_plugin.so"
"""The library in a model directory."""

MOST_POINTS = 27
"""Points of one prompt: with five tokens of the decoder's own, 32 are what kernels take."""

COMPILE_COMMAND = "samtrt plugin --tensorrt-root TENSORRT"

ARCHITECTURE = re.compile(r"sm_(\d+)(\d)([af]?)")
"""A GPU as nvcc calls it: major and minor version, and whether the code is for it alone ("a")."""


@dataclass(frozen=True)
class PluginLibrary:
    """A plugin library that is open in this process.

    Attributes:
        path: The file.
        tensorrt_major: Major version of the TensorRT that it was compiled against.
        architectures: GPUs that it has code for, such as ("sm_90a",).
        handle: The library itself.
    """

    path: Path
    tensorrt_major: int
    architectures: tuple[str, ...]
    handle: Any

    @classmethod
    def open(cls, path: Path) -> PluginLibrary:
        """Open a file of `compile_plugin`.

        Raises:
            BackendError: where it is missing, cannot be loaded, or is another library.
        """
        if not path.is_file():
            raise BackendError(
                f"there is no plugin library {path}; compile it with: {COMPILE_COMMAND}"
            )
        try:
            handle = _dlopen(path.absolute())
            major = int(handle.samtrt_plugin_tensorrt_major())
            handle.samtrt_architectures.restype = ctypes.c_char_p
            _ = handle.samtrt_memory_attention_workspace  # not there: of an older samtrt
            architectures = handle.samtrt_architectures().decode()
        except (OSError, AttributeError) as error:
            raise BackendError(
                f"{path} is no plugin library of samtrt ({error}); compile it with: "
                f"{COMPILE_COMMAND}"
            ) from None
        return cls(path, major, tuple(filter(None, architectures.split("+"))), handle)

    def check_fits(self, api: Api, gpu: Gpu | None = None) -> None:
        """Make sure that it was compiled for this TensorRT and, where given, for this GPU.

        Raises:
            BackendError: where it was not; the message names both.
        """
        if self.tensorrt_major != api.version[0]:
            raise BackendError(
                f"{self.path} was compiled for TensorRT {self.tensorrt_major} and {api.product} "
                f"is running; compile it again with: {COMPILE_COMMAND}"
            )
        if gpu is not None and not any(
            _runs_on(architecture, gpu.compute_capability) for architecture in self.architectures
        ):
            raise BackendError(
                f"{self.path} was compiled for {', '.join(self.architectures)} and this GPU is "
                f"{gpu.name} (compute capability {gpu.compute_capability}); compile it here with: "
                f"{COMPILE_COMMAND}"
            )

    def supports(self, sizes: EncoderSizes, grid: int) -> bool:
        """Tell whether it has kernels for an encoder of `grid` x `grid` tokens."""
        return bool(self.handle.samtrt_layer_norm_supported(sizes.width)) and all(
            self.handle.samtrt_attention_supported(grid, sizes.head_width, window)
            for window in {sizes.window, 0}
        )

    def supports_squares(self, sizes: EncoderSizes, grid: int) -> bool:
        """Tell whether it has kernels for a Hiera whose first stage has `grid` x `grid` tokens."""
        attends = self.handle.samtrt_square_attention_supported
        return bool(self.handle.samtrt_layer_norm_supported(sizes.width)) and all(
            attends(grid, sizes.head_width, 0, stride) for stride in (1, 2)
        )

    def has_hopper(self, gpu: Gpu) -> bool:
        """Tell whether it has Hopper's kernels, and a GPU runs them."""
        return gpu.compute_capability == "9.0" and "sm_90a" in self.architectures

    def multiplies(self, outputs: int, inputs: int) -> bool:
        """Tell whether it has a kernel for a linear layer with GELU."""
        return bool(self.handle.samtrt_linear_gelu_supported(inputs, outputs))


_lock = threading.Lock()
_registered: dict[Target, tuple[Path, str]] = {}
"""What each TensorRT of this process has: a name can be registered once, and never changes."""


def register_plugins(api: Api, path: Path, sha256: str, gpu: Gpu | None = None) -> None:
    """Make the plugins of a library known to a TensorRT, for as long as the process lives.

    Call it when a builder or runtime is there, before a graph is parsed or an engine is loaded.
    The same library again, wherever it lies, is no error.

    Args:
        api: The TensorRT.
        path: The library.
        sha256: Of the library's file, which tells copies from others.
        gpu: The GPU that will run it; None to leave it unchecked.

    Raises:
        BackendError: where the library does not load, was compiled for another version or GPU, or
            this process has another plugin library already.
    """
    with _lock:
        if api.target in _registered:
            other, known = _registered[api.target]
            if known != sha256:
                raise BackendError(
                    f"{path} cannot be loaded beside {other}, another plugin library that this "
                    "process has loaded; build both engines with one library, or use two processes"
                )
            return
        library = PluginLibrary.open(path)
        library.check_fits(api, gpu)
        registry, logger = api.plugin_registry()
        register = library.handle.samtrt_register_plugins
        register.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        if refused := register(registry, logger):
            raise BackendError(
                f"{api.product} refuses {refused} of the plugins in {path}: plugins of these names "
                "were registered by something else in this process"
            )
        _registered[api.target] = (path, sha256)


def _dlopen(path: Path) -> Any:
    return ctypes.CDLL(str(path))


def _runs_on(architecture: str, compute_capability: str) -> bool:
    """Tell whether code for "sm_80" runs on "8.6": on later ones of its major version.

    With "a" it runs on exactly its own.
    """
    found = ARCHITECTURE.fullmatch(architecture)
    if not found:
        return False
    built = (int(found[1]), int(found[2]))
    major, minor = (int(part) for part in compute_capability.split("."))
    if found[3] == "a":
        return built == (major, minor)
    return built[0] == major and built[1] <= minor
