"""`samtrt predict DIR FOLDER --boxes FILE`: the boxes of a data set into masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from pycocotools.coco import COCO

from support.command_line import Outcome, Run
from support.oracle import random_image

Predict = Callable[..., Outcome]
NAMES = ("a.png", "b.jpg", "sub/c.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    (path / "sub").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        Image.fromarray(random_image(90, 120, seed)).save(path / name)
    return path


@pytest.fixture
def predict(run: Run, fake_directory: Path, folder: Path) -> Predict:
    """Call `samtrt predict MODEL PICTURES --boxes BOXES -o OUT ...`."""

    def call(boxes: Path, out: Path, *more: object) -> Outcome:
        return run(*("predict", fake_directory, folder, "--boxes", boxes, "-o", out), *more)

    return call


def coco(*names: str) -> dict[str, Any]:
    """Two boxes for each picture, the second of them of a dog."""
    images = [
        {"id": 70 + i, "file_name": name, "height": 90, "width": 120, "license": 4}
        for i, name in enumerate(names)
    ]
    annotations = [
        {
            "id": 1000 + 10 * i + j,
            "image_id": 70 + i,
            "category_id": (3, 9)[j],
            "bbox": [(10, 70)[j], 20, 40, 50],
            "score": (0.9, 0.25)[j],
            "segmentation": [[1, 2, 3, 4, 5, 6]],
            "iscrowd": 0,
        }
        for j in (1, 0)
        for i in range(len(names))
    ]
    categories = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "animal"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_detectors_coco_file_comes_back_with_masks(predict: Predict, tmp_path: Path) -> None:
    boxes, out = write(tmp_path / "coco.json", coco(*NAMES)), tmp_path / "with-masks.json"
    done = predict(boxes, out, "--recursive")
    assert done.code == 0, done.err
    assert done.out.startswith("3 images, 6 masks in ")
    assert done.out.splitlines()[-1] == str(out)
    found = COCO(str(out))
    assert found.getCatIds() == [3, 9]
    assert found.loadCats(3) == [{"id": 3, "name": "cat", "supercategory": "animal"}]
    assert [image["file_name"] for image in found.loadImgs([70, 71, 72])] == list(NAMES)
    assert found.imgs[70]["license"] == 4
    for given in coco(*NAMES)["annotations"]:
        one = found.anns[given["id"]]
        for name in ("image_id", "category_id", "score"):
            assert one[name] == given[name]
        assert one["prompt_box"] == given["bbox"]
        assert one["bbox"] == pytest.approx(given["bbox"], abs=4)
        assert found.annToMask(one).sum() == one["area"]


def test_a_restart_does_what_is_missing_or_has_other_boxes(
    predict: Predict, tmp_path: Path
) -> None:
    data, out = coco(*NAMES), tmp_path / "out.json"
    boxes = write(tmp_path / "coco.json", data)
    assert predict(boxes, out, "-r").code == 0
    whole = out.read_bytes()
    out.unlink()
    (tmp_path / "out.json.samtrt" / "coco" / "b.json").unlink()
    again = predict(boxes, out, "-r")
    assert again.out.startswith("1 image, 2 masks")
    assert "2 done before" in again.out
    assert out.read_bytes() == whole
    data["annotations"][0]["bbox"][0] += 1  # of a.png
    changed = predict(write(boxes, data), out, "-r")
    assert changed.out.startswith("1 image, 2 masks")
    assert "2 done before" in changed.out


def test_a_dataset_of_another_hand_in_our_place_is_made_anew(
    predict: Predict, tmp_path: Path
) -> None:
    boxes, out = write(tmp_path / "coco.json", coco("a.png", "b.jpg")), tmp_path / "out.json"
    assert predict(boxes, out).code == 0
    whole = out.read_bytes()
    marker = tmp_path / "out.json.samtrt" / "coco" / "a.json"
    data = json.loads(marker.read_text())
    for broken in ({**data, "info": None}, []):
        write(marker, broken)
        assert "1 image, 2 masks" in predict(boxes, out).out
        assert out.read_bytes() == whole


def test_what_fails_is_named_and_the_others_are_done(
    predict: Predict, tmp_path: Path, folder: Path
) -> None:
    data = coco(*NAMES, "gone.png")
    data["annotations"][0]["bbox"] = [900, 900, 10, 10]  # of a.png
    (folder / "sub" / "c.png").write_bytes(b"\x89PNG broken")
    Image.new("RGB", (50, 50)).save(folder / "not named.png")
    out = tmp_path / "out.json"
    done = predict(write(tmp_path / "coco.json", data), out, "--recursive")
    assert done.code == 1
    lines = done.err.splitlines()
    assert any("skipped 1 picture that" in line and "not named.png" in line for line in lines)
    assert any("does not hold 1 picture that" in line and "gone.png" in line for line in lines)
    assert any("a.png" in line and "mostly outside" in line for line in lines)
    assert any("c.png" in line and "failed" in line for line in lines)
    assert len(lines) == 4
    assert "1 image, 2 masks" in done.out
    assert [image["file_name"] for image in json.loads(out.read_text())["images"]] == ["b.jpg"]


def test_pictures_without_boxes_stay_in_the_data_set(predict: Predict, tmp_path: Path) -> None:
    data = coco(*NAMES)
    data["annotations"] = [one for one in data["annotations"] if one["image_id"] == 71]
    data["annotations"].append(
        {"id": 5, "image_id": 70, "category_id": 3, "bbox": [5, 5, 0, 0]}  # as train2017 has
    )
    out = tmp_path / "out.json"
    done = predict(write(tmp_path / "coco.json", data), out, "-r")
    assert done.code == 0
    assert "a.png: left out 1 x box without area: annotation 5" in done.err
    document = json.loads(out.read_text())
    assert len(document["images"]) == 3
    assert {one["image_id"] for one in document["annotations"]} == {71}


CSV = "filename,xmin,ymin,xmax,ymax,class,track_id\n"
CSV += "".join(f"{name},10,20,50,70,cat,{5 + i}\n" for i, name in enumerate(NAMES))
VIA = {
    f"{name}123": {
        "filename": name,
        "regions": [
            {
                "shape_attributes": {"name": "rect", "x": 10, "y": 20, "width": 40, "height": 50},
                "region_attributes": {"class": "cat"},
            }
        ],
    }
    for name in NAMES
}
DETECTIONS = [
    {"file_name": name, "category_name": "cat", "bbox": [10, 20, 40, 50], "score": 0.5}
    for name in NAMES
]
OPEN_IMAGES = "ImageID,LabelName,XMin,XMax,YMin,YMax\n"
OPEN_IMAGES += "".join(f"{stem},cat,0.0833,0.4167,0.2222,0.7778\n" for stem in "abc")
HEADLESS = "".join(f"{name},10,20,50,70,cat\n" for name in NAMES)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("boxes.csv", CSV),
        ("via.json", VIA),
        ("results.json", DETECTIONS),
        ("open-images.csv", OPEN_IMAGES),
        ("headless.csv", HEADLESS),
    ],
)
def test_every_kind_of_file_that_names_pictures(
    predict: Predict, tmp_path: Path, name: str, content: Any
) -> None:
    out = tmp_path / "out.json"
    done = predict(write(tmp_path / name, content), out, "--recursive")
    assert done.code == 0, done.err
    document = json.loads(out.read_text())
    assert document["categories"] == [{"id": 1, "name": "cat"}]
    assert len(document["annotations"]) == 3
    assert [one["id"] for one in document["annotations"]] == [1, 2, 3]
    for one in document["annotations"]:
        assert one["prompt_box"] == pytest.approx([10, 20, 40, 50], abs=0.02)
    if name == "boxes.csv":  # tracks are not ids of annotations
        assert [one["source_id"] for one in document["annotations"]] == [5, 6, 7]


def test_detections_by_number_of_pictures_that_are_named_so(
    predict: Predict, tmp_path: Path, folder: Path
) -> None:
    for i, name in enumerate(NAMES, start=1):
        (folder / name).rename(folder / f"{i:012}.png")
    results = [
        {"image_id": i, "category_id": 18, "bbox": [10, 20, 40, 50], "score": 0.5 + i / 10}
        for i in (1, 2, 3)
    ]
    out = tmp_path / "out.json"
    done = predict(write(tmp_path / "results.json", results), out, "-r")
    assert done.code == 0, done.err
    found = json.loads(out.read_text())["annotations"]
    assert [(one["category_id"], one["score"]) for one in found] == [
        (18, 0.6),
        (18, 0.7),
        (18, 0.8),
    ]


@pytest.mark.parametrize("kind", ["yolo", "labelme"])
def test_a_folder_of_label_files(predict: Predict, tmp_path: Path, folder: Path, kind: str) -> None:
    labels = tmp_path / "labels"
    for name in NAMES:
        place = labels / name
        if kind == "yolo":
            write(place.with_suffix(".txt"), "1 0.25 0.5 0.3333 0.5556 0.75 8\n")
        else:
            shape = {"label": "cat", "points": [[10, 20], [50, 70]], "shape_type": "rectangle"}
            shape |= {"group_id": 8, "score": 0.75}
            write(
                place.with_suffix(".json"),
                {"imagePath": Path(name).name, "shapes": [shape], "imageData": None},
            )
    if kind == "yolo":
        write(tmp_path / "data.yaml", "names:\n  0: dog\n  1: cat\ntrain: images\n")
        write(labels / "b.txt", "")  # nothing in it
    out = tmp_path / "out.json"
    done = predict(labels, out, "--recursive")
    assert done.code == 0, done.err
    document = json.loads(out.read_text())
    assert len(document["images"]) == 3
    assert len(document["annotations"]) == (2 if kind == "yolo" else 3)
    number = next(one["id"] for one in document["categories"] if one["name"] == "cat")
    for one in document["annotations"]:
        assert (one["category_id"], one["score"], one["source_id"]) == (number, 0.75, 8)
        assert one["prompt_box"] == pytest.approx([10, 20, 40, 50], abs=0.01)
    if kind == "yolo":
        assert "classes are named by" in done.err
        assert [one["name"] for one in document["categories"]] == ["dog", "cat"]
        (folder / "d.png").write_bytes((folder / "a.png").read_bytes())
        write(labels / "d.txt", "2 0.25 0.5 0.3 0.5\n")
        failed = predict(labels, out, "-r")
        assert failed.code == 1
        assert "line 1: its class is 2, and only 2 have names" in failed.err


def test_labels_of_another_folder_are_not_taken(predict: Predict, tmp_path: Path) -> None:
    write(tmp_path / "labels" / "a.txt", "0 0.25 0.5 0.3 0.5\n")
    write(tmp_path / "labels" / "other" / "c.txt", "0 0.25 0.5 0.3 0.5\n")
    done = predict(tmp_path / "labels", tmp_path / "out.json", "-r")
    assert done.code == 1
    assert "skipped 2 pictures that" in done.err
    assert "does not hold 1 picture that" in done.err
    assert "other/c" in done.err


def test_labels_beside_pictures_and_results_within(
    run: Run, fake_directory: Path, predict: Predict, folder: Path
) -> None:
    write(folder / "a.txt", "0 0.25 0.5 0.3 0.5\n")
    write(folder / "README.txt", "not a label")
    for _ in range(2):  # the second time, results are there, with JSON of their own
        done = predict(folder, folder / "out", "--recursive")
        assert done.code == 0, done.err
        assert "skipped 2 pictures" in done.err
    one = run(
        "predict",
        fake_directory,
        folder / "a.png",
        "--boxes",
        folder,
        "-o",
        folder / "o",
        "-f",
        "none",
    )
    assert one.code == 0, one.err


def test_one_picture_of_a_file_about_many(
    run: Run, fake_directory: Path, folder: Path, tmp_path: Path
) -> None:
    boxes = write(tmp_path / "coco.json", coco(*NAMES))
    out = tmp_path / "out"
    done = run(
        "predict", fake_directory, folder / "b.jpg", "--boxes", boxes, "-o", out, "-f", "yolo"
    )
    assert done.code == 0, done.err
    assert "does not hold" not in done.err
    assert len((out / "yolo" / "labels" / "b.txt").read_text().splitlines()) == 2


def test_one_picture_and_a_folder_of_labels(
    run: Run, fake_directory: Path, folder: Path, tmp_path: Path
) -> None:
    write(tmp_path / "labels" / "a.txt", "0 0.25 0.5 0.3 0.5 0.5\n")
    write(tmp_path / "classes.txt", "cat\n")
    arguments = ("--boxes", tmp_path / "labels", "--json", tmp_path / "a.json")
    done = run("predict", fake_directory, folder / "a.png", *arguments)
    assert done.code == 0, done.err
    (mask,) = json.loads((tmp_path / "a.json").read_text())["masks"]
    assert (mask["label"], mask["category_id"], mask["score"]) == ("cat", 0, 0.5)
    done = run("predict", fake_directory, folder / "b.jpg", *arguments)
    assert done.code == 2
    assert "no image of it is called b.jpg" in done.err


def test_a_data_set_for_yolo_keeps_its_pictures(predict: Predict, tmp_path: Path) -> None:
    boxes, out = write(tmp_path / "coco.json", coco("a.png", "b.jpg")), tmp_path / "out"
    assert predict(boxes, out, "-f", "yolo").code == 0
    (out / "yolo" / "images" / "b.jpg").unlink()
    assert "1 image, 2 masks" in predict(boxes, out, "-f", "yolo").out
    assert (out / "yolo" / "images" / "b.jpg").is_file()


def test_lone_lines_are_read_as_all_files_together_are(predict: Predict, tmp_path: Path) -> None:
    """Six columns alone are a tracked box; beside polygons they are a triangle."""
    triangle = "0 0.1 0.2 0.4 0.2 0.4 0.8\n"
    write(tmp_path / "labels" / "a.txt", triangle)
    write(tmp_path / "labels" / "b.txt", "0 0.1 0.2 0.4 0.2 0.4 0.8 0.1 0.8 0.05 0.5\n")
    done = predict(tmp_path / "labels", tmp_path / "out.json")
    assert done.code == 0, done.err
    first = json.loads((tmp_path / "out.json").read_text())["annotations"][0]
    assert first["prompt_box"] == pytest.approx([12, 18, 36, 54])


def test_a_directory_gets_every_format(predict: Predict, tmp_path: Path) -> None:
    out = tmp_path / "out"
    formats = "overlay,labelmap,labelme,yolo,panoptic,cvat,labelstudio"
    boxes = write(tmp_path / "coco.json", coco(*NAMES))
    done = predict(boxes, out, "-r", "-f", formats, "--segmentation", "polygons")
    assert done.code == 0, done.err
    document = json.loads((out / "annotations.json").read_text())
    assert all(isinstance(one["segmentation"], list) for one in document["annotations"])
    assert {place.name for place in out.iterdir()} == {
        ".samtrt", "annotations.json", "coco", "cvat.xml", "labelme", "labelmap",
        "labelstudio.json", "labelstudio.xml", "overlay", "panoptic", "panoptic.json", "yolo",
    }  # fmt: skip
    overlay = np.asarray(Image.open(out / "overlay" / "sub" / "c.png"))
    assert overlay.shape == (90, 120, 3)
    assert (out / "yolo" / "labels" / "sub" / "c.txt").read_text().split()[0] == "1"
    # labels that were made from ours come back as boxes
    again = predict(out / "labelme", tmp_path / "again.json", "-r")
    assert again.code == 0, again.err
    kinds = json.loads((tmp_path / "again.json").read_text())["categories"]
    assert [one["name"] for one in kinds] == ["cat", "dog"]


def test_boxes_made_before_exif_turned_the_pictures(
    predict: Predict, tmp_path: Path, folder: Path
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(random_image(90, 120)).save(folder / "b.jpg", exif=exif)
    out = tmp_path / "out"
    done = predict(write(tmp_path / "coco.json", coco("b.jpg")), out, "-f", "yolo")
    assert done.code == 0, done.err
    assert "before EXIF turned the picture" in done.err
    document = json.loads((out / "annotations.json").read_text())
    assert (document["images"][0]["width"], document["images"][0]["height"]) == (90, 120)
    assert document["annotations"][0]["prompt_box"] == [20, 70, 50, 40]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "out.json"), "is a folder: give --boxes"),
        (("--boxes", "COCO"), "give -o"),
        (("--boxes", "COCO", "-o", "o.json", "-f", "yolo"), "written into a directory"),
        (("--boxes", "COCO", "-o", "o.json", "--all"), "leave out --all"),
        (("--boxes", "BARE", "-o", "o.json"), "does not name the pictures"),
        (("--boxes", "EMPTY", "-o", "o.json"), "holds no label file"),
        (("--boxes", "ELSE", "-o", "o.json"), "names no picture of"),
        (("--boxes", "COCO", "-o", "MINE.json"), "was not written by samtrt"),
        (("--boxes", "none.json", "-o", "o.json"), "no boxes file at none.json"),
        (("--boxes", "COCO", "-o", "o", "--polygon-tolerance", "inf"), "finite"),
    ],
)
def test_bad_arguments_are_told_in_a_line(
    run: Run,
    fake_directory: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "COCO": write(tmp_path / "coco.json", coco(*NAMES)),
        "BARE": write(tmp_path / "bare.json", [[1, 2, 30, 40]]),
        "ELSE": write(tmp_path / "else.json", coco("x.png")),
        "MINE.json": write(tmp_path / "mine.json", "{}"),
        "EMPTY": tmp_path / "empty",
    }
    files["EMPTY"].mkdir()
    given = [str(files.get(one, one)) for one in arguments]
    done = run("predict", fake_directory, folder, *given)
    assert done.code == 2
    assert message in done.err
    assert done.err.splitlines()[-1].startswith("samtrt: error: ")
    assert not (tmp_path / "o.json").exists()


def test_one_name_for_two_pictures_is_refused(
    predict: Predict, tmp_path: Path, folder: Path
) -> None:
    (folder / "sub" / "a.png").write_bytes((folder / "a.png").read_bytes())
    done = predict(write(tmp_path / "coco.json", coco("x/a.png")), tmp_path / "out.json", "-r")
    assert done.code == 1
    assert "has boxes of x/a.png, which may be a.png or sub/a.png" in done.err


def test_stored_embeddings_serve_as_pictures(
    run: Run, predict: Predict, fake_directory: Path, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    stored = run("embed", fake_directory, folder, "-o", kept, "-r")
    assert stored.code == 0, stored.err
    boxes = write(tmp_path / "coco.json", coco("a.png", "b.jpg"))
    assert predict(boxes, tmp_path / "one.json").code == 0
    arguments = ("--boxes", boxes, "-o", tmp_path / "two.json")
    done = run("predict", fake_directory, kept, *arguments)
    assert done.code == 0, done.err
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    assert one["images"] == two["images"]
    assert one["annotations"] == two["annotations"]
