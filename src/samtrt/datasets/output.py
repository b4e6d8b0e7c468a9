"""The files of a run over many images: what is written for each, and what a restart skips.

OUT/annotations.json     COCO dataset of all images of the run
OUT/coco/NAME.json       COCO dataset of one image; written last, it marks the image as done, and
                         has the hashes of the image, of the other files and of itself
OUT/overlay/NAME.png     the picture with its masks drawn
OUT/labelmap/NAME.png    mask numbers, with a palette or, with more than 255 masks, 16 bits
OUT/labelme/NAME.json    polygons for labelme
OUT/yolo/                data.yaml, images/, labels/ and facts.csv for YOLO segmentation
OUT/panoptic.json        COCO's panoptic form, with panoptic/NAME.png
OUT/cvat.xml             CVAT for images 1.1
OUT/labelstudio.json     Label Studio's tasks, with labelstudio.xml
OUT/geojson/NAME.geojson polygons in longitude and latitude
OUT/geotiff/NAME.tif     mask numbers where the picture lies
OUT/.samtrt              says that the directory is ours
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from samtrt._version import __version__
from samtrt.choices import OutputFormat
from samtrt.datasets.given import Given
from samtrt.datasets.image_files import PLACES, as_json, write_image_file
from samtrt.datasets.marker import (
    FILES,
    OWN,
    SEGMENTS,
    hashes_in,
    is_as_written,
    is_whole,
    own_hash,
    read_marker,
)
from samtrt.datasets.merged import Numbered, Numbers, write_merged
from samtrt.datasets.pictures import PICTURE_SUFFIXES, provide_picture
from samtrt.embeddings import is_embedding_file
from samtrt.errors import OutputError
from samtrt.files import sha256_of, write_atomic
from samtrt.formats.annotation import ANY_OBJECT, AnnotatedImage, Annotation, Categories
from samtrt.formats.coco import coco_dataset, read_coco_dataset
from samtrt.formats.polygons import Outline
from samtrt.sources import Source


@dataclass(frozen=True)
class DatasetOutput:
    """Writes results under one directory.

    Attributes:
        directory: OUT.
        formats: What to write beside COCO JSON.
        settings: All that the masks depend on beside the image: model, precision, thresholds.
            Results of other settings do not count as done.
        force: Whether files are replaced that were changed since they were written.
        categories: The classes of all masks.
        unique_ids: Whether masks keep the ids that they came with, as none is there twice.
        annotations: Where the COCO dataset of all images goes, if not to OUT/annotations.json.
        polygons: Whether its masks are polygons instead of RLE.
        outline: How near labelme's polygons follow the masks.
        address: Where the files are brought when they are written, such as s3://bucket/masks; empty
            where they stay in `directory`.
    """

    directory: Path
    formats: Sequence[OutputFormat]
    settings: dict[str, Any]
    force: bool = False
    categories: Categories = ANY_OBJECT
    unique_ids: bool = False
    annotations: Path | None = None
    polygons: bool = False
    outline: Outline = field(default_factory=Outline)
    address: str = ""
    _done: set[Path] = field(default_factory=set)
    """Images whose results are there and are of this run's settings."""

    def path(self, source: Source, kind: OutputFormat) -> Path:
        """Return where `source`'s file of a format goes."""
        return self._place(source, *PLACES[kind])

    def marker(self, source: Source) -> Path:
        """Return where `source`'s COCO JSON goes."""
        return self._place(source, "coco", ".json")

    def _place(self, source: Source, folder: str, suffix: str) -> Path:
        return self.directory / folder / source.name.with_name(source.name.name + suffix)

    def formats_of(self, source: Source) -> list[OutputFormat]:
        """Return the formats with a file for an image: an embedding has no pixels to draw on."""
        return [
            kind
            for kind in self.formats
            if kind in PLACES
            and (kind is not OutputFormat.OVERLAY or not is_embedding_file(source.path))
        ]

    def is_done(self, source: Source, **more: Any) -> bool:
        """Tell whether every file of `source` is as written, of this image with these settings.

        `more` is what the masks of this image alone depend on, such as its boxes.
        """
        dataset = read_marker(self.marker(source))
        if dataset is None:
            return False
        try:
            sha256 = sha256_of(source.path)
            done = is_as_written(dataset, self._info(source, sha256, more)) and all(
                hashes_in(dataset).get(kind.value) == sha256_of(self.path(source, kind))
                for kind in self.formats_of(source)
            )
            done = done and (OutputFormat.YOLO not in self.formats or self._has_picture(source))
        except OSError:  # of the image: whoever reads it next will report it
            return False
        if done:
            self.note_done(source)
        return done

    def note_done(self, source: Source) -> None:
        """Count an image as done, so that the files about all images have it."""
        self._done.add(source.path)

    def counts(self, source: Source) -> bool:
        """Tell whether an image counts as done."""
        return source.path in self._done

    def paths(self, source: Source) -> list[Path]:
        """Return where the files of `source` may be, last the one that marks it as done."""
        paths = [self.path(source, kind) for kind in self.formats_of(source)]
        if OutputFormat.YOLO in self.formats:
            paths += [self._place(source, "yolo/images", suffix) for suffix in PICTURE_SUFFIXES]
        return [*paths, self.marker(source)]

    def _has_picture(self, source: Source) -> bool:
        """Tell whether YOLO's data set has the picture; of an embedding there may be none."""
        place = self._place(source, "yolo/images", "")
        return is_embedding_file(source.path) or any(
            place.with_name(place.name + suffix).is_file() for suffix in PICTURE_SUFFIXES
        )

    def _check_unchanged(self, source: Source) -> None:
        """Raise `OutputError` where a file that would be replaced was changed, as by hand."""
        marker = self.marker(source)
        dataset = read_marker(marker)  # a damaged one is made anew
        hashes = hashes_in(dataset)
        changed = [marker] if dataset and OWN in hashes and not is_whole(dataset) else []
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

    def write(
        self,
        source: Source,
        given: Given,
        masks: Sequence[Annotation],
        about: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Write one image's files, each whole or not at all.

        Args:
            source: Which image or embedding.
            given: What was read of it.
            masks: Its masks.
            about: What a file said of the picture.
            more: As `is_done` takes it.

        Raises:
            OutputError: where a file cannot be written.
        """
        name, picture = source.shown, source.path
        if given.picture_name is not None:
            picture = picture.with_name(given.picture_name)
            name = PurePath(name).with_name(picture.name).as_posix()
        if not self.force:
            self._check_unchanged(source)
        image = AnnotatedImage(name, given.size, masks, about or {})
        hashes, noted = {}, {}
        for kind in self.formats_of(source):
            path = self.path(source, kind)
            with write_atomic(path) as temporary:
                link = self._link(source, picture, path)
                segments = write_image_file(
                    temporary,
                    kind,
                    image,
                    picture,
                    given.pixels,
                    link,
                    self.categories,
                    self.outline,
                )
            if segments is not None:
                noted[SEGMENTS] = segments
            hashes[kind.value] = sha256_of(path)
        if OutputFormat.YOLO in self.formats:
            provide_picture(picture, self._place(source, "yolo/images", ""), given.pixels)
        info = {**self._info(source, given.sha256, more), **noted, FILES: hashes}
        dataset = coco_dataset(image, self.categories, info)
        hashes[OWN] = own_hash(dataset)
        with write_atomic(self.marker(source)) as temporary:
            temporary.write_text(as_json(dataset), encoding="utf-8")
        self.note_done(source)

    def _link(self, source: Source, picture: Path, path: Path) -> str:
        """Return how a file that goes to `path` names its picture: relative to itself, or by the
        picture's whole path or address where the two are in different stores."""
        if not self.address and not source.place:
            return Path(os.path.relpath(picture.resolve(), path.parent.resolve())).as_posix()
        if not source.place:
            return str(picture.absolute())
        there = f"{source.place}/{PurePath(source.shown).with_name(picture.name).as_posix()}"
        here = f"{self.address}/{path.relative_to(self.directory).parent.as_posix()}"
        if there.split("/")[:3] != here.split("/")[:3]:
            return there
        return posixpath.relpath(there, here)

    def merge(self, sources: Iterable[Source]) -> Path:
        """Write the files about all of `sources` that were found or made done, in their order.

        Returns:
            Where the COCO dataset is.
        """
        path = self.annotations or self.directory / "annotations.json"
        write_merged(
            self.directory,
            path,
            self.formats,
            self._numbered(sources),
            self.categories,
            {"description": f"Masks by samtrt {__version__}", **self.settings},
            self.polygons,
        )
        return path

    def _numbered(self, sources: Iterable[Source]) -> Iterator[Numbered]:
        numbers = Numbers(self.unique_ids)
        for source in sources:
            data = read_marker(self.marker(source)) if self.counts(source) else None
            if data is None:
                continue
            image = read_coco_dataset(data)
            yield Numbered(
                image,
                numbers.image(image),
                numbers.masks(image.annotations),
                data["info"].get("segments", []),
                source.name.as_posix(),
            )

    def _info(self, source: Source, sha256: str, more: dict[str, Any]) -> dict[str, Any]:
        return {
            **self.settings,
            "outline": [self.outline.tolerance, self.outline.min_area],
            "source": source.shown,
            "source_sha256": sha256,
            **more,
        }
