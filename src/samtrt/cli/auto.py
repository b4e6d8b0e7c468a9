"""`samtrt auto`: masks of everything in an image or a folder of images."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samtrt.choices import BackendName, PixelWork
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    ModelDir,
    PixelsOption,
    ThreadsOption,
    load_predictor,
)
from samtrt.cli.reading import (
    BackgroundOption,
    ForceOption,
    ImageReader,
    RecursiveOption,
    ValueRangeOption,
    failure,
    note,
)
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.automatic.generator import AutomaticMaskGenerator, Progress
    from samtrt.automatic.output import AutoOutput, Given
    from samtrt.predictor import Predictor
    from samtrt.sources import Source

_FORMATS = "overlay,labelmap,labelme,yolo"


def command(
    directory: ModelDir,
    images: Annotated[
        Path, typer.Argument(metavar="IMAGE|FOLDER", help="Pictures, or files of 'samtrt embed'.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the results.")],
    formats: Annotated[
        str, typer.Option("--formats", "-f", help="What to write beside COCO JSON, or 'none'.")
    ] = _FORMATS,
    points_per_side: Annotated[
        int, typer.Option(min=1, help="The grid has this many points squared.")
    ] = 32,
    points_per_batch: Annotated[
        int, typer.Option(min=1, help="Points whose masks are held in memory at once.")
    ] = 64,
    pred_iou_thresh: Annotated[
        float, typer.Option(help="Keep masks whose predicted IoU is higher.")
    ] = 0.88,
    stability_score_thresh: Annotated[
        float, typer.Option(help="Keep masks at least this stable.")
    ] = 0.95,
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
        float, typer.Option(help="Overlap of crops, a share of the shorter side.")
    ] = 512 / 1500,
    crop_n_points_downscale_factor: Annotated[
        int, typer.Option(min=1, help="Points per side shrink by this with each layer of crops.")
    ] = 1,
    min_mask_region_area: Annotated[
        int, typer.Option(min=0, help="Remove smaller holes and islands, in pixels.")
    ] = 0,
    recursive: RecursiveOption = False,
    value_range: ValueRangeOption = None,
    background: BackgroundOption = "white",
    force: ForceOption = False,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    checkpoint: CheckpointOption = None,
) -> None:
    """Find the masks of everything in each image.

    A restart skips images that are done; one that fails, whatever failed, is reported, and the
    exit code is then 1 once all others are done.
    """
    from samtrt.automatic.generator import AutomaticMaskGenerator
    from samtrt.automatic.output import AutoOutput, claim_directory
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
    }
    chosen = _parse_formats(formats)
    read = ImageReader(value_range, background)
    sources = find_sources([images], (SUFFIX,), recursive, leave_out=output)
    if notice := sources.notice():
        note(notice)
    claim_directory(output, force)
    with load_predictor(directory, backend, device, threads, checkpoint, pixels) as predictor:
        generator = AutomaticMaskGenerator(predictor, output_mode="coco_rle", **options)
        settings = {
            **predictor.identity,
            "decoder_precision": predictor.decoder.precision or predictor.manifest.precision.value,
            "mask_threshold": predictor.manifest.mask_threshold,
            **{name: value for name, value in options.items() if name != "points_per_batch"},
            **({"read_as": read.read_as} if read.read_as else {}),
        }
        files = AutoOutput(output, chosen, settings, force)
        failed = _run(generator, files, sources.found, read, single=not images.is_dir())
    if failed:
        raise typer.Exit(1)


def _parse_formats(text: str) -> list[Any]:
    from samtrt.automatic.output import AutoFormat
    from samtrt.errors import OutputError

    names = [] if text == "none" else [name.strip() for name in text.split(",")]
    known = [kind.value for kind in AutoFormat]
    if unknown := [name for name in names if name not in known]:
        raise OutputError(f"unknown format '{unknown[0]}'; use {', '.join(known)} or none")
    return [AutoFormat(name) for name in dict.fromkeys(names)]


def _run(
    generator: AutomaticMaskGenerator,
    files: AutoOutput,
    sources: list[Source],
    read: ImageReader,
    single: bool,
) -> int:
    """Do what is not done; return how many images failed.

    A single image's error is the command's own; in a folder it is reported and the run goes on.
    """
    from samtrt.encoding import in_order

    begun, masks, failed = time.monotonic(), 0, 0
    waiting = [source for source in sources if not files.is_done(source)]
    done = skipped = len(sources) - len(waiting)
    try:
        # The next image is read while this one is segmented.
        work = partial(_read, predictor=generator.predictor, read=read)
        with (
            _Bar(len(waiting)) as bar,
            closing(in_order(waiting, work, workers=1, ahead=1)) as ready,
        ):
            read.tell = bar.print
            for source, future in ready:
                try:
                    masks += _segment(generator, files, source, future.result(), bar.part)
                    done += 1
                except Exception as error:
                    if single:
                        raise
                    failed += 1
                    bar.print(failure(source.path, error))
                bar.next()
    finally:  # also when interrupted: what is done stays usable
        merged = files.merge(sources) if done else None
    parts = [f"{done - skipped} images, {masks} masks in {time.monotonic() - begun:.1f} s"]
    parts += [f"{skipped} done before"] if skipped else []
    parts += [f"{failed} failed"] if failed else []
    typer.echo("; ".join(parts))
    if merged:
        typer.echo(printable(merged))
    return failed


def _read(source: Source, predictor: Predictor, read: ImageReader) -> Given:
    from samtrt.automatic.output import Given
    from samtrt.embeddings import is_embedding_file, read_embedding

    if is_embedding_file(source.path):
        stored = read_embedding(source.path, predictor)
        return Given(stored.embedding, stored.sha256, stored.info.image_name)
    picture = read.picture(source.path)
    return Given(picture.pixels, picture.sha256)


def _segment(
    generator: AutomaticMaskGenerator,
    files: AutoOutput,
    source: Source,
    given: Given,
    progress: Progress,
) -> int:
    """Find and write one image's masks; return how many there are."""
    records = generator.generate(given.image, progress)
    files.write(source, given, records)
    return len(records)


class _Bar:
    """A progress bar over images, on a terminal, with the time left."""

    def __init__(self, images: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.completed:.1f} of {task.total:.0f} images"),
            BarColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("images", total=images)
        self._images = 0

    def part(self, done: int, total: int) -> None:
        """Show how far the current image is."""
        self._bar.update(self._task, completed=self._images + done / total)

    def next(self) -> None:
        """Show the current image as finished."""
        self._images += 1
        self._bar.update(self._task, completed=self._images)

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(f"samtrt: {printable(line)}", markup=False, soft_wrap=True)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
