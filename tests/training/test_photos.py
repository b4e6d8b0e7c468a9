"""The labelled photographs are what they say, and the tools that measure on them work."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))  # its scripts

import eval_photos
import photo_sheets
from baselines import Felzenszwalb, FloodFill, GrabCut, tune
from photo_set import MORE_PHOTOS, PHOTOS, Photo, PhotoObject, load_photos, open_coco
from samtrt.masks.logits import box_of_mask, mask_iou
from samtrt.predictor import Predictor

SIZE = (48, 64)


@pytest.fixture(scope="module", params=[PHOTOS, MORE_PHOTOS], ids=["first", "second"])
def listing(request: pytest.FixtureRequest) -> Path:
    """The COCO file of each set."""
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def photos(listing: Path) -> list[Photo]:
    return load_photos(listing)


@pytest.fixture
def disc() -> Photo:
    """A red disc on blue, both slightly noisy: easy for every method."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = (x - 30) ** 2 + (y - 22) ** 2 < 12**2
    image = np.where(mask[..., None], (200, 40, 30), (20, 60, 190))
    image = image + np.random.default_rng(0).integers(-4, 5, image.shape)
    box = np.array([18.0, 10.0, 43.0, 35.0])
    item = PhotoObject(
        "disc", mask, box, box + 1, np.array([[30.0, 22.0], [25.0, 22.0], [30.0, 28.0]])
    )
    return Photo("disc", image.astype(np.uint8), (item,))


def test_the_set_is_large_enough(photos: list[Photo]) -> None:
    assert len(photos) >= 8
    assert all(photo.objects for photo in photos)
    assert sum(len(photo.objects) for photo in photos) >= 20


def test_photographs_are_small(photos: list[Photo], listing: Path) -> None:
    assert max(max(photo.image.shape) for photo in photos) <= 1024
    assert max(path.stat().st_size for path in listing.parent.glob("*.jpg")) < 200_000


def test_the_sets_share_no_name_and_no_id() -> None:
    """Pictures are written by the photograph's name; a box's noise is drawn by the object's id."""
    first, second = (open_coco(path).dataset for path in (PHOTOS, MORE_PHOTOS))
    for kind, field in (("images", "file_name"), ("annotations", "id")):
        assert not {e[field] for e in first[kind]} & {e[field] for e in second[kind]}


def test_every_photograph_is_listed_with_its_source_and_licence(listing: Path) -> None:
    coco = open_coco(listing)
    sources = (listing.parent / "SOURCES.md").read_text(encoding="utf-8")
    licences = {licence["id"]: licence["name"] for licence in coco.dataset["licenses"]}
    names = {entry["file_name"] for entry in coco.dataset["images"]}
    assert names == {path.name for path in listing.parent.glob("*.jpg")}
    for entry in coco.dataset["images"]:
        (row,) = (
            line for line in sources.splitlines() if line.startswith(f"| {entry['file_name']}")
        )
        assert licences[entry["license"]].lower() in row.lower()


def test_images_have_the_sizes_that_the_file_says(photos: list[Photo], listing: Path) -> None:
    entries = {Path(e["file_name"]).stem: e for e in open_coco(listing).dataset["images"]}
    for photo in photos:
        entry = entries[photo.name]
        assert photo.image.shape == (entry["height"], entry["width"], 3)


def test_areas_boxes_and_points_agree_with_the_polygons(photos: list[Photo], listing: Path) -> None:
    coco = open_coco(listing)
    annotations = iter(coco.loadAnns(coco.getAnnIds()))
    for photo in photos:
        assert len({item.name for item in photo.objects}) == len(photo.objects)
        for item in photo.objects:
            annotation = next(annotations)
            assert annotation["name"] == item.name
            assert annotation["area"] == item.mask.sum() > 500
            assert tuple(annotation["bbox"]) == box_of_mask(item.mask)
            assert annotation["points"][0] == annotation["point"]
            assert item.points.shape == (3, 2)
            x, y = item.points.astype(int).T
            assert item.mask[y, x].all(), f"{photo.name}, {item.name}"


def test_polygons_stay_inside_their_image(listing: Path) -> None:
    coco = open_coco(listing)
    for annotation in coco.dataset["annotations"]:
        (entry,) = coco.loadImgs(annotation["image_id"])
        for ring in annotation["segmentation"]:
            x, y = np.reshape(ring, (-1, 2)).T
            assert len(x) >= 3
            assert x.min() >= 0
            assert y.min() >= 0
            assert x.max() <= entry["width"]
            assert y.max() <= entry["height"]


@pytest.mark.parametrize("method", [FloodFill(blur=5), Felzenszwalb(sigma=0.8, min_size=20)])
def test_point_baselines_find_an_easy_object(disc: Photo, method: FloodFill | Felzenszwalb) -> None:
    (item,) = disc.objects
    for points in (item.points[:1], item.points):
        mask = method(disc.image, points)
        assert mask.shape == SIZE
        assert mask.dtype == bool
        assert mask_iou(mask, item.mask) > 0.7  # their blur costs them the rim


def test_grabcut_finds_an_easy_object_and_repeats_itself(disc: Photo) -> None:
    (item,) = disc.objects
    method = GrabCut(blur=1)
    mask = method(disc.image, item.box)
    assert mask.shape == SIZE
    assert mask_iou(mask, item.mask) > 0.9
    assert np.array_equal(mask, method(disc.image, item.box))


@given(st.integers(0, SIZE[1] - 1), st.integers(0, SIZE[0] - 1), st.booleans(), st.booleans())
def test_flood_fill_holds_its_point(x: int, y: int, fixed: bool, lab: bool) -> None:
    image = np.random.default_rng(x * 100 + y).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    mask = FloodFill(fixed=fixed, lab=lab)(image, [[x, y]])
    assert mask[y, x]


def test_points_in_two_regions_give_their_union() -> None:
    image = np.zeros((*SIZE, 3), dtype=np.uint8)
    image[:, 32:] = 200
    method = FloodFill(tolerance=5, blur=1)
    left, right = method(image, [[3, 3]]), method(image, [[60, 3]])
    assert left.sum() == right.sum() == SIZE[0] * 32
    assert method(image, [[3, 3], [60, 3]]).all()


def test_tuning_picks_settings_that_fit(disc: Photo) -> None:
    best, mean = tune(FloodFill, [disc])
    assert mean > 0.95
    assert mask_iou(best(disc.image, disc.objects[0].points[:1]), disc.objects[0].mask) == mean


def test_the_models_masks_follow_the_rules(disc: Photo, fake_predictor: Predictor) -> None:
    fake_predictor.set_image(disc.image)
    (item,) = disc.objects
    masks = eval_photos.model_masks(fake_predictor, item)
    three = fake_predictor.predict(item.points[:1], [1], multimask_output=True)
    best = int(three.iou_predictions.argmax())
    assert np.array_equal(masks["point/model"], three.masks[best])
    overlaps = [mask_iou(mask.astype(bool), item.mask) for mask in three.masks]
    assert mask_iou(masks["point/model_best"], item.mask) == max(overlaps)
    boxed = fake_predictor.predict(box=item.box, multimask_output=False)
    assert np.array_equal(masks["box/model"], boxed.masks[0])


def test_evaluation_writes_tables_and_pictures(
    disc: Photo, fake_predictor: Predictor, tmp_path: Path
) -> None:
    rows = eval_photos.evaluate([disc], fake_predictor, tmp_path)
    assert list(rows[0].iou) == list(eval_photos.COLUMNS)
    model = {"model": "m", "precision": "fp32", "backend": "fake", "checkpoint": "c", "sha256": "0"}
    more = [replace(rows[0], photo="second", iou={**rows[0].iou, "box/grabcut": 0.123})]
    text = eval_photos.write_results(tmp_path, rows, more, model)
    report = json.loads((tmp_path / "photos.json").read_text(encoding="utf-8"))
    assert report["objects"][0]["iou"] == rows[0].iou
    assert report["summary"]["box/grabcut"]["mean"] == rows[0].iou["box/grabcut"]
    assert report["more"]["objects"][0]["photo"] == "second"
    assert report["more"]["summary"]["box/grabcut"]["mean"] == 0.123
    assert f"| disc | disc | {rows[0].iou['box/model']:.2f} |" in text.partition("Second set")[0]
    assert f"| second | disc | {rows[0].iou['box/model']:.2f} |" in text.partition("Second set")[2]
    with Image.open(tmp_path / "disc.jpg") as sheet:
        assert sheet.width == (photo_sheets.CELL + 4) * (len(eval_photos.DRAWN) + 1)


def test_without_a_model_only_baselines_are_measured(disc: Photo) -> None:
    (row,) = eval_photos.evaluate([disc], None, None)
    assert not any("model" in key for key in row.iou)
    assert eval_photos._describe(None) == "classical methods alone"


def test_an_overview_shows_every_photograph_with_its_masks(disc: Photo) -> None:
    sheet = np.asarray(photo_sheets.draw_overview([disc] * 3, columns=2))
    tile = photo_sheets.TILE
    assert sheet.shape == (2 * tile, 2 * tile, 3)
    centre = (tile * np.array([30 / 64, 0.5 + (22 - 24) / 64])).astype(int)  # the disc's, in a tile
    for x, y in ([0, 0], [tile, 0], [0, tile]):
        red = sheet[y + centre[1], x + centre[0]].astype(int)
        assert np.abs(red - (200, 40, 30)).max() > 20  # its mask's colour lies over it
    assert (sheet[tile:, tile:] == 255).all()


def test_the_document_shows_the_latest_results() -> None:
    docs = Path(__file__).parents[2] / "docs"
    report = json.loads((docs / "results" / "photos.json").read_text(encoding="utf-8"))
    text = (docs / "photos.md").read_text(encoding="utf-8")
    for part, listing in ((report, PHOTOS), (report["more"], MORE_PHOTOS)):
        rows = [eval_photos.Row(**row) for row in part["objects"]]
        assert [(row.name, row.area) for row in rows] == [
            (annotation["name"], annotation["area"])
            for annotation in open_coco(listing).dataset["annotations"]
        ]
        assert part["summary"] == eval_photos.summarise(rows)
        assert eval_photos.markdown(rows).partition("\n\n")[0] in text


def test_a_directory_that_is_no_model_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["eval_photos", str(tmp_path)])
    assert eval_photos.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
