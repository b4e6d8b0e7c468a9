"""Places at addresses: whole files, whatever thread writes them, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from samtrt.cluster.places import Place
from samtrt.errors import OutputError
from support.cluster_cases import Slow


@pytest.fixture(params=["folder", "store", "other"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder, an object store, and a file system whose writes are seen while they last."""
    pytest.importorskip("fsspec")
    if request.param == "store":
        return Place(f"memory://{tmp_path.name}")
    place = Place((tmp_path / "place").as_uri())
    if request.param == "other":
        place._files, place._is_folder = Slow(place._files), False
    return place


def test_files_are_written_and_found(place: Place, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"sent")
    place.write("sub/one.txt", b"written")
    place.send(tmp_path / "here", "two.txt")
    assert place.files(recursive=True) == (["sub/one.txt", "two.txt"], 0)
    assert place.files(recursive=False) == (["two.txt"], 1)
    assert (place.read("sub/one.txt"), place.read("two.txt")) == (b"written", b"sent")
    assert place.read("three.txt") is None
    assert (place.is_file("two.txt"), place.is_file("sub"), place.exists("sub")) == (1, 0, 1)
    assert (place.holds_files("sub"), place.holds_files("none")) == (True, False)
    assert place.fetch("two.txt", tmp_path / "back" / "two")
    assert not place.fetch("three.txt", tmp_path / "back" / "three")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["two"]
    place.remove("two.txt")
    place.remove("two.txt")
    assert place.files(recursive=True) == (["sub/one.txt"], 0)


def test_whoever_reads_finds_a_whole_file(place: Place) -> None:
    """Of four threads that write one file and two that read it."""
    size = 400_000
    place.write("file", b"0" * size)

    def write(number: int) -> None:
        for _ in range(5):
            place.write("file", str(number).encode() * size)

    def read(_: int) -> set[tuple[int, int]]:
        found = [place.read("file") or b"" for _ in range(20)]
        return {(len(one), len(set(one))) for one in found}

    with ThreadPoolExecutor(6) as pool:
        written = pool.map(write, range(4))
        for seen in pool.map(read, range(2)):
            assert seen == {(size, 1)}
        list(written)
    assert place.files(recursive=True) == (["file"], 0)


def test_what_fails_is_told_with_its_address(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    (tmp_path / "file").write_bytes(b"")
    place = Place((tmp_path / "file").as_uri())
    with pytest.raises(OutputError, match=r"cannot write \S+/file/name: "):
        place.write("name", b"")
