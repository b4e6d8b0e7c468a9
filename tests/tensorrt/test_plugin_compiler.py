"""Compiling the plugin library, on a stand-in for nvcc, and on nvcc where there is one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from samtrt.errors import BackendError, BuildError, OutputError
from samtrt.tensorrt.gpu import Gpu
from samtrt.tensorrt.plugin import compiler as plugin_compiler
from samtrt.tensorrt.plugin.compiler import (
    SOURCES,
    compile_plugin,
    find_nvcc,
    headers_version,
    nvcc_command,
)

VERSION_8 = "#define NV_TENSORRT_MAJOR 8 //!< Major.\n#define NV_TENSORRT_MINOR 6 //!< Minor.\n"
ENTERPRISE = """#define TRT_MAJOR_ENTERPRISE 10
#define TRT_MINOR_ENTERPRISE 13
#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE
#define NV_TENSORRT_MINOR TRT_MINOR_ENTERPRISE
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """TensorRT 8.6, as far as its version."""
    headers = tmp_path / "TensorRT" / "include"
    headers.mkdir(parents=True)
    (headers / "NvInfer.h").touch()
    (headers / "NvInferVersion.h").write_text(VERSION_8)
    return headers.parent


@pytest.fixture
def nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes its arguments as the library; alone on PATH."""
    path = tmp_path / "cuda" / "bin" / "nvcc"
    path.parent.mkdir(parents=True)
    write_tool(path, "open(sys.argv[-1], 'w').write('\\n'.join(sys.argv[1:]))")
    monkeypatch.setenv("PATH", str(path.parent))
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "cache"))
    return path


def write_tool(path: Path, code: str) -> None:
    path.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    path.chmod(0o755)


@pytest.mark.usefixtures("nvcc")
def test_what_the_compiler_is_asked(root: Path, tmp_path: Path) -> None:
    asked = compile_plugin(root, tmp_path / "p.so", ["sm_90a", "sm_80", "sm_80"]).read_text()
    words = asked.splitlines()
    assert [words[i + 1] for i, word in enumerate(words) if word == "-gencode"] == [
        "arch=compute_80,code=sm_80",
        "arch=compute_90a,code=sm_90a",
    ]
    assert "-DSAMTRT_ARCHITECTURES=sm_80+sm_90a" in words
    assert "-DSAMTRT_HOPPER" in words
    assert words[words.index("-isystem") + 1] == str(root / "include")
    assert {"-O3", "-std=c++17", "-shared", "--expt-relaxed-constexpr"} <= set(words)
    assert words[words.index("-cudart") + 1] == "static"
    sources = {Path(word).name for word in words if word.startswith(str(SOURCES))}
    assert {"plugin.cpp", "capi.cpp"} < sources
    assert sources == {p.name for p in SOURCES.iterdir() if p.suffix in (".cu", ".cpp")}
    assert [path.name for path in tmp_path.glob("*.so")] == ["p.so"]


@pytest.mark.usefixtures("nvcc")
def test_default_name_tells_version_and_gpu(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Gpu(0, "NVIDIA H100 80GB HBM3", "9.0", 85_000_000_000, "13.0")
    monkeypatch.setattr(plugin_compiler, "find_gpu", lambda: found)
    path = compile_plugin(root)
    assert path == tmp_path / "cache" / "plugins" / "samtrt_plugin-tensorrt8.6-sm_90a.so"
    assert "arch=compute_90a,code=sm_90a" in path.read_text()
    monkeypatch.setattr(plugin_compiler, "find_gpu", lambda: Gpu(0, "L40S", "8.9", 1, "13.0"))
    assert compile_plugin(root).name == "samtrt_plugin-tensorrt8.6-sm_89.so"


@pytest.mark.usefixtures("nvcc")
def test_headers_may_be_named_themselves(root: Path) -> None:
    assert (
        f"-isystem\n{root / 'include'}\n"
        in compile_plugin(root / "include", architectures=["sm_80"]).read_text()
    )


@pytest.mark.usefixtures("nvcc")
def test_no_gpu_to_compile_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Gpu:
        raise BackendError("no GPU can be used")

    monkeypatch.setattr(plugin_compiler, "find_gpu", none)
    with pytest.raises(BuildError, match=r"name the GPU .* --arch sm_90a .*: no GPU can be used"):
        compile_plugin(root)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (VERSION_8, (8, 6)),
        (ENTERPRISE, (10, 13)),
    ],
)
def test_version_of_the_headers(root: Path, text: str, version: tuple[int, int]) -> None:
    (root / "include" / "NvInferVersion.h").write_text(text)
    assert headers_version(root / "include") == version


@pytest.mark.usefixtures("nvcc")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (VERSION_8.replace("6", "5"), r"is for TensorRT 8\.6 to 11, and .* are of 8\.5"),
        (ENTERPRISE.replace("10", "12"), r"are of 12\.13"),
        ("nothing", "does not say which version it is"),
        (None, "cannot read .*NvInferVersion.h: No such file"),
    ],
)
def test_headers_of_no_use(root: Path, text: str | None, words: str) -> None:
    path = root / "include" / "NvInferVersion.h"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(BuildError, match=words):
        compile_plugin(root, architectures=["sm_80"])


def test_where_nvcc_is_looked_for(
    nvcc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_nvcc() == nvcc
    assert find_nvcc(nvcc) == nvcc
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert find_nvcc() == nvcc
    with pytest.raises(BuildError, match=r"there is no .*other; name CUDA's compiler with --nvcc"):
        find_nvcc(tmp_path / "other")


def test_failure_leaves_what_was_there(root: Path, nvcc: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "p.so"
    out.parent.mkdir()
    out.write_text("of before")
    write_tool(
        nvcc,
        "open(sys.argv[-1], 'w').write('half')\n"
        "print('In file included from x.cu:1:', file=sys.stderr)\n"
        "print('x.cu(12): warning #1: that', file=sys.stderr)\n"
        "print('x.cu(13): error: this', file=sys.stderr)\n"
        "print('x.cu(14): error: more', file=sys.stderr)\n"
        "sys.exit(2)",
    )
    with pytest.raises(BuildError) as caught:
        compile_plugin(root, out, ["sm_80"])
    assert str(caught.value) == r"nvcc cannot compile the plugin: x.cu(13): error: this"
    assert [path.read_text() for path in out.parent.iterdir()] == ["of before"]
    write_tool(nvcc, "sys.exit(3)")
    with pytest.raises(BuildError, match="cannot compile the plugin: exit code 3"):
        compile_plugin(root, out, ["sm_80"])


@pytest.mark.usefixtures("nvcc")
def test_place_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        compile_plugin(root, tmp_path / "file" / "p.so", ["sm_80"])


NEEDS_NVCC = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")


def compile_really(root: Path, out: Path, names: set[str]) -> None:
    """Compile sources of these names by the real compiler.

    Nothing of it runs, so it need not be fast: the optimizer takes most of the time.
    """
    compiler, *words = nvcc_command(find_nvcc(), root, ["sm_90a"], out)
    left_out = {str(path) for path in SOURCES.iterdir() if path.name not in names}
    done = subprocess.run(
        [compiler, "-Xcicc=-O1", "-Xptxas=-O1", *(word for word in words if word not in left_out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@NEEDS_NVCC
def test_a_kernel_compiles(tmp_path: Path) -> None:
    out = tmp_path / "kernel.so"
    compile_really(tmp_path, out, {"gelu.cu"})
    assert b"gelu_kernel" in out.read_bytes()


@pytest.mark.long
@NEEDS_NVCC
def test_kernels_compile(tmp_path: Path) -> None:
    """All but the source that needs TensorRT's headers."""
    out = tmp_path / "kernels.so"
    compile_really(tmp_path, out, {path.name for path in SOURCES.iterdir()} - {"plugin.cpp"})
    library = ctypes.CDLL(str(out))
    library.samtrt_architectures.restype = ctypes.c_char_p
    assert library.samtrt_architectures() == b"sm_90a"
    sizes = [(64, 64, 14), (64, 64, 0), (64, 80, 14), (64, 80, 0), (32, 64, 14), (16, 32, 0)]
    assert all(library.samtrt_attention_supported(*size) for size in sizes)
    assert not library.samtrt_attention_supported(64, 48, 14)
