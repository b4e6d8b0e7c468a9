"""Masks as the API sends and takes them."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.decoding import returned_logits
from samtrt.errors import PromptError
from samtrt.masks.logits import box_of_mask
from samtrt.masks.rle import compress, encode
from samtrt.masks.specks import without_specks
from samtrt.masks.upscaling import upscale_one
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts, build_prompts
from samtrt.server.schemas import Candidate, MasksRequest, Prompt, Rle
from samtrt.types import BoolArray, Size


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
    logits: npt.NDArray[np.float32],
    score: float,
    frame: Frame,
    threshold: float,
    request: MasksRequest,
) -> Candidate:
    """Bring one mask's low-res logits [M, M] to the form and size that were asked for."""
    clean = without_specks(logits, frame, threshold, request.specks) if request.specks else logits
    mask = upscale_one(clean, frame, formed_size(frame.original, request.longest_side)) > threshold
    return Candidate(
        score=score,
        area=int(np.count_nonzero(mask)),
        bbox=list(box_of_mask(mask)),
        rle=Rle(**compress(encode(mask))) if request.format == "rle" else None,
        png=_png(mask) if request.format == "png" else None,
        low_res_logits=(
            _base64(returned_logits(logits, frame.generation)) if request.low_res_logits else None
        ),
    )


def _png(mask: BoolArray) -> str:
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")


def _base64(logits: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(logits.astype("<f4").tobytes()).decode("ascii")
