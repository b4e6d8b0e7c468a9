"""Files of all objects, opened by others' readers."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from samtrt.masks.logits import mask_iou
from samtrt.types import BoolArray
from support.e2e_cases import PageDriver

pytestmark = pytest.mark.long  # the page, in a browser, for most of a minute or more

SIZE = (640, 400)


@pytest.fixture
def drawn(driver: PageDriver) -> PageDriver:
    """Two objects of the same name."""
    driver.drag(60, 60, 200, 200)
    driver.press("n")
    driver.drag(300, 200, 500, 350)
    for number in (1, 2):
        driver.page.fill(f"#name-{number}", "Tea cup")
        driver.page.keyboard.press("Enter")
    return driver


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def filled(corners: np.ndarray) -> BoolArray:
    image = Image.new("1", SIZE)
    ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners.tolist()], 1, 1)
    return np.asarray(image)


def test_all_objects_leave_in_every_form(drawn: PageDriver, photo: Path, tmp_path: Path) -> None:
    coco = drawn.coco(tmp_path)
    masks = [coco.annToMask(one).astype(bool) for one in coco.loadAnns(coco.getAnnIds())]
    one, two = masks

    pictures = contents(drawn.download("#export-mask"))
    assert list(pictures) == ["photo-tea-cup-mask.png", "photo-tea-cup-mask-2.png"]
    for data, mask in zip(pictures.values(), masks, strict=True):
        png = Image.open(io.BytesIO(data))
        assert png.mode == "L"
        np.testing.assert_array_equal(np.asarray(png) == 255, mask)

    labels = contents(drawn.download("#export-labels"))
    values = np.asarray(Image.open(io.BytesIO(labels["photo-labels.png"])))
    np.testing.assert_array_equal(values == 2, two)
    np.testing.assert_array_equal(values == 1, one & ~two)
    assert json.loads(labels["labels.json"])["1"] == {"name": "Tea cup", "class": None}

    assert len(contents(drawn.download("#export-cutout"))) == 2

    yolo = contents(drawn.download("#export-yolo"))
    assert yolo["images/photo.png"] == photo.read_bytes()
    assert yaml.safe_load(yolo["data.yaml"])["names"] == {0: "Tea cup"}
    for line, mask in zip(yolo["labels/photo.txt"].splitlines(), masks, strict=True):
        category, *corners = map(float, line.split())
        assert category == 0
        pixels = np.array(corners).reshape(-1, 2) * SIZE
        assert mask_iou(filled(pixels.astype(int)), mask) > 0.97

    labelme = contents(drawn.download("#export-labelme"))
    document = json.loads(labelme["photo.json"])
    assert labelme[document["imagePath"]] == photo.read_bytes()
    for shape, mask in zip(document["shapes"], masks, strict=True):
        assert shape["label"] == "Tea cup"
        assert mask_iou(filled(np.array(shape["points"])), mask) > 0.97

    drawn.page.select_option("#scope", "one")
    drawn.page.click("#select-2")
    png = Image.open(drawn.download("#export-mask"))
    np.testing.assert_array_equal(np.asarray(png) == 255, two)
    drawn.page.keyboard.press("n")
    assert drawn.page.locator("#export-mask").is_disabled()


def test_masks_in_parts_and_with_holes(driver: PageDriver, tmp_path: Path) -> None:
    """Painted: a ring of squares around a hole, and a part of its own."""
    driver.press("p")
    for start, end in [
        ((100, 100), (200, 100)),
        ((200, 100), (200, 200)),
        ((200, 200), (100, 200)),
        ((100, 200), (100, 100)),
        ((400, 300), (450, 300)),
    ]:
        driver.drag(*start, *end)
    (mask,) = driver.masks(tmp_path).values()
    assert mask[100, 150]
    assert not mask[150, 150]
    document = json.loads(contents(driver.download("#export-labelme"))["photo.json"])
    parts = [filled(np.array(shape["points"])) for shape in document["shapes"]]
    assert len(parts) == 2
    assert {shape["group_id"] for shape in document["shapes"]} == {0}
    whole = mask.copy()
    whole[110:190, 110:190] = True  # polygons lose holes
    assert mask_iou(parts[0] | parts[1], whole) > 0.97
    (line,) = contents(driver.download("#export-yolo"))["labels/photo.txt"].splitlines()
    corners = (np.array(line.split()[1:], dtype=float).reshape(-1, 2) * SIZE).astype(int)
    assert mask_iou(filled(corners), whole) > 0.95
