"""Masks of one image, formed where their logits are: on the host, or on a GPU."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from samtrt.cuda.memory import CudaArray, Memory
from samtrt.masks import rle
from samtrt.masks.cuda import MaskFormer
from samtrt.masks.logits import upscale_logits, upscale_masks
from samtrt.masks.rle import Rle
from samtrt.masks.upscaling import Upscaler
from samtrt.preparation.frame import Frame
from samtrt.types import BoolArray, Tensor

Numbers = npt.NDArray[np.integer]


class Former(Protocol):
    """Forms masks from planes [K] of low-res logits, float32 [N, M, M]."""

    def logits(self, logits: Any, planes: Numbers) -> Tensor:
        """Return logits at the image's size, float32 [K, H, W]."""

    def masks(self, logits: Any, planes: Numbers, threshold: float) -> Tensor:
        """Return masks, bool [K, H, W]."""

    def encode(self, logits: Any, planes: Numbers, threshold: float) -> list[Rle]:
        """Return masks as uncompressed RLE, their counts as int32 arrays."""


class HostFormer:
    """Forms masks of a frame on the host, one at a time."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    def logits(self, logits: npt.NDArray[np.float32], planes: Numbers) -> npt.NDArray[np.float32]:
        return upscale_logits(logits[planes], self.frame)

    def masks(
        self, logits: npt.NDArray[np.float32], planes: Numbers, threshold: float
    ) -> BoolArray:
        return upscale_masks(logits[planes], self.frame, threshold)

    def encode(
        self, logits: npt.NDArray[np.float32], planes: Numbers, threshold: float
    ) -> list[Rle]:
        upscaler = Upscaler(self.frame)
        original = self.frame.original
        runs = (upscaler.runs(logits[plane], threshold) for plane in planes)
        return [rle.with_array(each.to_rle(original)) for each in runs]


def former_of(logits: Tensor, frame: Frame) -> Former:
    """Return what forms masks of a frame from logits where these are."""
    if isinstance(logits, CudaArray):
        return device_former(logits.memory, frame)
    return HostFormer(frame)


def device_former(memory: Memory, frame: Frame) -> MaskFormer:
    """Return what forms masks of a frame in the memory of a GPU."""
    return memory.keep((MaskFormer, frame), lambda: MaskFormer(frame, memory))
