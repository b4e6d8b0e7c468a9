"""Wholes in photographs, Qt resource files, and what is held out."""

from __future__ import annotations

import hashlib
import io
import json
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
from foreground import ForegroundFinder, resized, stored_model, wholes, wholes_and_parts


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def soft(mask: np.ndarray, blur: float) -> np.ndarray:
    """Return odds that fall from 1 to 0 around a mask's border."""
    import cv2

    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur)


def discs(*places: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:240, :320]
    return np.any([(y - cy) ** 2 + (x - cx) ** 2 < r * r for cy, cx, r in places], axis=0)


def test_things_apart_are_wholes_of_their_own_and_specks_are_none() -> None:
    large, small, speck = (120, 90, 60), (60, 250, 30), (200, 290, 8)
    found = wholes(soft(discs(large, small, speck), 1))
    assert len(found) == 2
    for one, place in zip(found, (large, small), strict=True):
        assert iou(one, discs(place)) > 0.98


@pytest.mark.parametrize(
    "odds",
    [
        0.6 * soft(discs((120, 90, 60)), 1),
        soft(discs((120, 90, 60)), 20),
        soft(discs((200, 290, 8)), 1),
        np.ones((240, 320), np.float32),
        np.zeros((240, 320), np.float32),
    ],
    ids=["unsure", "blurred", "small", "everything", "nothing"],
)
def test_where_the_network_is_in_doubt_there_are_no_wholes(odds: np.ndarray) -> None:
    assert wholes(odds) == []


def test_a_view_gives_its_wholes_and_what_can_be_cut_out() -> None:
    """One thing in the middle, one that the frame cuts off."""
    from PIL import Image

    middle, edge = discs((120, 110, 70)), discs((120, 320, 70))
    pixels = np.full((240, 320, 3), 90, np.uint8)
    pixels[middle | edge] = (200, 30, 40)
    view = Image.fromarray(pixels)

    def finder(rgb: np.ndarray) -> np.ndarray:
        return soft((rgb[..., 0] > 150), 1)

    items = dict(prepare.found_wholes("train/ab-0", view, pixels, finder))
    assert set(items) == {"wholes/train/ab-0", "object/train/ab-0-w0"}
    labels = np.asarray(Image.open(io.BytesIO(items["wholes/train/ab-0"])))
    for whole, place in ((1, middle), (2, edge)):
        assert iou((labels == whole) | (labels // 32 == whole), place) > 0.98
    alpha = np.asarray(Image.open(io.BytesIO(items["object/train/ab-0-w0"])).getchannel("A"))
    assert alpha.shape[0] == alpha.shape[1]
    assert (alpha > 128).mean() == pytest.approx(np.pi / 4, abs=0.02)


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


def enlarging_model(side: int) -> bytes:
    """Halve a picture and enlarge it to a constant size, as the network's decoder does."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {"begin": [0], "end": [2], "size": [side, side]}
    nodes = [
        helper.make_node(
            "Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64))
        )
        for name, value in constants.items()
    ]
    nodes += [
        helper.make_node("AveragePool", ["input"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Shape", ["half"], ["shape"]),
        helper.make_node("Slice", ["shape", "begin", "end"], ["kept"]),
        helper.make_node("Concat", ["kept", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["half", "", "", "sizes"], ["output"], mode="nearest"),
    ]
    shape = [1, 1, side, side]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("input", "output", "half")
    ]
    graph = helper.make_graph(nodes, "enlarging", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return model.SerializeToString()


def test_the_network_runs_at_another_size() -> None:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(resized(enlarging_model(1024), 256))
    assert [value.shape for value in session.get_outputs()] == [[1, 1, 256, 256]]
    picture = np.random.default_rng(0).random((1, 1, 256, 256), dtype=np.float32)
    (got,) = session.run(None, {"input": picture})
    halved = picture.reshape(128, 2, 128, 2).mean((1, 3))
    np.testing.assert_allclose(got[0, 0], halved.repeat(2, 0).repeat(2, 1), atol=1e-6)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The npm package, with a model of two chunks."""
    (tmp_path / "dist").mkdir()
    chunks = []
    for piece in (b"first half, ", b"second half"):
        chunks.append({"hash": hashlib.sha256(piece).hexdigest()})
        (tmp_path / "dist" / chunks[-1]["hash"]).write_bytes(piece)
    listing = json.dumps({"/models/medium": {"chunks": chunks}})
    (tmp_path / "dist" / "resources.json").write_text(listing)
    return tmp_path


def test_the_stored_model_is_put_together_and_checked(package: Path) -> None:
    assert stored_model(package) == b"first half, second half"
    for path in (package / "dist").iterdir():
        if path.suffix != ".json":
            path.write_bytes(b"something else")
    with pytest.raises(SystemExit, match="is damaged"):
        stored_model(package)
    with pytest.raises(SystemExit, match="not the unpacked package"):
        stored_model(package / "dist")


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit, match=r"pip install 'samtrt\[training\]'"):
        ForegroundFinder(tmp_path)


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
        "train/aa-0": names[1:5],
        "heldout/bb": [names[6]],
    }


def test_checked_views_have_names_that_prepare_gives() -> None:
    assert len(prepare.CHECKED) > 90
    assert all(len(v) == 18 and v[16] == "-" and v[17] in "01234" for v in prepare.CHECKED)
