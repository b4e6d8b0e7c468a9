"""Masks as Label Studio's tasks with predictions: brush strokes, lossless, holes too."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from samtrt._version import __version__
from samtrt.files import printable
from samtrt.formats.annotation import AnnotatedImage, Annotation, Categories
from samtrt.masks.drawing import colour_of
from samtrt.masks.rle import Patch
from samtrt.types import Size

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of the folder `LOCAL_FILES_DOCUMENT_ROOT`."""

_WORD, _SIZES = 8, (3, 4, 8, 16)
"""Bits of a value, and of a run's length in its four kinds; all runs here are of the last."""
_LONGEST = 1 << _SIZES[-1]


def label_config(categories: Categories) -> str:
    """Write the labelling interface that the tasks are for."""
    labels = "".join(
        f"    <Label value={quoteattr(printable(one.name))} "
        f'background="#{"".join(f"{part:02x}" for part in colour_of(i))}"/>\n'
        for i, one in enumerate(categories.all)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{labels}  </BrushLabels>\n</View>\n'
    )


def label_studio_task(image: AnnotatedImage, categories: Categories) -> dict[str, Any]:
    """Describe one image as a task; the picture is looked for in Label Studio's local files."""
    results = [
        _result(number, one, image.size, categories)
        for number, one in enumerate(image.annotations, start=1)
        if one.area
    ]
    scores = [result["score"] for result in results if "score" in result]
    return {
        "data": {"image": LOCAL_FILES + quote(image.file_name, errors="surrogateescape")},
        "predictions": [
            {
                "model_version": f"samtrt {__version__}",
                **({"score": sum(scores) / len(scores)} if scores else {}),
                "result": results,
            }
        ],
    }


def _result(number: int, one: Annotation, size: Size, categories: Categories) -> dict[str, Any]:
    category = categories.of(one)
    iou = one.more.get("predicted_iou")
    score = iou if one.score is None else one.score
    meta = {**one.facts, "category_id": category.id, "predicted_iou": iou}
    meta.pop("label", None)
    return {
        "id": f"m{number}",
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": int(size[1]),
        "original_height": int(size[0]),
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": brush_rle(one.patch, size).tolist(),
            "brushlabels": [printable(category.name)],
        },
        **({} if score is None else {"score": score}),
        "meta": {key: value for key, value in meta.items() if value is not None},
    }


def brush_rle(patch: Patch, size: Size) -> npt.NDArray[np.uint8]:
    """Pack a mask as Label Studio does: RGBA of every pixel, row by row, 0 or 255, as runs.

    32 bits count the values, 5 say how many bits each has, 4 x 4 how many each kind of length has;
    then for each run a 1, two bits for the kind of its length, the length less one, and the value
    (`rle-pack` of thi.ng/umbrella). Time and memory go with the mask's runs, not with the picture.

    Args:
        patch: The mask, cut to its box.
        size: (height, width) of the picture.
    """
    total = size[0] * size[1] * 4
    edges = np.concatenate([[0], row_edges(patch, size[1]) * 4, [total]])
    lengths = np.diff(edges)
    values = np.arange(len(lengths)) % 2 * 255
    # A run longer than its 16 bits can say is several.
    pieces = -(-lengths // _LONGEST)
    parts = np.full(int(pieces.sum()), _LONGEST, dtype=np.int64)
    last = np.cumsum(pieces)[pieces > 0] - 1
    parts[last] = (lengths - (pieces - 1) * _LONGEST)[pieces > 0]
    head = [_bits(total, 32), _bits(_WORD - 1, 5), *(_bits(one - 1, 4) for one in _SIZES)]
    body = np.ones((len(parts), 3 + _SIZES[-1] + _WORD), dtype=np.uint8)
    body[:, 3:-_WORD] = (parts[:, None] - 1) >> np.arange(_SIZES[-1])[::-1] & 1
    body[:, -_WORD:] = np.repeat(values, pieces)[:, None] & 1
    return np.packbits(np.concatenate([*head, body.ravel()]))


def row_edges(patch: Patch, width: int) -> npt.NDArray[np.int64]:
    """Return where mask begins and ends in turn, as numbers of pixels row by row.

    Args:
        patch: The mask, cut to its box.
        width: Of the whole picture.
    """
    x, y, mask = patch
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.uint8)
    padded[:, 1:-1] = mask
    changes = np.flatnonzero(np.diff(padded, axis=1))
    row, column = np.divmod(changes, max(mask.shape[1] + 1, 1))
    return ((row + y) * width + column + x).astype(np.int64)


def _bits(number: int, count: int) -> npt.NDArray[np.uint8]:
    return (number >> np.arange(count)[::-1] & 1).astype(np.uint8)
