"""Objects followed through a clip by engines and by the checkpoint, with all that decides on both.

Two objects are pointed at on the first frame, by a click and by a box, and followed; then the
second is corrected in the middle, and followed from there. What is compared are the masks that a
user gets, so that an error that grows from frame to frame shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.assets import DEMO_PHOTOGRAPH
from samtrt.errors import VerificationError
from samtrt.images import read_image
from samtrt.masks.logits import mask_iou
from samtrt.types import UInt8Array
from samtrt.verification.report import FrameResult, VideoReport
from samtrt.video.predictor import VideoPredictor
from samtrt.video.state import Found, VideoState

FRAMES = 10
"""Of a clip, where nothing else is said: more than memories reach back."""
SIZE = (288, 384)
_POINT, _BOX, _CORRECTION = (0.3, 0.45), (0.55, 0.25, 0.8, 0.6), (0.68, 0.45)
"""What is pointed at, as shares of a frame's sides, X before Y."""

_OBJECTS = 2

Masks = npt.NDArray[np.bool_]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Clip:
    """Frames, uint8 [H, W, 3] each, RGB."""

    name: str
    frames: Sequence[UInt8Array]

    @property
    def middle(self) -> int:
        """The frame on which an object is corrected."""
        return len(self.frames) // 2

    @property
    def sha256(self) -> str:
        """Of all frames."""
        digest = hashlib.sha256()
        for frame in self.frames:
            digest.update(f"{frame.shape}".encode() + np.ascontiguousarray(frame).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Followed:
    """What was found: of each frame and object a mask, bool [T, N, H, W].

    Attributes:
        masks: Of all frames.
        corrected: From the middle on, after a correction; None where there was none.
    """

    masks: Masks
    corrected: Masks | None

    def packed(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the masks by name, eight pixels a byte."""
        return {
            name: np.packbits(masks, axis=-1)
            for name, masks in vars(self).items()
            if masks is not None
        }

    @classmethod
    def unpacked(cls, packed: Mapping[str, npt.NDArray[Any]], clip: Clip) -> Followed:
        """Undo `packed`.

        Raises:
            ValueError: where they cannot be masks on the clip.
        """
        height, width = clip.frames[0].shape[:2]
        found: dict[str, Masks | None] = {"corrected": None}
        for name, bits in packed.items():
            frames = len(clip.frames) - (clip.middle if name == "corrected" else 0)
            shape = (frames, _OBJECTS, height, -(-width // 8))
            if name not in ("masks", "corrected") or bits.shape != shape or bits.dtype != np.uint8:
                raise ValueError(f"{name} of its clip is {bits.dtype} {bits.shape}")
            found[name] = np.unpackbits(bits, axis=-1, count=width).astype(np.bool_)
        masks = found.get("masks")
        if masks is None:
            raise ValueError("it has no masks of its clip")
        return cls(masks, found["corrected"])


def built_in_clip(frames: int = FRAMES) -> Clip:
    """Return a clip in which a camera passes over a photograph, and two discs move."""
    height, width = SIZE
    large = Image.fromarray(read_image(DEMO_PHOTOGRAPH)).resize((width + 96, height + 72))
    photograph = np.asarray(large)
    y, x = np.mgrid[:height, :width]
    found = []
    for i in range(frames):
        top, left = (3 * i) % 72, (4 * i) % 96
        frame = photograph[top : top + height, left : left + width].copy()
        for k, (across, down) in enumerate((_POINT, _CORRECTION)):
            centre = across * width + (4 * i) % 40, down * height + (2 * i) % 30
            inside = np.hypot(x - centre[0], y - centre[1]) < 36
            frame[inside] = frame[inside] // 4 + np.array(
                ((150, 30, 40), (20, 60, 170))[k], np.uint8
            )
        found.append(frame)
    return Clip("the built-in clip", found)


def clip_of(name: str, frames: Sequence[UInt8Array], count: int = FRAMES) -> Clip:
    """Return the first frames of a video.

    Raises:
        VerificationError: where it has fewer than two.
    """
    if len(frames) < 2:
        raise VerificationError(f"{name} has one frame: nothing to follow objects through")
    return Clip(name, [frames[i] for i in range(min(count, len(frames)))])


def follow_clip(
    predictor: VideoPredictor, clip: Clip, tell: Tell = lambda _: None, correct: bool = True
) -> Followed:
    """Follow the two objects through a clip.

    Args:
        predictor: Of the engines, or of the checkpoint; its corrections are made to count as
            prompted frames, which take places of their own in the queues.
        clip: Through which.
        tell: Called with a line of text for each frame.
        correct: Whether one is corrected, where the engines have room for that.
    """
    height, width = clip.frames[0].shape[:2]
    state = predictor.init_state(clip.frames)
    sides = np.array((width, height))
    predictor.add_new_points_or_box(state, 0, 1, points=[_POINT * sides], labels=[1])
    predictor.add_new_points_or_box(state, 0, 2, box=np.array(_BOX) * (*sides, *sides))
    masks = _masks(predictor, state, 0, tell, "following")
    most = predictor.engines.most_prompted
    if not correct or (most is not None and most < 2):
        return Followed(masks, None)
    predictor.add_all_frames_to_correct_as_cond, at = True, clip.middle
    predictor.add_new_points_or_box(state, at, 2, points=[_CORRECTION * sides], labels=[1])
    return Followed(masks, _masks(predictor, state, at, tell, "after a correction"))


def _masks(
    predictor: VideoPredictor, state: VideoState, start: int, tell: Tell, what: str
) -> Masks:
    def found() -> Iterator[Found]:
        left = len(state.frames) - start
        for one in islice(predictor.propagate_in_video(state, start), left):
            name = predictor.engines.encoder.name
            tell(f"{what}: frame {one[0] + 1} of {len(state.frames)} ({name})")
            yield one

    return np.stack([logits[:, 0] > 0 for _, _, logits in found()])


def compare_video(clip: Clip, expected: Followed, got: Followed) -> VideoReport:
    """Compare what was found, mask by mask; what one side did not correct is left out."""
    pairs = [(0, False, expected.masks, got.masks)]
    if expected.corrected is not None and got.corrected is not None:
        pairs.append((clip.middle, True, expected.corrected, got.corrected))
    results = []
    for first, corrected, theirs, ours in pairs:
        if theirs.shape != ours.shape:
            raise VerificationError(
                f"masks {ours.shape} were found on {clip.name}, and {theirs.shape} by the "
                "checkpoint"
            )
        for number, (reference, mine) in enumerate(zip(theirs, ours, strict=True), first):
            ious = tuple(mask_iou(a, b) for a, b in zip(mine, reference, strict=True))
            there = (one.any(axis=(1, 2)) for one in (mine, reference))
            differs = int(np.count_nonzero(np.not_equal(*there)))
            results.append(FrameResult(number, corrected, ious, differs))
    height, width = clip.frames[0].shape[:2]
    return VideoReport(clip.name, (height, width), tuple(results))
