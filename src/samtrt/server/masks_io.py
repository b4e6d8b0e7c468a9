"""Masks as the API sends and takes them."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.errors import PromptError
from samtrt.manifest import Manifest
from samtrt.masks.logits import box_of_mask, logits_from_mask
from samtrt.masks.rle import compress, encode
from samtrt.masks.upscaling import upscale_one
from samtrt.preparation.prompts import DecoderPrompts, build_prompts
from samtrt.registry import MASK_THRESHOLD
from samtrt.server.schemas import Candidate, MasksRequest, Prompt, Rle
from samtrt.types import BoolArray, Size


def read_rle(rle: Rle, size: Size) -> BoolArray:
    """Decode a client's mask [H, W]. Unlike pycocotools, trusts nothing.

    Raises:
        PromptError: where it is not a mask of this size.
    """
    if tuple(rle.size) != size:
        raise PromptError(
            f"the mask has the size {rle.size[0]} x {rle.size[1]} (height x width) "
            f"and the image {size[0]} x {size[1]}"
        )
    runs = np.array(_read_counts(rle.counts), dtype=np.int64)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise PromptError("the mask's counts do not add up to the image's size")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(size[1], size[0]).T


def _read_counts(text: str) -> list[int]:
    """Undo COCO's compression (pycocotools `rleFrString`).

    Six bits a character, starting at '0': five of value, one that says "more". From the third
    run on, values are differences to the run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 30:
            raise PromptError("the mask's counts are not compressed COCO run lengths")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise PromptError("the mask's counts end in the middle of a number")
    return runs


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


def read_prompt(prompt: Prompt, original: Size, model: Manifest) -> DecoderPrompts:
    """Check one prompt against the image and encode it for the decoder."""
    labels = prompt.labels
    if prompt.points is not None and labels is None:
        labels = [1] * len(prompt.points)
    mask = None
    if prompt.low_res_logits is not None:
        mask = read_logits(prompt.low_res_logits, model.mask_size)
    elif prompt.mask is not None:
        mask = logits_from_mask(read_rle(prompt.mask, original), model.image_size, model.mask_size)
    return build_prompts(
        original,
        model.image_size,
        model.mask_size,
        None if prompt.points is None else [prompt.points],
        None if labels is None else [labels],
        None if prompt.box is None else [prompt.box],
        None if mask is None else mask[None],
    )


def write_candidate(
    logits: npt.NDArray[np.float32],
    score: float,
    original: Size,
    image_size: int,
    request: MasksRequest,
) -> Candidate:
    """Bring one mask's low-res logits [M, M] to the form that was asked for."""
    mask = upscale_one(logits, original, image_size) > MASK_THRESHOLD
    return Candidate(
        score=score,
        area=int(np.count_nonzero(mask)),
        bbox=list(box_of_mask(mask)),
        rle=Rle(**compress(encode(mask))) if request.format == "rle" else None,
        png=_png(mask) if request.format == "png" else None,
        low_res_logits=_base64(logits) if request.low_res_logits else None,
    )


def _png(mask: BoolArray) -> str:
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode("ascii")


def _base64(logits: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(logits.astype("<f4").tobytes()).decode("ascii")
