"""`samtrt predict DIR FOLDER --boxes FILE`: the boxes of a whole data set into masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from samtrt import tracing
from samtrt.choices import BoxForm, OutputFormat, Segmentation
from samtrt.cli.places import Target, find, is_one
from samtrt.cli.reading import ImageReader, failure, note
from samtrt.cli.runs import DatasetJob, DatasetWork, run_over, settings_of
from samtrt.cluster.places import is_address
from samtrt.datasets.work import Progress, Task
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.cli.options import Engines
    from samtrt.datasets.boxes import Assignment
    from samtrt.datasets.given import Given
    from samtrt.encoding import Image
    from samtrt.formats import Boxes
    from samtrt.formats.polygons import Outline
    from samtrt.predictor import Predictor
    from samtrt.types import Embedding

WORK_SUFFIX = ".samtrt"
"""Of the folder beside OUT.json with what is done of it, for a restart."""


@dataclass(frozen=True)
class DatasetRequest:
    """What was asked for.

    Attributes:
        images: A folder of pictures and embeddings, or one of them; or an address of pictures.
        boxes: A file that names pictures, or a folder of label files.
        form: What it holds, where that can be read two ways.
        output: A COCO file, .json, or a place for all formats.
        formats: What a folder gets beside COCO; None for the default.
        segmentation: How COCO gives masks.
        outline: How near labelme's polygons follow the masks.
        recursive: Whether folders in the folder are searched.
        force: Whether files that samtrt did not write are replaced.
    """

    images: str
    boxes: Path
    form: BoxForm | None
    output: Target
    formats: list[OutputFormat]
    segmentation: Segmentation
    outline: Outline
    recursive: bool
    force: bool


def predict_dataset(
    request: DatasetRequest, read: ImageReader, engines: Engines, ray: str | None
) -> None:
    """Make masks of all boxes; restarts skip pictures that are done with the same boxes.

    Raises:
        typer.Exit: with code 1 where pictures failed, or the file names some that are not there.
    """
    from samtrt.cli.results import is_ours
    from samtrt.datasets.boxes import BoxSource
    from samtrt.datasets.output import DatasetOutput
    from samtrt.embeddings import SUFFIX
    from samtrt.files import check_ours
    from samtrt.formats.annotation import Categories

    place, annotations = request.output, None
    if place.folder.suffix.lower() == ".json":
        annotations = place.folder
        place = Target(annotations.with_name(annotations.name + WORK_SUFFIX))
        check_ours(annotations, is_ours, request.force)
    # Boxes are assigned before any worker has a file: an embedding would have to be opened for it.
    more = () if is_address(request.images) else (SUFFIX,)
    sources = find([request.images], ray, more, request.recursive, leave_out=place)
    if notice := sources.notice():
        note(notice)
    boxes = BoxSource(request.boxes, request.form)
    for notice in boxes.notices:
        note(f"note: {request.boxes}: {notice}")
    assigned = boxes.assign(sources.found)
    failed = _tell(assigned, request)
    place.claim(request.force)
    files = DatasetOutput(
        *(place.folder, request.formats, {}, request.force),
        categories=Categories.of_boxes(boxes.listing.kinds(), boxes.listing.categories),
        unique_ids=boxes.listing.unique_ids,
        annotations=annotations,
        polygons=request.segmentation is Segmentation.POLYGONS,
        outline=request.outline,
        address=place.address,
    )
    tasks = [Task(source, given) for source, given in assigned.found.items()]
    failed += run_over(BoxJob(engines, read, files), tasks, place, ray, is_one(request.images))
    if failed:
        raise typer.Exit(1)


def _tell(assigned: Assignment, request: DatasetRequest) -> int:
    """Say which pictures have no boxes and which boxes no pictures; return how many failed."""
    from samtrt.errors import PromptError
    from samtrt.files import counted

    if assigned.unlisted:
        names = _few([one.shown for one in assigned.unlisted])
        count = counted(len(assigned.unlisted), "picture")
        note(f"skipped {count} that {request.boxes} does not name: {names}")
    for source, error in assigned.failed:
        note(failure(source.told, error))
    missing = [] if is_one(request.images) else assigned.missing
    if missing:
        note(
            f"failed: {request.images} does not hold {counted(len(missing), 'picture')} "
            f"that {request.boxes} names: {_few(missing)}"
        )
    if not assigned.found and not assigned.failed:
        raise PromptError(f"{request.boxes} names no picture of {request.images}")
    return len(assigned.failed) + len(missing)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(printable, names[:3])) + more


@dataclass(frozen=True)
class BoxJob(DatasetJob):
    """Makes a mask of each box; tasks are about `GivenBoxes`."""

    command: ClassVar[str] = "predict"

    def around(self, predictor: Predictor) -> DatasetWork:
        categories = [[one.id, one.name] for one in self.files.categories.all]
        settings = {**settings_of(predictor, self.read), "categories": categories}
        return _Work(predictor, replace(self.files, settings=settings), self.read)


class _Work(DatasetWork):
    def is_done(self, task: Task) -> bool:
        return self.files.is_done(task.source, boxes_sha256=task.about.sha256)

    def segment(self, task: Task, given: Given, progress: Progress) -> int:
        source, about = task.source, task.about
        boxes = about.fitted(source, given.size)
        for notice in boxes.notices:
            self.read.tell(f"note: {source.path}: {notice}")
        masks = self._masks(given.image, boxes) if len(boxes) else []
        if empty := sum(not one.area for one in masks):
            self.read.tell(f"note: {source.path}: {empty} of {len(masks)} masks are empty")
        with tracing.span("samtrt.write"):
            self.files.write(source, given, masks, boxes.image, boxes_sha256=about.sha256)
        progress(1, 1)
        return len(masks)

    def _masks(self, image: Image | Embedding, boxes: Boxes) -> list[Any]:
        from samtrt.cli.results import segment
        from samtrt.types import Embedding

        if isinstance(image, Embedding):
            self.predictor.set_embedding(image)
        else:
            self.predictor.set_image(image)
        facts = tuple(one.facts() for one in boxes.items)
        found = segment(self.predictor, {"boxes": boxes.xyxy}, False, facts).found
        masks = []
        for one, box in zip(found, boxes.items, strict=True):
            x1, y1, x2, y2 = (round(side, 3) for side in box.corners)
            prompt = [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)]
            iou = one.more["predicted_iou"]
            masks.append(replace(one, more={"predicted_iou": iou, "prompt_box": prompt}))
        return masks
