"""People and other wholes in photographs, Qt resource files, and what is held out."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("skimage")
sys.path.insert(0, str(Path(__file__).parents[2] / "training"))  # its scripts

import parts
import prepare
import rcc
from people import PeopleFinder, people, wholes_and_parts


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


@pytest.fixture(scope="module")
def figure() -> tuple[np.ndarray, np.ndarray]:
    """A noisy wall and someone of three colours before it, cut off by the lower edge."""
    y, x = np.mgrid[:240, :320]
    head = (y - 70) ** 2 + (x - 150) ** 2 < 35**2
    shirt = (abs(x - 150) < 60) & (y > 100) & (y < 180)
    trousers = (abs(x - 150) < 45) & (y >= 180)
    rgb = np.random.default_rng(0).normal((90, 110, 130), 6, (240, 320, 3))
    for region, colour in (
        (head, (220, 170, 140)),
        (shirt, (200, 30, 40)),
        (trousers, (20, 20, 60)),
    ):
        rgb[region] = colour + np.random.default_rng(1).normal(0, 6, (int(region.sum()), 3))
    return rgb.clip(0, 255).astype(np.uint8), head | shirt | trousers


def rough(mask: np.ndarray) -> np.ndarray:
    """What a coarse network would say of a mask."""
    import cv2

    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 5)


def test_a_person_of_many_colours_is_one_whole(figure: tuple[np.ndarray, np.ndarray]) -> None:
    rgb, person = figure
    (found,) = people(rgb, rough(person))
    assert iou(found, person) > 0.995 > iou(rough(person) > 0.5, person)


def test_doubt_specks_and_whole_pictures_are_dropped(
    figure: tuple[np.ndarray, np.ndarray],
) -> None:
    rgb, person = figure
    assert people(rgb, 0.6 * rough(person)) == []
    speck = np.zeros_like(person)
    speck[10:20, 300:310] = True
    assert people(rgb, rough(speck)) == []
    assert people(rgb, np.ones(person.shape, np.float32)) == []


def test_regions_inside_a_whole_become_its_parts() -> None:
    small, large = np.zeros((2, 40, 60), bool)
    large[:, 20:], small[5:35, 2:15] = True, True
    regions = np.zeros((40, 60), np.uint8)
    regions[10:20, 30:40] = 1  # inside the large one
    regions[30:38, 10:40] = 2  # half outside
    regions[:, 21:] = np.where(regions[:, 21:] == 1, 1, 3)  # nearly all of it
    labels = wholes_and_parts([small, large], regions)
    assert sorted(np.unique(labels)) == [0, 1, 2, 32]
    assert (labels == 32).sum() == 100
    assert ((labels == 1) | (labels == 32)).sum() == large.sum()
    assert np.array_equal(labels == 2, small)


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(SystemExit, match=r"pip install 'samtrt\[training\]'"):
        PeopleFinder(tmp_path / "model.tflite")


def resource(files: dict[str, tuple[int, bytes]], version: int) -> bytes:
    """Pack files (flags and stored content) below one folder as Qt's rcc does."""
    node = 14 if version == 1 else 22
    names, contents, nodes = b"", b"", []
    offsets = {}
    for name in ("folder", *files):
        offsets[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    nodes.append(struct.pack(">IHII", 0, rcc.DIRECTORY, 1, 1))
    nodes.append(struct.pack(">IHII", offsets["folder"], rcc.DIRECTORY, len(files), 2))
    for name, (flags, blob) in files.items():
        nodes.append(struct.pack(">IHHHI", offsets[name], flags, 0, 0, len(contents)))
        contents += struct.pack(">I", len(blob)) + blob
    tree = b"".join(entry.ljust(node, b"\0") for entry in nodes)
    head = struct.pack(">4s4I", b"qres", version, 20, 20 + len(tree), 20 + len(tree + contents))
    return head + tree + contents + names


@pytest.mark.parametrize("version", [1, 3])
def test_resource_files_are_unpacked(version: int) -> None:
    packed = struct.pack(">I", 9) + zlib.compress(b"a drawing")
    files = {"a.jpg": (0, b"jpeg"), "b.svg": (rcc.COMPRESSED, packed), "c.qml": (rcc.ZSTD, b"?")}
    found = dict(rcc.entries(resource(files, version)))
    assert found == {"folder/a.jpg": b"jpeg", "folder/b.svg": b"a drawing"}


def test_a_resource_file_cannot_write_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.rcc").write_bytes(resource({"../../../a": (0, b"a")}, 1))
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["rcc", str(tmp_path / "in"), str(out)])
    with pytest.raises(SystemExit, match="outside"):
        rcc.main()
    assert not (tmp_path / "a").exists()


def test_no_later_source_is_held_out(tmp_path: Path) -> None:
    """So that figures of later checkpoints are of the same scenes."""
    for folder, splits in (("npm", {"train", "heldout"}), ("gcompris-photos", {"train"})):
        (tmp_path / folder).mkdir()
        found = set()
        for i in range(100):
            path = tmp_path / folder / f"{i}.jpg"
            path.write_bytes(bytes([i]))
            found.add(prepare.name_of(path).split("/")[0])
        assert found == splits


def test_parts_made_before_are_known_by_view(tmp_path: Path) -> None:
    names = [
        "photo/train/aa-0",
        "ids/train/aa-0",
        "object/train/aa-0-2",
        "object/train/aa-0-w0",
        "wholes/train/aa-0",
        "photo/train/aa-1",
        "object/heldout/bb",
    ]
    parts.write_parts([(name, name.encode()) for name in names], tmp_path)
    known = prepare.made_before(tmp_path)
    assert {key: [name for name, _ in items] for key, items in known.items()} == {
        "train/aa-0": names[:3],
        "train/aa-1": [names[5]],
        "heldout/bb": [names[6]],
    }


def test_checked_views_have_names_that_prepare_gives() -> None:
    assert len(prepare.CHECKED) > 90
    assert all(len(v) == 18 and v[16] == "-" and v[17] in "01234" for v in prepare.CHECKED)
