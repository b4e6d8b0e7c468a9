"""Every format is opened by the library of the tool that it is for, and gives the masks back."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any
from unittest.mock import MagicMock
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from samtrt.choices import OutputFormat
from samtrt.datasets.given import Given
from samtrt.datasets.output import DatasetOutput
from samtrt.errors import OutputError
from samtrt.formats.annotation import Annotation, Categories, Category
from samtrt.formats.polygons import Outline
from samtrt.masks import rle
from samtrt.sources import Source

READER = Path(__file__).parents[1] / "support" / "ultralytics_reader.py"
SIZE = (80, 120)
CATEGORIES = Categories([Category(3, "cat", {"supercategory": "animal"}), Category(7, "yes: dog")])
EMPTY = Given(np.zeros((*SIZE, 3), np.uint8), "0")
GROUND = (OutputFormat.GEOJSON, OutputFormat.GEOTIFF)
FORMATS = [kind for kind in OutputFormat if kind not in GROUND]


def masks_of(seed: int) -> list[np.ndarray]:
    """A ring, something in two ragged parts, and a small thing within the ring."""
    ring, ragged, small = (np.zeros(SIZE, np.uint8) for _ in range(3))
    cv2.circle(ring, (35, 40), 30, 1, -1)
    cv2.circle(ring, (35, 40), 18, 0, -1)
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=SIZE), (0, 0), 3)
    ragged[10:70, 70:118] = noise[10:70, 70:118] > 0
    small[35:45, 30:40] = 1
    return [mask.astype(bool) for mask in (ring, ragged, small)]


def annotations_of(seed: int) -> list[Annotation]:
    facts = [
        {"label": "cat", "category_id": 3, "score": 0.75, "id": 900 + seed},
        {"label": "yes: dog", "category_id": 7, "score": 0.5, "id": 910 + seed},
        {"label": "cat", "category_id": 3, "id": 920 + seed},
    ]
    return [
        Annotation.of(rle.encode(mask), told, predicted_iou=0.9)
        for mask, told in zip(masks_of(seed), facts, strict=True)
    ]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All formats of two pictures, one of them in a folder of its own."""
    root = tmp_path_factory.mktemp("tools")
    sources = []
    for seed, name in enumerate(["a.png", "sub/b b.png"]):
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((*SIZE, 3), 90 + seed, np.uint8)
        Image.fromarray(pixels).save(path)
        sources.append(Source(path, PurePath(name).with_suffix("")))
    files = DatasetOutput(
        *(root / "out", FORMATS, {"checkpoint_sha256": "0"}, False, CATEGORIES),
        unique_ids=True,
        outline=Outline(0, 0),
    )
    for seed, source in enumerate(sources):
        pixels = np.asarray(Image.open(source.path))
        given = Given(pixels, "0")
        files.write(source, given, annotations_of(seed), {"id": 40 + seed, "license": 2})
    files.merge(sources)
    return root / "out"


def filled(mask: np.ndarray) -> np.ndarray:
    """The mask without its holes, which polygons cannot have."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, 2)
    result = np.zeros(mask.shape, np.uint8)
    for contour in contours:
        cv2.fillPoly(result, [contour], 1)
    return result.astype(bool)


def test_pycocotools_has_the_ids_that_came_in(out: Path) -> None:
    coco = COCO(str(out / "annotations.json"))
    assert coco.getImgIds() == [40, 41]
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["cat", "yes: dog"]
    assert coco.loadImgs(41)[0] == {
        "id": 41, "license": 2, "file_name": "sub/b b.png", "height": 80, "width": 120,
    }  # fmt: skip
    for seed in (0, 1):
        found = coco.loadAnns(coco.getAnnIds(imgIds=40 + seed))
        assert [one["id"] for one in found] == [900 + seed, 910 + seed, 920 + seed]
        assert [one["category_id"] for one in found] == [3, 7, 3]
        assert [one.get("score") for one in found] == [0.75, 0.5, None]
        for one, mask in zip(found, masks_of(seed), strict=True):
            np.testing.assert_array_equal(coco.annToMask(one).astype(bool), mask)


def test_pycocotools_makes_the_same_masks_of_polygons(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", SIZE[::-1]).save(picture)
    source = Source(picture, PurePath("a"))
    files = DatasetOutput(tmp_path / "out", [], {}, categories=CATEGORIES, polygons=True)
    files.write(source, EMPTY, annotations_of(0))
    coco = COCO(str(files.merge([source])))
    found = coco.loadAnns(coco.getAnnIds())
    assert [one["source_id"] for one in found] == [900, 910, 920]
    for one, mask in zip(found, masks_of(0), strict=True):
        np.testing.assert_array_equal(coco.annToMask(one).astype(bool), filled(mask))


def test_supervision_loads_coco_and_yolo(out: Path) -> None:
    supervision = pytest.importorskip("supervision")
    coco = supervision.DetectionDataset.from_coco(
        images_directory_path=str(out.parent / "pictures"),
        annotations_path=str(out / "annotations.json"),
        force_masks=True,
    )
    assert coco.classes == ["cat", "yes: dog"]
    for (_, _, found), seed in zip(coco, (0, 1), strict=True):
        np.testing.assert_array_equal(found.class_id, [0, 1, 0])
        np.testing.assert_array_equal(found.mask, masks_of(seed))
    yolo = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(out / "yolo" / "images"),
        annotations_directory_path=str(out / "yolo" / "labels"),
        data_yaml_path=str(out / "yolo" / "data.yaml"),
        force_masks=True,
    )
    assert yolo.classes == ["cat", "yes: dog"]
    _, _, found = yolo[0]
    np.testing.assert_array_equal(found.class_id, [0, 1, 0])


def test_ultralytics_loads_yolo(out: Path, tmp_path: Path) -> None:
    if find_spec("ultralytics") is None:  # its import changes much: only `READER` may do it
        pytest.skip("ultralytics is not installed")
    shutil.copytree(out / "yolo", tmp_path / "moved")  # it writes caches beside the labels
    places = {name: str(tmp_path) for name in ("HOME", "YOLO_CONFIG_DIR", "MPLCONFIGDIR")}
    done = subprocess.run(
        [sys.executable, str(READER), "moved/data.yaml", "read.json"],
        cwd=tmp_path,
        env={**os.environ, **places, "YOLO_OFFLINE": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    read = json.loads((tmp_path / "read.json").read_text())
    assert read["names"] == [[0, "cat"], [1, "yes: dog"]]
    for split in ("train", "val"):
        assert [PurePath(one["file"]).name for one in read[split]] == ["a.png", "b b.png"]
        for seed, (one, name) in enumerate(zip(read[split], ["a", "sub/b b"], strict=True)):
            assert one["size"] == list(SIZE)
            assert one["classes"] == [0, 1, 0]
            lines = (out / "yolo" / "labels" / f"{name}.txt").read_text().splitlines()
            for line, segment in zip(lines, one["segments"], strict=True):
                written = np.array(line.split()[1:], np.float32).reshape(-1, 2)
                np.testing.assert_array_equal(np.float32(segment), written)
            for mask, drawn in zip(masks_of(seed), one["masks"], strict=True):
                wanted, bridges = filled(mask), np.bool_(drawn) & ~filled(mask)
                np.testing.assert_array_equal(np.bool_(drawn) & ~bridges, wanted)
                parts = cv2.connectedComponents(wanted.astype(np.uint8))[0] - 1
                assert bridges.sum() <= (0.05 * wanted.sum() if parts > 1 else 0)


def test_yolos_facts_name_the_line_that_each_is_of(out: Path) -> None:
    with (out / "yolo" / "facts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["line"], row["id"]) for row in rows[1:4]] == [
        ("a.txt", "2", "910"),
        ("a.txt", "3", "920"),
        ("sub/b b.txt", "1", "901"),
    ]
    assert (rows[0]["label"], rows[0]["score"], rows[2]["score"]) == ("cat", "0.75", "")


def test_labelme_opens_its_file_with_the_picture(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PyQt5", "PyQt5.QtCore", "PyQt5.QtGui", "PyQt5.QtWidgets"):
        monkeypatch.setitem(sys.modules, name, MagicMock())  # its windows; reading needs none
    pytest.importorskip("labelme")
    from labelme import utils
    from labelme._label_file import LabelFile

    file = LabelFile(str(out / "labelme" / "sub" / "b b.json"))
    assert utils.img_data_to_arr(file.image_data).shape == (*SIZE, 3)
    for group, mask in enumerate(masks_of(1)):
        shapes = [shape for shape in file.shapes if shape["group_id"] == group]
        drawn = np.any(
            [utils.shape_to_mask(SIZE, shape["points"], "polygon") for shape in shapes], axis=0
        )
        np.testing.assert_array_equal(drawn, filled(mask))
    first = file.shapes[0]
    assert first["label"] == "cat"
    assert first["other_data"] == {
        "id": 901, "category_id": 3, "score": 0.75, "predicted_iou": 0.9,
    }  # fmt: skip


def test_label_maps_have_a_palette_and_say_what_their_numbers_are(out: Path) -> None:
    with Image.open(out / "labelmap" / "a.png") as picture:
        assert picture.mode == "P"
        labels = np.asarray(picture)
        told = json.loads(picture.text["samtrt:masks"])
    ring, ragged, small = masks_of(0)
    np.testing.assert_array_equal(labels, ring * 1 + ragged * 2 + small * 3)
    assert told["2"] == {
        "id": 910, "label": "yes: dog", "category_id": 7, "score": 0.5, "predicted_iou": 0.9,
    }  # fmt: skip
    shown = np.asarray(Image.open(out / "labelmap" / "a.png").convert("RGB"))
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 4


def test_panoptic_pictures_have_their_segments(out: Path) -> None:
    """The file itself: datumaro leaves out what the segments say beyond id and category."""
    document = json.loads((out / "panoptic.json").read_text())
    assert [one["isthing"] for one in document["categories"]] == [1, 1]
    for entry, seed in zip(document["annotations"], (0, 1), strict=True):
        assert entry["image_id"] == 40 + seed
        pixels = np.asarray(Image.open(out / "panoptic" / entry["file_name"])).astype(int)
        numbers = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        segments = entry["segments_info"]
        assert set(np.unique(numbers)) - {0} == {one["id"] for one in segments}
        for one, mask in zip(segments, masks_of(seed), strict=True):
            np.testing.assert_array_equal(numbers == one["id"], mask)
            assert one["area"] == mask.sum()
        assert [one["category_id"] for one in segments] == [3, 7, 3]
        assert [one["source_id"] for one in segments] == [900 + seed, 910 + seed, 920 + seed]


def test_datumaro_reads_cvat(out: Path) -> None:
    pytest.importorskip("datumaro")
    from datumaro.plugins.data_formats.cvat.base import CvatBase

    (out / "images").symlink_to(out.parent / "pictures")  # where it looks for them
    items = list(CvatBase(str(out / "cvat.xml")))
    assert [item.id for item in items] == ["a", "sub/b b"]
    for item, seed in zip(items, (0, 1), strict=True):
        assert item.attributes["frame"] == seed
        for one, mask in zip(item.annotations, masks_of(seed), strict=True):
            np.testing.assert_array_equal(np.asarray(one.image).astype(bool), mask)
        assert [one.label for one in item.annotations] == [0, 1, 0]
        assert item.annotations[0].attributes["score"] in ("0.75", 0.75)
        assert item.annotations[0].attributes["id"] in (f"{900 + seed}", 900 + seed)


def panoptic_by_datumaro(out: Path, pictures: Path, folder: Path) -> Any:
    """What it reads of OUT/panoptic.json where files lie as in COCO's own archives, set `x`."""
    pytest.importorskip("datumaro")
    from datumaro.components.dataset import Dataset

    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to(pictures)
    shutil.copy(out / "panoptic.json", folder / "annotations" / "panoptic_x.json")
    (folder / "annotations" / "panoptic_x").symlink_to(out / "panoptic")
    return Dataset.import_from(str(folder), "coco_panoptic")


def test_datumaro_reads_panoptic(out: Path, tmp_path: Path) -> None:
    read = panoptic_by_datumaro(out, out.parent / "pictures", tmp_path)
    (labels,) = read.categories().values()
    assert [one.name for one in labels] == ["cat", "yes: dog"]
    assert labels[0].parent == "animal"
    assert len(read) == 2
    for seed, name in enumerate(["a", "sub/b b"]):
        item = read.get(name, subset="x")
        assert item.attributes == {"id": 40 + seed}
        assert item.media.data.shape == (*SIZE, 3)
        assert [one.id for one in item.annotations] == [1, 2, 3]
        assert [one.label for one in item.annotations] == [0, 1, 0]
        for one, mask in zip(item.annotations, masks_of(seed), strict=True):
            np.testing.assert_array_equal(np.asarray(one.image).astype(bool), mask)
            assert one.attributes == {"is_crowd": False}


def test_datumaro_reads_more_segments_than_one_colour_counts(tmp_path: Path) -> None:
    masks = []
    for number in range(300):
        top, left = (4 * one for one in divmod(number, SIZE[1] // 4))
        mask = np.zeros(SIZE, bool)
        mask[top : top + 4, left : left + 3] = True
        masks.append(mask)
    picture = tmp_path / "pictures" / "a.png"
    picture.parent.mkdir()
    Image.new("RGB", SIZE[::-1]).save(picture)
    source = Source(picture, PurePath("a"))
    out = tmp_path / "out"
    files = DatasetOutput(out, [OutputFormat.PANOPTIC], {}, categories=CATEGORIES)
    told = {"label": "yes: dog", "category_id": 7}
    files.write(source, EMPTY, [Annotation.of(rle.encode(mask), told) for mask in masks])
    files.merge([source])
    (item,) = panoptic_by_datumaro(out, picture.parent, tmp_path / "read")
    for number, (one, mask) in enumerate(zip(item.annotations, masks, strict=True), start=1):
        assert (one.id, one.label) == (number, 1)
        np.testing.assert_array_equal(np.asarray(one.image).astype(bool), mask)


def test_label_studios_converter_reads_its_tasks(out: Path) -> None:
    pytest.importorskip("label_studio_sdk")
    from label_studio_sdk.converter import brush

    tasks = json.loads((out / "labelstudio.json").read_text())
    view = ElementTree.parse(out / "labelstudio.xml").getroot()
    tags = {tag.get("name"): tag for tag in view}
    assert tags["label"].get("toName") == "image"
    assert [one.get("value") for one in tags["label"]] == ["cat", "yes: dog"]
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=a.png",
        "/data/local-files/?d=sub/b%20b.png",
    ]
    for task, seed in zip(tasks, (0, 1), strict=True):
        (prediction,) = task["predictions"]
        for result, mask in zip(prediction["result"], masks_of(seed), strict=True):
            rgba = brush.decode_rle(result["value"]["rle"]).reshape(*SIZE, 4)
            np.testing.assert_array_equal(rgba, np.repeat(mask[..., None], 4, axis=2) * 255)
        first = prediction["result"][0]
        assert (first["from_name"], first["to_name"]) == ("label", "image")
        assert first["value"]["brushlabels"] == ["cat"]
        assert first["score"] == 0.75
        assert first["meta"]["id"] == 900 + seed


@pytest.fixture
def on_the_ground(tmp_path: Path) -> Source:
    """A picture of UTM zone 32, half a metre a pixel."""
    import rasterio
    from rasterio.transform import from_origin

    path = tmp_path / "scene.tif"
    with rasterio.open(
        *(path, "w"), driver="GTiff", height=SIZE[0], width=SIZE[1], count=3, dtype="uint8",
        crs="EPSG:32632", transform=from_origin(500_000, 5_300_000, 0.5, 0.5),
    ) as file:  # fmt: skip
        file.write(np.full((3, *SIZE), 90, np.uint8))
    return Source(path, PurePath("scene"))


def geo_output(folder: Path) -> DatasetOutput:
    return DatasetOutput(folder, GROUND, {}, categories=CATEGORIES)


def test_geojson_and_geotiff_lie_where_the_picture_lies(
    on_the_ground: Source, tmp_path: Path
) -> None:
    shapely = pytest.importorskip("shapely")
    import rasterio
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    geo_output(tmp_path / "out").write(on_the_ground, EMPTY, annotations_of(0))
    with (
        rasterio.open(on_the_ground.path) as scene,
        rasterio.open(tmp_path / "out" / "geotiff" / "scene.tif") as file,
    ):
        assert (file.crs, file.transform, file.nodata) == (scene.crs, scene.transform, 0)
        ring, ragged, small = masks_of(0)
        np.testing.assert_array_equal(file.read(1), ring * 1 + ragged * 2 + small * 3)
        assert json.loads(file.tags()["SAMTRT_MASKS"])["1"]["id"] == 900
    document = json.loads((tmp_path / "out" / "geojson" / "scene.geojson").read_text())
    for feature, mask in zip(document["features"], masks_of(0), strict=True):
        shape = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert shape.is_valid
        assert shape.bounds[0] == pytest.approx(9, abs=0.01)
        back = transform_geom("EPSG:4326", "EPSG:32632", feature["geometry"])
        drawn = rasterize([back], SIZE, transform=scene.transform).astype(bool)
        np.testing.assert_array_equal(drawn, mask)
    properties: dict[str, Any] = document["features"][1]["properties"]
    assert properties == {
        "id": 910, "label": "yes: dog", "category_id": 7, "score": 0.5, "predicted_iou": 0.9,
        "pixels": int(masks_of(0)[1].sum()),
    }  # fmt: skip


def test_a_picture_without_a_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", SIZE[::-1]).save(path)
    with pytest.raises(OutputError, match="does not say where it lies"):
        geo_output(tmp_path / "out").write(Source(path, PurePath("a")), EMPTY, annotations_of(0))
    assert not list((tmp_path / "out").rglob("*.geojson"))
