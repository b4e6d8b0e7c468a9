"""Removal of the small holes and islands of automatic masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from samtrt.automatic.candidates import Candidate, Check
from samtrt.automatic.selection import suppress
from samtrt.masks import rle
from samtrt.masks.specks import specks_of
from samtrt.types import BoolArray


def clean(
    found: list[Candidate], least_area: int, threshold: float, check: Check = lambda: None
) -> list[Candidate]:
    """Fill small holes, remove small islands, then drop the duplicates that this made.

    `check` is called before each mask.
    """
    cleaned = []
    for candidate in found:
        check()
        cleaned.append(_without_small_regions(candidate, least_area))
    # Masks that needed no change are preferred.
    scores = [float(new is old) for new, old in zip(cleaned, found, strict=True)]
    return suppress(cleaned, scores, threshold)


def without_specks(
    found: list[Candidate],
    least_area: Callable[[Candidate], float],
    threshold: float,
    check: Check = lambda: None,
) -> list[Candidate]:
    """Remove each mask's specks and the duplicates that this made; keep the order.

    Args:
        found: Masks.
        least_area: Tells the pixels below which a region of a mask is a speck.
        threshold: As of `clean`.
        check: Called before each mask.
    """
    cleaned = []
    for candidate in found:
        check()
        cleaned.append(_speckless(candidate, least_area(candidate)))
    scores = [float(new is old) for new, old in zip(cleaned, found, strict=True)]
    kept = {id(one) for one in suppress(cleaned, scores, threshold)}
    return [one for one in cleaned if id(one) in kept]


def _speckless(candidate: Candidate, least_area: float) -> Candidate:
    patch = rle.cut(candidate.rle)
    changed = specks_of(patch.mask, least_area)
    if changed is None:
        return candidate
    height, width = candidate.rle["size"]
    mask = np.ascontiguousarray((patch.mask ^ changed).T)
    runs = rle.find_runs(mask, height, patch.x, patch.y)
    return candidate._replace(rle=runs.to_rle((height, width)), box=runs.box)


def _without_small_regions(candidate: Candidate, least_area: int) -> Candidate:
    before = rle.decode(candidate.rle)
    filled = remove_small_regions(before, least_area, "holes")
    after = remove_small_regions(filled, least_area, "islands")
    if after is before:
        return candidate
    height, width = after.shape
    runs = rle.find_runs(np.ascontiguousarray(after.T), height)
    return candidate._replace(rle=runs.to_rle((height, width)), box=runs.box)


def remove_small_regions(
    mask: BoolArray, least_area: float, kind: Literal["holes", "islands"]
) -> BoolArray:
    """Fill the holes or remove the islands of a mask [H, W] that are smaller than `least_area`.

    Regions are 8-connected. Where every island is small, the largest stays. Returns `mask` itself
    where nothing changed.
    """
    holes = kind == "holes"
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ holes).astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    change = areas < least_area
    change[0] = False  # label 0 is the rest: the mask where holes are sought, else the background
    if not change.any():
        return mask
    if not holes and change[1:].all():
        change[1 + int(areas[1:].argmax())] = False
    value = np.zeros(count, dtype=np.bool_)
    value[1:] = change[1:] if holes else ~change[1:]
    value[0] = holes
    return np.asarray(value[labels])
