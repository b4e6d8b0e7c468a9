"""Masks as polygons, through the centres of their outermost pixels or along the edges of these.

Filling a polygon through centres together with its outline (OpenCV's `fillPoly`, Pillow's
`polygon`) gives back the part of the mask it goes around; for one along edges pycocotools does.
Holes are lost: neither labelme's nor YOLO's nor COCO's polygons can have any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from samtrt.masks.rle import Patch, patch_of
from samtrt.types import BoolArray

_TWICE = 1 + math.sqrt(0.5)
"""OpenCV drops corners twice: those within its tolerance, then of what is left those within
`sqrt(0.5)` of it (the last loop of `approxPolyDP_`)."""

Polygon = npt.NDArray[np.int32]
"""[N, 2], XY in pixels, N >= 3; the last point joins the first."""


@dataclass(frozen=True)
class Outline:
    """How near polygons follow a mask.

    Attributes:
        tolerance: No pixel of the outline is farther from the polygon, in pixels (Douglas-Peucker);
            0 keeps every corner.
        min_area: Smaller parts of a mask, in pixels with their holes, are left out; the largest
            part never is.
    """

    tolerance: float = 1.0
    min_area: float = 16.0


def polygons_of(mask: BoolArray | Patch, outline: Outline | None = None) -> list[Polygon]:
    """Return the outline of each part of a mask [H, W], the largest first."""
    x, y, part = mask if isinstance(mask, Patch) else patch_of(mask)
    if not part.size:
        return []
    contours, _ = cv2.findContours(
        np.ascontiguousarray(part).view(np.uint8),
        cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_SIMPLE,
        offset=(int(x), int(y)),
    )
    found = sorted(contours, key=_pixels_within, reverse=True)
    if outline:
        least = outline.min_area
        found = found[:1] + [one for one in found[1:] if _pixels_within(one) >= least]
        found = [cv2.approxPolyDP(one, outline.tolerance / _TWICE, True) for one in found]
    # A part of one or two pixels has fewer corners than readers accept: say the last one again.
    return [
        np.pad(corners, ((0, max(3 - len(corners), 0)), (0, 0)), mode="edge")
        for corners in (np.asarray(contour, dtype=np.int32).reshape(-1, 2) for contour in found)
    ]


def _pixels_within(contour: npt.NDArray[Any]) -> float:
    """Count the pixels on and within a contour through centres of pixels (Pick's theorem)."""
    steps = np.abs(np.diff(contour[:, 0], axis=0, append=contour[:1, 0])).max(axis=1)
    return float(cv2.contourArea(contour)) + float(steps.sum()) / 2 + 1


def edges_of(mask: BoolArray | Patch) -> list[npt.NDArray[np.float64]]:
    """Return the outline of each part of a mask along the edges of its pixels, the largest first.

    Pixel (x, y) is the square from x, y to x + 1, y + 1. Parts that touch at a corner are one.
    """
    x, y, part = mask if isinstance(mask, Patch) else patch_of(mask)
    if not part.size:
        return []
    height, width = part.shape
    # Twice as large, with a row and column more: the corners of pixels are at even places.
    doubled = np.zeros((2 * height + 1, 2 * width + 1), dtype=np.uint8)
    for down in range(3):
        for across in range(3):
            doubled[down : down + 2 * height : 2, across : across + 2 * width : 2] |= part
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = sorted(contours, key=cv2.contourArea, reverse=True)
    return [np.asarray(one, dtype=np.float64).reshape(-1, 2) / 2 + (x, y) for one in found]


def join_polygons(polygons: Sequence[Polygon]) -> Polygon:
    """Make one polygon of several, by bridges of no width between corners that are near.

    Filled, the bridges add lines one pixel wide. Time and memory grow as N log N with the number
    of corners: only corners that follow each other in some order along the plane are compared.
    """
    if len(polygons) == 1:
        return polygons[0]
    bridges = _bridges(polygons)
    joined: list[npt.NDArray[np.int32]] = []
    # Around the largest polygon; at a bridge, first around what it leads to, then back over it.
    ways = [_around(polygons[0], 0, bridges[0])]
    seen = {0}
    while ways:
        step = next(ways[-1], None)
        if step is None:
            ways.pop()
        elif isinstance(step, np.ndarray):
            joined.append(step)
        elif step[0] not in seen:
            seen.add(step[0])
            polygon, start = polygons[step[0]], step[1]
            ways.append(_around(polygon, start, bridges[step[0]]))
    return np.concatenate(joined)


Bridges = list[dict[int, list[tuple[int, int]]]]
"""For each polygon, and its corners with bridges, the polygons and corners that these lead to."""


def _around(
    corners: Polygon, start: int, bridges: dict[int, list[tuple[int, int]]]
) -> Iterator[Polygon | tuple[int, int]]:
    """Yield corners from `start` on and back to it and, after each with bridges, where they lead.

    A corner is said again after each of its bridges, as the way comes back over it.
    """
    turned = np.concatenate([corners[start:], corners[: start + 1]])
    begin = 0
    for place, corner in sorted(((corner - start) % len(corners), corner) for corner in bridges):
        yield turned[begin : place + 1]
        for lead in bridges[corner]:
            yield lead
            yield turned[place : place + 1]
        begin = place + 1
    yield turned[begin:]


def _bridges(polygons: Sequence[Polygon]) -> Bridges:
    """Choose bridges that make the polygons one tree: short ones first (Kruskal)."""
    points = np.concatenate(polygons).astype(np.int64)
    lengths = np.array([len(polygon) for polygon in polygons])
    owners = np.repeat(np.arange(len(polygons)), lengths)
    numbers = np.arange(len(points)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    pairs = []
    for key in (_along_z(points), _along_z(points + 21845), points[:, 0], points[:, 1]):
        order = np.lexsort((points[:, 1], points[:, 0], key))
        pair = np.stack([order[:-1], order[1:]], axis=1)
        pairs.append(pair[owners[pair[:, 0]] != owners[pair[:, 1]]])
    found = np.concatenate(pairs)
    squares = ((points[found[:, 0]] - points[found[:, 1]]) ** 2).sum(axis=1)
    found = found[np.argsort(squares, kind="stable")]
    # Of the bridges between two polygons, the shortest.
    ends = np.sort(owners[found], axis=1)
    kept = np.sort(np.unique(ends[:, 0] * len(polygons) + ends[:, 1], return_index=True)[1])
    roots = list(range(len(polygons)))

    def root(polygon: int) -> int:
        while roots[polygon] != polygon:
            roots[polygon] = roots[roots[polygon]]
            polygon = roots[polygon]
        return polygon

    bridges: Bridges = [{} for _ in polygons]
    missing = len(polygons) - 1
    for (one, other), (a, b) in zip(
        found[kept].tolist(), owners[found[kept]].tolist(), strict=True
    ):
        if not missing:
            break
        if (left := root(a)) == (right := root(b)):
            continue
        roots[left] = right
        missing -= 1
        bridges[a].setdefault(int(numbers[one]), []).append((b, int(numbers[other])))
        bridges[b].setdefault(int(numbers[other]), []).append((a, int(numbers[one])))
    return bridges


def _along_z(points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places of points [N, 2] along a Z-order curve, by which neighbours are near."""
    place = np.zeros(len(points), dtype=np.int64)
    for bit in range(20):
        for axis in (0, 1):
            place |= (points[:, axis] >> bit & 1) << (2 * bit + axis)
    return place
