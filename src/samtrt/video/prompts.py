"""What a user says of objects in a video, before it is tracked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from samtrt.errors import ImageError, PromptError
from samtrt.files import read_whole
from samtrt.images.formats import FORMATS
from samtrt.types import BoolArray, Size
from samtrt.video.recording import MOST_OBJECTS
from samtrt.video.tracks import Points

_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class Prompt:
    """Of one object on one frame: points and a box, or a mask.

    Attributes:
        frame: From 0.
        obj_id: 1..255.
        points: XY in the video's pixels.
        labels: One a point: 1 for the object, 0 for what is not of it.
        box: XYXY.
        mask: bool [H, W].
    """

    frame: int
    obj_id: int
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[float] = ()
    box: Sequence[float] | None = None
    mask: BoolArray | None = None

    def facts(self) -> dict[str, Any]:
        """Return what was said, for JSON; of a mask, its hash."""
        from hashlib import sha256

        said: dict[str, Any] = {"frame": self.frame, "object": self.obj_id}
        if len(self.points):
            said |= {"points": [*map(list, self.points)], "labels": [*self.labels]}
        if self.box is not None:
            said["box"] = list(self.box)
        if self.mask is not None:
            said["mask_sha256"] = sha256(np.packbits(self.mask).tobytes()).hexdigest()
        return said

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `add_new_points_or_box`."""
        given: dict[str, Any] = {}
        if len(self.points):
            given |= {"points": self.points, "labels": self.labels}
        elif len(self.labels):
            given["labels"] = self.labels
        return given if self.box is None else {**given, "box": self.box}


class _Entry(BaseModel):
    """A prompt in a file."""

    model_config = ConfigDict(extra="forbid")

    frame: int = Field(default=0, ge=0)
    object: int = Field(default=1, ge=1, le=MOST_OBJECTS)
    points: list[tuple[float, float]] = Field(default_factory=list)
    labels: list[int] | None = None
    box: tuple[float, float, float, float] | None = None
    mask: Path | None = None


def read_prompts(path: Path) -> list[Prompt]:
    """Read prompts from JSON: `[{"frame": 0, "object": 1, "points": [[x, y]], "labels": [1]}]`.

    An entry may have a `box` too, or a `mask` alone, a picture beside the file; without `object` it
    is of object 1, and without `labels` all points are of it.

    Raises:
        PromptError: where it is no such file.
        ImageError: where a mask cannot be read.
    """
    try:
        entries = TypeAdapter(list[_Entry]).validate_python(
            json.loads(read_whole(path, _MOST_BYTES))
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise PromptError(f"{path}: {where}: {first['msg']}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PromptError(f"cannot read prompts from {path}: {reason}") from None
    if not entries:
        raise PromptError(f"{path} holds no prompt")
    found: list[Prompt] = []
    for one in entries:
        if any((one.frame, one.object) == (before.frame, before.obj_id) for before in found):
            raise PromptError(
                f"{path}: object {one.object} has two prompts on frame {one.frame}: make them one"
            )
        mask = None if one.mask is None else read_ids(path.parent / one.mask) > 0
        labels = [1] * len(one.points) if one.labels is None else one.labels
        found.append(Prompt(one.frame, one.object, one.points, labels, one.box, mask))
    return found


def read_ids(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture whose pixels are ids of objects, as DAVIS has them: uint8 [H, W].

    White on black is one object, 1.

    Raises:
        ImageError: where it cannot be read, or is no palette or grey picture of 8 bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            kind = picture.mode
            values = np.array(picture).astype(np.uint8) if kind in ("P", "L", "1") else None
    except FileNotFoundError:
        raise ImageError(f"there is no picture at {path}") from None
    except Exception as error:  # Pillow's decoders share no base class
        raise ImageError(f"cannot read {path}: {error}") from None
    if values is None:
        raise ImageError(
            f"{path} has colours ({kind}): a mask is a grey picture or one with a palette, of 8 "
            "bits, whose values are the objects' ids"
        )
    is_white = kind != "P" and set(np.unique(values)) <= {0, MOST_OBJECTS}
    return (values > 0).astype(np.uint8) if is_white else values


def prompts_of_ids(frame: int, ids: npt.NDArray[np.uint8]) -> list[Prompt]:
    """Make a prompt of each object in a picture of ids."""
    return [Prompt(frame, int(one), mask=ids == one) for one in np.unique(ids) if one]


def check_prompts(prompts: Sequence[Prompt], size: Size, count: int | None) -> None:
    """Make sure that prompts are of a video of (height, width) `size` and `count` frames.

    Raises:
        PromptError: where one is not, or says nothing.
    """
    height, width = size
    if not prompts:
        raise PromptError("no object is pointed at: give --point, --box, --mask or --prompts")
    for one in prompts:
        where = f"object {one.obj_id} on frame {one.frame}"
        if count is not None and one.frame >= count:
            raise PromptError(f"there is no frame {one.frame}: the video has 0..{count - 1}")
        if one.mask is not None:
            if len(one.points) or one.box is not None:
                raise PromptError(f"{where} has a mask and points or a box: give one of the two")
            if one.mask.shape != size:
                raise PromptError(
                    f"the mask of {where} is {one.mask.shape[1]} x {one.mask.shape[0]} and the "
                    f"video is {width} x {height}: they must be of one size"
                )
            continue
        if not len(one.points) and one.box is None:
            raise PromptError(f"{where} has no point, no box and no mask")
        try:
            Points.of(**one.arguments)
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from None
        corners = [] if one.box is None else [one.box[:2], one.box[2:]]
        for x, y in (*one.points, *corners):
            if not (0 <= x <= width and 0 <= y <= height):
                raise PromptError(
                    f"{where}: ({x:g}, {y:g}) lies outside of the video, {width} x {height} pixels"
                )
