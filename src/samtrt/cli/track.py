"""`samtrt track`: objects followed through a video."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samtrt.choices import BackendName, Direction
from samtrt.cli.options import (
    BackendOption,
    CheckpointOption,
    DeviceOption,
    ModelDir,
    PointOption,
    ThreadsOption,
    resolve_checkpoint,
)
from samtrt.cli.prompts import numbers
from samtrt.cli.reading import ForceOption, ImageReader, ValueRangeOption, note
from samtrt.cli.runs import Bar
from samtrt.files import printable

if TYPE_CHECKING:
    from samtrt.types import UInt8Array
    from samtrt.video.overlay import VideoWriter
    from samtrt.video.predictor import VideoPredictor
    from samtrt.video.prompts import Prompt
    from samtrt.video.recording import Recording


def command(
    directory: ModelDir,
    video: Annotated[
        str,
        typer.Argument(
            metavar="VIDEO",
            help="Video file, folder of pictures, camera such as /dev/video0, or rtsp://...",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Directory of the results.")
    ],
    point: PointOption = None,
    box: Annotated[
        list[str] | None,
        typer.Option("--box", metavar="X1,Y1,X2,Y2", help="Repeatable: one object for each box."),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option("--mask", help="Picture whose values are ids of objects, as DAVIS has them."),
    ] = None,
    frame: Annotated[
        int, typer.Option("--frame", min=0, help="Which --point, --box and --mask are of, from 0.")
    ] = 0,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help='Of several objects and frames, JSON: [{"frame": 0, "object": 1, "points": '
            '[[x, y]], "labels": [1]}], or with "box", or "mask".',
        ),
    ] = None,
    direction: Annotated[
        Direction, typer.Option(help="Forward from the first prompted frame, or backward, or both.")
    ] = Direction.FORWARD,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=1,
            help="Track so many frames after the first in each direction; of a camera, so many.",
        ),
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Draw the objects into overlay.mp4.")
    ] = True,
    fill_holes: Annotated[
        int, typer.Option("--fill-holes", min=0, help="Fill holes of so many low-res cells.")
    ] = 8,
    value_range: ValueRangeOption = None,
    force: ForceOption = False,
    backend: BackendOption = BackendName.ONNXRUNTIME,
    device: DeviceOption = None,
    threads: ThreadsOption = 0,
    checkpoint: CheckpointOption = None,
) -> None:
    """Follow objects that are pointed at through a video, with a SAM 2 or EdgeTAM that was
    exported with --video.

    OUT gets annotations.json (YouTube-VIS), Annotations/NAME/00000.png (DAVIS) and overlay.mp4. A
    run that was interrupted goes on where it was when the same command is given again.
    """
    from samtrt.backends import BackendOptions
    from samtrt.video.camera import is_live
    from samtrt.video.predictor import VideoPredictor

    path = resolve_checkpoint(checkpoint) if checkpoint else None
    options = BackendOptions(device=device, threads=threads, checkpoint=path)
    run = _Run(
        video=video,
        prompts=_asked(point or [], box or [], mask, frame, prompts),
        output=output,
        load=partial(VideoPredictor.load, directory, backend, options),
        direction=direction,
        frames=frames,
        overlay=overlay,
        fill_holes=fill_holes,
        read=ImageReader(value_range, "white"),
        force=force,
    )
    (_follow_live if is_live(video) else _follow_file)(run)


@dataclass(frozen=True)
class _Run:
    """What was asked for, as the options say."""

    video: str
    prompts: Sequence[Prompt]
    output: Path
    load: Callable[[], VideoPredictor]
    direction: Direction
    frames: int | None
    overlay: bool
    fill_holes: int
    read: ImageReader
    force: bool

    @property
    def drawn(self) -> Path:
        return self.output / "overlay.mp4"

    def settings(self, predictor: VideoPredictor, video: dict[str, Any]) -> dict[str, Any]:
        """Return what masks depend on."""
        return {
            **predictor.engines.identity,
            "fill_holes": self.fill_holes,
            "prompts": [one.facts() for one in self.prompts],
            "video": video,
        }


def _asked(
    point: list[str], box: list[str], mask: Path | None, frame: int, prompts: Path | None
) -> list[Prompt]:
    """Turn the command line's prompts into those of objects."""
    from samtrt.errors import PromptError
    from samtrt.video.prompts import Prompt, prompts_of_ids, read_ids, read_prompts
    from samtrt.video.recording import MOST_OBJECTS

    if prompts is not None:
        if point or box or mask or frame:
            raise PromptError("--prompts says all: leave out --point, --box, --mask and --frame")
        return read_prompts(prompts)
    if mask is not None:
        if point or box:
            raise PromptError("--mask says what is there: leave out --point and --box")
        asked = prompts_of_ids(frame, read_ids(mask))
        if not asked:
            raise PromptError(f"{mask} holds no object: all its pixels are 0")
        return asked
    rows = [numbers(text, "--point", (2, 3)) for text in point]
    points = [row[:2] for row in rows]
    labels = [_label(row[2]) if len(row) == 3 else 1 for row in rows]
    boxes = [numbers(text, "--box", (4,)) for text in box]
    if len(boxes) > 1 and points:
        raise PromptError("several boxes are objects of their own: give their points by --prompts")
    if len(boxes) > MOST_OBJECTS:
        raise PromptError(f"{len(boxes)} boxes are more than the {MOST_OBJECTS} ids of a picture")
    if not boxes:
        return [Prompt(frame, 1, points, labels)] if points else []
    return [Prompt(frame, i, points, labels, one) for i, one in enumerate(boxes, start=1)]


def _label(value: float) -> float:
    return int(value) if value.is_integer() else value  # what is no label is told with the others


def _follow_file(run: _Run) -> None:
    from samtrt.errors import ImageError
    from samtrt.video.following import draw_video, follow, order_of
    from samtrt.video.frames import open_frames
    from samtrt.video.overlay import write_video
    from samtrt.video.prompts import check_prompts
    from samtrt.video.recording import Recording

    begun, failure, is_whole = time.monotonic(), None, False
    path, options = Path(run.video), run.read.options
    if options.value_range is not None and not path.is_dir():
        raise ImageError(f"{run.video} is no folder of pictures: leave out --value-range")
    with open_frames(path, options, lambda told: note(f"note: {told}")) as frames:
        for notice in frames.notices:
            note(f"note: {run.video}: {notice}")
        size = frames[0].shape[:2]
        check_prompts(run.prompts, size, len(frames))
        order = order_of(run.prompts, len(frames), run.direction, run.frames)
        with run.load() as predictor:
            predictor.fill_hole_area = run.fill_holes
            video = {**frames.identity, "order": [[*order[0]], [*order[-1]], len(order)]}
            settings = run.settings(predictor, video)
            recording = Recording(run.output, frames.name, settings, run.force, frames.names)
            with contextlib.closing(recording), Bar(len(order)) as bar:
                if recording.is_complete():
                    recording.finish(size, frames.names, is_last=False)
                else:
                    try:
                        follow(predictor, frames, run.prompts, order, recording, bar.at)
                        is_whole = True
                    except ImageError as error:  # of one frame: those before are good
                        failure = error
                    finally:
                        if recording.steps:
                            recording.finish(size, frames.names, is_whole)
        if run.overlay and recording.masks:
            with write_video(run.drawn, size) as writer:
                draw_video(frames, recording, run.prompts, writer)
    _report(run, recording, time.monotonic() - begun)
    if failure is not None:
        raise failure


def _follow_live(run: _Run) -> None:
    from samtrt.errors import ImageError, PromptError
    from samtrt.video.camera import Camera
    from samtrt.video.following import follow_live
    from samtrt.video.overlay import write_video
    from samtrt.video.prompts import check_prompts
    from samtrt.video.recording import Recording

    if run.direction is not Direction.FORWARD:
        raise PromptError(f"{run.video} has no end to go back from: leave out --direction")
    if run.read.options.value_range is not None:
        raise PromptError(f"{run.video} is no folder of pictures: leave out --value-range")
    begun, size, failure = time.monotonic(), (0, 0), None
    with contextlib.ExitStack() as held:
        camera = held.enter_context(Camera(run.video))
        predictor = held.enter_context(run.load())
        predictor.fill_hole_area = run.fill_holes
        settings = run.settings(predictor, {"name": camera.name})
        recording = Recording(run.output, camera.name, settings, run.force)
        held.callback(recording.close)

        def opened(frame: UInt8Array) -> VideoWriter:
            return held.enter_context(write_video(run.drawn, frame.shape[:2]))

        def checked() -> Iterator[UInt8Array]:
            nonlocal size
            for frame in camera:
                if not any(size):
                    size = frame.shape[:2]
                    check_prompts(run.prompts, size, run.frames)
                    recording.begin()  # what was there goes once these can be meant
                yield frame

        writer = opened if run.overlay else None
        try:
            follow_live(predictor, checked(), run.prompts, recording, writer, run.frames)
        except KeyboardInterrupt:  # how a camera is told to end
            note("interrupted: what was found so far is written")
        except ImageError as error:  # what came before is good, drawn too
            if not recording.steps:
                raise
            failure = error
        finally:
            if recording.steps:
                names = [f"{i:05d}.png" for i in range(recording.steps)]
                recording.finish(size, names, is_last=True)
        if not recording.steps:
            raise ImageError(f"{run.video} gave no frame")
        late = [one.frame for one in run.prompts if one.frame >= recording.steps]
        if late:
            note(f"note: {run.video} ended before frame {late[0]}, of which something was said")
        if camera.dropped:
            note(f"note: {camera.dropped} frames came faster than they were tracked, and were left")
    _report(run, recording, time.monotonic() - begun)
    if failure is not None:
        raise failure


def _report(run: _Run, recording: Recording, seconds: float) -> None:
    """Say what was done, and where it is."""
    before, objects = recording.before, len({one.obj_id for one in run.prompts})
    done = recording.steps - before
    parts = [f"{done} frames, {objects} objects in {seconds:.1f} s"]
    parts += [f"{before} frames done before"] if before else []
    typer.echo("; ".join(parts))
    written = [recording.path("annotations.json"), recording.pictures]
    for path in (*written, run.drawn):
        if path.exists():
            typer.echo(printable(path))
