"""`samtrt verify`: compare a model directory's masks with the checkpoint's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, PixelWork
from samtrt.cli import screen
from samtrt.cli.json_file import JsonOption, check_json, write_json
from samtrt.cli.options import (
    BackendOption,
    DeviceOption,
    Engines,
    ModelDir,
    PixelsOption,
    ThreadsOption,
    resolve_checkpoint,
)
from samtrt.cli.reading import ForceOption, note
from samtrt.cli.screen import table, working
from samtrt.cli.verify_video import (
    FramesOption,
    NoVideoOption,
    VideoOption,
    clip_to_follow,
    followed,
    video_table,
)

if TYPE_CHECKING:
    from samtrt.types import UInt8Array
    from samtrt.verification.report import Report


def command(
    directory: ModelDir,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            "-c",
            help="The checkpoint that DIR was exported from: a file, or a name as in "
            "'samtrt export'.",
        ),
    ] = None,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = None,
    threads: ThreadsOption = 0,
    pixels: PixelsOption = PixelWork.DEVICE,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "-i", help="Image to compare on; repeatable. Default: built in."),
    ] = None,
    json_path: JsonOption = None,
    min_iou: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least mean IoU, instead of the default.")
    ] = None,
    min_worst_iou: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least IoU of any one mask.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the prompts' positions.")] = 0,
    save_reference: Annotated[
        Path | None,
        typer.Option(help="Write the checkpoint's results to this file, and compare nothing."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Compare with such a file: no checkpoint, no PyTorch, its own seed."),
    ] = None,
    video: VideoOption = None,
    no_video: NoVideoOption = False,
    frames: FramesOption = 10,
    force: ForceOption = False,
) -> None:
    """Compare a model directory's masks with the checkpoint's; exit with 1 where they differ.

    On images, and where DIR has graphs for videos, objects followed through a clip.
    """
    from samtrt import assets
    from samtrt.files import check_ours
    from samtrt.manifest import Manifest
    from samtrt.verification import compare as verifying
    from samtrt.verification.reference import is_reference, load_reference, record
    from samtrt.verification.video import compare_video

    if video and no_video:
        raise typer.BadParameter("--video names what --no-video leaves out: give one")
    if (checkpoint is None) is (reference is None):
        raise typer.BadParameter("give either --checkpoint or --reference")
    if save_reference and reference:
        raise typer.BadParameter("--save-reference writes what --reference reads: give one")
    if save_reference:
        check_ours(save_reference, is_reference, force)
    check_json(json_path, _REPORT, force)
    images = _read_images(image or []) or assets.verification_images()
    path = str(resolve_checkpoint(checkpoint)) if checkpoint else None  # once for both models
    official = Engines(directory, BackendName.PYTORCH, "cpu", threads, path)
    engines = Engines(directory, backend, device, threads, path, pixels)
    clip = None
    if not no_video:
        clip = clip_to_follow(
            official if save_reference else engines, Manifest.load(directory), video, frames
        )
    if save_reference:
        with working("loading the checkpoint") as tell:
            found = (clip, followed(official, clip, tell)) if clip else None
            record(save_reference, official.load(), images, seed, tell, found)
        note(f"written to {save_reference}")
        return
    with working("loading both models") as tell:
        candidate = engines.load()
        if reference:
            stored = load_reference(reference, candidate.manifest, images)
            expected, seed = stored.predictor, stored.seed
        else:
            expected = official.load()
        limits = verifying.thresholds_for(candidate)
        if min_iou is not None:
            limits = replace(limits, mean_iou=min_iou)
        if min_worst_iou is not None:
            limits = replace(limits, worst_iou=min_worst_iou)
        report = verifying.verify(expected, candidate, images, limits, seed, tell)
        candidate.close()
        if clip:
            theirs = stored.followed(clip) if reference else followed(official, clip, tell)
            ours = followed(engines, clip, tell)
            report = report.with_video(compare_video(clip, theirs, ours))
    write_json(json_path, report.as_json())
    show(report)
    if not report.passed:
        raise typer.Exit(1)


_REPORT = b'{\n  "summary": {\n    "passed": '


def _read_images(paths: list[Path]) -> dict[str, UInt8Array]:
    """Read images by name: that of the file, or its path where several files have that name."""
    from samtrt.errors import VerificationError
    from samtrt.images import read_image

    often = Counter(path.name for path in paths)
    images: dict[str, UInt8Array] = {}
    known: dict[Path, Path] = {}
    for path in paths:
        if (other := known.setdefault(path.resolve(), path)) is not path:
            raise VerificationError(f"{other} and {path} are one image: give each once")
        images[path.name if often[path.name] == 1 else str(path)] = read_image(path)
    return images


def show(report: Report) -> None:
    """Print a report as two tables and a verdict."""
    from rich.markup import escape

    maps = table("image", "size", "embedding, max abs", "relative")
    for item in report.embeddings:
        size = f"{item.size[1]} x {item.size[0]}"
        maps.add_row(escape(item.label), size, f"{item.max_abs:.2e}", f"{item.relative:.2e}")
    masks = table("prompt", "logits", "mean IoU", "worst", "scores", "order", "choice")
    for prompt in dict.fromkeys(result.prompt for result in report.prompts):
        same = [result for result in report.prompts if result.prompt == prompt]
        ious = [iou for result in same for iou in result.ious]
        masks.add_row(
            prompt,
            f"{max(r.logits_relative for r in same):.1e}",
            f"{fmean(ious):.5f}",
            f"{min(ious):.5f}",
            f"{max(r.scores_max_abs for r in same):.1e}",
            f"{sum(r.pairs_differing for r in same)}/{sum(r.pairs for r in same)}",
            f"{sum(r.choices_differing for r in same)}/{sum(r.choices for r in same)}",
        )
    screen.show(
        f"preparation: {report.preparation}",
        f"[bold]{report.model} {report.precision} on {report.backend} ({report.device})[/]",
        maps,
        "",
        masks,
        "[dim]logits: relative difference; scores: largest difference; order, choice: of\n"
        "how many pairs of scores and of how many best masks they differ[/]",
    )
    if report.video:
        height, width = report.video.size
        screen.show(
            "",
            f"objects followed through {escape(report.video.clip)}, {width} x {height}",
            video_table(report.video),
            "[dim]presence: of how many objects one side finds something and the other nothing[/]",
        )
    if report.passed:
        screen.show("[green]verified[/]: the engines give the checkpoint's masks")
    for failure in report.failures:
        screen.show(f"[red]failed[/]: {escape(failure)}")
