"""Find what lies inside cut-outs: eyes, wheels, windows.

A cut-out alone says that a point anywhere on it means all of it. So what views of it agree on, as
`consensus.py` has it for photographs, becomes a map of its parts. Four cut-outs are shown at a
time, each on plain ground of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from agreement import agreed
from borders import clear_pieces
from parts import as_png, opened
from samtrt.models import Sam
from views import View

TILE = 256
"""Side of a cut-out's place in a frame of labels, 512 wide; it is shown twice as large."""
MOST_PARTS = 15
_ENLARGED = 2
_GROUNDS = ((124, 116, 104), (235, 235, 230), (40, 44, 52), (150, 190, 220))
_PLACES = ((0, 0), (0, TILE), (TILE, 0), (TILE, TILE))
_SMALLEST, _LARGEST = 0.004, 0.5  # of the cut-out
_LEAST_PIXELS = 50
_INSIDE = 0.95  # of a part
_OVERLAP = 0.03  # of a part, by others
_GRID = 28


def insides(
    names: Sequence[str],
    items: Mapping[str, bytes],
    models: Sequence[Sam],
    device: torch.device,
    seconds: float,
) -> Iterator[tuple[str, bytes]]:
    """Yield maps, PNG, of what lies inside cut-outs `names` of parts' items, until time is up."""
    end = time.monotonic() + seconds
    for start in range(0, len(names), len(_PLACES)):
        if time.monotonic() > end:
            return
        some = names[start : start + len(_PLACES)]
        cutouts = [opened(items[name]) for name in some]
        shown = torch.from_numpy(together(cutouts)).to(device)
        masks = inside_masks(shown, models)
        for name, cutout, place in zip(some, cutouts, _PLACES, strict=False):
            if (ids := parts_of(cutout[..., 3] > 128, place, masks)).any():
                yield name.replace("object/", "inside/", 1), as_png(ids)


def together(cutouts: Sequence[np.ndarray]) -> np.ndarray:
    """Show up to four cut-outs, RGBA uint8 [h, w, 4], h, w <= 256: uint8 [3, 1024, 1024]."""
    side = 2 * TILE * _ENLARGED
    sheet = Image.new("RGB", (side, side))
    for (top, left), ground, cutout in zip(_PLACES, _GROUNDS, cutouts, strict=False):
        at = left * _ENLARGED, top * _ENLARGED
        sheet.paste(ground, (*at, at[0] + side // 2, at[1] + side // 2))
        picture = Image.fromarray(cutout)
        size = picture.width * _ENLARGED, picture.height * _ENLARGED
        picture = picture.resize(size, Image.Resampling.BICUBIC)
        sheet.paste(picture, at, picture)
    return np.ascontiguousarray(np.asarray(sheet).transpose(2, 0, 1))


def inside_masks(shown: Tensor, models: Sequence[Sam]) -> list[np.ndarray]:
    """What views of such a picture agree on: bool [512, 512] each."""
    views = [View(model, mirrored=bool(i % 2), grid=_GRID) for i, model in enumerate(models)]
    views.append(View(models[0], mirrored=True, grid=_GRID))
    none = torch.zeros(0, TILE, TILE, dtype=torch.bool, device=shown.device)
    with torch.autocast(shown.device.type, torch.bfloat16, enabled=shown.is_cuda):
        masks = agreed(shown, views, none)
    return clear_pieces(masks, np.ascontiguousarray(shown.permute(1, 2, 0).cpu().numpy()))


def parts_of(alpha: np.ndarray, place: tuple[int, int], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Number the masks that are parts of a cut-out, bool [h, w], at its place: uint8 [h, w].

    The smallest come first, and parts that overlap them are left out: of a face and its eye the
    eye stays.
    """
    height, width = alpha.shape
    ids = np.zeros(alpha.shape, np.uint8)
    here = [mask[place[0] :, place[1] :][:height, :width] for mask in masks]
    for mask, all_of in sorted(zip(here, masks, strict=True), key=lambda pair: int(pair[1].sum())):
        area = int(all_of.sum())
        part = mask & alpha
        if (
            part.sum() > _INSIDE * area
            and max(_LEAST_PIXELS, _SMALLEST * alpha.sum()) < area < _LARGEST * alpha.sum()
            and (ids[part] > 0).sum() <= _OVERLAP * area
            and ids.max() < MOST_PARTS
        ):
            ids[part & (ids == 0)] = ids.max() + 1
    return ids
