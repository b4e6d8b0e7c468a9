"""The TensorRT plugin library: compiled from the packaged CUDA sources, looked into, registered.

The library runs the encoder that `samtrt export --attention plugin` writes. It is compiled once for
a TensorRT (8.6 or 10) and a kind of GPU, on Linux, and copied into every model directory that is
built with it.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtrt.choices import Target
from samtrt.errors import BackendError, BuildError, SamtrtError
from samtrt.files import cache_dir, write_atomic
from samtrt.gpu import Gpu, find_gpu
from samtrt.registry import ModelSpec
from samtrt.trt_api import Api

SOURCES = Path(__file__).parent / "kernels"
LIBRARY_NAME = "samtrt_plugin.so"
"""The library in a model directory."""

_FLAGS = (
    *("-O3", "-std=c++17", "--expt-relaxed-constexpr", "-shared"),
    # Nothing but what is exported on purpose may be seen: other CUDA runtimes, linked or loaded,
    # have functions of the same names.
    *("-Xcompiler", "-fPIC,-fvisibility=hidden", "-Xlinker", "--exclude-libs=ALL"),
    *("-cudart", "static"),
)
_ARCHITECTURE = re.compile(r"sm_(\d+)(\d)([af]?)")


def compile_plugin(
    tensorrt_root: Path,
    output: Path | None = None,
    architectures: Sequence[str] = (),
    nvcc: Path | None = None,
) -> Path:
    """Compile the plugin library; it appears whole or not at all.

    Args:
        tensorrt_root: Where TensorRT 8.6 or 10 lies; its headers are there or in `include`.
        output: Where to write; None for a name in the cache that tells versions and GPUs apart.
        architectures: GPUs to compile for, as nvcc calls them: "sm_90a". None for the one at hand.
        nvcc: The compiler. None for that on PATH, then in CUDA_HOME, CUDA_PATH and
            /usr/local/cuda.

    Returns:
        Where the library is.

    Raises:
        BuildError: where nvcc or the headers are missing, no GPU is named or found, or the
            compiler fails; the message has its first error.
        OutputError: where the library cannot be written.
    """
    headers = find_headers(tensorrt_root)
    major, minor = headers_version(headers)
    compiler = find_nvcc(nvcc)
    chosen = sorted(set(architectures)) or [_architecture_here()]
    for architecture in chosen:
        if not _ARCHITECTURE.fullmatch(architecture):
            raise BuildError(f"'{architecture}' is no GPU architecture; write it as in sm_90a")
    name = f"samtrt_plugin-tensorrt{major}.{minor}-{'-'.join(chosen)}.so"
    path = output or cache_dir() / "plugins" / name
    with write_atomic(path) as temporary:
        command = nvcc_command(compiler, headers, chosen, temporary)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise BuildError(f"cannot run {compiler}: {error.strerror}") from None
        if done.returncode:
            raise BuildError(f"nvcc cannot compile the plugin: {_first_error(done)}")
    return path


def nvcc_command(
    nvcc: Path, headers: Path, architectures: Sequence[str], output: Path
) -> list[str]:
    """Return the command that compiles the packaged sources into `output`."""
    words = [str(nvcc), *_FLAGS, "-isystem", str(headers)]
    words.append(f'-DSAMTRT_ARCHITECTURES=\\"{",".join(architectures)}\\"')
    for architecture in architectures:
        virtual = architecture.replace("sm_", "compute_")
        words += ["-gencode", f"arch={virtual},code={architecture}"]
    sources = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cpp"))
    return [*words, *map(str, sources), "-o", str(output)]


def find_headers(root: Path) -> Path:
    """Return the directory with NvInfer.h: `root` or `root/include`.

    Raises:
        BuildError: where neither has it.
    """
    for folder in (root / "include", root):
        if (folder / "NvInfer.h").is_file():
            return folder
    raise BuildError(
        f"there is no NvInfer.h in {root} or {root / 'include'}; name the folder of TensorRT's "
        "archive, or of its headers, with --tensorrt-root"
    )


def headers_version(headers: Path) -> tuple[int, int]:
    """Return major and minor version of TensorRT's headers.

    Raises:
        BuildError: where they do not say, or are of a version that the plugin is not for.
    """
    try:
        text = (headers / "NvInferVersion.h").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BuildError(
            f"cannot read {headers / 'NvInferVersion.h'}: {error.strerror}; name the whole folder "
            "of TensorRT's headers with --tensorrt-root"
        ) from None
    # Later headers define NV_TENSORRT_MAJOR as TRT_MAJOR_ENTERPRISE, and that as a number.
    found = [
        re.search(rf"#define (?:NV_TENSORRT_{part}|TRT_{part}_ENTERPRISE) (\d+)", text)
        for part in ("MAJOR", "MINOR")
    ]
    if not all(found):
        raise BuildError(f"{headers / 'NvInferVersion.h'} does not say which version it is")
    major, minor = (int(match[1]) for match in found if match)
    if not (8, 6) <= (major, minor) < (11, 0):
        raise BuildError(
            f"the plugin is for TensorRT 8.6 to 10, and the headers in {headers} are of "
            f"{major}.{minor}"
        )
    return major, minor


def find_nvcc(nvcc: Path | None = None) -> Path:
    """Return CUDA's compiler: `nvcc`, or the one on PATH or where CUDA is usually installed.

    Raises:
        BuildError: where there is none.
    """
    if nvcc is not None:
        if not nvcc.is_file():
            raise BuildError(f"there is no {nvcc}; name CUDA's compiler with --nvcc")
        return nvcc.absolute()
    if on_path := shutil.which("nvcc"):
        return Path(on_path)
    roots = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    for root in filter(None, roots):
        if (found := Path(root) / "bin" / "nvcc").is_file():
            return found
    raise BuildError(
        "CUDA's compiler nvcc is not on PATH, nor in CUDA_HOME; install the CUDA toolkit, or name "
        "the compiler with --nvcc"
    )


def _architecture_here() -> str:
    try:
        major, minor = find_gpu().compute_capability.split(".")
    except SamtrtError as error:
        raise BuildError(
            f"name the GPU to compile for, as in --arch sm_90a for an H100: {error}"
        ) from None
    # 9.0 has instructions that code for it alone may use.
    return f"sm_{major}{minor}{'a' if (major, minor) == ('9', '0') else ''}"


def _first_error(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines()]
    told = [line for line in lines if re.search(r"\b(error|fatal|undefined reference)\b", line)]
    return (told or [line for line in lines if line] or [f"exit code {done.returncode}"])[0]


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
            architectures = handle.samtrt_architectures().decode()
        except (OSError, AttributeError) as error:
            raise BackendError(
                f"{path} is no plugin library of samtrt ({error}); compile it with: "
                f"{COMPILE_COMMAND}"
            ) from None
        return cls(path, major, tuple(filter(None, architectures.split(","))), handle)

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

    def supports(self, spec: ModelSpec) -> bool:
        """Tell whether it has kernels of a model's sizes, for its windows and for its grid."""
        return all(
            self.handle.samtrt_attention_supported(spec.embedding_size, spec.head_dim, window)
            for window in (spec.window_size, 0)
        )


COMPILE_COMMAND = "samtrt plugin --tensorrt-root TENSORRT"

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
    found = _ARCHITECTURE.fullmatch(architecture)
    if not found:
        return False
    built = (int(found[1]), int(found[2]))
    major, minor = (int(part) for part in compute_capability.split("."))
    if found[3] == "a":
        return built == (major, minor)
    return built[0] == major and built[1] <= minor
