"""Masks as the API sends and takes them."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.decoding import cleaned, returned_logits
from samtrt.errors import PromptError
from samtrt.masks import rle
from samtrt.masks.forming import former_of
from samtrt.masks.upscaling import upscale_one
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts, build_prompts
from samtrt.server.schemas import Candidate, MasksRequest, Prompt, Rle
from samtrt.types import BoolArray, Size, Tensor, to_host


def formed_size(original: Size, longest_side: int | None) -> Size:
    """Return (height, width) of masks: the image's own, or less where less was asked for."""
    if longest_side is None or longest_side >= max(original):
        return original
    height, width = (max(round(side * longest_side / max(original)), 1) for side in original)
    return height, width


def read_logits(text: str, mask_size: int) -> npt.NDArray[np.float32]:
    """Decode base64 float32 logits to [1, M, M]."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PromptError("low_res_logits is not base64") from None
    if len(raw) != 4 * mask_size**2:
        raise PromptError(
            f"low_res_logits holds {len(raw)} bytes, not float32 of {mask_size} x {mask_size}"
        )
    return np.frombuffer(raw, dtype="<f4").reshape(1, mask_size, mask_size)


def read_prompt(
    prompt: Prompt, frame: Frame, mask: npt.NDArray[np.float32] | None
) -> DecoderPrompts:
    """Check one prompt against the image and encode it for the decoder.

    Args:
        prompt: What the client asks.
        frame: Where the image lies in the model's square.
        mask: What became of its mask: logits [1, M, M].
    """
    labels = prompt.labels
    if prompt.points is not None and labels is None:
        labels = [1] * len(prompt.points)
    if prompt.low_res_logits is not None:
        mask = read_logits(prompt.low_res_logits, frame.mask_size)
    return build_prompts(
        frame,
        None if prompt.points is None else [prompt.points],
        None if labels is None else [labels],
        None if prompt.box is None else [prompt.box],
        None if mask is None else mask[None],
    )


def write_candidate(
    logits: Tensor, score: float, frame: Frame, threshold: float, request: MasksRequest
) -> Candidate:
    """Bring one mask's low-res logits [1, M, M] to the form and size that were asked for.

    At the image's size a mask is formed where its logits are, and comes from a GPU as RLE.
    """
    clean = cleaned(logits, frame, threshold, request.specks) if request.specks else logits
    size = formed_size(frame.original, request.longest_side)
    if size == frame.original:
        mask = former_of(clean, frame).encode(clean, np.zeros(1, np.intp), threshold)[0]
    else:
        mask = rle.encode(upscale_one(to_host(clean)[0], frame, size) > threshold)
    return Candidate(
        score=score,
        area=rle.area(mask),
        bbox=list(rle.coco_box(mask)),
        rle=Rle(**rle.compress(mask)) if request.format == "rle" else None,
        png=_png(rle.decode(mask)) if request.format == "png" else None,
        low_res_logits=(
            _base64(returned_logits(to_host(logits), frame.generation))
            if request.low_res_logits
            else None
        ),
    )


def _png(mask: BoolArray) -> str:
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")


def _base64(logits: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(logits.astype("<f4").tobytes()).decode("ascii")
