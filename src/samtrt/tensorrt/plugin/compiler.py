"""The TensorRT plugin library compiled from the packaged CUDA sources: `samtrt plugin`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from samtrt.errors import BuildError, SamtrtError
from samtrt.files import cache_dir, write_atomic
from samtrt.tensorrt.gpu import find_gpu
from samtrt.tensorrt.plugin.library import ARCHITECTURE

SOURCES = Path(__file__).parent / "csrc"

_FLAGS = (
    *("-O3", "-std=c++17", "--expt-relaxed-constexpr", "-shared", "--threads", "0"),
    # Nothing but what is exported on purpose may be seen: other CUDA runtimes, linked or loaded,
    # have functions of the same names.
    *("-Xcompiler", "-fPIC,-fvisibility=hidden", "-Xlinker", "--exclude-libs=ALL"),
    *("-cudart", "static"),
)


def compile_plugin(
    tensorrt_root: Path,
    output: Path | None = None,
    architectures: Sequence[str] = (),
    nvcc: Path | None = None,
) -> Path:
    """Compile the plugin library; it appears whole or not at all.

    Args:
        tensorrt_root: Where TensorRT 8.6, 10 or 11 lies; its headers are there or in `include`.
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
    chosen = sorted(set(architectures)) or [architecture_here()]
    for architecture in chosen:
        if not ARCHITECTURE.fullmatch(architecture):
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
    # Neither quotes nor commas, which nvcc and the compiler behind it each read in their own way.
    words.append(f"-DSAMTRT_ARCHITECTURES={'+'.join(architectures)}")
    if "sm_90a" in architectures:
        words.append("-DSAMTRT_HOPPER")  # the kernel of that architecture alone
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
    if not (8, 6) <= (major, minor) < (12, 0):
        raise BuildError(
            f"the plugin is for TensorRT 8.6 to 11, and the headers in {headers} are of "
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


def architecture_here() -> str:
    """Return what nvcc calls the GPU at hand.

    Raises:
        BuildError: where there is none.
    """
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
