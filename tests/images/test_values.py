"""Each kind of picture has a right value: what a viewer shows of it. docs/inputs.md has the table.

Files are made from an 8-bit picture, so that it is known what each must look like.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from samtrt.errors import ImageError
from samtrt.images import ReadOptions, decode_picture, parse_range
from support.pictures import colours, opencv_file, pillow_file, ramp, tiff_file

GREY, RGB = ramp(), colours()


def deep(dtype: str, values: np.ndarray = GREY, scale: float = 1.0, offset: float = 0) -> Any:
    return (values.astype("f8") * scale + offset).round(9).astype(dtype)


def grey_tiff(dtype: str, scale: float = 1.0, offset: float = 0, **options: Any) -> bytes:
    return tiff_file(deep(dtype, GREY, scale, offset), photometric="minisblack", **options)


def rgb_tiff(dtype: str, scale: float = 1.0, **options: Any) -> bytes:
    return tiff_file(deep(dtype, RGB, scale), photometric="rgb", **options)


ASSUMED = "are shown as black to white"

GREY_FILES = {
    "12 bits in a uint16 TIFF": (grey_tiff("u2", 4095 / 255), ASSUMED),
    "12 bits in a uint16 PNG": (opencv_file(deep("u2", scale=4095 / 255), ".png"), ASSUMED),
    "10 bits in a uint16 TIFF": (grey_tiff("u2", 1023 / 255), ASSUMED),
    "largest value 256": (grey_tiff("u2", 256 / 255), ASSUMED),
    "16 bits in a TIFF": (grey_tiff("u2", 257), "all that uint16 can hold"),
    "16 bits in a PNG": (opencv_file(deep("u2", scale=257), ".png"), "all that uint16 can hold"),
    "16 bits, big-endian": (grey_tiff("u2", 257, byteorder=">"), "all that uint16 can hold"),
    "16 bits, LZW": (opencv_file(deep("u2", scale=16), ".tif"), ASSUMED),
    "16 bits, Deflate": (grey_tiff("u2", 16, compression="zlib", predictor=True), ASSUMED),
    "16 bits in tiles": (grey_tiff("u2", 16, tile=(16, 32)), ASSUMED),
    "BigTIFF": (grey_tiff("u2", 16, bigtiff=True), ASSUMED),
    "white is zero, 16 bits": (
        tiff_file(deep("u2", 255 - GREY, 16), photometric="miniswhite"),
        ASSUMED,
    ),
    "white is zero, 8 bits": (tiff_file(255 - GREY, photometric="miniswhite"), ""),
    "int16 as of a CT": (grey_tiff("i2", 12, -1000), ASSUMED),
    "int8": (grey_tiff("i1", 0.5, -64), ASSUMED),
    "uint32": (grey_tiff("u4", 70_000), ASSUMED),
    "uint32, all of it": (grey_tiff("u4", 2**32 / 256), "all that uint32 can hold"),
    "int32": (grey_tiff("i4", 70_000, -(10**7)), ASSUMED),
    "int32, LZW": (opencv_file(deep("i4", scale=7000), ".tif"), ASSUMED),
    "float 0 to 1": (grey_tiff("f4", 1 / 255), "the usual range of floats"),
    "float 0 to 255": (grey_tiff("f4"), ASSUMED),
    "float of any range": (grey_tiff("f4", 40, -3000), ASSUMED),
    "float, LZW and predictor": (opencv_file(deep("f4"), ".tif"), ASSUMED),
    "double": (grey_tiff("f8", 1e-6), ASSUMED),
    "half": (grey_tiff("f2", 1 / 255), "the usual range of floats"),
    "float by Pillow": (pillow_file(Image.fromarray(deep("f4")), "TIFF"), ASSUMED),
    "int32 by Pillow": (pillow_file(Image.fromarray(deep("i4", scale=9)), "TIFF"), ASSUMED),
    "16-bit PGM": (opencv_file(deep("u2", scale=16), ".pgm"), ASSUMED),
    "PGM of 12 bits": (
        b"P5 256 32 4095\n" + deep(">u2", scale=4095 / 255).tobytes(),
        "",
    ),
    "16-bit JPEG 2000": (
        pillow_file(Image.fromarray(deep("u2", scale=257)), "JPEG2000"),
        "",
    ),
    "ImageJ's display range": (
        tiff_file(deep("u2", scale=8, offset=100), imagej=True, metadata={"min": 100, "max": 2140}),
        "",
    ),
    "8-bit TIFF": (grey_tiff("u1"), ""),
    "8-bit PNG": (pillow_file(Image.fromarray(GREY)), ""),
    "several pages": (
        tiff_file(np.stack([GREY, 255 - GREY]), photometric="minisblack"),
        "several pages: the first",
    ),
    "several deep pages": (
        tiff_file(deep("u2", np.stack([GREY, 0 * GREY]), 16), photometric="minisblack"),
        "several pages: the first",
    ),
}

COLOUR_FILES = {
    "12-bit RGB TIFF": (rgb_tiff("u2", 4095 / 255), ASSUMED),
    "12-bit RGB PNG": (opencv_file(deep("u2", RGB, 4095 / 255), ".png"), ASSUMED),
    "16-bit RGB TIFF": (rgb_tiff("u2", 257), "all that uint16 can hold"),
    "16-bit RGB PNG": (opencv_file(deep("u2", RGB, 257), ".png"), "all that uint16 can hold"),
    "16-bit RGB, LZW": (opencv_file(deep("u2", RGB, 16), ".tif"), ASSUMED),
    "16-bit RGB, one plane a colour": (
        tiff_file(
            deep("u2", RGB.transpose(2, 0, 1), 16), photometric="rgb", planarconfig="separate"
        ),
        ASSUMED,
    ),
    "float RGB 0 to 1": (rgb_tiff("f4", 1 / 255), "the usual range of floats"),
    "float RGB 0 to 255": (rgb_tiff("f4"), ASSUMED),
    "half RGB": (rgb_tiff("f2", 1 / 255), "the usual range of floats"),
    "double RGB": (rgb_tiff("f8", 3), ASSUMED),
    "float RGB, a page for each row": (
        tiff_file(deep("f4", RGB, 1 / 255), photometric="minisblack"),
        "floats",
    ),
    "three bands of a satellite": (
        tiff_file(deep("u2", RGB, 40), photometric="minisblack", planarconfig="contig"),
        "bands 1, 2 and 3 of 3 are taken as red, green and blue",
    ),
    "five bands of 8 bits": (
        tiff_file(
            np.concatenate([RGB, RGB[..., :2]], axis=2),
            photometric="minisblack",
            planarconfig="contig",
        ),
        "bands 1, 2 and 3 of 5",
    ),
    "RGB and infrared": (
        tiff_file(
            deep("u2", np.dstack([RGB, GREY]), 16),
            photometric="rgb",
            extrasamples=["unspecified"],
        ),
        "of its 4 bands, 3 are shown",
    ),
    "palette": (pillow_file(Image.fromarray(RGB // 64 * 64).quantize(64)), ""),
    "CMYK TIFF": (pillow_file(Image.fromarray(RGB).convert("CMYK"), "TIFF"), ""),
    "CMYK JPEG": (
        pillow_file(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=100, subsampling=0),
        "",
    ),
    "16-bit CMYK": (
        tiff_file(
            np.asarray(Image.fromarray(RGB).convert("CMYK")).astype("u2") * 257,
            photometric="separated",
        ),
        "",
    ),
    "YCbCr TIFF": (
        pillow_file(Image.fromarray(RGB), "TIFF", compression="jpeg", quality=100),
        "",
    ),
    "JPEG": (pillow_file(Image.fromarray(RGB), "JPEG", quality=100, subsampling=0), ""),
    "AVIF": (pillow_file(Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4"), ""),
    "opaque RGBA": (pillow_file(Image.fromarray(RGB).convert("RGBA")), ""),
    "opaque 16-bit RGBA": (
        opencv_file(np.dstack([deep("u2", RGB, 257), np.full_like(GREY, 255, "u2") * 257]), ".png"),
        "all that uint16 can hold",
    ),
}


@pytest.mark.parametrize("kind", GREY_FILES)
def test_grey(kind: str) -> None:
    check(*GREY_FILES[kind], np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", COLOUR_FILES)
def test_colour(kind: str) -> None:
    expected = RGB // 64 * 64 if kind == "palette" else RGB
    check(*COLOUR_FILES[kind], expected, most=6 if "JPEG" in kind or "AVIF" in kind else 2)


def check(data: bytes, notice: str, expected: np.ndarray, most: int = 2) -> None:
    picture = decode_picture(data, "a.tif")
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).max() <= most
    assert notice in " ".join(picture.notices)
    assert bool(picture.notices) == bool(notice)


def test_a_dark_picture_of_16_bits_is_brought_up_and_told() -> None:
    data = opencv_file(deep("u2", RGB, 3), ".png")
    check(data, "its uint16 values 0 to 765 are shown as black to white (percentiles", RGB)


@pytest.mark.parametrize(
    "maker", [grey_tiff, lambda *a: opencv_file(deep(*a[:1], GREY, a[1]), ".png")]
)
def test_a_range_that_is_given_counts(maker: Any) -> None:
    data = maker("u2", 4)
    picture = decode_picture(data, options=ReadOptions(value_range=(0, 1020)))
    assert picture.notices == ()
    np.testing.assert_array_equal(picture.pixels[..., 1], GREY)
    half = decode_picture(data, options=ReadOptions(value_range=(0, 2040))).pixels
    assert np.abs(half[..., 0] - GREY / 2).max() <= 0.5
    window = decode_picture(data, options=ReadOptions(value_range=(400, 800))).pixels[0, :, 0]
    assert (window[:100] == 0).all()
    assert (window[201:] == 255).all()


def test_a_range_counts_for_8_bits_too() -> None:
    picture = decode_picture(pillow_file(Image.fromarray(GREY)), options=ReadOptions((0, 100)))
    assert picture.pixels[0, 50, 0] == round(50 * 2.55)


@pytest.mark.parametrize(
    "text", ["", "5", "5:5", "9:1", "a:b", "0:nan", "0:inf", "1:2:3", "-1e308:1e308"]
)
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ImageError, match="a value range is LOW:HIGH"):
        parse_range(text)


def test_one_hot_pixel_does_not_darken_the_rest() -> None:
    values = deep("u2", scale=4)
    values[3, 3] = 65535
    picture = decode_picture(tiff_file(values, photometric="minisblack"))
    assert np.abs(picture.pixels[10:, :, 0].astype(int) - GREY[10:]).max() <= 2


def test_missing_values_do_not_count() -> None:
    values = deep("f4", scale=1 / 255)
    values[:, :3] = np.nan
    values[0, 10:12] = np.inf, -np.inf
    picture = decode_picture(tiff_file(values, photometric="minisblack"))
    assert np.abs(picture.pixels[1:, 3:, 0].astype(int) - GREY[1:, 3:]).max() <= 2
    assert (picture.pixels[:, :3] == 0).all()
    assert "98 of its values are missing" in " ".join(picture.notices)


def test_no_data_of_geographic_files_does_not_count() -> None:
    values = deep("i2", scale=4, offset=100)
    values[:4] = -9999
    data = tiff_file(values, photometric="minisblack", extratags=[(42113, "s", 0, "-9999", True)])
    picture = decode_picture(data)
    assert np.abs(picture.pixels[4:, :, 0].astype(int) - GREY[4:]).max() <= 2
    assert (picture.pixels[:4] == 0).all()


@pytest.mark.parametrize(("dtype", "value"), [("u2", 0), ("u2", 65535), ("f4", 0.5), ("i2", -7)])
def test_one_value_everywhere(dtype: str, value: float) -> None:
    picture = decode_picture(tiff_file(np.full((9, 9), value, dtype), photometric="minisblack"))
    expected = {65535: 255, 0.5: 128}.get(value, 0)
    assert (picture.pixels == expected).all()


def half_transparent(mode: str) -> Image.Image:
    alpha = np.full_like(GREY, 255)
    alpha[16:] = 0
    alpha[8:16] = 128
    return Image.fromarray(np.dstack([RGB, alpha])).convert(mode)


def premultiplied() -> np.ndarray:
    values = np.asarray(half_transparent("RGBA"))
    colour = np.rint(values[..., :3] * (values[..., 3:] / 255))
    return np.concatenate([colour, values[..., 3:]], axis=2).astype("u1")


@pytest.mark.parametrize(
    ("background", "colour"),
    [("white", (255,) * 3), ("black", (0,) * 3), ("#ff8000", (255, 128, 0))],
)
def test_alpha_is_shown_over_a_colour_and_told(background: str, colour: tuple[int, ...]) -> None:
    data = pillow_file(half_transparent("RGBA"))
    picture = decode_picture(data, options=ReadOptions(background=background))
    np.testing.assert_array_equal(picture.pixels[:8], RGB[:8])
    assert (picture.pixels[16:] == colour).all()
    mixed = RGB[8:16] * (128 / 255) + np.array(colour) * (127 / 255)
    assert np.abs(picture.pixels[8:16] - mixed).max() <= 0.51
    assert f"shown over {background}" in " ".join(picture.notices)


@pytest.mark.parametrize(
    "data",
    [
        tiff_file(
            np.asarray(half_transparent("RGBA")), photometric="rgb", extrasamples=["unassalpha"]
        ),
        tiff_file(
            np.asarray(half_transparent("RGBA")).astype("u2") * 257,
            photometric="rgb",
            extrasamples=["unassalpha"],
        ),
        tiff_file(
            (np.asarray(half_transparent("RGBA")) / 255).astype("f4"),
            photometric="rgb",
            extrasamples=["unassalpha"],
        ),
        opencv_file(np.asarray(half_transparent("RGBA")).astype("u2") * 257, ".png"),
        pillow_file(half_transparent("RGBA"), "WEBP", lossless=True, exact=True),
        tiff_file(
            premultiplied(),
            photometric="rgb",
            extrasamples=["assocalpha"],
        ),
        tiff_file(
            premultiplied().astype("u2") * 257,
            photometric="rgb",
            extrasamples=["assocalpha"],
        ),
    ],
    ids=["TIFF", "16-bit TIFF", "float TIFF", "16-bit PNG", "WebP", "associated", "associated 16"],
)
def test_alpha_of_every_kind(data: bytes) -> None:
    picture = decode_picture(data)
    assert (picture.pixels[16:] == 255).all()
    assert np.abs(picture.pixels[:8].astype(int) - RGB[:8]).max() <= 2
    mixed = RGB[8:16] * (128 / 255) + 127
    assert np.abs(picture.pixels[8:16] - mixed).max() <= 3


def test_grey_with_alpha_and_palette_with_a_transparent_entry() -> None:
    grey = pillow_file(Image.fromarray(np.dstack([GREY, np.where(GREY > 99, 255, 0).astype("u1")])))
    picture = decode_picture(grey)
    assert (picture.pixels[0, :, 2] == np.where(GREY[0] > 99, GREY[0], 255)).all()
    palette = Image.fromarray((GREY > 99).astype("u1"), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    picture = decode_picture(pillow_file(palette, transparency=0))
    assert (picture.pixels[0, 0] == 255).all()
    assert (picture.pixels[0, -1] == (40, 50, 60)).all()


def test_a_colour_that_is_none() -> None:
    with pytest.raises(ImageError, match="'nocolour' is no colour; use a name such as white"):
        decode_picture(
            pillow_file(half_transparent("RGBA")), options=ReadOptions(background="nocolour")
        )


@pytest.mark.parametrize("bits", [8, 16])
def test_lab(bits: int) -> None:
    lab = np.zeros((3, 4, 3))
    lab[...] = [
        [[54.3, 80.8, 69.9]],
        [[100, 0, 0]],
        [[29.6, 68.3, -112.0]],
    ]  # red, white, blue at D50
    if bits == 8:
        values = np.stack([lab[..., 0] * 2.55, lab[..., 1] % 256, lab[..., 2] % 256], -1).astype(
            "u1"
        )
    else:
        values = np.stack(
            [lab[..., 0] * 655.35, lab[..., 1] * 256 % 65536, lab[..., 2] * 256 % 65536], -1
        ).astype("u2")
    picture = decode_picture(tiff_file(values, photometric="cielab"))
    expected = [(255, 0, 0), (255, 255, 255), (0, 0, 255)]
    assert np.abs(picture.pixels[:, 0].astype(int) - expected).max() <= 25


def test_the_inks_profile_is_used() -> None:
    assert (
        decode_picture(
            pillow_file(Image.new("CMYK", (8, 8), (0, 255, 0, 0)), "JPEG", icc_profile=b"broken")
        ).pixels[0, 0, 1]
        < 10
    )


@pytest.mark.parametrize("data", [tiff_file(np.ones((5, 5), "c8"), photometric="minisblack")])
def test_values_without_brightness_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x.tif: its values are complex64"):
        decode_picture(data, "x.tif")


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    data = pillow_file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    check(data, "it has several frames: the first is read", np.repeat(GREY[..., None], 3, 2))


def test_pages_after_the_first_cost_nothing() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(20):
            writer.write(GREY, photometric="minisblack", contiguous=False)
    broken = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(buffer.getvalue())) as file:
        second = file.pages[1].offset
    broken[second : second + 40] = b"\xff" * 40
    check(bytes(broken), "several pages", np.repeat(GREY[..., None], 3, 2))
