"""A picture as a mask: whatever is not background counts, however it was saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images import read_mask
from support.pictures import opencv_file, pillow_file, tiff_file

SHAPE = np.zeros((40, 60), dtype=np.bool_)
SHAPE[10:30, 20:50] = True


def scaled(value: float, dtype: str = "u1") -> np.ndarray:
    return (SHAPE * value).astype(dtype)


def palette(colours: list[int]) -> Image.Image:
    image = Image.fromarray(scaled(1), "P")
    image.putpalette(colours)
    return image


def with_alpha(colour: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colour, scaled(255)]))


MASKS = {
    "0 and 1": pillow_file(Image.fromarray(scaled(1))),
    "0 and 100": pillow_file(Image.fromarray(scaled(100))),
    "0 and 255": pillow_file(Image.fromarray(scaled(255))),
    "one bit": pillow_file(Image.fromarray(SHAPE)),
    "one bit in a TIFF": pillow_file(Image.fromarray(SHAPE), "TIFF"),
    "16 bits, 0 and 1": opencv_file(scaled(1, "u2"), ".png"),
    "16 bits, 0 and 65535": opencv_file(scaled(65535, "u2"), ".png"),
    "16 bits, white is zero": tiff_file(65535 - scaled(65535, "u2"), photometric="miniswhite"),
    "label 300 in uint32": tiff_file(scaled(300, "u4"), photometric="minisblack"),
    "float 0 and 1": tiff_file(scaled(1, "f4"), photometric="minisblack"),
    "float NaN and 2": tiff_file(np.where(SHAPE, 2, np.nan).astype("f4"), photometric="minisblack"),
    "palette, VOC's colours": pillow_file(palette([0, 0, 0, 128, 0, 0])),
    "palette, nearly black": pillow_file(palette([0, 0, 0, 1, 1, 1])),
    "palette, transparent background": pillow_file(palette([9, 9, 9, 128, 0, 0]), transparency=0),
    "a colour on black": pillow_file(Image.fromarray(np.dstack([scaled(0), scaled(7), scaled(0)]))),
    "alpha alone, on black": pillow_file(with_alpha(np.zeros((40, 60, 3), "u1"))),
    "alpha alone, on white": pillow_file(with_alpha(np.full((40, 60, 3), 255, "u1"))),
    "alpha and colour": pillow_file(with_alpha(np.dstack([scaled(200)] * 3))),
    "opaque RGBA": pillow_file(Image.fromarray(scaled(1)).convert("RGBA")),
}


@pytest.mark.parametrize("kind", MASKS)
def test_anything_but_background_counts(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mask"
    path.write_bytes(MASKS[kind])
    np.testing.assert_array_equal(read_mask(path), SHAPE)


def test_what_jpeg_does_around_edges_is_background(tmp_path: Path) -> None:
    path = tmp_path / "mask.jpg"
    path.write_bytes(pillow_file(Image.fromarray(scaled(255)), "JPEG", quality=60))
    mask = read_mask(path)
    assert (mask != SHAPE).mean() < 0.01


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((9, 9), "u1"), "is an empty mask: all of it is background"),
        (scaled(1) + 1, "has no background: none of its values is 0"),
    ],
)
def test_masks_that_say_nothing_are_refused(
    values: np.ndarray, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(values.astype("u1")).save(path)
    with pytest.raises(ImageError, match=message):
        read_mask(path)


def test_a_mask_of_all_of_the_picture_is_one(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.new("L", (8, 8), 255).save(path)
    assert read_mask(path).all()
