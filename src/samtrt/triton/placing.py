"""One version of a model, put into its place in a model repository.

A Triton that polls the repository never sees half of a version: its directory is renamed into
place.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from samtrt.errors import OutputError
from samtrt.files import write_atomic
from samtrt.triton.config import Fields, render

CONFIG_NAME = "config.pbtxt"
HEAD = "# Written by samtrt triton. A new version takes the same tensors:\n"
"""How our configurations begin."""
REST = "# How it runs here:\n"
"""What stands between what a model takes, the same for all its versions, and how it runs."""


@dataclass(frozen=True)
class RepositoryModel:
    """A model to be written: its configuration and its version's files, by their names."""

    name: str
    config: tuple[Fields, Fields]
    files: dict[str, Path]
    texts: dict[str, str]


def _text(model: RepositoryModel) -> str:
    what, how = model.config
    return f"{HEAD}{render(what)}{REST}{render(how)}"


def check_place(place: Path, model: RepositoryModel, version: int, force: bool) -> None:
    """Make sure that a model may be written.

    Raises:
        OutputError: where it is another's, or one of ours that takes other tensors.
    """
    if place.exists() and not place.is_dir():
        raise OutputError(f"cannot write {place}: it is a file, and a model is a folder")
    versions = _versions(place)
    if not place.is_dir() or not any(place.iterdir()):
        return
    try:
        old = (place / CONFIG_NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        old = ""
    if not old.startswith(HEAD):
        if not force:
            raise OutputError(
                f"{place} is there already and was not written by samtrt: choose another --name, "
                "or replace it with --force"
            )
        return
    if versions - {version} and old.partition(REST)[0] != _text(model).partition(REST)[0]:
        others = ", ".join(map(str, sorted(versions - {version})))
        raise OutputError(
            f"version {others} of {place.name} in {place.parent} takes or gives other tensors, or "
            "runs on another platform, and all versions of a model have one configuration: choose "
            "another --name"
        )


def _versions(place: Path) -> set[int]:
    if not place.is_dir():
        return set()
    return {int(one.name) for one in place.iterdir() if one.name.isdecimal() and one.is_dir()}


def fill(place: Path, model: RepositoryModel) -> None:
    """Write a version's files into a new directory."""
    place.mkdir(mode=0o755)
    for name, path in model.files.items():
        shutil.copyfile(path, place / name)
    for name, text in model.texts.items():
        (place / name).write_text(text, encoding="utf-8")


def publish(staged: Path, place: Path, model: RepositoryModel, version: int) -> Path:
    """Rename a version into place; the configuration comes first, which alone serves nothing."""
    place.mkdir(exist_ok=True)
    with write_atomic(place / CONFIG_NAME) as temporary:
        temporary.write_text(_text(model), encoding="utf-8")
    target = place / str(version)
    if target.exists():
        target.rename(staged.with_name(f"{staged.name}.old"))
    staged.rename(target)
    return target
