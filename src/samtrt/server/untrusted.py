"""What `readers` do with what clients send. Runs in their processes: imports little, holds nothing.

Functions here take bytes that nobody has looked at. They may take any time and memory, and may
crash; whoever calls them limits both.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from samtrt.encoding import Prepared, prepare
from samtrt.errors import ImageError, MaskError, PromptError, SamtrtError
from samtrt.images import Limits, decode_image
from samtrt.manifest import Manifest
from samtrt.masks.logits import logits_from_mask
from samtrt.masks.rle import decode
from samtrt.preparation.frame import Frame
from samtrt.types import BoolArray, Size

BYTES_A_PIXEL = 8
"""Memory to decode one pixel of a picture that is set aside before it is done."""

BYTES_A_DEEP_PIXEL = 28
"""The same for more than eight bits, or for what only decoding can tell."""

BYTES_A_MASK_PIXEL = 6
"""The same for a mask: as booleans and as numbers."""

BYTES_A_RUN = 64
"""Memory to decode one character of compressed run lengths, at most."""


class RefusedError(SamtrtError):
    """What was sent is not taken, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        # As given, so that the error can be pickled.
        super().__init__(status, message)
        self.status, self.message = status, message

    def __str__(self) -> str:
        return self.message


def read_picture(
    body: bytes, content_type: str, model: Manifest, limits: Limits, allowance: int
) -> Prepared | int:
    """Read an uploaded picture and prepare it for the encoder.

    Args:
        body: The picture's bytes, or a form with the field `file`.
        content_type: As the client sent it.
        model: Whose encoder it is for.
        limits: What is refused.
        allowance: Bytes that decoding may take.

    Returns:
        The picture, or the bytes that decoding it would take where they are more than `allowance`.

    Raises:
        RefusedError: where it is no picture (415, 422) or too large (413).
        ImageError: where it is damaged.
    """
    is_form = content_type.partition(";")[0].strip().lower() == "multipart/form-data"
    data = _file_of_form(body, content_type) if is_form else body
    need = check_picture(data, limits)
    if need > allowance:
        return need
    return prepare(decode_image(data, "the image", limits), model)


def check_picture(data: bytes, limits: Limits) -> int:
    """Read the header alone; refuse what is no picture (415) or too large (413).

    Returns:
        The bytes that decoding it may take; 0 where only decoding can say what is wrong with it.
    """
    if not data:
        raise RefusedError(422, "the request has no image: its body is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=limits.formats) as picture:
                width, height = picture.size
                deep = picture.format == "TIFF" or picture.mode[0] in "IF" or _is_deep_png(data)
    except UnidentifiedImageError:
        names = ", ".join(limits.formats)
        raise RefusedError(415, f"this is not an image of a known format ({names})") from None
    except Image.DecompressionBombError:
        message = f"the image has more pixels than the limit of {limits.max_pixels:,}"
        raise RefusedError(413, message) from None
    except MemoryError:
        raise
    except Exception:  # of any kind: decoders are many
        return 0  # `decode_image` says what is damaged
    try:
        limits.check_size(width, height, 0, "the image")
    except ImageError as error:
        raise RefusedError(413, str(error)) from None
    return width * height * (BYTES_A_DEEP_PIXEL if deep else BYTES_A_PIXEL)


def _is_deep_png(data: bytes) -> bool:
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:25] == b"\x10"


def read_masks(masks: list[tuple[list[int], str]], frame: Frame) -> list[npt.NDArray[np.float32]]:
    """Decode masks given as prompts: size and compressed counts of each, to logits [1, M, M].

    Raises:
        PromptError: where one is not a mask of the image's size.
    """
    return [
        logits_from_mask(read_mask(size, counts, frame.original), frame) for size, counts in masks
    ]


def read_mask(size: list[int], counts: str, original: Size) -> BoolArray:
    """Decode a mask given as a prompt: bool [H, W].

    Args:
        size: Height and width, as the client says.
        counts: Compressed run lengths.
        original: Height and width of what it is of.

    Raises:
        PromptError: where it is not a mask of this size.
    """
    if tuple(size) != original:
        raise PromptError(
            f"the mask has the size {size[0]} x {size[1]} (height x width) "
            f"and the image {original[0]} x {original[1]}"
        )
    try:
        return decode({"size": size, "counts": counts}, original[0] * original[1])
    except MaskError as error:
        raise PromptError(str(error)) from None


def _file_of_form(body: bytes, content_type: str) -> bytes:
    """Return the bytes of a form's field `file`."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser, parse_options_header

    found: list[bytes] = []

    def on_file(file: object) -> None:
        if file.field_name == b"file":  # type: ignore[attr-defined]
            content = file.file_object  # type: ignore[attr-defined]
            content.seek(0)
            found.append(content.read())

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RefusedError(400, "the form's content type names no boundary")
    try:
        # Files stay in memory: this process may not write any.
        parser = FormParser(
            "multipart/form-data",
            lambda _: None,
            on_file,
            boundary=boundary,
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_FIELDS": 8},
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RefusedError(400, f"the form cannot be read: {error}") from None
    if not found:
        raise RefusedError(422, "the form has no file in its field 'file'")
    return found[0]
