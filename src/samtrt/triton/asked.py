"""What one request asks of the `sam` model: its tensors, checked as far as they can be alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import MOST_SPECKS
from samtrt.errors import ImageError, PromptError
from samtrt.manifest import Manifest
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts, build_prompts, check_pixels
from samtrt.triton.settings import Limits, Settings
from samtrt.types import TensorInfo

DIGEST_BYTES = 32

Arrays = Mapping[str, npt.NDArray[Any]]


def inputs_of(manifest: Manifest) -> list[TensorInfo]:
    """Return what `sam` takes; a request gives an image or its hash, and what prompts it has."""
    mask = manifest.mask_size
    return [
        TensorInfo("image", np.dtype(np.uint8), ("bytes",)),
        TensorInfo("image_sha256", np.dtype(np.uint8), (DIGEST_BYTES,)),
        TensorInfo("point_coords", np.dtype(np.float64), ("prompts", "points", 2)),
        TensorInfo("point_labels", np.dtype(np.float64), ("prompts", "points")),
        TensorInfo("boxes", np.dtype(np.float64), ("prompts", 4)),
        TensorInfo("mask_input", np.dtype(np.float32), ("prompts", 1, mask, mask)),
        TensorInfo("multimask_output", np.dtype(np.bool_), (1,)),
        TensorInfo("specks", np.dtype(np.int32), (1,)),
    ]


def auto_inputs() -> list[TensorInfo]:
    """Return what the automatic model takes."""
    return [TensorInfo(name, np.dtype(np.uint8), ("bytes",)) for name in ("image", "options")]


def outputs_of(manifest: Manifest) -> list[TensorInfo]:
    """Return what `sam` gives of what is asked for by name."""
    mask = manifest.mask_size
    return [
        TensorInfo("image_sha256", np.dtype(np.uint8), (DIGEST_BYTES,)),
        TensorInfo("original_size", np.dtype(np.int32), (2,)),
        TensorInfo("rle", np.dtype(np.uint8), ("bytes",)),
        TensorInfo("iou_predictions", np.dtype(np.float32), ("prompts", "masks")),
        TensorInfo("masks", np.dtype(np.bool_), ("prompts", "masks", "height", "width")),
        TensorInfo("low_res_logits", np.dtype(np.float32), ("prompts", "masks", mask, mask)),
        TensorInfo("embedding", np.dtype(np.float32), ("numbers",)),
        TensorInfo("model", np.dtype(np.uint8), ("bytes",)),
    ]


ABOUT_MASKS = frozenset({"rle", "iou_predictions", "masks", "low_res_logits"})
"""Outputs that prompts are needed for."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        image: The bytes of an image's file; None where the hash alone is given.
        digest: The hash that is given; None where the image is.
        prompts: The prompts' tensors, as arguments of `build_prompts`.
        multimask: Whether a prompt may be ambiguous.
        specks: As `Predictor.specks`.
        outputs: What is asked for.
    """

    image: bytes | None
    digest: bytes | None
    prompts: dict[str, npt.NDArray[Any]]
    multimask: bool
    specks: int
    outputs: frozenset[str]

    @classmethod
    def of(cls, arrays: Arrays, outputs: frozenset[str], limits: Limits) -> Asked:
        """Take a request's tensors apart. Triton has checked their types and the sizes that are
        fixed.

        Raises:
            ImageError: where no image is given, or two, or one of too many bytes.
            PromptError: where there are more prompts or points than allowed.
        """
        names = ("point_coords", "point_labels", "boxes", "mask_input")
        prompts = {name: arrays[name] for name in names if name in arrays}
        for name, array in prompts.items():
            if len(array) > limits.max_prompts:
                raise PromptError(
                    f"{len(array)} prompts ({name}) are more than the limit of "
                    f"{limits.max_prompts}: send them in several requests"
                )
        points = prompts["point_coords"].shape[1] if "point_coords" in prompts else 0
        if points > limits.max_points:
            raise PromptError(f"{points} points are more than the limit of {limits.max_points}")
        image, digest = arrays.get("image"), arrays.get("image_sha256")
        if image is not None and digest is not None:
            raise ImageError("give image or image_sha256, not both")
        if image is not None and image.size > limits.max_upload_bytes:
            raise ImageError(
                f"the image has {image.size:,} bytes, more than the limit of "
                f"{limits.max_upload_bytes:,}"
            )
        multimask, specks = arrays.get("multimask_output"), arrays.get("specks")
        least = 0 if specks is None else int(specks[0])
        if not 0 <= least <= MOST_SPECKS:
            raise PromptError(f"specks must be 0..{MOST_SPECKS}, not {least}")
        return cls(
            image=None if image is None else image.tobytes(),
            digest=None if digest is None else digest.tobytes(),
            prompts=prompts,
            multimask=multimask is None or bool(multimask[0]),
            specks=least,
            outputs=outputs,
        )

    @property
    def has_image(self) -> bool:
        return self.image is not None or self.digest is not None

    def build(self, frame: Frame, settings: Settings) -> DecoderPrompts:
        """Return the prompts for the decoder.

        Raises:
            PromptError: where they make no sense for this image, or have more points than the
                engine takes.
        """
        check_pixels(frame, self.prompts.get("point_coords"), self.prompts.get("boxes"))
        arguments: dict[str, Any] = dict(self.prompts)
        built = build_prompts(frame, **arguments)
        points, most = built.point_coords.shape[1], settings.most_points
        if most is not None and points > most:
            raise PromptError(
                f"the prompt has {points} points, the corners of a box and the padding included, "
                f"and the decoder's engine takes {most}: build it with more by samtrt build"
            )
        return built


def describe(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return what a client is told of the model: the words of `GET /v1/model` where it has them."""
    runtime = settings.backend.value if settings.backend else settings.platform.value
    return {
        "model": manifest.model,
        "checkpoint": manifest.checkpoint.sha256,
        "image_size": manifest.image_size,
        "mask_size": manifest.mask_size,
        "embed_channels": manifest.embed_channels,
        "maps": [{"name": one.name, "shape": list(one.shape)} for one in manifest.maps],
        "mask_choice": manifest.mask_choice.value,
        "generation": manifest.generation.value,
        "mask_threshold": manifest.mask_threshold,
        "preparation": manifest.preparation.model_dump(mode="json"),
        "precision": settings.precision,
        "platform": settings.platform.value,
        "backend": runtime,
        "device": settings.device,
        "version": settings.version,
        "limits": settings.limits.model_dump(),
    }


def as_bytes(value: Any) -> npt.NDArray[np.uint8]:
    """Return what becomes JSON as uint8 [N]."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
