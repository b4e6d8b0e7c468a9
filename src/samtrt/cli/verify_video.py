"""Videos in `samtrt verify`: which clip, what both sides find on it, and how that is shown."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from samtrt.choices import BackendName, Target, VideoStage
from samtrt.cli import screen
from samtrt.cli.options import Engines
from samtrt.cli.reading import note

if TYPE_CHECKING:
    from rich.table import Table

    from samtrt.manifest import Manifest
    from samtrt.verification.report import FrameResult, VideoReport
    from samtrt.verification.video import Clip, Followed

ROWS = 4
"""Of the table, for each way through the clip."""

VideoOption = Annotated[
    Path | None,
    typer.Option(
        metavar="VIDEO",
        help="Video or folder of pictures to follow objects through. Default: a clip that is built "
        "in, where DIR has graphs for videos.",
    ),
]
NoVideoOption = Annotated[bool, typer.Option("--no-video", help="Compare images alone.")]
FramesOption = Annotated[
    int, typer.Option("--frames", min=2, help="Frames of the clip, from its first.")
]


def clip_to_follow(
    engines: Engines, manifest: Manifest, video: Path | None, frames: int
) -> Clip | None:
    """Return the clip to compare on, or None where there are no engines that follow objects.

    Raises:
        VerificationError: where a video was named and there are none.
    """
    from samtrt.errors import VerificationError
    from samtrt.verification.video import built_in_clip, clip_of
    from samtrt.video.frames import open_frames

    lacking = _lacking(engines, manifest)
    if lacking and video is not None:
        raise VerificationError(f"{lacking}, which --video needs")
    if lacking:
        if manifest.video is not None:
            note(f"note: images alone are compared: {lacking}")
        return None
    if video is None:
        return built_in_clip(frames)
    with open_frames(video, tell=lambda told: note(f"note: {told}")) as found:
        return clip_of(found.name, found, frames)


def _lacking(engines: Engines, manifest: Manifest) -> str | None:
    from samtrt.tensorrt.engine_files import record_path

    if not {*VideoStage} <= {*manifest.files}:
        return f"{engines.directory} has no graphs for videos (samtrt export --video)"
    if engines.backend in (BackendName.TENSORRT, BackendName.TENSORRT_RTX):
        target = Target(engines.backend.value)
        if not any(record_path(engines.directory, one, target).exists() for one in VideoStage):
            return f"{engines.directory} has no {target.value} engines for videos (samtrt build)"
    return None


def followed(engines: Engines, clip: Clip, tell: Callable[[str], None]) -> Followed:
    """Return what engines find on a clip."""
    from samtrt.verification.video import follow_clip
    from samtrt.video.predictor import VideoPredictor

    with VideoPredictor.load(engines.directory, engines.backend, engines.options) as predictor:
        return follow_clip(predictor, clip, tell)


def video_table(report: VideoReport) -> Table:
    """Return a table with a row for a few frames each, so that drift shows."""
    table = screen.table("frames", "mean IoU", "worst", "presence")
    for corrected, some in groupby(report.frames, lambda one: one.corrected):
        results = list(some)
        each = -(-len(results) // ROWS)
        for i in range(0, len(results), each):
            table.add_row(*_row(results[i : i + each], corrected))
    return table


def _row(results: list[FrameResult], corrected: bool) -> list[str]:
    first, last = results[0].frame, results[-1].frame
    ious = [iou for one in results for iou in one.ious]
    name = f"{first}" if first == last else f"{first} to {last}"
    return [
        f"{name}, corrected" if corrected else name,
        f"{fmean(ious):.5f}",
        f"{min(ious):.5f}",
        f"{sum(one.presence_differs for one in results)}/{len(ious)}",
    ]
