"""A video from prompts to results: objects followed, recorded as they are found, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import groupby

from samtrt.choices import Direction
from samtrt.errors import OutputError
from samtrt.masks import drawing, rle
from samtrt.types import UInt8Array
from samtrt.video.overlay import VideoWriter, draw_objects
from samtrt.video.predictor import VideoPredictor
from samtrt.video.prompts import Prompt
from samtrt.video.recording import Recording
from samtrt.video.sequence import Frames
from samtrt.video.session import StreamingSession

SAVE_EVERY = 50
"""Frames after which what is remembered is saved: so many are done again after a crash at most."""
_LIVE_RATE = 30


def order_of(
    prompts: Sequence[Prompt], count: int, direction: Direction, most: int | None
) -> list[tuple[int, bool]]:
    """Return the frames to track in order, and whether time runs backwards.

    Forwards begins at the first prompted frame, backwards alone at the last.

    Args:
        prompts: Of all objects.
        count: Frames of the video.
        direction: In time.
        most: Frames after the one it begins with, in each direction; None for all.
    """
    reach = count if most is None else most
    first, last = (pick(one.frame for one in prompts) for pick in (min, max))
    forward = [(at, False) for at in range(first, min(first + reach + 1, count))]
    if direction is Direction.FORWARD:
        return forward
    if direction is Direction.BACKWARD:
        return [(at, True) for at in range(last, max(last - reach, 0) - 1, -1)]
    return forward + [(at, True) for at in range(first - 1, max(first - reach, 0) - 1, -1)]


def follow(
    predictor: VideoPredictor,
    frames: Frames,
    prompts: Sequence[Prompt],
    order: Sequence[tuple[int, bool]],
    recording: Recording,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """Track what is not done, and record each frame.

    What is remembered stays bounded: of each object its prompted frames, and those near.

    Args:
        predictor: Its options are those of the official predictor.
        frames: The video.
        prompts: All that is said; the official code takes them all before it tracks.
        order: As `order_of` returns it.
        recording: With the settings of this run.
        tell: Called with the number of frames done, at the beginning and after each.

    Raises:
        ImageError: where a frame does not decode; what was done before it is kept.
        OutputError: where there is no room; the same.
        PromptError: where a prompt cannot be meant.
    """
    state = predictor.init_state(frames)
    reach, first = predictor.engines.video.pointers, order[0][0]
    remembered = recording.resume()
    if remembered is None:
        for one in prompts:
            if one.mask is not None:
                predictor.add_new_mask(state, one.frame, one.obj_id, one.mask)
            else:
                predictor.add_new_points_or_box(state, one.frame, one.obj_id, **one.arguments)
        predictor.settle(state)
        recording.begin()  # what was there goes once these are known to be meant
    else:
        state.tracks.update(remembered)
    tell(recording.steps)
    try:
        for backwards, some in groupby(order[recording.steps :], lambda step: step[1]):
            at = [frame for frame, _ in some]
            for frame, ids, logits in predictor.track_frames(state, at, backwards):
                recording.add(frame, ids, logits)
                for track in state.tracks.values():
                    track.forget_far(frame, reach, also=first)
                if recording.steps % SAVE_EVERY == 0:
                    recording.save(state.tracks)
                tell(recording.steps)
    except BaseException:
        if recording.steps:
            with suppress(OutputError):  # the first error is the one to tell
                recording.save(state.tracks)
        raise


def follow_live(
    predictor: VideoPredictor,
    camera: Iterable[UInt8Array],
    prompts: Sequence[Prompt],
    recording: Recording,
    writer: Callable[[UInt8Array], VideoWriter] | None,
    most: int | None,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """Track frames as they come, until there are no more.

    Args:
        predictor: As of `follow`.
        camera: Frames, uint8 [H, W, 3], RGB.
        prompts: Said when their frames have come.
        recording: Begun anew.
        writer: Opens the video with objects drawn, given the first frame; None for none.
        most: Frames to track; None for all.
        tell: Called with the number of frames done.
    """
    session, video = StreamingSession(predictor), None
    for number, frame in enumerate(camera):
        _, ids, logits = session.track(frame)
        for one in prompts:
            if one.frame == number and one.mask is not None:
                _, ids, logits = session.add_new_mask(one.obj_id, one.mask)
            elif one.frame == number:
                _, ids, logits = session.add_new_points_or_box(one.obj_id, **one.arguments)
        recording.add(number, ids, logits)
        if writer is not None:
            video = video or writer(frame)
            video.add(drawn(frame, number, recording, prompts), Fraction(number, _LIVE_RATE))
        tell(recording.steps)
        if most is not None and number + 1 >= most:
            break


def draw_video(
    frames: Frames, recording: Recording, prompts: Sequence[Prompt], video: VideoWriter
) -> None:
    """Draw all frames that were tracked."""
    done = sorted(recording.masks)
    for number in done:
        picture = drawn(frames[number], number, recording, prompts)
        video.add(picture, frames.times[number] - frames.times[done[0]])


def drawn(
    frame: UInt8Array, number: int, recording: Recording, prompts: Sequence[Prompt]
) -> UInt8Array:
    """Draw a frame's objects, and what was said of them on it."""
    masks = {one: rle.cut(mask) for one, mask in sorted(recording.masks[number].items())}
    picture = draw_objects(frame, masks)
    for one in prompts:
        if one.frame != number:
            continue
        if one.box is not None:
            drawing.draw_boxes(picture, [one.box], in_place=True)
        if len(one.points):
            drawing.draw_points(picture, one.points, one.labels, in_place=True)
    return picture
