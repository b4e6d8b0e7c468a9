"""Pictures and masks that clients send, read by processes with a limit of memory for each."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from samtrt.encoding import Prepared
from samtrt.images import UPLOADED, Limits
from samtrt.manifest import Manifest
from samtrt.preparation.frame import Frame
from samtrt.server.budget import Budget
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics
from samtrt.server.readers import ReaderDiedError, Readers
from samtrt.server.schemas import MasksRequest, Rle
from samtrt.server.settings import MIB, Settings
from samtrt.server.untrusted import (
    BYTES_A_MASK_PIXEL,
    BYTES_A_RUN,
    RefusedError,
    read_mask,
    read_masks,
    read_picture,
)
from samtrt.types import BoolArray, Size

log = logging.getLogger("samtrt.server")

T = TypeVar("T")

SMALL = 64 * MIB
"""Set aside to decode an image before its size is known: enough for four megapixels."""


class Intake:
    """The readers and what they may take. Cancelling a call kills the process that serves it."""

    def __init__(
        self, model: Manifest, settings: Settings, metrics: Metrics, memory: Budget
    ) -> None:
        self._model, self._settings, self._metrics = model, settings, metrics
        self._memory = memory
        self.readers = Readers(settings.readers or min(8, os.cpu_count() or 1))

    async def read_picture(self, body: bytes, content_type: str) -> Prepared:
        """Read an uploaded picture, or a form that holds one, and prepare it for the encoder.

        Raises:
            ApiError: where it is no picture, damaged or too large.
            ImageError: where it is damaged.
        """
        settings = self._settings
        limits = Limits(
            formats=UPLOADED,
            max_file_bytes=settings.max_upload_bytes,
            max_pixels=settings.max_pixels,
            max_side=settings.max_side,
            max_ratio=settings.max_ratio,
        )
        room = SMALL
        while True:
            arguments = body, content_type, self._model, limits, room
            # The body comes to the process in one piece, and is then taken apart.
            found = await self._read(room + 2 * len(body), partial(self._picture, arguments))
            if isinstance(found, Prepared):
                return found
            room = found  # more than was set aside: once more, when there is that much

    async def read_masks(
        self, request: MasksRequest, frame: Frame
    ) -> dict[int, npt.NDArray[np.float32]]:
        """Decode the masks among a request's prompts: logits [1, M, M] by the prompt's number.

        Raises:
            ApiError: where they are too many.
            PromptError: where one is not a mask of the image's size.
        """
        given = {i: p.mask for i, p in enumerate(request.prompts) if p.mask is not None}
        if not given:
            return {}
        pixels = frame.original[0] * frame.original[1]
        if len(given) * pixels > self._settings.max_mask_pixels:
            raise ApiError(
                422,
                f"{len(given)} masks of {pixels:,} pixels in one request; the server takes "
                f"{self._settings.max_mask_pixels:,} pixels of masks",
            )
        masks = [(mask.size, mask.counts) for mask in given.values()]
        longest = max(len(counts) for _, counts in masks)
        need = pixels * BYTES_A_MASK_PIXEL + longest * BYTES_A_RUN

        async def work(allowance: int) -> list[npt.NDArray[np.float32]]:
            return await self.readers.run(allowance, read_masks, masks, frame)

        return dict(zip(given, await self._read(need, work), strict=True))

    async def read_mask(self, mask: Rle, size: Size) -> BoolArray:
        """Decode one mask, bool [H, W], of (height, width) `size`.

        Raises:
            PromptError: where it is none of this size.
        """
        need = size[0] * size[1] * BYTES_A_MASK_PIXEL + len(mask.counts) * BYTES_A_RUN

        async def work(allowance: int) -> BoolArray:
            return await self.readers.run(allowance, read_mask, mask.size, mask.counts, size)

        return await self._read(need, work)

    async def _picture(
        self, arguments: tuple[bytes, str, Manifest, Limits, int], allowance: int
    ) -> Prepared | int:
        return await self.readers.run(allowance, read_picture, *arguments)

    async def _read(self, need: int, work: Callable[[int], Awaitable[T]]) -> T:
        """Let a reader work with memory that is set aside for it."""
        allowance = min(need, self._memory.total)
        try:
            async with self._memory.hold(allowance):
                return await work(allowance)
        except RefusedError as error:
            raise ApiError(error.status, error.message) from None
        except MemoryError:
            raise ApiError(
                413, f"reading this takes more memory than the limit of {allowance:,} bytes"
            ) from None
        except ReaderDiedError as error:
            self._metrics.readers_died.inc()
            log.warning("%s", error)
            raise ApiError(422, "what was sent cannot be read: it is damaged") from None

    def close(self) -> None:
        """Kill the processes."""
        self.readers.close()
