"""The shapes of requests and answers about videos."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from samtrt.server.schemas import ErrorDetail, Label, Number, Point, Rle
from samtrt.video.recording import MOST_OBJECTS

ObjectId = Annotated[int, Field(ge=1, le=MOST_OBJECTS, strict=True)]
_Frame = Annotated[int, Field(ge=0, lt=1 << 31, strict=True)]
_MANY = 20_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class VideoName(_Model):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "clips/street.mp4"}]}
    )

    name: str = Field(max_length=4096, description="as `GET /v1/videos` lists it")


class VideoFiles(_Model):
    files: list[str] = Field(description="names of videos in the folder that the server was given")


class Said(_Model):
    """What was said of an object on a frame; points are in the video's pixels."""

    frame: _Frame
    object: ObjectId = Field(description="a new number is a new object")
    points: Annotated[list[Point], Field(max_length=_MANY, fail_fast=True)] = []
    labels: Annotated[list[Label], Field(max_length=_MANY, fail_fast=True)] | None = Field(
        None, description="for each point 1 (of the object) or 0 (not of it); all 1 where left out"
    )
    box: Annotated[list[Number], Field(min_length=4, max_length=4, fail_fast=True)] | None = Field(
        None, description="x1, y1, x2, y2"
    )


class VideoPrompt(Said):
    """Points, a box, both, or a mask: all that is said of an object on a frame.

    It takes the place of what was said before. On a frame that was tracked it is a correction.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"frame": 0, "object": 1, "points": [[320, 240]], "labels": [1]},
                {"frame": 40, "object": 2, "box": [40, 60, 300, 420]},
            ]
        },
    )

    mask: Rle | None = Field(None, description="of the video's size")

    @model_validator(mode="after")
    def _says_something(self) -> VideoPrompt:
        pointed = bool(self.points) or self.box is not None
        if pointed == (self.mask is not None):
            raise ValueError("give points, a box or both, or a mask alone")
        if len(self.labels if self.labels is not None else self.points) != len(self.points):
            raise ValueError("labels are one a point")
        return self


class SaidBefore(Said):
    mask: bool = Field(description="whether a mask was given")


class VideoMask(_Model):
    object: int
    area: int = Field(description="pixels; 0 where the object is not there")
    bbox: list[int] = Field(description="x, y, width, height")
    rle: Rle = Field(description="of the video's size")


class FrameMasks(_Model):
    """What was found on a frame: the data of the event `masks`."""

    frame: int
    masks: list[VideoMask]


class FoundMasks(_Model):
    frames: list[FrameMasks] = Field(description="in order; frames without masks are left out")
    next: int | None = Field(None, description="where to ask for the rest from; null at the end")


class ObjectIds(_Model):
    objects: list[int] = Field(description="that are left")


class TrackRequest(_Model):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{}, {"start": 40, "frames": 100, "direction": "backward"}]},
    )

    start: _Frame | None = Field(
        None, description="null for the first frame of which something is said, or the last one"
    )
    frames: Annotated[int, Field(ge=1, lt=1 << 31, strict=True)] | None = Field(
        None, description="how many to track, the first included; null for all"
    )
    direction: Literal["forward", "backward"] = "forward"


class TrackDone(_Model):
    """The data of the event `done`."""

    frames: int = Field(description="that were tracked")
    reason: Literal["end", "no_objects", "stopped"] = Field(
        description="no_objects where all were removed meanwhile; stopped where that was asked "
        "for, or the server stops"
    )


class TrackFailed(_Model):
    """The data of the event `error`, which is the last: what was found before it is kept."""

    error: ErrorDetail
    frames: int = Field(description="that were tracked before")


class VideoAnswer(_Model):
    id: str
    name: str
    width: int
    height: int
    frames: int
    times: list[float] = Field(description="when each frame is shown, in seconds, from 0")
    notices: list[str] = Field(description="what was assumed of the file")
    objects: list[int]
    prompts: list[SaidBefore]
    found: list[tuple[int, int]] = Field(description="first and last frame of what has masks")
    tracking: bool
