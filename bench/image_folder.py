"""Folders of pictures for benches of commands that take a folder."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from samtrt import assets


def make_images(folder: Path, count: int, width: int) -> None:
    """Write the demo's photograph as JPEG of this width, turned by a degree more each time."""
    folder.mkdir(parents=True)
    with Image.open(assets.DEMO_PHOTOGRAPH) as photograph:
        height = round(photograph.height * width / photograph.width)
        picture = photograph.convert("RGB").resize((width, height))
    for number in range(count):
        picture.rotate(number).save(folder / f"{number:04}.jpg", quality=90)
