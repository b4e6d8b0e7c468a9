"""The shapes of requests and answers, with the examples that OpenAPI shows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from samtrt.automatic.remote import AutoOptions
from samtrt.choices import MOST_SPECKS, Generation, MaskChoice
from samtrt.preparation.spec import Preparation


def _no_bool(value: object) -> object:
    # To Python true is 1. JSON has one kind of numbers: 1.0 is 1, and our client says so.
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


# Lists stop at their first error: a request may hold a million, and each takes time and memory.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Point = Annotated[list[Number], Field(min_length=2, max_length=2, fail_fast=True)]
LongestSide = Annotated[
    int | None,
    Field(
        ge=64,
        le=32_768,
        strict=True,
        description="form masks no larger than this along their longer side, which is quicker for "
        "large images that are only shown; `rle.size` says the size, and `area` and `bbox` count "
        "its pixels; null is the image's own size",
    ),
]
Label = Annotated[Literal[0, 1], BeforeValidator(_no_bool)]
Flag = Annotated[bool, Field(strict=True)]
# Far above any useful prompt; the server's own, lower limits are in its settings.
_MANY = 20_000


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Rle(_Model):
    """A mask as COCO run-length encoding: runs of 0 and 1 in turn, column by column."""

    size: Annotated[
        list[Annotated[int, Field(strict=True)]],
        Field(min_length=2, max_length=2, description="height, width", fail_fast=True),
    ]
    counts: Annotated[str, Field(max_length=1_000_000, description="compressed, as pycocotools")]


class Prompt(_Model):
    """Points, a box, a mask, or any of them together, in the image's own pixels."""

    points: Annotated[list[Point], Field(min_length=1, max_length=_MANY, fail_fast=True)] | None = (
        Field(None, description="[x, y] of each point")
    )
    labels: Annotated[list[Label], Field(max_length=_MANY, fail_fast=True)] | None = Field(
        None, description="for each point 1 (foreground) or 0 (background); all 1 where left out"
    )
    box: Annotated[list[Number], Field(min_length=4, max_length=4, fail_fast=True)] | None = Field(
        None, description="x1, y1, x2, y2"
    )
    mask: Rle | None = Field(None, description="a mask of the image's size to start from")
    low_res_logits: str | None = Field(
        None,
        description="low_res_logits of an earlier answer (base64 of float32), exact where "
        "`mask` is not",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Prompt:
        if self.points is None and self.labels is not None:
            raise ValueError("labels without points")
        if self.mask is not None and self.low_res_logits is not None:
            raise ValueError("give mask or low_res_logits, not both")
        return self


class MasksRequest(_Model):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompts": [{"points": [[320, 240]], "labels": [1]}]},
                {
                    "prompts": [
                        {"box": [40, 60, 300, 420]},
                        {"points": [[320, 240], [10, 10]], "labels": [1, 0]},
                    ],
                    "candidates": 1,
                    "format": "png",
                },
            ]
        },
    )

    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=1000, fail_fast=True)]
    candidates: Annotated[Literal[1, 3, 4], BeforeValidator(_no_bool)] = Field(
        3,
        description="masks for each prompt: 3 (whole, part, subpart: best for one point), "
        "1 (best for several points or a box), or 4 (the one, then the three); a model whose "
        "`mask_choice` is `best` gives the best-scored of the three in their place, and one whose "
        "`mask_choice` is `stable` the best-scored of them in place of an unstable one",
    )
    best_only: Flag = Field(
        False, description="send only the candidate with the highest score: quicker for previews"
    )
    format: Literal["rle", "png", "none"] = Field(
        "rle", description="how masks are sent: COCO RLE, base64 PNG, or left out"
    )
    specks: int = Field(
        0,
        ge=0,
        le=MOST_SPECKS,
        strict=True,
        description="remove islands and holes of fewer cells of the low-res logits; 0 for none",
    )
    low_res_logits: Flag = Field(False, description="also send what a next prompt can start from")
    longest_side: LongestSide = None


class Candidate(_Model):
    score: float = Field(description="the model's own estimate of the mask's IoU")
    area: int = Field(description="pixels")
    bbox: list[int] = Field(description="x, y, width, height")
    rle: Rle | None = None
    png: str | None = Field(None, description="base64 of a one-channel PNG, 0 or 255")
    low_res_logits: str | None = Field(None, description="base64 of float32 [M, M]")

    @property
    def nbytes(self) -> int:
        """About how many bytes it takes in an answer."""
        counts = self.rle.counts if self.rle else ""
        return len(counts) + len(self.png or "") + len(self.low_res_logits or "") + 200


class PromptResult(_Model):
    masks: list[Candidate]


class MasksAnswer(_Model):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "masks": [
                                {
                                    "score": 0.97,
                                    "area": 9,
                                    "bbox": [1, 1, 3, 3],
                                    "rle": {"size": [5, 5], "counts": "63230"},
                                }
                            ]
                        }
                    ],
                    "decode_ms": 12.5,
                    "total_ms": 16.1,
                }
            ]
        }
    )

    results: list[PromptResult] = Field(description="one for each prompt, in order")
    decode_ms: float = Field(description="waiting for and running the decoder")
    total_ms: float


class ImageAnswer(_Model):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "kV0mM3Jt1l2cWbqfX0d9Aw",
                    "width": 640,
                    "height": 480,
                    "encode_ms": 210.4,
                    "total_ms": 223.0,
                }
            ]
        }
    )

    id: str
    width: int
    height: int
    encode_ms: float = Field(description="waiting for and running the encoder")
    total_ms: float


class AutoRequest(AutoOptions):
    """Options of `AutomaticMaskGenerator`, with its names and defaults: null is the model's own."""

    longest_side: LongestSide = None


class AutoMask(_Model):
    rle: Rle
    score: float = Field(description="predicted IoU")
    stability_score: float
    area: int
    bbox: list[int]
    point: list[float] = Field(description="the grid point that found it, in the image's pixels")


class AutoAnswer(_Model):
    masks: list[AutoMask] = Field(description="best first")
    pred_iou_thresh: float = Field(description="that was asked for, or the model's own")
    stability_score_thresh: float = Field(description="that was asked for, or the model's own")
    total_ms: float


class DecoderFile(_Model):
    url: str
    sha256: str
    size: int = Field(description="bytes")


class Limits(_Model):
    max_upload_bytes: int
    max_pixels: int
    max_prompts: int
    max_points: int


class VideoLimitsAnswer(_Model):
    """What the server takes of videos."""

    max_bytes: int
    max_frames: int
    max_pixels: int
    max_objects: int
    folder: bool = Field(description="whether videos may be named, see `GET /v1/videos`")


class MapAnswer(_Model):
    """One of the arrays that flow from the encoder to the decoder."""

    name: str
    shape: tuple[int, int, int] = Field(description="channels, height, width")


class ThresholdsAnswer(_Model):
    """What automatic masks of this model have to reach unless a request says otherwise."""

    pred_iou_thresh: float
    stability_score_thresh: float


class ModelAnswer(_Model):
    model: str
    checkpoint: str
    image_size: int
    mask_size: int
    embed_channels: int
    maps: list[MapAnswer] = Field(description="what an embedding is made of, in order")
    mask_choice: MaskChoice = Field(
        description="which of three masks the predictor takes for an ambiguous prompt: all (sam), "
        "or the best-scored alone (best); stable takes all, and the best-scored for an unambiguous "
        "prompt whose own mask is unstable"
    )
    generation: Generation = Field(
        description="how prompts are completed and masks are formed; sam2 has a padding point "
        "beside boxes too, and brings logits to the image's size at once"
    )
    mask_threshold: float
    automatic: ThresholdsAnswer
    specks: int = Field(description="of `specks`, what the page and the commands ask for")
    preparation: Preparation = Field(description="how images become the encoder's input")
    precision: str = Field(description="what the engines compute in")
    backend: str
    device: str
    version: str = Field(description="of samtrt")
    decoder: DecoderFile | None = Field(description="for decoding on the client, if there is one")
    limits: Limits
    video: VideoLimitsAnswer | None = Field(
        description="limits of videos; null where the server takes none"
    )


class ErrorDetail(_Model):
    code: str
    message: str


class ErrorAnswer(_Model):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"error": {"code": "image_unknown", "message": "no image has this id"}}]
        }
    )

    error: ErrorDetail
