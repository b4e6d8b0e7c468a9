"""What is written is read back by the tools' own code or by their documented rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from samtrt.formats.coco import coco_dataset, merge_coco
from samtrt.formats.labelmap import label_map
from samtrt.formats.labelme import labelme_document
from samtrt.formats.polygons import join_polygons, polygons_of
from samtrt.formats.yolo import yolo_labels
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord

SIZE = (60, 90)


def record(mask: np.ndarray) -> MaskRecord:
    encoded = rle.encode(mask)
    runs = rle.find_runs(np.ascontiguousarray(mask.T), mask.shape[0])
    x1, y1, x2, y2 = runs.box
    return MaskRecord(
        segmentation=rle.compress(encoded),
        area=runs.area,
        bbox=[x1, y1, x2 - x1, y2 - y1],
        predicted_iou=0.9,
        point_coords=[[1.0, 2.0]],
        stability_score=0.97,
        crop_box=[0, 0, mask.shape[1], mask.shape[0]],
    )


def blob(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask in a few parts without holes."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=size), (0, 0), rng.uniform(1, 8))
    mask = (noise > np.quantile(noise, rng.uniform(0.5, 0.98))).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.fillPoly(np.zeros(size, np.uint8), contours, 1).astype(bool)


@pytest.fixture
def records() -> list[MaskRecord]:
    return [record(blob(seed)) for seed in range(5)]


def test_pycocotools_loads_the_dataset_and_its_masks(
    records: list[MaskRecord], tmp_path: Path
) -> None:
    one = coco_dataset(records, "a.jpg", SIZE, {"made": "now"})
    both = merge_coco([one, coco_dataset(records[:2], "b.jpg", SIZE)])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(both))
    coco = COCO(str(path))
    assert sorted(image["file_name"] for image in coco.loadImgs(coco.getImgIds())) == [
        "a.jpg",
        "b.jpg",
    ]
    assert len(set(coco.getAnnIds())) == 7
    assert len(coco.getAnnIds(imgIds=2)) == 2
    from pycocotools import mask as mask_utils

    for seed, annotation in zip([0, 1, 2, 3, 4, 0, 1], both["annotations"], strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), blob(seed))
        encoded = {**annotation["segmentation"]}
        assert annotation["bbox"] == mask_utils.toBbox(encoded).tolist()
        assert annotation["area"] == mask_utils.area(encoded)


@given(seed=st.integers(0, 10_000))
def test_polygons_give_the_mask_back(seed: int) -> None:
    mask = blob(seed)
    polygons = polygons_of(mask)
    assert all(len(polygon) >= 3 for polygon in polygons)
    filled = np.zeros(SIZE, np.uint8)
    for polygon in polygons:  # one by one: together, overlaps would cancel out
        cv2.fillPoly(filled, [polygon], 1)
    np.testing.assert_array_equal(filled.astype(bool), mask)


def test_tiny_and_empty_masks() -> None:
    mask = np.zeros(SIZE, dtype=bool)
    assert polygons_of(mask) == []
    assert yolo_labels([record(mask)], SIZE) == ""
    mask[3, 5] = True
    assert polygons_of(mask)[0].tolist() == [[5, 3]] * 3


def test_labelme_draws_the_same_masks(records: list[MaskRecord]) -> None:
    document: dict[str, Any] = json.loads(json.dumps(labelme_document(records, "../a.jpg", SIZE)))
    assert document["imagePath"] == "../a.jpg"
    assert (document["imageHeight"], document["imageWidth"]) == SIZE
    for index in range(5):
        canvas = Image.new("1", SIZE[::-1])
        for shape in document["shapes"]:
            if shape["group_id"] == index:  # as labelme.utils.shape_to_mask draws polygons
                assert shape["shape_type"] == "polygon"
                points = [tuple(point) for point in shape["points"]]
                assert len(points) > 2
                ImageDraw.Draw(canvas).polygon(xy=points, outline=1, fill=1)
        np.testing.assert_array_equal(np.asarray(canvas, dtype=bool), blob(index))


@given(seed=st.integers(0, 10_000), size=st.tuples(st.integers(20, 3000), st.integers(20, 3000)))
def test_yolo_corners_come_back_to_the_pixel(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=bool)
    y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
    mask[y : y + 8, x : x + 8] = blob(seed, (8, 8))
    line = yolo_labels([record(mask)], size)
    if not mask.any():
        assert line == ""
        return
    kind, *numbers = line.split()
    assert kind == "0"
    shares = np.array(numbers, dtype=np.float32).reshape(-1, 2)
    # As ultralytics.data.utils: corners in 0..1, scaled, cut to int32 and filled.
    assert ((shares >= 0) & (shares <= 1)).all()
    corners = (shares * np.array(size[::-1], dtype=np.float32)).astype(np.int32)
    np.testing.assert_array_equal(corners, join_polygons(polygons_of(mask)))
    filled = cv2.fillPoly(np.zeros(size, np.uint8), [corners], 1).astype(bool)
    assert not (mask & ~filled).any() or len(polygons_of(mask)) > 1


def test_yolo_bridges_are_thin(records: list[MaskRecord]) -> None:
    for index, line in enumerate(yolo_labels(records, SIZE).splitlines()):
        shares = np.array(line.split()[1:], dtype=np.float64).reshape(-1, 2)
        corners = (shares * SIZE[::-1]).astype(np.int32)
        filled = cv2.fillPoly(np.zeros(SIZE, np.uint8), [corners], 1).astype(bool)
        mask = blob(index)
        assert np.count_nonzero(filled ^ mask) <= 0.1 * SIZE[0] * SIZE[1]
        assert np.count_nonzero(filled & mask) >= 0.99 * np.count_nonzero(mask)


def test_label_map_numbers_masks_and_puts_the_small_on_top() -> None:
    big, small = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    big[10:50, 10:50], small[20:30, 20:30] = True, True
    labels = label_map([record(small), record(big)], SIZE)
    assert labels.dtype == np.uint8
    assert labels[25, 25] == 1
    assert labels[40, 40] == 2
    assert labels[0, 0] == 0
    many = label_map([record(small)] * 299 + [record(big)], SIZE)
    assert many.dtype == np.uint16
    assert many.max() == 300


def test_ragged_parts_are_joined_in_little_time_and_memory() -> None:
    """All pairs of corners of these would be 10^9 distances."""
    mask = np.zeros((300, 300), dtype=bool)
    mask[1::3, 1::3] = True
    polygons = polygons_of(mask)
    assert len(polygons) == 10_000
    corners = join_polygons(polygons)
    assert len(corners) <= sum(map(len, polygons)) + 3 * len(polygons)
    filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [corners], 1) > 0
    assert not (mask & ~filled).any()
    steps = np.abs(np.diff(corners.astype(int), axis=0)).max(axis=1)
    assert np.percentile(steps, 99) <= 3, "bridges are short"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12))
def test_a_joined_polygon_has_every_corner_and_comes_back(spots: list[tuple[int, int]]) -> None:
    mask = np.zeros((33, 33), dtype=bool)
    for x, y in spots:
        mask[y : y + 2, x : x + 2] = True
    polygons = polygons_of(mask)
    corners = join_polygons(polygons)
    assert {tuple(c) for c in corners.tolist()} == {
        tuple(c) for polygon in polygons for c in polygon.tolist()
    }
    filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [corners], 1) > 0
    assert not (mask & ~filled).any()
