"""Which Triton server is found on a machine; see test_server.py for a real one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from samtrt.errors import OutputError
from samtrt.triton import server

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of nvidia-pytriton that are looked for, found as the installed one's."""
    root = tmp_path / "pytriton" / "tritonserver"
    for name in (
        f"bin/{server.PROGRAM}",
        f"python_backend_stubs/{PYTHON}/{server.STUB}",
        "backends/python/libtriton_python.so",
    ):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    (root.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(server.shutil, "which", lambda _: None)
    return root


def test_the_packages_backend_is_kept_where_no_cache_was_yet(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "new" / "cache"
    monkeypatch.setenv("SAMTRT_CACHE", str(cache))
    for _ in range(2):
        found = server.find_server()
        assert found.program == package / "bin" / server.PROGRAM
        option, backends = found.arguments
        assert option == "--backend-directory"
        assert Path(backends).parent == cache / "triton"
        files = {path.name for path in (Path(backends) / "python").iterdir()}
        assert files == {server.STUB, "libtriton_python.so", server.UTILITIES}
    assert [path.name for path in (cache / "triton").iterdir()] == [Path(backends).name]


@pytest.mark.usefixtures("package")
def test_a_cache_that_cannot_be_written_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot write .*; choose another .* SAMTRT_CACHE"):
        server.find_server()
