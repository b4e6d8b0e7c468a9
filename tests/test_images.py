"""Reading pictures: what is accepted, and one clear line for what is not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images import decode_image, read_image
from support.oracle import random_image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


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
    with pytest.raises(ImageError, match=r"more pixels than the limit of 178,956,970"):
        decode_image(bomb)
    with pytest.raises(ImageError, match="10 x 10 pixels, more than the limit of 99"):
        decode_image(encoded(Image.new("RGB", (10, 10))), max_pixels=99)


def test_only_the_formats_asked_for() -> None:
    data = encoded(Image.new("RGB", (4, 4)), "BMP")
    assert decode_image(data).shape == (4, 4, 3)
    with pytest.raises(ImageError, match="PNG, JPEG"):
        decode_image(data, formats=("PNG", "JPEG"))
