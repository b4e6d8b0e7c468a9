"""Every form that boxes come in gives the same boxes, and every damage one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.errors import PromptError
from samtrt.formats import read_boxes

SIZE = (200, 400)  # height, width
EXPECTED = [[40.0, 20.0, 120.0, 100.0], [200.0, 50.0, 300.0, 150.0]]

COCO = {
    "images": [{"id": 7, "file_name": "a/cat.jpg"}, {"id": 8, "file_name": "dog.jpg"}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "mat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [40, 20, 80, 80]},
        {"id": 2, "image_id": 8, "category_id": 1, "bbox": [1, 1, 5, 5]},
        {"id": 3, "image_id": 7, "category_id": 2, "bbox": [200, 50, 100, 100]},
    ],
}
LABELME = {
    "shapes": [
        {"label": "cat", "shape_type": "rectangle", "points": [[120, 100], [40, 20]]},
        {"label": "mat", "shape_type": "circle", "points": [[250, 100], [250, 150]]},
    ]
}
CSV = "image,label,xmin,ymin,xmax,ymax\nx/cat.jpg,cat,40,20,120,100\ndog.jpg,cat,1,1,5,5\n"
CSV += "x/cat.jpg,mat,200,50,300,150\n"


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("b.json", EXPECTED, None),
        ("b.json", {"boxes": EXPECTED}, None),
        ("b.json", {"boxes": EXPECTED, "labels": ["cat", "mat"]}, ["cat", "mat"]),
        ("coco.json", COCO, ["cat", "mat"]),
        ("results.json", [a for a in COCO["annotations"] if a["image_id"] == 7], ["1", "2"]),
        ("labelme.json", LABELME, ["cat", "mat"]),
        ("labels.txt", "0 0.2 0.3 0.2 0.4\n\n1 0.625 0.5 0.25 0.5 0.9\n", ["0", "1"]),
        (
            "seg.txt",
            "0 0.1 0.1 0.3 0.1 0.3 0.5 0.1 0.5\n1 0.5 0.25 0.75 0.4 0.6 0.75\n",
            ["0", "1"],
        ),
        ("b.csv", CSV, ["cat", "mat"]),
        ("b.csv", "40,20,120,100\n200,50,300,150\n", None),
        ("b.csv", "x,y,w,h,class\n40,20,80,80,cat\n200,50,100,100,mat\n", ["cat", "mat"]),
    ],
)
def test_every_form_gives_the_same_boxes(
    tmp_path: Path, name: str, content: Any, labels: list[str] | None
) -> None:
    boxes = read_boxes(write(tmp_path, name, content), SIZE, "some/folder/cat.jpg")
    np.testing.assert_allclose(boxes.xyxy, EXPECTED)
    assert boxes.xyxy.dtype == np.float64
    assert boxes.labels == (labels or [None, None])


def test_one_box_may_stand_alone(tmp_path: Path) -> None:
    boxes = read_boxes(write(tmp_path, "b.json", [1, 2, 3, 4]), SIZE)
    np.testing.assert_array_equal(boxes.xyxy, [[1, 2, 3, 4]])


def test_results_of_many_images_are_told_apart_by_number(tmp_path: Path) -> None:
    path = write(tmp_path, "r.json", COCO["annotations"])
    assert len(read_boxes(path, SIZE, "000000000007.jpg")) == 2
    with pytest.raises(PromptError, match="none has the number of"):
        read_boxes(path, SIZE, "cat.jpg")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.xml", "<a/>", "told by the suffix"),
        ("b.json", "{", "it is not JSON"),
        ("b.json", {"what": 1}, "not COCO, labelme"),
        ("b.json", [[1, 2, 3]], "not four numbers"),
        ("b.json", [[1, 2, 3, float("nan")]], "finite"),
        ("b.json", [[1, 2, 3, 4], 5], "box 1 is not four"),
        ("b.json", {"annotations": ["a"], "images": []}, "entry 0"),
        ("b.json", {"shapes": [{"shape_type": "circle", "points": [[1, 1]]}]}, "shape 0: a circle"),
        ("b.json", [], "has no box"),
        ("b.json", {"boxes": EXPECTED, "labels": ["a"]}, "2 boxes and 1 labels"),
        ("b.json", {"annotations": [{"image_id": 1}]}, "'bbox' is missing"),
        ("b.json", {**COCO, "images": [{"id": 7, "file_name": "x.png"}]}, "called cat.jpg"),
        ("b.txt", "0 0.1 0.2\n", "line 1 is not"),
        ("b.txt", "0 40 20 120 100\n", "line 1 is in pixels"),
        ("b.txt", "", "has no box for cat.jpg"),
        ("b.csv", "a,b,c,d\n1,2,3,4\n", "its header has neither"),
        ("b.csv", "x1,y1,x2,y2\n1,2,3\n", "line 2: 3 columns"),
        ("b.csv", "1,2,3,four\n", "neither"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        read_boxes(write(tmp_path, name, content), SIZE, "cat.jpg")
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no boxes file at"):
        read_boxes(tmp_path / "no.json", SIZE)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\xff\xd8")
    with pytest.raises(PromptError, match="cannot read boxes"):
        read_boxes(tmp_path / "b.json", SIZE)


@given(
    x=st.floats(0.3, 0.7),
    y=st.floats(0.3, 0.7),
    w=st.floats(0.01, 0.6),
    h=st.floats(0.01, 0.6),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
def test_yolo_shares_become_pixels(
    tmp_path_factory: pytest.TempPathFactory,
    x: float,
    y: float,
    w: float,
    h: float,
    size: tuple[int, int],
) -> None:
    path = write(tmp_path_factory.mktemp("yolo"), "b.txt", f"3 {x!r} {y!r} {w!r} {h!r}\n")
    boxes = read_boxes(path, size)
    expected = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    np.testing.assert_allclose(boxes.xyxy[0], expected * (size[1], size[0], size[1], size[0]))
    assert boxes.labels == ["3"]
