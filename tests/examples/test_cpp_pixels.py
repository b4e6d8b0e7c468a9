"""The C++ example prepares images and forms masks as this package does on the host."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest

from samtrt.choices import Resize, ValueScale
from samtrt.masks.upscaling import upscale_one
from samtrt.preparation.frame import Frame
from samtrt.preparation.host import preprocess
from samtrt.preparation.spec import Preparation
from support.oracle import random_image
from support.sharing import Make

SOURCES = Path(__file__).parents[2] / "examples" / "cpp"
MASK = 16


@pytest.fixture(scope="session")
def program(shared: Callable[[str, Make], Path]) -> Path:
    if sys.platform == "win32":
        pytest.skip("the example is for Linux and macOS")
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        pytest.skip("no C++ compiler here")

    def make(directory: Path) -> None:
        sources = [SOURCES / "pixels.cpp", Path(__file__).with_name("pixels_main.cpp")]
        flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-I", str(SOURCES)]
        subprocess.run([compiler, *flags, *map(str, sources), "-o", directory / "run"], check=True)

    return shared("cpp-pixels", make) / "run"


@pytest.mark.parametrize(
    ("height", "width", "scale", "resize"),
    [
        (120, 200, ValueScale.BYTE, Resize.LONGEST),  # smaller than the frame: enlarged
        (333, 517, ValueScale.UNIT, Resize.LONGEST),
        (700, 256, ValueScale.MINMAX, Resize.STRETCH),  # one axis as it is
        (1, 900, ValueScale.BYTE, Resize.LONGEST),  # a line, which stays one
    ],
)
def test_values_and_masks_are_the_hosts(
    program: Path, height: int, width: int, scale: ValueScale, resize: Resize
) -> None:
    rng = np.random.default_rng(height)
    image = random_image(height, width)
    logits = rng.normal(size=(MASK, MASK)).astype(np.float32)
    byte = scale is ValueScale.BYTE
    preparation = Preparation(
        scale=scale,
        mean=(10, 20, 30) if byte else (0.25, 0.5, 0),
        std=(1, 2, 4) if byte else (0.5, 0.25, 1),
        resize=resize,
    )
    masks = Frame((height, width), 256, MASK, resize)
    images = Frame((height, width), 128, MASK, resize)
    words = [256, 128, MASK, scale.value, int(resize is Resize.STRETCH), height, width]
    made = subprocess.run(
        [program, *map(str, words)],
        input=image.tobytes() + logits.tobytes(),
        capture_output=True,
        check=True,
    ).stdout
    values = np.frombuffer(made[: 4 * 3 * 128 * 128], np.float32).reshape(1, 3, 128, 128)
    mask = np.frombuffer(made[values.nbytes :], np.uint8).reshape(height, width)

    # Pillow before 13 resizes in another order where the height loses much: a step of a value off.
    tall = height - images.resized[0] > 2 * (width - images.resized[1])
    step = 1.01 if byte else 2.02 / 127
    off = step / min(preparation.std) if tall and int(PIL.__version__.split(".")[0]) < 13 else 1e-5
    np.testing.assert_allclose(values, preprocess(image, images, preparation), atol=off, rtol=1e-6)
    full = upscale_one(logits, masks)
    near = np.abs(full) < 1e-5  # where rounding may decide
    assert set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal((mask > 0)[~near], (full > 0)[~near])
