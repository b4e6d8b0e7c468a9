"""Damaged files of boxes, one of each kind that is read: boxes or a `PromptError`, nothing else."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from samtrt.datasets.boxes import BoxSource
from samtrt.errors import PromptError
from samtrt.formats import read_boxes
from samtrt.formats.annotation import Categories
from samtrt.sources import Source

SIZE = (200, 400)
CORNERS = (40, 20, 120, 100)
NUMBERS = "40,20,120,100"

BOX = {"category_id": 5, "bbox": [40, 20, 80, 80], "score": 0.75, "id": 3}
SHAPE = {"label": "cat", "shape_type": "rectangle", "points": [[40, 20], [120, 100]]}
RECT = {"name": "rect", "x": 40, "y": 20, "width": 80, "height": 80}
RING = {"name": "polygon", "all_points_x": [40, 120, 80], "all_points_y": [20, 20, 100]}
CIRCLE = {"name": "circle", "cx": 80, "cy": 60, "r": 40}
VIA_REGIONS = [
    {"shape_attributes": shape, "region_attributes": {"class": "cat"}}
    for shape in (RECT, RING, CIRCLE)
]
VIA_HEAD = "#filename,region_id,region_shape_attributes,region_attributes\n"
VIA_CELL = json.dumps(RECT).replace('"', '""')

SEEDS: dict[str, tuple[str, Any]] = {
    "COCO": (
        "json",
        {
            "images": [{"id": 1, "file_name": "cat.jpg", "width": 400, "height": 200, "x": 2}],
            "categories": [{"id": 5, "name": "cat", "more": 1}],
            "annotations": [{**BOX, "image_id": 1, "iscrowd": 0}],
        },
    ),
    "COCO without images": ("json", {"annotations": [{**BOX, "image_id": 1}]}),
    "COCO results": ("json", [{**BOX, "image_id": 1}]),
    "results with names": ("json", [{**BOX, "file_name": "p/cat.jpg", "category_name": "cat"}]),
    "labelme": (
        "json",
        {"shapes": [SHAPE], "imagePath": "cat.jpg", "imageWidth": 400, "imageHeight": 200},
    ),
    "labelme circle": (
        "json",
        {"shapes": [{"label": "a", "shape_type": "circle", "points": [[80, 60], [80, 100]]}]},
    ),
    "VIA": ("json", {"cat.jpg9": {"filename": "cat.jpg", "regions": VIA_REGIONS}}),
    "VIA project": (
        "json",
        {"_via_img_metadata": {"c": {"filename": "cat.jpg", "regions": {"0": VIA_REGIONS[0]}}}},
    ),
    "VIA table": ("csv", f'{VIA_HEAD}cat.jpg,0,"{VIA_CELL}","{{""class"":""cat""}}"\n'),
    "lists": ("json", {"boxes": [CORNERS], "labels": ["a"], "scores": [0.5], "ids": [7]}),
    "lists with a size": ("json", {"boxes": [CORNERS], "width": 400, "height": 200}),
    "a list": ("json", [CORNERS, CORNERS]),
    "one box": ("json", CORNERS),
    "YOLO": ("txt", "0 0.2 0.3 0.2 0.4\n1 0.5 0.5 0.1 0.1\n"),
    "YOLO track": ("txt", "0 0.2 0.3 0.2 0.4 0.9 7\n"),
    "YOLO polygon": ("txt", "0 0.1 0.5 0.2 0.4 0.3 0.4 0.4 0.5 0.3 0.6 0.2 0.6 0.8 12\n"),
    "YOLO oriented": ("txt", "0 0.6 0.5 0.8 0.5 0.8 0.7 0.6 0.7\n"),
    "YOLO pose": ("txt", "0 0.5 0.5 0.2 0.4 0.45 0.4 2 0.55 0.4 2 0.5 0.6 1\n"),
    "OpenImages": (
        "csv",
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "cat,x,/m/2,0.5,0.1,0.3,0.1,0.5,0\n",
    ),
    "corners": ("csv", f"filename,class,x1,y1,x2,y2,score\ncat.jpg,cat,{NUMBERS},0.5\n"),
    "corners with a size": (
        "csv",
        "filename,width,height,class,xmin,ymin,xmax,ymax\ncat.jpg,800,400,cat,80,40,240,200\n",
    ),
    "sides": ("csv", "x,y,w,h,class\n40,20,80,80,cat\n"),
    "centre": ("csv", "x_center,y_center,width,height\n80,60,80,80\n"),
    "a cell of four": ("csv", 'image_id,width,height,bbox\ncat,400,200,"[40, 20, 80, 80]"\n'),
    "index": ("csv", f",image,x1,y1,x2,y2\n0,cat.jpg,{NUMBERS}\n"),
    "no header": ("csv", f"cat.jpg,{NUMBERS},0.5,cat\n"),
    "no header, no name": ("csv", f"0,{NUMBERS},cat\n1,{NUMBERS},cat\n"),
    "semicolons": ("csv", "x1;y1;x2;y2\n40;20;120;100\n"),
}
JUNK = st.sampled_from(
    [
        "NaN",
        "-1",
        "1e400",
        "9" * 30,
        "null",
        "[]",
        "{}",
        '"',
        "\0",
        ",",
        "\n",
        "-",
        ".",
        "true",
        "é",
    ]
)


def text_of(name: str) -> str:
    content = SEEDS[name][1]
    return content if isinstance(content, str) else json.dumps(content)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str]:
    """A kind's suffix, and its text with one to three places replaced."""
    name = draw(st.sampled_from(sorted(SEEDS)))
    text = text_of(name)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 8, len(text))))
        text = text[:start] + draw(JUNK) + text[end:]
    return SEEDS[name][0], text


def check_line(error: PromptError) -> None:
    assert str(error).isprintable()


@pytest.mark.parametrize("name", SEEDS)
def test_what_is_not_damaged_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"boxes.{SEEDS[name][0]}"
    path.write_text(text_of(name), encoding="utf-8")
    boxes = read_boxes(path, SIZE, "p/cat.jpg")
    if not name.startswith("YOLO "):
        np.testing.assert_allclose(boxes.items[0].corners, CORNERS)


@given(damaged())
@settings(max_examples=300)
def test_nothing_but_a_prompt_error_leaves_a_reader(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[str, str]
) -> None:
    suffix, text = given
    path = tmp_path_factory.getbasetemp() / f"fuzz.{suffix}"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        boxes = read_boxes(path, SIZE, "p/cat.jpg")
    except PromptError as error:
        check_line(error)
        return
    assert np.isfinite(boxes.xyxy).all()
    assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all()
    for box in boxes.items:  # what results repeat is JSON
        json.dumps(box.facts(), allow_nan=False)


@given(damaged(), st.booleans())
@settings(max_examples=150)
def test_nothing_but_a_prompt_error_leaves_a_data_set(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[str, str], beside: bool
) -> None:
    """Of a file, or of a folder of label files with names of classes beside."""
    suffix, text = given
    root = tmp_path_factory.getbasetemp()
    picture, labels = root / "p" / "cat.jpg", root / f"labels-{suffix}"
    if not picture.is_file():
        picture.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(picture)
        (root / "data.yaml").write_text("names: [cat, dog]\n")
    labels.mkdir(exist_ok=True)
    path = labels / f"cat.{suffix}"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    source = Source(picture, PurePath("cat"))
    try:
        boxes = BoxSource(labels if beside else path)
        categories = Categories.of_boxes(boxes.listing.kinds(), boxes.listing.categories)
        assigned = boxes.assign([source])
        found = [given.fitted(one, SIZE) for one, given in assigned.found.items()]
    except PromptError as error:
        check_line(error)
        return
    assert all(isinstance(error, PromptError) for _, error in assigned.failed)
    assert len({one.id for one in categories.all}) == len(categories.all)
    json.dumps([one.more for one in categories.all], allow_nan=False)
    for one in found:
        assert np.isfinite(one.xyxy).all()
        json.dumps(one.image, allow_nan=False)


@given(st.text(alphabet="0123456789:-[]{}'\"abn \n&*!|>", max_size=60))
@settings(max_examples=100)
def test_names_of_classes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "yaml"
    labels = root / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    (labels / "cat.txt").write_text("0 0.2 0.3 0.2 0.4\n")
    (root / "data.yaml").write_text("names: " + text)
    try:
        kinds = set(BoxSource(labels).listing.kinds())
    except PromptError:
        return
    assert all(name is None or isinstance(name, str) for _, name in kinds)
