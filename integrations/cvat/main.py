"""CVAT interactor for nuclio: points and a box in, a mask out."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np

from samtrt.errors import PromptError, SamtrtError
from samtrt.interactive import Segmenter
from samtrt.masks.rle import patch_of


def init_context(context: Any) -> None:
    """Open the model, once a worker."""
    context.user_data.segmenter = Segmenter.from_environment()
    context.logger.info("samtrt is ready")


def handler(context: Any, event: Any) -> Any:
    """Answer one request of CVAT; what is wrong with it is told in a line, with status 400."""
    try:
        image, points, labels, box = read_request(event.body)
        mask = context.user_data.segmenter.segment(image, points, labels, box).mask
        status, answer = 200, describe(mask)
    except SamtrtError as error:
        context.logger.warn(f"refused: {error}")
        status, answer = 400, {"error": str(error)}
    return context.Response(
        body=json.dumps(answer), headers={}, content_type="application/json", status_code=status
    )


def read_request(
    body: Any,
) -> tuple[bytes, list[Any] | None, list[int] | None, list[float] | None]:
    """Return the image's bytes, points [N, 2], their labels [N] and a box XYXY.

    CVAT sends the box as two corners, some versions as four numbers.

    Raises:
        PromptError: where it is not a request of CVAT.
    """
    try:
        request = json.loads(body) if isinstance(body, bytes | str) else body
        image = base64.b64decode(request["image"], validate=True)
        positive, negative = request.get("pos_points") or [], request.get("neg_points") or []
        corners = np.asarray(request.get("obj_bbox") or [], dtype=np.float64).ravel().tolist()
        labels = [1] * len(positive) + [0] * len(negative)
        points = [*positive, *negative]
    except (LookupError, TypeError, ValueError, AttributeError, binascii.Error):
        raise PromptError("the request is not one of CVAT's for an interactor") from None
    if len(corners) not in (0, 4):
        raise PromptError("obj_bbox is one box: two corners")
    box = None
    if corners:  # drawn from any corner to the opposite one
        (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])
        box = [x1, y1, x2, y2]
    return image, points or None, labels or None, box


def describe(mask: np.ndarray) -> dict[str, Any]:
    """Describe a mask [H, W] as CVAT does: 0 and 1 within its box, and where the box is.

    `bounds` are the first column and row and the last ones.

    Raises:
        PromptError: where it is empty: CVAT would show an error of its own.
    """
    x, y, part = patch_of(mask)
    if not part.size:
        raise PromptError("the model finds nothing there: add or move points")
    height, width = part.shape
    bounds = [int(x), int(y), int(x) + width - 1, int(y) + height - 1]
    return {"mask": part.astype(int).tolist(), "bounds": bounds}
