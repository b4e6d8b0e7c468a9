"""Kernels compiled at run time: what NVRTC makes of them, and what is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="needs cuda-core")

from samtrt.cuda import kernels
from samtrt.errors import BackendError, MissingExtraError
from samtrt.masks import cuda as masks
from samtrt.masks import planes
from samtrt.preparation import cuda as preparation

SOURCES = [masks._SOURCE, planes._SOURCE, preparation._SOURCE]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, where NVRTC is at hand."""
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path))
    try:
        kernels.nvrtc_version()
    except MissingExtraError:
        pytest.skip("needs nvidia-cuda-nvrtc")
    return tmp_path / "kernels"


@pytest.mark.parametrize("capability", ["8.0", "9.0"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_sources_compile_once_for_each_kind_of_gpu(
    cache: Path, source: Path, capability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = kernels.compiled(source, capability)
    assert code.startswith(b"\x7fELF")
    (kept,) = cache.iterdir()
    assert f"{source.stem}-sm_{capability.replace('.', '')}-" in kept.name
    monkeypatch.setattr("cuda.core.Program", None)  # nothing is compiled again
    assert kernels.compiled(source, capability) == code


def test_another_source_is_compiled_anew(cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "one.cu"
    for text in ("__global__ void a() {}", "__global__ void b() {}"):
        source.write_text(f'extern "C" {text}')
        kernels.compiled(source, "9.0")
    assert len(list(cache.iterdir())) == 2


def test_what_cannot_be_compiled_is_told(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"cannot compile .*capability 1\.0.*pip install -U"):
        kernels.compiled(SOURCES[0], "1.0")
    source = tmp_path / "wrong.cu"
    source.write_text("this is no CUDA")
    with pytest.raises(BackendError, match=r"cannot compile wrong\.cu"):
        kernels.compiled(source, "9.0")
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    ("module", "package"),
    [("cuda.core", "cuda-core"), ("cuda.bindings.nvrtc", "nvidia-cuda-nvrtc")],
)
def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module.endswith("nvrtc"):
        import cuda.bindings

        monkeypatch.delattr(cuda.bindings, "nvrtc", raising=False)
    with pytest.raises(MissingExtraError, match=package) as caught:
        kernels.check_kernels()
    assert "pip install 'samtrt[kernels]'" in str(caught.value)


def test_arguments_have_their_types_in_c() -> None:
    types = [type(kernels.as_argument(value)) for value in (1, 1.0, None, np.int64(1))]
    assert types == [np.int32, np.float32, np.uint64, np.int64]
