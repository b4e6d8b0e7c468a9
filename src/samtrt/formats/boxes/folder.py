"""A folder of label files, one a picture, as YOLO and labelme keep them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from samtrt.choices import BoxForm
from samtrt.errors import PromptError
from samtrt.files import OUTPUT_NOTE
from samtrt.formats.boxes.names import Names
from samtrt.formats.boxes.opening import OF_SUFFIX, open_boxes, read_text
from samtrt.formats.boxes.types import Box, Kind, Listing, NotListed, Rows, Unreadable, key_of
from samtrt.formats.boxes.yolo import common_form

_NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels")
"""Files beside YOLO labels with the name of a class a line."""


class Folder(Listing):
    """Label files that have the names of pictures, in folders as these are."""

    def __init__(self, folder: Path, form: BoxForm | None = None) -> None:
        """Look through the files.

        Raises:
            PromptError: where the folder has none, or names of classes cannot be told.
        """
        files = list(_label_files(folder))
        if not files:
            raise PromptError(f"{folder} holds no label file ({', '.join(OF_SUFFIX)})")
        self._folder, self._files = folder, files
        self._index = Names([str(file.relative_to(folder).with_suffix("")) for file in files])
        self.notices: list[str] = []
        yolo = [file for file in files if file.suffix.lower() == ".txt"]
        self._form = form or common_form(map(read_text, yolo))
        self._classes: list[str] | None = None
        if yolo and (found := _class_names(folder)):
            source, self._classes = found
            self.notices.append(f"classes are named by {source}")
        self._kinds: set[Kind] = set()
        pictures = []
        for file in files:  # what is no label file has its error when its picture comes
            try:
                listing = self._open(file)
                self._kinds |= set(listing.kinds())
            except (PromptError, Unreadable):
                continue
            pictures.append(str(file.relative_to(folder).with_suffix("")))
        self.pictures = pictures

    def rows(self, name: str) -> Rows:
        """Read the label file of a picture; an empty file says that there is nothing in it."""
        found, assumed = self._index.find(name)
        stem = self._index.name_at(found[0])
        if assumed:
            raise NotListed(f"it has {stem}, which is in another folder than {name}")
        files = [self._files[i] for i in found]
        if len(files) > 1:
            raise Unreadable(f"it has both {files[0].name} and {files[1].name}")
        try:
            rows = self._open(files[0]).rows(name)
        except Unreadable as error:
            raise Unreadable(f"{files[0].name}: {error}") from None
        return replace(rows, picture=stem, image={})

    def kinds(self) -> Iterable[Kind]:
        """Return what the boxes of all files are of."""
        return self._kinds

    def _open(self, file: Path) -> Listing:
        form = self._form if file.suffix.lower() == ".txt" else None
        listing = open_boxes(file, form)
        if file.suffix.lower() == ".txt" and self._classes is not None:
            return _Named(listing, self._classes)
        return listing


class _Named(Listing):
    """YOLO labels whose classes have names."""

    def __init__(self, listing: Listing, names: list[str]) -> None:
        self._listing, self._names = listing, names

    def rows(self, name: str) -> Rows:
        """Return the boxes with names for labels."""
        rows = self._listing.rows(name)
        return replace(rows, boxes=[self._named(box) for box in rows.boxes])

    def kinds(self) -> Iterable[Kind]:
        """Return all classes, used or not."""
        return enumerate(self._names)

    def _named(self, box: Box) -> Box:
        number = box.category_id
        if not isinstance(number, int):
            return box
        if number >= len(self._names):
            raise Unreadable(
                f"{box.where}: its class is {number}, and only {len(self._names)} have names"
            )
        return replace(box, label=self._names[number])


def _label_files(folder: Path) -> Iterator[Path]:
    """Yield what may be label files; not what is hidden, nor what a run of ours wrote within."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not (here / name / OUTPUT_NOTE).is_file()
        )
        for name in sorted(names):
            known = Path(name).suffix.lower() in OF_SUFFIX and name not in _NAME_LISTS
            if known and not name.startswith("."):
                yield here / name


def _class_names(folder: Path) -> tuple[Path, list[str]] | None:
    """Return names of YOLO classes, from a list or a data.yaml beside the labels or above.

    Raises:
        PromptError: where two files of one place differ, or one is damaged.
    """
    here = folder.resolve()
    for place in (here, here.parent, here.parent.parent):
        found = []
        for file in sorted(place.glob("*.y*ml")):
            if names := _names_of_yaml(file):
                found.append((file, names))
        for name in _NAME_LISTS:
            if (file := place / name).is_file():
                lines = [line.strip() for line in read_text(file).splitlines()]
                found.append((file, [line for line in lines if line]))
        if any(names != found[0][1] for _, names in found):
            raise PromptError(
                f"{found[0][0]} and {found[1][0]} name the classes differently: move one away"
            )
        if found:
            return found[0]
    return None


def _names_of_yaml(file: Path) -> list[str] | None:
    """Return `names` of a YOLO data set's description; None where the file is another one."""
    try:
        data: Any = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, dict):
        keys = [key_of(key) for key in names]
        if sorted(map(str, keys)) != sorted(map(str, range(len(names)))):
            raise PromptError(f"{file}: its 'names' are not numbered from 0 on")
        names = [name for _, name in sorted(zip(keys, names.values(), strict=True), key=_number)]
    if not isinstance(names, list) or not names:
        return None
    return [str(name) for name in names]


def _number(pair: tuple[Any, Any]) -> int:
    return int(pair[0])
