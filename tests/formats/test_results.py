"""What is written is read back by the tools' own code or by their documented rules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from samtrt.formats.annotation import ANY_OBJECT, AnnotatedImage, Annotation, of_records
from samtrt.formats.coco import coco_dataset, read_coco_dataset
from samtrt.formats.labelmap import label_map
from samtrt.formats.labelme import labelme_document
from samtrt.formats.polygons import Outline, edges_of, join_polygons, polygons_of
from samtrt.formats.yolo import yolo_labels
from samtrt.masks import rle
from samtrt.masks.record import MaskRecord

SIZE = (60, 90)


def image_of(*masks: np.ndarray, name: str = "a.jpg") -> AnnotatedImage:
    found = [
        Annotation.of(rle.encode(mask), {}, predicted_iou=0.9, stability_score=0.97)
        for mask in masks
    ]
    return AnnotatedImage(name, masks[0].shape, found)


def blob(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask in a few parts without holes."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=size), (0, 0), rng.uniform(1, 8))
    mask = (noise > np.quantile(noise, rng.uniform(0.5, 0.98))).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.fillPoly(np.zeros(size, np.uint8), contours, 1).astype(bool)


@pytest.fixture
def image() -> AnnotatedImage:
    return image_of(*(blob(seed) for seed in range(5)))


def test_automatic_masks_become_annotations() -> None:
    mask = blob(1)
    x1, y1, x2, y2 = rle.find_runs(np.ascontiguousarray(mask.T), mask.shape[0]).box
    record = MaskRecord(
        segmentation=rle.compress(rle.encode(mask)),
        area=int(mask.sum()),
        bbox=[x1, y1, x2 - x1, y2 - y1],
        predicted_iou=0.9,
        point_coords=[[1.0, 2.0]],
        stability_score=0.97,
        crop_box=[0, 0, mask.shape[1], mask.shape[0]],
    )
    (one,) = of_records([record])
    assert one.bbox == (x1, y1, x2 - x1 + 1, y2 - y1 + 1)
    assert one.area == mask.sum()
    assert one.more == {
        "predicted_iou": 0.9, "stability_score": 0.97, "point_coords": [[1.0, 2.0]],
        "crop_box": [0, 0, 90, 60],
    }  # fmt: skip


def test_one_image_as_a_dataset_comes_back(image: AnnotatedImage, tmp_path: Path) -> None:
    document = coco_dataset(image, ANY_OBJECT, {"made": "now"})
    (tmp_path / "one.json").write_text(json.dumps(document))
    coco = COCO(str(tmp_path / "one.json"))
    from pycocotools import mask as mask_utils

    for seed, one in enumerate(coco.loadAnns(coco.getAnnIds())):
        np.testing.assert_array_equal(coco.annToMask(one).astype(bool), blob(seed))
        assert one["bbox"] == mask_utils.toBbox(one["segmentation"]).tolist()
        assert one["area"] == mask_utils.area(one["segmentation"])
    back = read_coco_dataset(json.loads(json.dumps(document)))
    assert (back.file_name, back.size, back.more) == ("a.jpg", SIZE, {"id": 1})
    for one, other in zip(back.annotations, image.annotations, strict=True):
        assert one == replace(other, label="object", category_id=1)


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
    assert yolo_labels(image_of(mask), ANY_OBJECT) == ""
    assert edges_of(mask) == []
    mask[3, 5] = True
    assert polygons_of(mask)[0].tolist() == [[5, 3]] * 3


def test_labelme_draws_the_same_masks(image: AnnotatedImage) -> None:
    document: dict[str, Any] = labelme_document(image, "../a.jpg", ANY_OBJECT)
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


@given(seed=st.integers(0, 10_000), tolerance=st.floats(0.5, 4), least=st.floats(0, 60))
def test_simplified_polygons_stay_near_and_drop_small_parts(
    seed: int, tolerance: float, least: float
) -> None:
    mask = blob(seed)
    whole, simple = polygons_of(mask), polygons_of(mask, Outline(tolerance, least))
    assert 1 <= len(simple) <= len(whole)
    parts, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = sum(
        np.count_nonzero(cv2.fillPoly(np.zeros(SIZE, np.uint8), [one], 1)) >= least for one in whole
    )
    assert len(simple) == max(kept, 1) <= max(parts - 1, 1)
    for exact, one in zip(whole, simple, strict=False):
        assert len(one) <= max(len(exact), 3)
        for corner in exact:  # none of the outline is farther than the tolerance
            x, y = (float(value) for value in corner)
            assert abs(cv2.pointPolygonTest(one, (x, y), True)) <= tolerance + 1e-3


@given(seed=st.integers(0, 10_000))
def test_polygons_along_edges_are_pycocotools_masks(seed: int) -> None:
    from pycocotools import mask as mask_utils

    mask = blob(seed)
    flat = [edge.ravel().tolist() for edge in edges_of(mask)]
    made = mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(flat, *SIZE)))
    np.testing.assert_array_equal(made.astype(bool), mask)


@given(seed=st.integers(0, 10_000), size=st.tuples(st.integers(20, 3000), st.integers(20, 3000)))
def test_yolo_corners_come_back_to_the_pixel(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=bool)
    y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
    mask[y : y + 8, x : x + 8] = blob(seed, (8, 8))
    line = yolo_labels(image_of(mask), ANY_OBJECT)
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


def test_yolo_bridges_are_thin(image: AnnotatedImage) -> None:
    for index, line in enumerate(yolo_labels(image, ANY_OBJECT).splitlines()):
        shares = np.array(line.split()[1:], dtype=np.float64).reshape(-1, 2)
        corners = (shares * SIZE[::-1]).astype(np.int32)
        filled = cv2.fillPoly(np.zeros(SIZE, np.uint8), [corners], 1).astype(bool)
        mask = blob(index)
        assert np.count_nonzero(filled ^ mask) <= 0.1 * SIZE[0] * SIZE[1]
        assert np.count_nonzero(filled & mask) >= 0.99 * np.count_nonzero(mask)


def test_label_map_numbers_masks_and_puts_the_small_on_top() -> None:
    big, small = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    big[10:50, 10:50], small[20:30, 20:30] = True, True
    labels = label_map(image_of(small, big))
    assert labels.dtype == np.uint8
    assert labels[25, 25] == 1
    assert labels[40, 40] == 2
    assert labels[0, 0] == 0
    many = label_map(image_of(*[small] * 299, big))
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
