"""What goes over the wire: image files there, JSON and maps back."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.errors import (
    ImageError,
    MaskError,
    RemoteError,
)
from samtrt.files import read_whole
from samtrt.preparation.host import check_image
from samtrt.types import UInt8Array

if TYPE_CHECKING:
    import httpx


def image_bytes(image: str | Path | bytes | UInt8Array) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return read_whole(Path(image))
        except OSError as error:
            raise ImageError(f"cannot read {image}: {error.strerror or error}") from None
    out = io.BytesIO()
    Image.fromarray(check_image(image)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def cut_maps(content: bytes, declared: list[dict[str, Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Cut an embedding into the maps that the model declares; raise `ValueError` where it is not
    of them."""
    flat, maps, start = np.frombuffer(content, dtype="<f4"), {}, 0
    for one in declared:
        stop = start + math.prod(one["shape"])
        maps[str(one["name"])] = flat[start:stop].reshape(1, *one["shape"])
        start = stop
    if start != len(flat):
        raise ValueError("the embedding has another size than the model's maps")
    return maps


def json_of(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object that a response holds.

    Raises:
        RemoteError: where it holds none: some other server answers there, or a proxy.
    """
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _unexpected(response.status_code, "JSON")
    return answer


@contextmanager
def expecting(what: str) -> Iterator[None]:
    """Turn an answer that lacks something, or has it in another form, into one line."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, MaskError):
        raise _unexpected(200, what) from None


def _unexpected(status: int, what: str) -> RemoteError:
    return RemoteError(
        f"the server's answer is not {what}: is this the address of a samtrt server?",
        status,
        "unexpected_answer",
    )
