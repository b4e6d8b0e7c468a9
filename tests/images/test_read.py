"""Reading pictures: what is accepted, and one clear line for what is not."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images import (
    FORMATS,
    ImageNotice,
    Limits,
    ReadOptions,
    decode_image,
    decode_picture,
    read_image,
    suffixes,
)
from samtrt.images.jpeg import structure_of
from samtrt.images.tags import read_directory
from support.oracle import random_image
from support.pictures import opencv_file, tiff_file
from support.pictures import pillow_file as encoded


def test_reads_what_was_written(tmp_path: Path) -> None:
    image = random_image(30, 50)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    assert np.array_equal(read_image(path), image)
    assert read_image(str(path)).flags.writeable


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray(np.tile(np.arange(0, 250, 5, dtype=np.uint8), (30, 1)))
    if mode == "I;16":
        source = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        source = grey.convert("RGB").convert(mode)
    data = encoded(source, "TIFF" if mode == "CMYK" else "PNG")
    image = decode_image(data)
    assert image.shape == (30, 50, 3)
    assert image.dtype == np.uint8
    if mode not in ("1", "P"):
        assert np.abs(image[..., 0].astype(int) - np.asarray(grey)).max() <= 1


def test_exif_orientation_is_applied() -> None:
    picture = Image.new("RGB", (50, 30))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to stand upright
    assert decode_image(encoded(picture, "JPEG", exif=exif)).shape == (50, 30, 3)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no image at .*none.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"hello", "not an image in a format that can be read"),
        (encoded(Image.new("RGB", (64, 64)))[:60], "damaged or truncated"),
        (encoded(Image.fromarray(random_image(64, 64)), "JPEG")[:700], "damaged or truncated"),
    ],
)
def test_damaged_data(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(data)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    bomb = encoded(Image.new("1", (30_000, 30_000)))
    assert len(bomb) < 200_000
    with pytest.raises(ImageError, match=r"pixels,?( more)? than the limit of 178,956,970"):
        decode_image(bomb)
    with pytest.raises(ImageError, match="10 x 10 pixels, more than the limit of 99"):
        decode_image(encoded(Image.new("RGB", (10, 10))), limits=Limits(max_pixels=99))


def test_only_the_formats_asked_for() -> None:
    data = encoded(Image.new("RGB", (4, 4)), "BMP")
    assert decode_image(data).shape == (4, 4, 3)
    with pytest.raises(ImageError, match="PNG, JPEG"):
        decode_image(data, limits=Limits(formats=("PNG", "JPEG")))


LIMITS = [
    ("2000000 x 1", Image.new("1", (50_000, 2)), {"max_side": 49_999}, "limit of a side is 49,999"),
    ("1 x 1001", Image.new("L", (1, 1001)), {}, "more than 1,000 times the other, the limit"),
    ("memory", Image.new("RGB", (99, 99)), {"max_memory": 1 << 10}, "more than the limit of 1,024"),
    (
        "bytes",
        Image.new("RGB", (99, 99)),
        {"max_file_bytes": 99},
        "the limit of 99",
    ),
]


@pytest.mark.parametrize(("image", "limits", "message"), [case[1:] for case in LIMITS])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_what_is_refused_says_the_limit(
    kind: str, image: Image.Image, limits: dict[str, int], message: str
) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(encoded(image, kind), "a", Limits(**limits))


def test_a_progressive_jpeg_of_many_scans_is_refused() -> None:
    data = encoded(Image.fromarray(random_image(64, 64)), "JPEG", progressive=True)
    assert structure_of(data).scans == 10
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    many = data[:-2] + scan * 5000 + data[-2:]
    assert structure_of(many).scans == 5010
    with pytest.raises(ImageError, match="5,010 scans, more than the limit of 200"):
        decode_image(many)
    # What follows the picture, such as a phone's film, is not of it.
    assert structure_of(data + scan * 300).scans == 10
    decode_image(data + scan * 300)


def test_a_tiff_of_many_strips_is_refused_before_they_are_listed() -> None:
    data = tiff_file(np.zeros((4000, 8), np.uint16), rowsperstrip=1, photometric="minisblack")
    with pytest.raises(ImageError, match="4,000 values in one tag, such as its strips"):
        decode_image(data, limits=Limits(max_segments=3999))
    assert decode_image(data, limits=Limits(max_segments=4000)).shape == (4000, 8, 3)


def test_a_strip_that_unpacks_to_more_than_it_says_is_refused() -> None:
    honest = zlib.compress(bytes(64 * 64 * 2))
    bomb = zlib.compress(bytes(200_000_000))
    data = tiff_file(np.zeros((64, 64), np.uint16), photometric="minisblack", compression="zlib")
    directory = read_directory(data)
    assert directory
    start = directory.integer(273)
    forged = bytearray(data[:start] + bomb)
    place = directory.tags[279]
    assert place.kind in (3, 4)
    width = {3: 2, 4: 4}[place.kind]
    forged[place.offset : place.offset + width] = min(len(bomb), 65535).to_bytes(width, "little")
    assert len(honest) < 65535
    with pytest.raises(ImageError, match="unpacks to more than it declares"):
        decode_image(bytes(forged))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_broken_exif_beside_the_orientation_does_not_matter(kind: str) -> None:
    picture = Image.fromarray(random_image(30, 50))
    # Orientation 6; a rational that divides by zero; one whose place is outside; a wrong type.
    tags = [(0x0112, 3, 1, 6), (0x011A, 5, 1, 62), (0x011B, 5, 1, 1 << 30), (0x0128, 99, 7, 1)]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + bytes(4)
    exif += struct.pack("<II", 72, 0)
    assert decode_image(encoded(picture, kind, exif=exif)).shape == (50, 30, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x", b"Exif\0\0MM\0*"]
)
def test_exif_that_is_none_counts_as_upright(exif: bytes) -> None:
    picture = Image.fromarray(random_image(30, 50))
    assert decode_image(encoded(picture, "JPEG", exif=exif)).shape == (30, 50, 3)


def test_orientation_in_xmp_counts() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="8"/></x:xmpmeta>'
    picture = Image.fromarray(random_image(30, 50))
    assert decode_image(encoded(picture, "WEBP", xmp=xmp)).shape == (50, 30, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_deep_pictures_are_turned_too(orientation: int, dtype: str) -> None:
    values = np.arange(24).reshape(4, 6).astype(dtype) * 10
    tag = (0x0112, "H", 1, orientation, True)
    data = tiff_file(values, photometric="minisblack", extratags=[tag])
    exif = Image.Exif()
    exif[0x0112] = orientation
    same = encoded(Image.fromarray(values.astype("u1")), "PNG", exif=exif)
    if dtype == "u2":
        picture = decode_picture(data, options=ReadOptions((0, 255))).pixels
    else:
        picture = decode_image(data)
    np.testing.assert_array_equal(picture, decode_image(same))


def test_eps_and_what_starts_programs_is_off(tmp_path: Path) -> None:
    assert not {"EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG"} & set(FORMATS)
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) show\n%%EOF\n")
    with pytest.raises(ImageError, match="is not an image in a format that can be read"):
        read_image(path)
    assert {".jfif", ".jpe", ".gif", ".jp2", ".avif", ".ppm"} <= set(suffixes())


@pytest.mark.parametrize(
    "error",
    [
        *(struct.error, RuntimeError, NotImplementedError, TypeError, AttributeError, KeyError),
        *(ZeroDivisionError, RecursionError, OverflowError, AssertionError, EOFError),
    ],
)
def test_whatever_a_decoder_raises_is_one_line(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("first line\nsecond")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match=r"^a.png is damaged or truncated: '?first line") as caught:
        decode_image(encoded(Image.new("RGB", (4, 4))), "a.png")
    assert "\n" not in str(caught.value)


def test_memory_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match="takes more memory than there is"):
        decode_image(encoded(Image.new("RGB", (4, 4))))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match="it is not a regular file"):
        read_image(tmp_path / "a.png")


def test_python_warns_of_what_is_assumed(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = (np.arange(256, dtype=np.uint16) * 16).reshape(16, 16)
    path.write_bytes(tiff_file(values, photometric="minisblack"))
    with pytest.warns(ImageNotice, match=r"a.tif: its uint16 values 0 to 4080 are shown"):
        image = read_image(path)
    assert image[0, 0, 0] == 0
    assert image[-1, -1, 0] == 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path, value_range=(0, 8160)).max() in (127, 128)


def png_chunk(kind: bytes, data: bytes, claimed: int | None = None) -> bytes:
    length = len(data) if claimed is None else claimed
    return struct.pack(">I", length) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_deep_png_is_its_pixels_alone() -> None:
    """OpenCV, which reads those, allocates what a chunk claims and follows animations."""
    values = random_image(9, 14).astype("u2") * 257
    whole = opencv_file(values, ".png")
    plain = decode_image(whole)
    extra = png_chunk(b"acTL", struct.pack(">II", 1 << 30, 0)) + png_chunk(b"tEXt", b"a\0b")
    np.testing.assert_array_equal(decode_image(whole[:33] + extra + whole[33:]), plain)
    place = whole.index(b"IDAT")
    for claimed in (0xFF000362, 0x7FFFFFFF, len(whole)):
        changed = whole[: place - 4] + struct.pack(">I", claimed) + whole[place:]
        with pytest.raises(ImageError, match="the image: it ends in the middle of a chunk"):
            decode_image(changed)
