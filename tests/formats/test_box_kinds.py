"""Files as tools really write them: each kind gives the right boxes, or is refused with its place.

The kinds come from public reports: cvat#4993, label-studio#6608, cocoapi#355, labelme#1433,
ultralytics#1357, sahi#400, supervision#1636.
"""

from __future__ import annotations

import copy
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samtrt.choices import BoxForm
from samtrt.errors import PromptError
from samtrt.formats import Boxes, read_boxes

SIZE = (200, 400)
HUMAN = "0 0.5 0.5 0.2 0.4 "
POSE = HUMAN + "0.45 0.4 2 0.55 0.4 2 0.5 0.6 1"
RING = "0.1 0.5 0.2 0.4 0.3 0.4 0.4 0.5 0.3 0.6 0.2 0.6"


def read(folder: Path, name: str, content: Any, picture: str = "p/cat.jpg", **more: Any) -> Boxes:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_boxes(path, more.pop("size", SIZE), picture, **more)


def coco(*images: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    each = {"category_id": 5, "bbox": [40, 20, 80, 80], "score": 0.75, **annotation}
    return {
        "images": [{"id": i, **image} for i, image in enumerate(images, start=1)],
        "categories": [{"id": 5, "name": "cat"}],
        "annotations": [{"id": 90 + i, "image_id": i, **each} for i in range(1, len(images) + 1)],
    }


@pytest.mark.parametrize(
    ("line", "box", "score", "number"),
    [
        ("0 0.5 0.5 0.2 0.4 0.9 7", [160, 60, 240, 140], 0.9, 7),
        ("0 0.5 0.5 0.2 0.4 0.9 1", [160, 60, 240, 140], 0.9, 1),
        ("0 0.5 0.5 0.2 0.4 7", [160, 60, 240, 140], None, 7),
        ("0 0.5 0.5 0.2 0.4 0.25", [160, 60, 240, 140], 0.25, None),
        (POSE, [160, 60, 240, 140], None, None),
        (POSE + " 0.8", [160, 60, 240, 140], 0.8, None),
        (POSE + " 0.8 3", [160, 60, 240, 140], 0.8, 3),
        (HUMAN + "0.45 0.4 0.9 0.52 0.62 0.7 0.55 0.4 0.8 0.46 0.6 0.2 0.5 0.4 0.5",
         [160, 60, 240, 140], None, None),
        (f"0 {RING}", [40, 80, 160, 120], None, None),
        (f"0 {RING} 0.8", [40, 80, 160, 120], 0.8, None),
        (f"0 {RING} 0.8 12", [40, 80, 160, 120], 0.8, 12),
        ("0 0.8 0.5 0.9 0.7 0.7 0.9", [280, 100, 360, 180], None, None),
        ("0 0.6 0.5 0.8 0.5 0.8 0.7 0.6 0.7", [240, 100, 320, 140], None, None),
    ],
)  # fmt: skip
def test_yolo_lines_of_every_task(
    tmp_path: Path, line: str, box: list[float], score: float | None, number: int | None
) -> None:
    (found,) = read(tmp_path, "a.txt", line).items
    np.testing.assert_allclose(found.corners, box)
    assert (found.label, found.score, found.id) == ("0", score, number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.2 -0.4", "line 1: -0.4 is negative"),
        ("0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0.2 4", "line 2 is in pixels"),
        ("0 0.5 0.5 0.2 0.4 1.5", "line 1: 1.5 is no id"),
        ("0 nan 0.5 0.2 0.4", "line 1: 'nan'"),
        ("0 0.5 0.5 0.2 0.4 0.9 7.5", "line 1: its 6 values"),
        ("1.5 0.5 0.5 0.2 0.4", "line 1: 1.5 is no number of a class"),
        ("0 0.5 0.5 0.4 0.5 0.35 0.4 0.52 0.35", "may be a polygon or a pose"),
    ],
)
def test_yolo_lines_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read(tmp_path, "a.txt", text)


def test_the_user_may_say_what_yolo_lines_are(tmp_path: Path) -> None:
    line = "0 0.5 0.5 0.4 0.5 0.35 0.4 0.52 0.35"
    pose = read(tmp_path, "a.txt", line, form=BoxForm.YOLO_POSE)
    np.testing.assert_allclose(pose.xyxy, [[120, 50, 280, 150]])
    polygon = read(tmp_path, "a.txt", line, form=BoxForm.YOLO_SEGMENT)
    np.testing.assert_allclose(polygon.xyxy, [[140, 70, 208, 100]])


def test_coco_keeps_category_label_score_and_id(tmp_path: Path) -> None:
    (box,) = read(tmp_path, "c.json", coco({"file_name": "cat.jpg"})).items
    assert box.facts() == {"id": 91, "label": "cat", "category_id": 5, "score": 0.75}


def test_coco_with_one_name_in_two_folders(tmp_path: Path) -> None:
    data = coco({"file_name": "p/cat.jpg"}, {"file_name": "q/cat.jpg"})
    assert [box.id for box in read(tmp_path, "c.json", data, "/x/q/cat.jpg").items] == [92]
    with pytest.raises(PromptError, match=r"both p/cat\.jpg and q/cat\.jpg"):
        read(tmp_path, "c.json", data, "/x/r/cat.jpg")


def test_a_bare_name_goes_before_one_of_another_folder(tmp_path: Path) -> None:
    data = coco({"file_name": "cat.jpg"}, {"file_name": "q/cat.jpg"})
    assert [box.id for box in read(tmp_path, "c.json", data, "/x/r/cat.jpg").items] == [91]
    assert [box.id for box in read(tmp_path, "c.json", data, "/x/q/cat.jpg").items] == [92]


def test_coco_without_images_goes_by_number(tmp_path: Path) -> None:
    data = coco({"file_name": "a"}, {"file_name": "b"})
    del data["images"]
    assert [box.id for box in read(tmp_path, "c.json", data, "p/0002.jpg").items] == [92]
    for name in ("p/cat.jpg", "p/0003.jpg"):
        with pytest.raises(PromptError, match="none has the number"):
            read(tmp_path, "c.json", data, name)


@pytest.mark.parametrize(
    "name",
    ["C:\\data\\p\\café.jpg", unicodedata.normalize("NFD", "p/café.jpg"), "café.jpg"],
)
def test_names_of_other_systems(tmp_path: Path, name: str) -> None:
    data = coco({"file_name": "x.jpg"}, {"file_name": name})
    assert [box.id for box in read(tmp_path, "c.json", data, "p/café.jpg").items] == [92]


def test_coco_made_at_another_size_is_scaled(tmp_path: Path) -> None:
    boxes = read(tmp_path, "c.json", coco({"file_name": "cat.jpg", "width": 800, "height": 400}))
    np.testing.assert_allclose(boxes.xyxy, [[20, 10, 60, 50]])
    assert "scaled to 400 x 200" in boxes.notices[0]
    for width, height in ((800, 402), (401, 200), (200, 400), (399, 200)):
        with pytest.raises(PromptError, match=f"a picture of {width} x {height} pixels"):
            read(
                tmp_path, "c.json", coco({"file_name": "cat.jpg", "width": width, "height": height})
            )


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_made_before_exif_turned_the_picture_are_turned(
    tmp_path: Path, orientation: int
) -> None:
    from samtrt.images.orientation import turn

    data = coco({"file_name": "cat.jpg", "width": 200, "height": 400}, bbox=[20, 40, 80, 160])
    boxes = read(tmp_path, "c.json", data, orientation=orientation)
    stored = np.zeros((400, 200), bool)
    stored[40:200, 20:100] = True
    ys, xs = np.nonzero(turn(stored, orientation))
    expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    np.testing.assert_allclose(boxes.xyxy, [expected])


def test_one_empty_box_and_crowds_are_left_out_with_a_notice(tmp_path: Path) -> None:
    data = coco({"file_name": "cat.jpg"})
    first = data["annotations"][0]
    data["annotations"] += [
        {**first, "id": 7, "bbox": [3, 3, 0, 9]},
        {**first, "id": 8, "iscrowd": 1},
    ]
    boxes = read(tmp_path, "c.json", data)
    assert [box.id for box in boxes.items] == [91]
    assert "annotation 8" in boxes.notices[0]
    assert "annotation 7" in boxes.notices[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [40, 20, -80, 80]}, "annotation 91: a width or height is negative"),
        ({"bbox": [40, 20, 80]}, "annotation 91: bbox"),
        ({"bbox": [40, 20, 80, "x"]}, "annotation 91"),
        ({"bbox": [4000, 20, 80, 80]}, "annotation 91: the box .* outside"),
        ({"bbox": [0.1, 0.1, 0.2, 0.2]}, "annotation 91: all boxes lie within one pixel"),
        ({"category_id": 6}, "annotation 91: 'categories' has no 6"),
        ({"score": 75}, "annotation 91: the confidence 75"),
    ],
)
def test_coco_that_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read(tmp_path, "c.json", coco({"file_name": "cat.jpg"}, **change))


def labelme(**more: Any) -> dict[str, Any]:
    shape = {"label": "cat", "shape_type": "rectangle", "points": [[40, 20], [120, 100]]}
    return {"shapes": [shape], **more}


def test_labelme_of_another_size_or_picture(tmp_path: Path) -> None:
    boxes = read(tmp_path, "l.json", labelme(imageWidth=800, imageHeight=400, imagePath="cat.jpg"))
    np.testing.assert_allclose(boxes.xyxy, [[20, 10, 60, 50]])
    assert read(tmp_path, "l.json", labelme(imagePath="..\\p\\cat.png")).notices
    with pytest.raises(PromptError, match=r"of the picture dog\.jpg, not of cat\.jpg"):
        read(tmp_path, "l.json", labelme(imagePath="dog.jpg"))
    with pytest.raises(PromptError, match="800 x 300"):
        read(tmp_path, "l.json", labelme(imageWidth=800, imageHeight=300))


def test_labelme_shapes_of_one_group_are_one_object(tmp_path: Path) -> None:
    data = labelme()
    data["shapes"][0]["group_id"] = 4
    data["shapes"].append({**data["shapes"][0], "points": [[200, 50], [300, 150]]})
    (box,) = read(tmp_path, "l.json", data).items
    assert (box.corners, box.id) == ((40, 20, 300, 150), 4)


VIA_LINE = (
    '{name},10,"{{}}",1,0,"{{""name"":""rect"",""x"":40,""y"":20,""width"":80,""height"":80}}",'
    '"{{""type"":""cat""}}"\n'
)
VIA = (
    "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    "region_attributes\n" + VIA_LINE.format(name="dog.jpg") + VIA_LINE.format(name="cat.jpg")
)
OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
    "dog,x,/m/1,1,0.5,0.6,0.5,0.6,0\ncat,x,/m/2,0.5,0.1,0.3,0.1,0.5,0\n"
)


@pytest.mark.parametrize(
    ("text", "label", "score"),
    [
        (OPEN_IMAGES, "/m/2", 0.5),
        (VIA, "cat", None),
        (",image,x1,y1,x2,y2,label\n0,dog.jpg,1,1,5,5,dog\n1,cat.jpg,40,20,120,100,cat\n",
         "cat", None),
        ("filename,width,height,class,xmin,ymin,xmax,ymax\ncat.jpg,800,400,cat,80,40,240,200\n",
         "cat", None),
        ("#filename,x,y,w,h,width,height\ncat.jpg,80,40,160,160,800,400\n", None, None),
        ("0,40,20,120,100,cat\n", "cat", None),
        (",0,1,2,3,4\n0,40,20,120,100,cat\n", "cat", None),
        ("40,20,120,100,0.5,3\n", "3", 0.5),
        ("p/cat.jpg,40,20,120,100,cat\np/dog.jpg,1,2,3,4,dog\n", "cat", None),
        ("image,xmin,ymin,xmax,ymax\ncat.jpg,0.1,0.1,0.3,0.5\n", None, None),
        ('image_id,width,height,bbox\ncat,400,200,"[40, 20, 80, 80]"\n', None, None),
        ("x1;y1;x2;y2\n40;20;120;100\n", None, None),
    ],
)  # fmt: skip
def test_tables_of_every_tool(
    tmp_path: Path, text: str, label: str | None, score: float | None
) -> None:
    (box,) = read(tmp_path, "t.csv", text).items
    np.testing.assert_allclose(box.corners, [40, 20, 120, 100])
    assert (box.label, box.score) == (label, score)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OPEN_IMAGES.replace("0.3", "1.3"), "line 3: OpenImages gives shares"),
        ("x1,y1,x2,y2\n40,20,30,100\n", "line 2: x2, y2"),
        ("x1,y1,x2,y2\n40,20,120,1e999\n", "line 2"),
        ("image,x1,y1,x2,y2\ndog.jpg,1,1,5,5\n", r"no image of it is called cat\.jpg"),
        ("0,4,20,120,100\n", "may be an index or x1"),
        ("x1,y1,x2,y2\n40,20,120,100\n0.1,0.1,0.3,0.5\n", "line 3: this box is in shares"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read(tmp_path, "t.csv", text)


@given(side=st.sampled_from(["width", "height"]), change=st.integers(-399, 4000))
@settings(max_examples=50)
def test_a_declared_size_of_another_shape_is_never_taken(
    tmp_path_factory: pytest.TempPathFactory, side: str, change: int
) -> None:
    image: dict[str, Any] = {"file_name": "cat.jpg", "width": 400, "height": 200}
    image[side] = max(image[side] + (change or 1), 0)
    with pytest.raises(PromptError, match="picture"):
        read(tmp_path_factory.getbasetemp(), "s.json", copy.deepcopy(coco(image)))
