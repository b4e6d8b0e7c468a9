"""Whatever is done to a file, reading it gives a picture of its size or one line.

bench/fuzz.py does the same for minutes, with more kinds of files and changes.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images import Limits, ReadOptions, decode_picture
from samtrt.images.masks import mask_of
from samtrt.images.orientation import orientation_of
from samtrt.images.read import decode_samples
from samtrt.images.tags import read_directory
from support.oracle import random_image
from support.pictures import opencv_file, pillow_file, tiff_file

IMAGE = random_image(9, 14)
PICTURE = Image.fromarray(IMAGE)
SEEDS = [
    pillow_file(PICTURE, kind)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM", "ICO")
]
SEEDS += [pillow_file(PICTURE, kind) for kind in ("TGA", "PCX", "SGI", "DDS", "ICNS", "QOI")]
SEEDS += [tiff_file(IMAGE.astype(kind), photometric="rgb") for kind in ("u2", "i2", "f4", "f8")]
SEEDS += [tiff_file(IMAGE.astype("u2"), photometric="rgb", compression="zlib", bigtiff=True)]
SEEDS += [opencv_file(IMAGE.astype("u2"), suffix) for suffix in (".png", ".tif")]
LIMITS = Limits(max_pixels=1 << 16, max_memory=1 << 24)

changes = st.lists(
    st.tuples(st.integers(0, 1 << 12), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
)


def changed(seed: bytes, where: list[tuple[int, bytes]], end: float) -> bytes:
    data = bytearray(seed)
    for place, new in where:
        place %= len(data)
        data[place : place + len(new)] = new
    return bytes(data[: int(len(data) * end) + 1])


@settings(max_examples=250)
@given(st.sampled_from(SEEDS), changes, st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.5, 0.1]))
def test_a_changed_file_is_read_or_refused_in_a_line(
    seed: bytes, where: list[tuple[int, bytes]], end: float
) -> None:
    data = changed(seed, where, end)
    try:
        pixels = decode_picture(data, "a", ReadOptions(limits=LIMITS)).pixels
    except ImageError as error:
        line = str(error)
    else:
        line = "a picture"
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= LIMITS.max_pixels
        assert mask_of(decode_samples(data, "a", LIMITS), lossy=False).shape == pixels.shape[:2]
    assert line.startswith("a")
    assert "\n" not in line


@given(
    st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b"Exif\0\0II*\0", b""])
)
@example(b"\xff" * 8, b"II*\0")
def test_tags_of_anything_are_read_or_none(data: bytes, head: bytes) -> None:
    directory = read_directory(head + data)
    if directory:
        for number in directory.tags:
            assert len(directory.integers(number)) <= 64
            assert len(directory.text(number)) <= len(head + data)
        assert len(directory.alone()) == len(head + data)
    assert 1 <= orientation_of({"exif": head + data}) <= 8


@settings(max_examples=30)
@given(st.binary(max_size=64))
def test_anything_is_no_picture(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode_picture(data, "a", ReadOptions(limits=LIMITS))


def size_field(kind: str) -> int:
    """Return where a format keeps its width."""
    return {"PNG": 16, "BMP": 18, "GIF": 6}[kind]


@pytest.mark.parametrize(("kind", "width"), [("PNG", 4), ("BMP", 4), ("GIF", 2)])
@pytest.mark.parametrize("claimed", [15, 1 << 14, (1 << 31) - 1])
def test_a_size_that_is_claimed_is_no_silent_success(kind: str, width: int, claimed: int) -> None:
    data = bytearray(pillow_file(PICTURE, kind))
    order = "big" if kind == "PNG" else "little"
    claimed &= (1 << 8 * width - 1) - 1
    start = size_field(kind)
    data[start : start + width] = claimed.to_bytes(width, order)
    if kind == "GIF" and claimed == 15:  # a picture on a canvas that is larger, which is fine
        assert decode_picture(bytes(data)).pixels.shape == (9, 15, 3)
        return
    with pytest.raises(ImageError):
        decode_picture(bytes(data), "a", ReadOptions(limits=LIMITS))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("tag", [256, 257])
def test_a_size_that_a_tiff_claims_is_no_silent_success(dtype: str, tag: int) -> None:
    data = bytearray(tiff_file(IMAGE.astype(dtype), photometric="rgb"))
    directory = read_directory(bytes(data))
    assert directory
    place = directory.tags[tag]
    width = {3: 2, 4: 4}[place.kind]
    data[place.offset : place.offset + width] = (90).to_bytes(width, "little")
    with pytest.raises(ImageError):
        decode_picture(bytes(data), "a", ReadOptions(limits=LIMITS))
