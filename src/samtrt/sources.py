"""The images that a command over many of them works on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samtrt.errors import ImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_sources(paths: Sequence[Path], more: tuple[str, ...] = ()) -> list[Path]:
    """Return the files among `paths`, and those that their folders hold, by name.

    Args:
        paths: Files, taken as they are, and folders.
        more: Suffixes to look for in folders beside those of images.

    Raises:
        ImageError: where a folder holds none, or two files would write results of one name.
    """
    found: list[Path] = []
    for path in paths:
        inside = _in_folder(path, IMAGE_SUFFIXES + more) if path.is_dir() else [path]
        if not inside:
            raise ImageError(
                f"{path} holds no file that ends in {', '.join(IMAGE_SUFFIXES + more)}"
            )
        found += inside
    by_stem: dict[str, Path] = {}
    for file in found:
        if (other := by_stem.setdefault(file.stem, file)) is not file:
            raise ImageError(
                f"{other} and {file} would write results of the same name: rename one, or run "
                "them apart"
            )
    return found


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix.lower() in suffixes and not file.name.startswith(".")
    )
