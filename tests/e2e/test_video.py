"""Videos on the page. The server's stand-in moves what is pointed at to the right."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from samtrt.masks.logits import mask_iou
from samtrt.predictor import Predictor
from samtrt.server.app import create_app
from samtrt.server.settings import Settings
from samtrt.video.engines import VideoEngines
from samtrt.video.frames import open_frames
from samtrt.video.predictor import VideoPredictor
from support.e2e_cases import PageDriver, faults
from support.moving_objects import STEP
from support.server_cases import Served, live, wait_for
from support.videos import moving_picture, numbered, write_video

COUNT, SIZE = 24, (400, 640)
MOVED = STEP * 640 / 256
"""Pixels of the video that objects move in a frame."""


@pytest.fixture
def driver(open_page: Callable[..., PageDriver], film: Served, clip: Path) -> PageDriver:
    """The page with the video open."""
    driver = open_page(film.url)
    driver.open_video(clip)
    return driver


def click(driver: PageDriver, x: float, y: float, **options: Any) -> None:
    driver.page.mouse.click(*driver.place(x, y), **options)
    driver.still()


def track(driver: PageDriver, key: str = "t") -> None:
    driver.page.keyboard.press(key)
    driver.page.wait_for_selector("body[data-video=tracking]")
    driver.still()


def masks(driver: PageDriver) -> dict[int, list[np.ndarray | None]]:
    """Export as a user does, and read it with COCO's own code."""
    document = json.loads(driver.download("#export-youtube-vis").read_text())
    (video,) = document["videos"]
    assert (video["name"], video["height"], video["width"], video["length"]) == (
        "clip",
        *SIZE,
        COUNT,
    )
    found = {}
    for one in document["annotations"]:
        found[one["object"]] = [
            None if rle is None else coco.decode(rle).astype(bool) for rle in one["segmentations"]
        ]
        for mask, box, area in zip(found[one["object"]], one["bboxes"], one["areas"], strict=True):
            assert (mask is None) == (box is None) == (area is None)
            if mask is not None:
                assert mask.sum() == area
                assert coco.toBbox(coco.encode(np.asfortranarray(mask, np.uint8))).tolist() == box
    return found


def middle(mask: np.ndarray | None) -> tuple[float, float]:
    assert mask is not None
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def test_tracking_correcting_and_taking_away(driver: PageDriver) -> None:
    assert driver.page.inner_text("#title") == "clip.mp4 · 640 × 400 · 24 frames"
    assert driver.page.locator("#track-forward").is_disabled()
    assert not driver.page.locator("#auto").is_visible()
    click(driver, 200, 200)
    assert driver.objects() == ["Object 1"]
    driver.page.keyboard.press("n")
    driver.page.mouse.move(*driver.place(80, 60))
    driver.page.mouse.down()
    driver.page.mouse.move(*driver.place(150, 130), steps=3)
    driver.page.mouse.up()
    driver.still()
    assert driver.objects() == ["Object 1", "Object 2"]
    track(driver)
    assert driver.frame() == COUNT - 1
    assert driver.page.inner_text("#video-status") == "Masks on 24 of 24 frames."
    found = masks(driver)
    for frame in range(COUNT):
        x, y = middle(found[1][frame])
        assert (x, y) == (pytest.approx(200 + MOVED * frame, abs=3), pytest.approx(200, abs=3))
    # A correction in the middle, and on from there.
    driver.slide("#frame", 10)
    wait_for(lambda: driver.page.inner_text("#frame-place").startswith("11 / 24"))
    driver.page.click("#select-1")
    driver.insist(*driver.place(300, 320))
    driver.still()
    track(driver)
    corrected = masks(driver)
    assert middle(corrected[1][9]) == middle(found[1][9])
    assert middle(corrected[1][10])[1] > 230
    assert middle(corrected[1][23])[1] > 230
    for frame in range(COUNT):
        np.testing.assert_array_equal(corrected[2][frame], found[2][frame])
    # As DAVIS has it, with the ids as values.
    with zipfile.ZipFile(driver.download("#export-davis")) as archive:
        names = archive.namelist()
        assert names == [f"Annotations/clip/{i:05d}.png" for i in range(COUNT)]
        picture = Image.open(io.BytesIO(archive.read(names[23])))
    assert picture.mode == "P"
    expected = np.zeros(SIZE, np.uint8)
    last = {number: mask for number, every in corrected.items() if (mask := every[23]) is not None}
    for number, mask in sorted(last.items(), key=lambda one: -int(one[1].sum())):
        expected[mask] = number
    np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.long
def test_stopping_and_removing_while_it_is_tracked(driver: PageDriver, film: Served) -> None:
    click(driver, 100, 100)
    driver.page.keyboard.press("n")
    click(driver, 100, 300)
    film.video.open.clear()
    driver.page.keyboard.press("t")
    driver.page.wait_for_selector("body[data-video=tracking]")
    # Clicks do nothing meanwhile; an object can go.
    driver.page.mouse.click(*driver.place(400, 200))
    driver.page.click("#bin-1")
    film.video.open.set()
    driver.still()
    assert driver.objects() == ["Object 2"]
    assert driver.frame() == COUNT - 1
    found = masks(driver)
    assert set(found) == {2}
    assert all(mask is not None for mask in found[2])
    driver.slide("#frame", 3)
    wait_for(lambda: driver.page.inner_text("#frame-place").startswith("4 / 24"))
    film.video.open.clear()
    driver.page.keyboard.press("t")
    driver.page.wait_for_selector("body[data-video=tracking]")
    driver.page.click("#track-stop")
    film.video.open.set()
    driver.still()
    assert 3 <= driver.frame() < COUNT - 1


@pytest.mark.long
def test_backward_and_frame_by_frame(driver: PageDriver) -> None:
    driver.slide("#frame", 12)
    wait_for(lambda: driver.page.inner_text("#frame-place").startswith("13 / 24"))
    assert driver.page.inner_text("#frame-place") == "13 / 24 · 0:00.48"
    click(driver, 300, 200)
    track(driver, "Shift+t")
    assert driver.frame() == 0
    assert driver.page.inner_text("#video-status") == "Masks on 13 of 24 frames."
    assert driver.areas() == {"Object 1": "1.0%"}
    for key, frame in ((".", 1), (".", 2), (",", 1)):
        driver.page.keyboard.press(key)
        wait_for(lambda frame=frame: driver.frame() == frame)  # type: ignore[misc]
    driver.page.keyboard.press("k")
    wait_for(lambda: driver.frame() == COUNT - 1)
    assert driver.areas() == {"Object 1": "…"}
    wait_for(lambda: driver.page.inner_text("#play") == "Play")


@pytest.mark.long
def test_points_are_moved_and_taken_back(driver: PageDriver, film: Served) -> None:
    click(driver, 200, 200)
    before = film.video.calls
    driver.page.mouse.move(*driver.place(200, 200))
    driver.page.mouse.down()
    driver.page.mouse.move(*driver.place(260, 240), steps=3)
    driver.page.mouse.up()
    driver.still()
    assert film.video.calls == before + 1
    assert middle(masks(driver)[1][0]) == (pytest.approx(260, abs=3), pytest.approx(240, abs=3))
    click(driver, 262, 242, button="right")  # on the point: it goes, and with it the object
    assert driver.objects() == []
    assert driver.page.locator("#export-davis").is_disabled()
    assert driver.page.locator("#track-forward").is_disabled()


@pytest.mark.long
def test_work_stays_over_a_reload_and_behind_an_image(
    driver: PageDriver, photo: Path, film: Served
) -> None:
    click(driver, 200, 200)
    driver.page.fill("#name-1", "cart")
    driver.page.keyboard.press("Enter")
    track(driver)
    found = masks(driver)
    driver.page.reload()
    driver.page.wait_for_selector("body[data-mode=video]")
    wait_for(lambda: driver.page.inner_text("#video-status") == "Masks on 24 of 24 frames.")
    driver.still()
    assert driver.objects() == ["cart"]
    for old, new in zip(found[1], masks(driver)[1], strict=True):
        np.testing.assert_array_equal(old, new)
    driver.upload(photo)
    driver.page.wait_for_selector("body:not([data-mode])")
    driver.click(320, 200)
    assert driver.candidates()
    driver.page.click("#to-video")
    driver.still()
    assert driver.objects() == ["cart"]
    driver.page.click("#close-video")
    assert driver.objects() == ["Object 1"]
    assert driver.page.inner_text("#title") == "photo.png · 640 × 400"
    wait_for(lambda: not film.app.state.videos._open)


@pytest.mark.long
def test_a_video_of_the_servers_folder(open_page: Callable[..., PageDriver], film: Served) -> None:
    driver = open_page(film.url)
    driver.page.click("#server-videos")
    driver.page.locator("#video-list .open", has_text="street.mp4").click()
    driver.page.wait_for_selector("body[data-mode=video]")
    assert driver.page.inner_text("#title") == "street.mp4 · 64 × 48 · 6 frames"


@pytest.mark.long
def test_trouble_with_videos(
    open_page: Callable[..., PageDriver], film: Served, fake: Served, clip: Path, tmp_path: Path
) -> None:
    none = open_page(fake.url)
    none.page.set_input_files("#file", clip)
    none.toast("follows no objects through videos")
    driver = open_page(film.url, expect_errors=True)
    (tmp_path / "text.mp4").write_text("no video")
    driver.page.set_input_files("#file", tmp_path / "text.mp4")
    driver.toast("no video that can be read")
    # One frame that does not decode: those before are kept, those behind can be reached.
    video = write_video(tmp_path / "broken.mp4", numbered(8), codec="mjpeg")
    content = bytearray(video.read_bytes())
    starts = [i for i in range(len(content)) if content[i : i + 3] == b"\xff\xd8\xff"]
    content[starts[4] : starts[5] - 1] = bytes(starts[5] - 1 - starts[4])
    video.write_bytes(content)
    driver.open_video(video)
    driver.page.mouse.click(*driver.place(20, 20, (64, 48)))
    driver.still()
    track(driver)
    driver.toast("Frame 4")
    assert driver.page.inner_text("#video-status") == "Masks on 4 of 8 frames."
    driver.page.keyboard.press(".")
    wait_for(lambda: driver.frame() == 4)
    driver.page.keyboard.press(".")
    wait_for(lambda: driver.frame() == 5)
    track(driver)
    assert driver.page.inner_text("#video-status") == "Masks on 7 of 8 frames."
    # The server has dropped it: what was found is still to be had.
    for session in list(film.app.state.videos._open):
        film.app.state.videos._end(session)
    driver.page.mouse.click(*driver.place(40, 40, (64, 48)))
    driver.toast("No video has this id")
    document = json.loads(driver.download("#export-youtube-vis").read_text())
    assert sum(one is not None for one in document["annotations"][0]["segmentations"]) == 7


@pytest.mark.long
def test_axe_finds_no_fault_with_a_video(driver: PageDriver, axe: str) -> None:
    click(driver, 200, 200)
    track(driver)
    assert faults(driver.page, axe) == []


def test_a_model_with_weights(
    open_page: Callable[..., PageDriver], sam2_model: Path, tmp_path: Path
) -> None:
    predictor = Predictor.load(sam2_model)
    engines = VideoEngines.load(sam2_model, encoder=predictor.encoder)
    video = VideoPredictor(engines, add_all_frames_to_correct_as_cond=True)
    frames = moving_picture(6, (96, 160))
    path = write_video(tmp_path / "clip.mp4", frames)
    with live(create_app(predictor, Settings(readers=1), sam2_model, video)) as url:
        driver = open_page(url)
        driver.open_video(path)
        driver.page.mouse.click(*driver.place(110, 20, (160, 96)))
        driver.still()
        track(driver)
        document = json.loads(driver.download("#export-youtube-vis").read_text())
    with VideoPredictor.load(sam2_model) as local, open_frames(path) as read:
        state = local.init_state(read)
        local.add_new_points_or_box(state, 0, 1, [[110, 20]], [1])
        expected = [logits[0, 0] > 0 for _, _, logits in local.propagate_in_video(state)]
    (one,) = document["annotations"]
    for rle, mask in zip(one["segmentations"], expected, strict=True):
        got = np.zeros_like(mask) if rle is None else coco.decode(rle).astype(bool)
        # The pointer is on the screen's pixels.
        assert mask_iou(got, mask) > 0.95
