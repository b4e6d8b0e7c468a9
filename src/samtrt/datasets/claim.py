"""Which directories results of many images may go to: new ones, and those that samtrt made."""

from __future__ import annotations

from pathlib import Path

from samtrt.choices import OutputFormat
from samtrt.errors import OutputError
from samtrt.files import OUTPUT_NOTE, write_atomic

_MERGED = ("panoptic.json", "cvat.xml", "labelstudio.json", "labelstudio.xml")
"""Files about all images, beside annotations.json."""
WRITTEN = ("annotations.json", "coco", *_MERGED, *(kind.value for kind in OutputFormat))
"""Files and folders of an output directory."""
NOTE = "Results of samtrt.\n"
"""What `OUTPUT_NOTE` holds."""


def taken_by_others(what: object) -> OutputError:
    """Say that a place has a file that samtrt did not write."""
    return OutputError(
        f"{what} is there already and was not written by samtrt: choose another "
        "directory, or replace what has the same name with --force"
    )


def claim_directory(path: Path, force: bool = False) -> None:
    """Make `path` an output directory, before any work.

    Raises:
        OutputError: where it cannot be one, or holds files of the same places that samtrt did not
            write, such as labels made by hand, and `force` is not set.
    """
    note = path / OUTPUT_NOTE
    places = [path / name for name in WRITTEN]
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = [place for place in places if place.is_file() or _holds_files(place)]
        if taken and not note.is_file() and not force:
            raise taken_by_others(taken[0])
        if not note.is_file():
            with write_atomic(note) as temporary:
                temporary.write_text(NOTE, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write into {path}: {error.strerror or error}") from None


def _holds_files(place: Path) -> bool:
    return place.is_dir() and any(place.iterdir())
