"""From what a user asks (points, boxes, masks in image pixels) to what the decoder takes.

The rules are those of the official `SamPredictor`: a box is two more points with labels 2 and 3,
after the user's points, and the padding point (label -1) is added only when there are points and
no box. `SAM2ImagePredictor` adds it wherever there are points or a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import Generation
from samtrt.errors import PromptError
from samtrt.preparation.frame import Frame
from samtrt.types import Size, Tensor, to_host

LABEL_PADDING = -1
LABEL_BOX = (2, 3)

_LARGEST = 1e30
"""Of all numbers in a prompt, with room to be scaled to the model's frame in float32."""


@dataclass(frozen=True)
class DecoderPrompts:
    """The decoder's prompt inputs for P prompts of N points each.

    Attributes:
        point_coords: float32 [P, N, 2], in the padded input image's pixels.
        point_labels: float32 [P, N]: -1 padding, 0 background, 1 foreground, 2 and 3 box corners.
        mask_input: float32 [P, 1, M, M] logits, on the host or where a decoder left them; zeros
            where there is none.
        has_mask_input: float32 [P], 0 or 1.
    """

    point_coords: npt.NDArray[np.float32]
    point_labels: npt.NDArray[np.float32]
    mask_input: Tensor
    has_mask_input: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.point_coords)

    def part(self, start: int, stop: int) -> dict[str, Any]:
        """Return prompts start..stop as named decoder inputs."""
        return {name: value[start:stop] for name, value in vars(self).items()}

    @classmethod
    def joined(cls, parts: Sequence[DecoderPrompts]) -> DecoderPrompts:
        """Put prompts of the same number of points behind one another."""
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("point_coords", "point_labels", "has_mask_input")
        }
        if arrays["has_mask_input"].any():
            masks = np.concatenate([to_host(part.mask_input) for part in parts])
        else:
            masks = _no_masks(len(arrays["point_coords"]), parts[0].mask_input.shape[-1])
        return cls(mask_input=masks, **arrays)


def build_prompts(
    frame: Frame,
    point_coords: npt.ArrayLike | None = None,
    point_labels: npt.ArrayLike | None = None,
    boxes: npt.ArrayLike | None = None,
    mask_input: npt.ArrayLike | None = None,
    beyond: bool = False,
) -> DecoderPrompts:
    """Check P prompts against an image and encode them for the decoder.

    Args:
        frame: The image's size, and where it lies in the model's square.
        point_coords: [P, N, 2], XY in image pixels.
        point_labels: [P, N], 1 for foreground, 0 for background, -1 for padding.
        boxes: [P, 4], XYXY in image pixels.
        mask_input: [P, 1, M, M], logits of an earlier prediction.
        beyond: Take points on and beyond the image's border, as the official code does.

    Raises:
        PromptError: where there is no prompt, shapes disagree, or a value is out of range.
    """
    if (point_coords is None) != (point_labels is None):
        raise PromptError("points and labels go together: give both point_coords and point_labels")
    if point_coords is None and boxes is None and mask_input is None:
        raise PromptError("no prompt: give at least one point, box or mask")

    coords: list[npt.NDArray[np.float64]] = []
    labels: list[npt.NDArray[np.float64]] = []
    counts: dict[str, int] = {}
    if point_coords is not None and point_labels is not None:
        alone = boxes is None and mask_input is None
        points, kinds = _check_points(point_coords, point_labels, frame.original, alone, beyond)
        counts["point_coords"] = len(points)
        coords.append(points)
        labels.append(kinds)
    if boxes is not None:
        corners = _check_boxes(boxes, frame.original).reshape(-1, 2, 2)
        counts["boxes"] = len(corners)
        coords.append(corners)
        labels.append(np.broadcast_to(np.array(LABEL_BOX, np.float64), (len(corners), 2)))
    if coords and (boxes is None or frame.generation is Generation.SAM2):
        coords.append(np.zeros((len(coords[0]), 1, 2)))
        labels.append(np.full((len(coords[0]), 1), float(LABEL_PADDING)))
    if mask_input is not None:
        masks = _check_masks(mask_input, frame.mask_size)
        counts["mask_input"] = len(masks)

    if len(set(counts.values())) > 1:
        raise PromptError(
            "every kind of prompt must come in the same number, not "
            + ", ".join(f"{n} {name}" for name, n in counts.items())
        )
    prompts = next(iter(counts.values()))
    if not prompts:
        raise PromptError("0 prompts: give at least one point, box or mask")

    none = np.zeros((prompts, 0))
    xy = frame.to_model(np.concatenate(coords or [none.reshape(prompts, 0, 2)], axis=1))
    # The padding point sits at the origin of the model's frame; scaling leaves it there.
    return DecoderPrompts(
        point_coords=xy.astype(np.float32),
        point_labels=np.concatenate(labels or [none], axis=1).astype(np.float32),
        mask_input=masks if mask_input is not None else _no_masks(prompts, frame.mask_size),
        has_mask_input=np.full(prompts, mask_input is not None, dtype=np.float32),
    )


def check_pixels(
    frame: Frame, point_coords: npt.ArrayLike | None, boxes: npt.ArrayLike | None
) -> None:
    """Refuse points or boxes that are shares of the image's sides instead of pixels.

    All of them within the first pixel, and not all at its corners, are no prompts that a user
    means; other models take such shares.

    Raises:
        PromptError: where they are, or are no numbers.
    """
    height, width = frame.original
    for name, value in (("point_coords", point_coords), ("boxes", boxes)):
        array = np.zeros(0) if value is None else _as_float(value, name)
        if not array.size or max(height, width) <= 2:
            continue
        if ((array >= 0) & (array <= 1)).all() and (array != np.round(array)).any():
            raise PromptError(
                f"{name} lie in 0..1, within the first pixel: they are taken in pixels; of shares "
                f"of the image's sides, multiply x by {width} and y by {height}"
            )


def one_prompt(
    point_coords: npt.ArrayLike | None,
    point_labels: npt.ArrayLike | None,
    box: npt.ArrayLike | None,
    mask_input: npt.ArrayLike | None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Check the shapes of one prompt's arguments, and return those of `build_prompts`, P = 1.

    Args:
        point_coords: [N, 2]. No points at all, beside a box or a mask, are as None.
        point_labels: [N].
        box: Four numbers, XYXY: [4], [1, 4], or two corners [2, 2].
        mask_input: [1, M, M].

    Raises:
        PromptError: where a shape is another.
    """
    given: dict[str, npt.NDArray[np.float64]] = {}
    points = None if point_coords is None else _as_float(point_coords, "point_coords")
    labels = None if point_labels is None else _as_float(point_labels, "point_labels")
    both = (box is not None or mask_input is not None) and points is not None
    if both and points is not None and not points.size and (labels is None or not labels.size):
        points = labels = None
    if points is not None:
        if points.ndim != 2 or points.shape[1] != 2:
            raise PromptError(f"point_coords must have the shape N x 2, not {points.shape}")
        given["point_coords"] = points[None]
    if labels is not None:
        if points is not None and labels.shape != points.shape[:1]:
            raise PromptError(
                f"point_labels must have one label a point, {points.shape[:1]}, not {labels.shape}"
            )
        given["point_labels"] = labels[None]
    if box is not None:
        corners = _as_float(box, "box")
        if corners.size != 4 or corners.shape[-1] not in (2, 4):
            raise PromptError(
                f"box must be the four numbers x1, y1, x2, y2, not of the shape {corners.shape}; "
                "several boxes at once are for predict_batch"
            )
        given["boxes"] = corners.reshape(1, 4)
    if mask_input is not None:
        masks = _as_float(mask_input, "mask_input")
        if masks.ndim != 3 or len(masks) != 1:
            raise PromptError(
                f"mask_input must be low-res logits of the shape 1 x M x M, not {masks.shape}; "
                "pass one of the low_res_logits of an earlier prediction, such as low_res[:1]"
            )
        given["mask_input"] = masks[None]
    return given


def _no_masks(prompts: int, mask_size: int) -> npt.NDArray[np.float32]:
    """Return one zero for all elements: backends see it and need not copy megabytes of zeros."""
    return np.broadcast_to(np.float32(0), (prompts, 1, mask_size, mask_size))


def _as_float(value: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise PromptError(f"{what} must be an array of numbers, the same count in each") from None
    # Engines compute in float32: what it cannot hold would become infinite there.
    if not (np.abs(array) <= _LARGEST).all():
        raise PromptError(f"{what} must be finite numbers of at most {_LARGEST:g}")
    return array


def _check_points(
    coords: npt.ArrayLike, labels: npt.ArrayLike, original: Size, alone: bool, beyond: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    points, kinds = _as_float(coords, "point_coords"), _as_float(labels, "point_labels")
    if points.ndim != 3 or points.shape[2] != 2:
        raise PromptError(f"point_coords must have the shape P x N x 2, not {points.shape}")
    if kinds.shape != points.shape[:2]:
        raise PromptError(
            f"point_labels must have one label a point, {points.shape[:2]}, not {kinds.shape}"
        )
    if not points.shape[1]:
        raise PromptError("point_coords holds no point; leave it out instead")
    bad = (kinds != LABEL_PADDING) & (kinds != 0) & (kinds != 1)
    if bad.any():
        raise PromptError(
            f"point label {kinds[bad][0]:g} is not known: use 1 for foreground, 0 for background, "
            "-1 for padding"
        )
    height, width = original
    padding = kinds == LABEL_PADDING
    if alone and padding.all(axis=1).any():
        raise PromptError("a prompt has padding points alone (label -1): give at least one point")
    outside = ((points < 0) | (points >= (width, height))).any(axis=2) & ~padding
    if outside.any() and not beyond:
        x, y = points[outside][0]
        raise PromptError(
            f"point ({x:g}, {y:g}) is outside the image, which is {width} x {height} pixels"
        )
    return points, kinds


def _check_boxes(value: npt.ArrayLike, original: Size) -> npt.NDArray[np.float64]:
    boxes = _as_float(value, "boxes")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise PromptError(f"a box is x1, y1, x2, y2: boxes must be P x 4, not {boxes.shape}")
    height, width = original
    x1, y1, x2, y2 = boxes.T
    empty = (x2 <= x1) | (y2 <= y1)
    # Detectors overshoot the border, so a box only has to touch the image.
    bad = np.flatnonzero(empty | (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height))
    if len(bad):
        first = bad[0]
        box = f"box ({', '.join(f'{side:g}' for side in boxes[first])})"
        if empty[first]:
            raise PromptError(
                f"{box} is empty: it must be x1, y1, x2, y2 with x1 < x2, y1 < y2 "
                "(of x, y, width, height: x, y, x + width, y + height)"
            )
        raise PromptError(f"{box} is outside the image, which is {width} x {height} pixels")
    return boxes


def _check_masks(value: npt.ArrayLike, mask_size: int) -> npt.NDArray[np.float32]:
    masks = _as_float(value, "mask_input")
    expected = (1, mask_size, mask_size)
    if masks.ndim != 4 or masks.shape[1:] != expected:
        raise PromptError(
            f"mask_input must be low-res logits of the shape P x 1 x {mask_size} x {mask_size}, "
            f"not {masks.shape}; pass the low_res_logits of an earlier prediction"
        )
    return masks.astype(np.float32)
