"""`samtrt auto`: masks of everything in an image or a folder of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samtrt.choices import SPECKS, BackendName, PixelWork, Segmentation
from samtrt.cli.devices import DevicesOption, on_each
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    ModelDir,
    PixelsOption,
    SpecksOption,
    ThreadsOption,
    load_predictor,
)
from samtrt.cli.reading import (
    BackgroundOption,
    ForceOption,
    ImageReader,
    RecursiveOption,
    ValueRangeOption,
    note,
)
from samtrt.cli.runs import Tally, do_images, load_given, run_over, settings_of, tell_end
from samtrt.cli.writing import (
    DEFAULT_FORMATS,
    MinAreaOption,
    SegmentationOption,
    ToleranceOption,
    outline_of,
    parse_formats,
)

if TYPE_CHECKING:
    from samtrt.automatic.generator import AutomaticMaskGenerator, Progress
    from samtrt.datasets.given import Given
    from samtrt.datasets.output import DatasetOutput
    from samtrt.predictor import Predictor
    from samtrt.sources import Source


def command(
    directory: ModelDir,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGE|FOLDER", help="Pictures, or files of 'samtrt embed'.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the results.")],
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
    recursive: RecursiveOption = False,
    value_range: ValueRangeOption = None,
    background: BackgroundOption = "white",
    force: ForceOption = False,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DevicesOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    checkpoint: CheckpointOption = None,
) -> None:
    """Find the masks of everything in each image.

    A restart skips images that are done; one that fails, whatever failed, is reported, and the
    exit code is then 1 once all others are done.
    """
    from samtrt.datasets.output import DatasetOutput, claim_directory
    from samtrt.embeddings import SUFFIX
    from samtrt.sources import find_sources

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
    }
    chosen, outline = parse_formats(formats), outline_of(polygon_tolerance, polygon_min_area)
    read = ImageReader(value_range, background)
    sources = find_sources([images], (SUFFIX,), recursive, leave_out=output)
    if notice := sources.notice():
        note(notice)
    claim_directory(output, force)
    load = partial(
        load_predictor, directory, backend, threads=threads, checkpoint=checkpoint, pixels=pixels
    )
    place = partial(
        DatasetOutput,
        output,
        chosen,
        force=force,
        polygons=segmentation is Segmentation.POLYGONS,
        outline=outline,
    )
    work = partial(_work, load, read, options, place)
    begun, found = time.monotonic(), sources.found
    if device is not None and "," in device:
        shares = on_each(partial(work, several=True), device, found)
        files, tally = shares[0]
        for other, counted in shares[1:]:
            files.join(other)
            tally.add(counted)
        merged = files.merge(found) if tally.done or tally.skipped else None
        tell_end(tally, time.monotonic() - begun, merged)
    else:
        _, tally = work(device, found, single=not images.is_dir())
    if tally.failed:
        raise typer.Exit(1)


def _work(
    load: Callable[..., Predictor],
    read: ImageReader,
    options: dict[str, Any],
    place: Callable[..., DatasetOutput],
    device: str | None,
    sources: Sequence[Source],
    *,
    single: bool = False,
    several: bool = False,
) -> tuple[DatasetOutput, Tally]:
    """Find the masks of images on one device; one of several leaves the end of the run to others.

    Args:
        load: Opens the model on a device.
        read: Reads images.
        options: Of the generator.
        place: Makes the output directory's files of the settings.
        device: Where.
        sources: The images.
        single: As in `run_over`.
        several: Whether there are more.
    """
    from samtrt.automatic.generator import AutomaticMaskGenerator

    with load(device=device) as predictor:
        generator = AutomaticMaskGenerator(predictor, output_mode="coco_rle", **options)
        settings = {
            **settings_of(predictor, read),
            **{name: value for name, value in options.items() if name != "points_per_batch"},
            "pred_iou_thresh": generator.thresholds.pred_iou,
            "stability_score_thresh": generator.thresholds.stability,
        }
        files = place(settings=settings)
        waiting = [source for source in sources if not files.is_done(source)]
        given = partial(load_given, predictor=predictor, read=read)
        segment = partial(_segment, generator=generator, files=files, read=read)
        tally = Tally(skipped=len(sources) - len(waiting))
        if several:
            do_images(waiting, read, given, segment, tally, shows=False)
        else:
            run_over(waiting, sources, files, read, given, segment, single, tally)
    read.tell = note  # not of a bar that is gone, and which no other process can be told of
    return files, tally


def _segment(
    source: Source,
    given: Given,
    progress: Progress,
    generator: AutomaticMaskGenerator,
    files: DatasetOutput,
    read: ImageReader,
) -> int:
    """Find and write one image's masks; return how many there are."""
    from samtrt.formats.annotation import of_records

    masks = of_records(generator.generate(given.image, progress))
    files.write(source, given, masks)
    if not masks:
        kept = generator.thresholds
        read.tell(
            f"{source.path}: no mask has a predicted IoU above {kept.pred_iou:g} and a stability "
            f"of at least {kept.stability:g}; try a lower --pred-iou-thresh or "
            "--stability-score-thresh, or a higher --points-per-side for small things"
        )
    return len(masks)
