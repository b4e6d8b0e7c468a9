"""`samtrt auto`: masks of everything in an image or a folder of images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from samtrt import tracing
from samtrt.choices import SPECKS, BackendName, JpegWork, PixelWork, Segmentation
from samtrt.cli.devices import DevicesOption
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    Engines,
    JpegOption,
    ModelDir,
    PixelsOption,
    RayOption,
    SpecksOption,
    ThreadsOption,
)
from samtrt.cli.places import find, is_one, target
from samtrt.cli.reading import (
    BackgroundOption,
    ForceOption,
    ImageReader,
    RecursiveOption,
    ValueRangeOption,
    note,
)
from samtrt.cli.runs import DatasetJob, DatasetWork, run_over, settings_of
from samtrt.cli.writing import (
    DEFAULT_FORMATS,
    MinAreaOption,
    SegmentationOption,
    ToleranceOption,
    outline_of,
    parse_formats,
)

if TYPE_CHECKING:
    from samtrt.automatic.generator import AutomaticMaskGenerator
    from samtrt.datasets.given import Given
    from samtrt.datasets.output import DatasetOutput
    from samtrt.datasets.work import Progress, Task
    from samtrt.predictor import Predictor


def command(
    directory: ModelDir,
    images: Annotated[
        str, typer.Argument(metavar="IMAGE|FOLDER", help="Pictures, or files of 'samtrt embed'.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Directory for the results.")],
    formats: Annotated[
        str, typer.Option("--formats", "-f", help="What to write beside COCO JSON, or 'none'.")
    ] = DEFAULT_FORMATS,
    segmentation: SegmentationOption = Segmentation.RLE,
    polygon_tolerance: ToleranceOption = 1.0,
    polygon_min_area: MinAreaOption = 16.0,
    points_per_side: Annotated[
        int, typer.Option(min=1, help="The grid has this many points squared.")
    ] = 32,
    points_per_batch: Annotated[
        int, typer.Option(min=1, help="Points whose masks are held in memory at once.")
    ] = 64,
    pred_iou_thresh: Annotated[
        float | None,
        typer.Option(
            help="Keep masks whose predicted IoU is higher.", show_default="the model's own"
        ),
    ] = None,
    stability_score_thresh: Annotated[
        float | None,
        typer.Option(help="Keep masks at least this stable.", show_default="the model's own"),
    ] = None,
    stability_score_offset: Annotated[
        float, typer.Option(help="Change of the threshold that stability is tested with.")
    ] = 1.0,
    box_nms_thresh: Annotated[
        float, typer.Option(help="Box IoU above which masks are duplicates.")
    ] = 0.7,
    crop_n_layers: Annotated[
        int, typer.Option(min=0, help="Also search 4, 16 .. overlapping crops.")
    ] = 0,
    crop_nms_thresh: Annotated[
        float, typer.Option(help="As --box-nms-thresh, between crops.")
    ] = 0.7,
    crop_overlap_ratio: Annotated[
        float,
        typer.Option(help="Overlap of crops, a share of the shorter side.", show_default="0.341"),
    ] = 512 / 1500,
    crop_n_points_downscale_factor: Annotated[
        int, typer.Option(min=1, help="Points per side shrink by this with each layer of crops.")
    ] = 1,
    min_mask_region_area: Annotated[
        int, typer.Option(min=0, help="Remove smaller holes and islands, in pixels.")
    ] = 0,
    specks: SpecksOption = SPECKS,
    use_m2m: Annotated[
        bool, typer.Option("--use-m2m", help="Refine each mask once, by the decoder (SAM 2).")
    ] = False,
    multimask_output: Annotated[
        bool,
        typer.Option(
            "--multimask-output/--no-multimask-output",
            help="Three masks a point, or one (SAM 2, SAM-HQ).",
        ),
    ] = True,
    recursive: RecursiveOption = False,
    value_range: ValueRangeOption = None,
    background: BackgroundOption = "white",
    force: ForceOption = False,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DevicesOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    jpeg: JpegOption = JpegWork.HOST,
    checkpoint: CheckpointOption = None,
    ray: RayOption = None,
) -> None:
    """Find the masks of everything in each image.

    A restart skips images that are done; one that fails, whatever failed, is reported, and the
    exit code is then 1 once all others are done.
    """
    from samtrt.datasets.output import DatasetOutput
    from samtrt.datasets.work import Task
    from samtrt.embeddings import SUFFIX

    options: dict[str, Any] = {
        "points_per_side": points_per_side,
        "points_per_batch": points_per_batch,
        "pred_iou_thresh": pred_iou_thresh,
        "stability_score_thresh": stability_score_thresh,
        "stability_score_offset": stability_score_offset,
        "box_nms_thresh": box_nms_thresh,
        "crop_n_layers": crop_n_layers,
        "crop_nms_thresh": crop_nms_thresh,
        "crop_overlap_ratio": crop_overlap_ratio,
        "crop_n_points_downscale_factor": crop_n_points_downscale_factor,
        "min_mask_region_area": min_mask_region_area,
        "specks": specks,
        "use_m2m": use_m2m,
        "multimask_output": multimask_output,
    }
    engines = Engines(directory, backend, device, threads, checkpoint, pixels).on_cluster(ray)
    place = target(output, ray)
    files = DatasetOutput(
        *(place.folder, parse_formats(formats), {}, force),
        polygons=segmentation is Segmentation.POLYGONS,
        outline=outline_of(polygon_tolerance, polygon_min_area),
        address=place.address,
    )
    job = AutoJob(
        engines,
        ImageReader(value_range, background, jpeg),
        files,
        options,
    )
    sources = find([images], ray, (SUFFIX,), recursive, leave_out=place)
    if notice := sources.notice():
        note(notice)
    place.claim(force)
    tasks = [Task(source) for source in sources.found]
    if run_over(job, tasks, place, ray, single=is_one(images)):
        raise typer.Exit(1)


@dataclass(frozen=True)
class AutoJob(DatasetJob):
    """Finds the masks of everything in each image.

    Attributes:
        options: Of `AutomaticMaskGenerator`.
    """

    options: dict[str, Any]
    command: ClassVar[str] = "auto"

    def around(self, predictor: Predictor) -> DatasetWork:
        from samtrt.automatic.generator import AutomaticMaskGenerator

        generator = AutomaticMaskGenerator(predictor, output_mode="coco_rle", **self.options)
        settings = {
            **settings_of(predictor, self.read),
            **{name: value for name, value in self.options.items() if name != "points_per_batch"},
            "pred_iou_thresh": generator.thresholds.pred_iou,
            "stability_score_thresh": generator.thresholds.stability,
        }
        return _Work(predictor, replace(self.files, settings=settings), self.read, generator)


class _Work(DatasetWork):
    def __init__(
        self,
        predictor: Predictor,
        files: DatasetOutput,
        read: ImageReader,
        generator: AutomaticMaskGenerator,
    ) -> None:
        super().__init__(predictor, files, read)
        self._generator = generator

    def segment(self, task: Task, given: Given, progress: Progress) -> int:
        from samtrt.formats.annotation import of_records

        masks = of_records(self._generator.generate(given.image, progress))
        with tracing.span("samtrt.write"):
            self.files.write(task.source, given, masks)
        if not masks:
            kept = self._generator.thresholds
            self.read.tell(
                f"{task.source.path}: no mask has a predicted IoU above {kept.pred_iou:g} and a "
                f"stability of at least {kept.stability:g}; try a lower --pred-iou-thresh or "
                "--stability-score-thresh, or a higher --points-per-side for small things"
            )
        return len(masks)
