"""JPEG on a GPU, beside the host's reader: with a stand-in for nvImageCodec, and with itself."""

from __future__ import annotations

import hashlib
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.cuda.memory import CudaArray, Memory
from samtrt.errors import BackendError, ImageError, MissingExtraError
from samtrt.images import ImageNotice, Limits, ReadOptions, read_image
from samtrt.preparation.jpeg import JpegReader
from samtrt.types import to_host
from support import fake_nvimgcodec
from support.on_device import device_memory
from support.oracle import random_image
from support.pictures import pillow_file
from support.places import PLACES

SIZE = (61, 203)
"""Of no whole blocks, and of more columns than a thread block has threads."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    with device_memory(monkeypatch) as (memory, _):
        yield memory


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> fake_nvimgcodec.NvImgCodec:
    return fake_nvimgcodec.install(monkeypatch)


@pytest.fixture
def read(codec: fake_nvimgcodec.NvImgCodec, memory: Memory) -> JpegReader:
    reader = JpegReader(memory)
    codec.decoded = 0
    return reader


@contextmanager
def opened(patch: pytest.MonkeyPatch, place: str) -> Iterator[JpegReader]:
    """A reader on a real GPU, or on the stand-ins."""
    if place == "gpu":
        pytest.importorskip("nvidia.nvimgcodec", reason="needs samtrt[jpeg-gpu]")
    else:
        fake_nvimgcodec.install(patch)
    with device_memory(patch, place) as (memory, _):
        yield JpegReader(memory)


STEPS = 2
"""Of 255, that real decoders may differ by."""


def smooth(height: int = SIZE[0], width: int = SIZE[1]) -> Image.Image:
    """A picture with few edges, as photographs are."""
    small = Image.fromarray(random_image(6, 9))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "4:2:0": ("RGB", {"subsampling": 2}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "4:4:4": ("RGB", {"subsampling": 0}),
    "grey": ("L", {}),
    "progressive": ("RGB", {"progressive": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 3}),
    **{f"orientation {i}": ("RGB", {"exif": exif(i)}) for i in range(1, 9)},
}
"""What the GPU decodes: a mode and how Pillow saves it."""


@pytest.mark.parametrize("place", PLACES)
def test_pictures_are_those_of_the_host(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    with opened(monkeypatch, place) as read:
        for name, (mode, how) in TAKEN.items():
            for size in (SIZE, (1, 1), (8, 16), (700, 1100)):
                path = tmp_path / "a.jpg"
                path.write_bytes(pillow_file(smooth(*size).convert(mode), "JPEG", **how))
                picture = read.read(path)
                if size != (1, 1):  # which a real decoder may refuse
                    assert isinstance(picture.pixels, CudaArray), (name, size, picture.notices)
                got = to_host(picture.pixels).astype(np.int16)
                wanted = read_image(path)
                assert got.shape == wanted.shape, (name, size)
                assert np.abs(got - wanted).max() <= STEPS, (name, size)
                assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", PLACES)
def test_damage_does_no_harm_to_the_next_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    size = (700, 1100) if place == "gpu" else (60, 90)
    with opened(monkeypatch, place) as read:
        good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
        for how in ({}, {"progressive": True}):
            data = pillow_file(smooth(*size), "JPEG", **how)
            good.write_bytes(data)
            for start in range(len(data) // 3, len(data) - 50, len(data) // 5):
                bad.write_bytes(data[:start] + b"\x5a\xa5" * 20 + data[start + 40 :])
                outcome(read, bad)
                outcome(read, bad)
            pixels = to_host(read(good)).astype(np.int16)
            assert np.abs(pixels - read_image(good)).max() <= STEPS


def outcome(read: Callable[[Path], Any], path: Path) -> tuple[Any, bytes] | str:
    """Return the shape and the bytes of what is read, or the error's message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageNotice)
            pixels = to_host(read(path))
    except ImageError as error:
        return str(error)
    return pixels.shape, pixels.tobytes()


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def with_adobe(transform: int) -> bytes:
    """Components 1, 2 and 3, which Adobe's segment says more of."""
    data = pillow_file(smooth(), "JPEG")
    end = 4 + int.from_bytes(data[4:6], "big")
    return data[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) + data[end:]


def sampled(factors: int) -> bytes:
    """Chroma in a form that Pillow does not write."""
    how = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]
    return bytes(cv2.imencode(".jpg", np.asarray(smooth()), how)[1])


LEFT: dict[str, tuple[bytes, str]] = {
    "inks": (pillow_file(smooth().convert("CMYK"), "JPEG"), "4 components"),
    "rgb by ids": (pillow_file(smooth(), "JPEG", keep_rgb=True), "not luma and chroma"),
    "rgb by Adobe": (with_adobe(0), "not luma and chroma"),
    "extended": (changed(pillow_file(smooth(), "JPEG"), b"\xff\xc0", b"\xff\xc1"), "neither"),
    "4:4:0": (sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440), "sampled in an unusual way"),
    "4:1:1": (sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411), "sampled in an unusual way"),
}
"""What the GPU does not take, and why."""


@pytest.mark.parametrize("name", LEFT)
def test_what_the_gpu_does_not_take_is_read_on_the_host_and_told_once(
    read: JpegReader, codec: fake_nvimgcodec.NvImgCodec, tmp_path: Path, name: str
) -> None:
    data, reason = LEFT[name]
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    picture = read.read(path)
    assert isinstance(picture.pixels, np.ndarray)
    assert np.array_equal(picture.pixels, read_image(path))
    assert len(picture.notices) == 1
    assert "decoded on the host" in picture.notices[0]
    assert reason in picture.notices[0]
    assert read.read(path).notices == ()
    assert codec.decoded == 0


def test_what_is_no_jpeg_is_read_on_the_host_without_a_word(
    read: JpegReader, codec: fake_nvimgcodec.NvImgCodec, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"  # whatever its name says
    path.write_bytes(pillow_file(smooth().convert("RGBA"), "PNG"))
    picture = read.read(path, ReadOptions(background="black"))
    assert np.array_equal(to_host(picture.pixels), read_image(path, background="black"))
    assert picture.notices == ()
    assert codec.decoded == 0


@pytest.mark.parametrize("cut", [3, 30, 200, 700, -400])
def test_truncated_files_are_refused_as_on_the_host(
    read: JpegReader, tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pillow_file(smooth(300, 400), "JPEG")[:cut])
    refused = outcome(read, path)
    assert isinstance(refused, str)
    assert refused == outcome(read_image, path)


def test_a_file_without_its_end_is_for_the_host(
    read: JpegReader, codec: fake_nvimgcodec.NvImgCodec, tmp_path: Path
) -> None:
    """Whether there is enough of the picture, Pillow says."""
    path = tmp_path / "a.jpg"
    path.write_bytes(pillow_file(smooth(16, 16), "JPEG")[:-1])
    assert outcome(read, path) == outcome(read_image, path)
    assert codec.decoded == 0


def test_a_range_of_values_is_for_the_host(read: JpegReader, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pillow_file(smooth(), "JPEG"))
    picture = read.read(path, ReadOptions((0, 100)))
    assert np.array_equal(to_host(picture.pixels), read_image(path, (0, 100)))
    assert "range" in picture.notices[0]


def test_limits_hold_before_anything_is_decoded(
    read: JpegReader, codec: fake_nvimgcodec.NvImgCodec, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pillow_file(smooth(), "JPEG", progressive=True))
    for limits, message in (
        (Limits(max_pixels=1000), "203 x 61 pixels, more than the limit of 1,000"),
        (Limits(max_scans=3), "scans, more than the limit of 3"),
        (Limits(max_file_bytes=50), "bytes, more than the limit of 50"),
        (Limits(formats=("PNG",)), "not an image in a format that can be read"),
    ):
        with pytest.raises(ImageError, match=message):
            read.read(path, ReadOptions(limits=limits))
    assert codec.decoded == 0


@pytest.mark.parametrize("how", [True, RuntimeError("no memory")])
def test_what_the_decoder_refuses_is_read_on_the_host(
    read: JpegReader, codec: fake_nvimgcodec.NvImgCodec, tmp_path: Path, how: object
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pillow_file(smooth(), "JPEG"))
    codec.refuses = how
    with pytest.warns(ImageNotice, match="the GPU's decoder refuses it"):
        assert isinstance(read(path), np.ndarray)
    codec.refuses = False
    assert isinstance(read(path), CudaArray)


def test_what_follows_the_picture_is_not_decoded(read: JpegReader, tmp_path: Path) -> None:
    """A phone's film; the stand-in takes no data that does not end with the end marker."""
    path = tmp_path / "a.jpg"
    data = pillow_file(smooth(), "JPEG")
    path.write_bytes(data + b"ftypmp42" * 9)
    pixels = read(path)
    assert isinstance(pixels, CudaArray)
    assert np.array_equal(pixels.numpy(), read_image(path))


def test_threads_may_share_a_reader(read: JpegReader, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.jpg" for i in range(8)]
    for i, path in enumerate(paths):
        path.write_bytes(pillow_file(smooth(40 + i, 50), "JPEG"))
    found: dict[Path, Any] = {}
    threads = [threading.Thread(target=lambda p=p: found.update({p: read(p)})) for p in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for path in paths:
        assert np.array_equal(found[path].numpy(), read_image(path))


def test_a_host_without_the_package_or_with_half_of_it(
    memory: Memory, codec: fake_nvimgcodec.NvImgCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec.refuses = True  # as without nvJPEG
    with pytest.raises(BackendError, match=r"pip install 'samtrt\[jpeg-gpu\]'"):
        JpegReader(memory)
    codec.refuses, codec.brighter = False, 9
    with pytest.raises(BackendError, match="of 255 from the host's"):
        JpegReader(memory)
    monkeypatch.delattr(sys.modules["nvidia"], "nvimgcodec")
    monkeypatch.setitem(sys.modules, "nvidia.nvimgcodec", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'samtrt\[jpeg-gpu\]'"):
        JpegReader(memory)


def test_images_that_are_prepared_on_the_host_are_decoded_there() -> None:
    with pytest.raises(BackendError, match="without --pixels host, or leave out --jpeg gpu"):
        JpegReader(None)
