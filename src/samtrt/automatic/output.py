"""The files of a run of automatic masks: what is written for each image, and what a restart skips.

OUT/annotations.json     COCO dataset of all images of the run
OUT/coco/NAME.json       COCO dataset of one image; written last, it marks the image as done, and
                         has the hashes of the image, of the other files and of itself
OUT/overlay/NAME.png     the picture with its masks drawn
OUT/labelmap/NAME.png    mask numbers, 8 bits a pixel or, with more than 255 masks, 16
OUT/labelme/NAME.json    polygons for labelme
OUT/yolo/NAME.txt        polygons for YOLO segmentation
OUT/.samtrt              says that the directory is ours
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.embeddings import is_embedding_file
from samtrt.errors import OutputError
from samtrt.files import sha256_of, write_atomic
from samtrt.formats.coco import coco_dataset, merge_coco
from samtrt.formats.labelmap import label_map
from samtrt.formats.labelme import labelme_document
from samtrt.formats.yolo import yolo_labels
from samtrt.masks import rle
from samtrt.masks.drawing import colour_of, draw_masks
from samtrt.masks.record import MaskRecord
from samtrt.sources import Source
from samtrt.types import Embedding, Size, UInt8Array


class AutoFormat(str, Enum):
    """What `samtrt auto` writes beside COCO JSON, each in a directory of its name."""

    OVERLAY = "overlay"
    LABELMAP = "labelmap"
    LABELME = "labelme"
    YOLO = "yolo"


_SUFFIXES = {
    AutoFormat.OVERLAY: ".png",
    AutoFormat.LABELMAP: ".png",
    AutoFormat.LABELME: ".json",
    AutoFormat.YOLO: ".txt",
}


@dataclass(frozen=True)
class Given:
    """What was read of an image's or an embedding's file.

    Attributes:
        image: The picture, RGB, uint8 [H, W, 3], or the embedding of one.
        sha256: Hash of the file's bytes, those that were read.
        picture_name: Of an embedding, the name of its picture's file.
    """

    image: UInt8Array | Embedding
    sha256: str
    picture_name: str | None = None

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        if isinstance(self.image, Embedding):
            return self.image.original_size
        return self.image.shape[:2]


@dataclass(frozen=True)
class AutoOutput:
    """Writes results under one directory.

    Attributes:
        directory: OUT.
        formats: What to write beside COCO JSON.
        settings: All that the masks depend on beside the image: model, precision, thresholds.
            Results of other settings do not count as done.
        force: Whether files are replaced that were changed since they were written.
    """

    directory: Path
    formats: Sequence[AutoFormat]
    settings: dict[str, Any]
    force: bool = False
    _hashes: dict[Path, str] = field(default_factory=dict)
    """Of the images whose results are there and are of this run's settings."""

    def path(self, source: Source, kind: AutoFormat) -> Path:
        """Return where `source`'s file of a format goes."""
        return self._place(source, kind.value, _SUFFIXES[kind])

    def marker(self, source: Source) -> Path:
        """Return where `source`'s COCO JSON goes."""
        return self._place(source, "coco", ".json")

    def _place(self, source: Source, kind: str, suffix: str) -> Path:
        return self.directory / kind / source.name.with_name(source.name.name + suffix)

    def formats_of(self, source: Source) -> list[AutoFormat]:
        """Return the formats that can be written: an embedding has no pixels to draw on."""
        return [
            kind
            for kind in self.formats
            if kind is not AutoFormat.OVERLAY or not is_embedding_file(source.path)
        ]

    def is_done(self, source: Source) -> bool:
        """Tell whether every file of `source` is as written, of this image with these settings."""
        dataset = _read_dataset(self.marker(source))
        try:
            sha256 = sha256_of(source.path)
            done = _is_as_written(dataset, self._info(source, sha256)) and all(
                _hashes_in(dataset).get(kind.value) == sha256_of(self.path(source, kind))
                for kind in self.formats_of(source)
            )
        except OSError:  # of the image: whoever reads it next will report it
            return False
        if done:
            self._hashes[source.path] = sha256
        return done

    def _check_unchanged(self, source: Source) -> None:
        """Raise `OutputError` where a file that would be replaced was changed, as by hand."""
        marker = self.marker(source)
        dataset = _read_dataset(marker)  # a damaged one is made anew
        hashes = _hashes_in(dataset)
        changed = [marker] if dataset and _OWN in hashes and not _is_whole(dataset) else []
        for kind in self.formats_of(source):
            path = self.path(source, kind)
            before = hashes.get(kind.value)
            if before and path.is_file() and path.stat().st_size and sha256_of(path) != before:
                changed.append(path)
        if changed:
            raise OutputError(
                f"{changed[0]} was changed since samtrt wrote it: move it away, or replace it with "
                "--force"
            )

    def write(self, source: Source, given: Given, records: Sequence[MaskRecord]) -> None:
        """Write one image's files, each whole or not at all.

        Args:
            source: Which image or embedding.
            given: What was read of it.
            records: Its masks, `output_mode="coco_rle"`.

        Raises:
            OutputError: where a file cannot be written.
        """
        name, picture, size = source.shown, source.path, given.size
        if given.picture_name is not None:
            picture = picture.with_name(given.picture_name)
            name = PurePath(name).with_name(picture.name).as_posix()
        if not self.force:
            self._check_unchanged(source)
        hashes = {}
        for kind in self.formats_of(source):
            path = self.path(source, kind)
            if kind is AutoFormat.OVERLAY and not isinstance(given.image, Embedding):
                _write_png(path, draw_records(given.image, records))
            elif kind is AutoFormat.LABELMAP:
                _write_png(path, label_map(records, size))
            elif kind is AutoFormat.LABELME:
                link = os.path.relpath(picture.resolve(), path.parent.resolve())
                _write_json(path, labelme_document(records, Path(link).as_posix(), size))
            elif kind is AutoFormat.YOLO:
                _write_text(path, yolo_labels(records, size))
            hashes[kind.value] = sha256_of(path)
        info = {**self._info(source, given.sha256), _FILES: hashes}
        dataset = coco_dataset(records, name, size, info)
        hashes[_OWN] = _own_hash(dataset)
        _write_json(self.marker(source), dataset)
        self._hashes[source.path] = given.sha256

    def merge(self, sources: Sequence[Source]) -> Path:
        """Write `annotations.json` from the images of this run that are done."""
        datasets = (_read_dataset(self.marker(s)) for s in sources if s.path in self._hashes)
        path = self.directory / "annotations.json"
        _write_json(path, merge_coco(dataset for dataset in datasets if dataset is not None))
        return path

    def _info(self, source: Source, sha256: str) -> dict[str, Any]:
        return {**self.settings, "source": source.shown, "source_sha256": sha256}


_FILES, _OWN = "files", "coco"
"""Where a COCO JSON has the hashes of its image's files, and among them its own."""


def _is_as_written(dataset: dict[str, Any] | None, info: dict[str, Any]) -> bool:
    """Tell whether a COCO JSON is unchanged and of this image with these settings."""
    if dataset is None or not _is_whole(dataset):
        return False
    return {name: value for name, value in dataset["info"].items() if name != _FILES} == info


def _is_whole(dataset: dict[str, Any]) -> bool:
    return _hashes_in(dataset).get(_OWN) == _own_hash(dataset)


def _hashes_in(dataset: dict[str, Any] | None) -> dict[str, Any]:
    info = (dataset or {}).get("info")
    hashes = info.get(_FILES) if isinstance(info, dict) else None
    return hashes if isinstance(hashes, dict) else {}


def _own_hash(dataset: dict[str, Any]) -> str:
    """Hash a COCO JSON by what it says, but for this hash."""
    hashes = {kind: value for kind, value in _hashes_in(dataset).items() if kind != _OWN}
    info = {**dataset["info"], _FILES: hashes}
    text = json.dumps({**dataset, "info": info}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def draw_records(pixels: UInt8Array, records: Sequence[MaskRecord]) -> UInt8Array:
    """Draw masks, each in its number's colour, the large ones first so that small ones show."""
    order = sorted(range(len(records)), key=lambda i: -records[i]["area"])
    masks = (rle.cut(rle.of(records[i]["segmentation"])) for i in order)
    return draw_masks(pixels, masks, [colour_of(i) for i in order])


def _read_dataset(path: Path) -> dict[str, Any] | None:
    """Read one image's COCO JSON; None where it is missing or damaged, and must be made again."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(data, dict) and len(data.get("images", ())) == 1 and "annotations" in data
    return data if whole else None


def _write_json(path: Path, data: dict[str, Any]) -> None:
    _write_text(path, json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_png(path: Path, picture: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
    with write_atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def claim_directory(path: Path, force: bool = False) -> None:
    """Make `path` an output directory, before any work.

    Raises:
        OutputError: where it cannot be one, or holds files of the same places that samtrt did not
            write, such as labels made by hand, and `force` is not set.
    """
    note = path / NOTE
    places = [path / "annotations.json", path / "coco", *(path / kind.value for kind in AutoFormat)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = [place for place in places if place.is_file() or _holds_files(place)]
        if taken and not note.is_file() and not force:
            raise OutputError(
                f"{taken[0]} is there already and was not written by samtrt: choose another "
                "directory, or replace what has the same name with --force"
            )
        if not note.is_file():
            with write_atomic(note) as temporary:
                temporary.write_text("Results of samtrt auto.\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write into {path}: {error.strerror or error}") from None


NOTE = ".samtrt"
"""Name of the file that says that a directory is ours."""


def _holds_files(place: Path) -> bool:
    return place.is_dir() and any(place.iterdir())
