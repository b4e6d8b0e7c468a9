"""What a user does with the page. The fake backend answers points with discs, boxes as drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.masks.logits import mask_iou
from support.e2e_cases import PageDriver
from support.server_cases import Served, wait_for


def test_opening_an_image(open_page: Callable[..., PageDriver], fake: Served, photo: Path) -> None:
    driver = open_page(fake.url)
    assert driver.page.locator("#empty").is_visible()
    assert driver.page.locator("#auto").is_disabled()
    with driver.page.expect_file_chooser() as chooser:
        driver.page.click("#pick")
    chooser.value.set_files(photo)
    driver.page.wait_for_selector("body[data-state=open]")
    assert driver.page.inner_text("#title") == "photo.png · 640 × 400"
    driver.until("document.querySelector('#encode-ms').textContent.endsWith(' ms')")
    assert not driver.page.locator("#empty").is_visible()


def test_dropping_an_image(open_page: Callable[..., PageDriver], fake: Served) -> None:
    driver = open_page(fake.url)
    driver.page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(90, 50);
            canvas.getContext("2d").fillRect(0, 0, 9, 9);
            const data = new DataTransfer();
            const blob = await canvas.convertToBlob();
            data.items.add(new File([blob], "drop.png", {type: "image/png"}));
            window.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
        }"""
    )
    driver.page.wait_for_selector("body[data-state=open]")
    assert driver.page.inner_text("#title") == "drop.png · 90 × 50"


def test_clicking(driver: PageDriver, fake: Served, tmp_path: Path, photo: Path) -> None:
    driver.click(320, 200)
    assert driver.candidates() == ["*0.95", "0.85", "0.80"]
    assert driver.page.inner_text("#prompt-ms").endswith(" ms")
    ((x, y),) = driver.clicks[-1]["points"]
    assert (x, y) == (pytest.approx(320, abs=1), pytest.approx(200, abs=1))
    local = fake.predictor.bind(fake.predictor.encode(np.asarray(Image.open(photo))))
    expected = local.predict([[x, y]], [1]).masks[0]
    np.testing.assert_array_equal(driver.masks(tmp_path)["Object 1"], expected)


def test_choosing_a_candidate_and_going_back(driver: PageDriver, tmp_path: Path) -> None:
    driver.click(320, 200)
    small = driver.masks(tmp_path)["Object 1"].sum()
    driver.page.click("#candidate-2")
    assert driver.candidates() == ["0.95", "0.85", "*0.80"]
    assert driver.masks(tmp_path)["Object 1"].sum() > 10 * small
    driver.press("2")
    assert driver.candidates() == ["0.95", "*0.85", "0.80"]
    driver.press("Control+z", "Control+z")
    assert driver.candidates() == ["*0.95", "0.85", "0.80"]
    driver.press("Control+z")
    assert driver.candidates() == []
    driver.press("Control+Shift+z", "Control+y")
    assert driver.candidates() == ["0.95", "0.85", "*0.80"]
    driver.page.click("#redo")
    assert driver.candidates() == ["0.95", "*0.85", "0.80"]
    assert driver.page.locator("#redo").is_disabled()


def test_taking_away(driver: PageDriver, tmp_path: Path) -> None:
    driver.click(320, 200)
    driver.page.click("#candidate-2")
    driver.click(350, 200, button="right")
    assert driver.clicks[-1]["labels"] == [1, 0]
    assert len(driver.candidates()) == 4
    mask = driver.masks(tmp_path)["Object 1"]
    assert mask[200, 280]
    assert not mask[200, 350]
    driver.page.keyboard.down("Alt")
    driver.click(300, 200)
    driver.page.keyboard.up("Alt")
    assert driver.clicks[-1]["labels"] == [1, 0, 0]
    driver.press("r")
    driver.click(310, 200)
    assert driver.clicks[-1]["labels"] == [1, 0, 0, 0]


def test_drawing_a_box(driver: PageDriver, tmp_path: Path) -> None:
    driver.drag(400, 300, 100, 80)  # from any corner
    (prompt,) = driver.clicks
    assert prompt["box"] == pytest.approx([100, 80, 400, 300], abs=1)
    mask = driver.masks(tmp_path)["Object 1"]
    expected = np.zeros((400, 640), dtype=bool)
    expected[80:300, 100:400] = True
    assert mask_iou(mask, expected) > 0.97


def test_previewing(driver: PageDriver) -> None:
    before = driver.page.locator("#canvas").screenshot()
    driver.page.mouse.move(*driver.place(200, 100))
    driver.page.mouse.move(*driver.place(205, 100))
    wait_for(lambda: len(driver.prompts) > 0)
    assert all(asked["best_only"] for asked in driver.prompts)
    driver.page.wait_for_timeout(300)
    assert driver.page.locator("#canvas").screenshot() != before
    assert driver.page.inner_text("#count") == "0"
    assert driver.page.locator("#undo").is_disabled()
    driver.page.uncheck("#hover")
    asked = len(driver.prompts)
    driver.page.mouse.move(*driver.place(300, 200))
    driver.page.wait_for_timeout(300)
    assert len(driver.prompts) == asked


def test_several_objects(driver: PageDriver, tmp_path: Path) -> None:
    driver.click(100, 100)
    driver.press("n")
    driver.drag(300, 200, 500, 350)
    driver.page.fill("#name-1", "cup")
    driver.page.fill("#name-2", "table")
    driver.page.keyboard.press("Enter")
    assert driver.objects() == ["cup", "table"]
    masks = driver.masks(tmp_path)
    assert set(masks) == {"cup", "table"}
    assert masks["cup"][100, 100]
    assert masks["table"][300, 400]
    driver.page.click("#eye-1")
    assert "off" in driver.page.locator(".object").first.get_attribute("class")
    driver.page.click("#select-1")
    assert driver.candidates()[0] == "*0.95"
    driver.page.click("#bin-1")
    assert driver.objects() == ["table"]
    driver.press("Control+z")
    assert driver.objects() == ["cup", "table"]
    driver.page.click("#clear")
    assert driver.page.inner_text("#count") == "0"
    driver.press("Control+z")
    assert driver.page.inner_text("#count") == "2"


def test_everything_at_once(driver: PageDriver, tmp_path: Path) -> None:
    driver.page.select_option("#grid", "8")
    driver.page.click("#auto")
    driver.toast("Found")
    count = int(driver.page.inner_text("#count"))
    assert count > 5
    coco = driver.coco(tmp_path)
    assert len(coco.getAnnIds()) == count
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation)
        assert mask.shape == (400, 640)
        assert mask.sum() == annotation["area"] > 0
        x, y, width, height = annotation["bbox"]
        assert mask[y : y + height, x : x + width].sum() == annotation["area"]
    driver.press("Control+z")
    assert driver.page.inner_text("#count") == "0"


def test_cancelling_everything_at_once(driver: PageDriver, fake: Served) -> None:
    fake.decoder.open.clear()
    driver.page.click("#auto")
    driver.page.click("#cancel")
    driver.page.wait_for_selector("#progress", state="hidden")
    fake.decoder.open.set()
    driver.click(320, 200)
    assert len(driver.candidates()) == 3


def test_taking_pictures_away(driver: PageDriver, photo: Path, tmp_path: Path) -> None:
    driver.drag(100, 80, 400, 300)
    mask = driver.masks(tmp_path)["Object 1"]
    png = Image.open(driver.download("#export-mask"))
    assert png.size == (640, 400)
    np.testing.assert_array_equal(np.asarray(png.convert("L")) == 255, mask)
    assert set(np.unique(np.asarray(png.convert("L")))) == {0, 255}
    cutout = np.asarray(Image.open(driver.download("#export-cutout")))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    np.testing.assert_array_equal(cutout[..., 3] == 255, mask[inside])
    original = np.asarray(Image.open(photo))[inside]
    np.testing.assert_array_equal(cutout[..., :3][mask[inside]], original[mask[inside]])


def test_zooming_and_moving_keep_the_aim(driver: PageDriver) -> None:
    x, y = driver.place(500, 120)
    driver.page.mouse.move(x, y)
    driver.page.mouse.wheel(0, -600)  # zooms on what is under the pointer
    driver.until("parseInt(document.querySelector('#zoom-level').textContent)>150")
    driver.page.keyboard.press("v")
    driver.page.mouse.down()
    driver.page.mouse.move(x - 60, y + 40, steps=4)
    driver.page.mouse.up()
    driver.page.keyboard.press("a")
    driver.page.mouse.click(x - 60, y + 40)
    driver.settle()
    assert driver.clicks[-1]["points"][0] == pytest.approx([500, 120], abs=1)
    driver.press("0")
    driver.page.mouse.click(*driver.place(300, 300))
    driver.settle()
    assert driver.clicks[-1]["points"][1] == pytest.approx([300, 300], abs=1)


def test_by_keyboard_alone(driver: PageDriver) -> None:
    driver.page.focus("#canvas")
    driver.press("ArrowRight", "Shift+ArrowDown", "Enter")
    assert driver.clicks[-1]["points"][0] == pytest.approx([326.4, 232], abs=0.1)
    driver.press("ArrowLeft", "Alt+Enter")
    assert driver.clicks[-1]["labels"] == [1, 0]
    driver.press("Escape")  # lets go of the object
    assert driver.candidates() == []
    driver.press("b", "Shift+ArrowRight", "Shift+ArrowDown", "b")
    x, y = 320, 232
    assert driver.clicks[-1]["box"] == pytest.approx([x, y, x + 32, y + 32], abs=0.1)
    driver.press("n", "?")
    assert driver.page.locator("#shortcuts").is_visible()
    driver.press("Escape")
    assert not driver.page.locator("#shortcuts").is_visible()
    assert driver.objects() == ["Object 1", "Object 2"]
    driver.page.click("#select-2")
    driver.press("Delete")
    assert driver.objects() == ["Object 1"]


@pytest.mark.parametrize("width", [360, 1280])
def test_everything_has_a_name_and_fits(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path, width: int
) -> None:
    driver = open_page(fake.url, viewport={"width": width, "height": 740})
    driver.upload(photo)
    unnamed = driver.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas[tabindex]")]
            .filter(e => !(e.ariaLabel || e.textContent.trim() || e.title || e.labels?.length))
            .map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert driver.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = driver.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select")]
            .map(e => [e.id, e.getBoundingClientRect()])
            .filter(([, r]) => r.width > 1 && (r.right > innerWidth + 1 || r.left < -1))
            .map(([id]) => id)"""
    )
    assert outside == []


def test_on_a_phone(open_page: Callable[..., PageDriver], fake: Served, photo: Path) -> None:
    driver = open_page(
        fake.url,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
    )
    driver.upload(photo)
    driver.page.touchscreen.tap(*driver.place(320, 200))
    driver.settle()
    assert driver.clicks[-1]["points"][0] == pytest.approx([320, 200], abs=2)
    driver.page.tap("[data-tool=remove]")
    driver.page.touchscreen.tap(*driver.place(380, 200))
    driver.settle()
    assert driver.clicks[-1]["labels"] == [1, 0]
    driver.page.tap("#undo")
    driver.settle()
    assert len(driver.candidates()) == 3


def test_light_and_dark(open_page: Callable[..., PageDriver], fake: Served) -> None:
    def ground(page: Any) -> str:
        return str(page.evaluate("getComputedStyle(document.querySelector('header')).background"))

    light, dark = (open_page(fake.url, color_scheme=scheme) for scheme in ("light", "dark"))
    assert ground(light.page) != ground(dark.page)
    light.page.click("#theme")
    assert ground(light.page) == ground(dark.page)
    light.page.wait_for_load_state("networkidle")  # what is cut off is an error in the console
    light.page.reload()
    assert ground(light.page) == ground(dark.page)
