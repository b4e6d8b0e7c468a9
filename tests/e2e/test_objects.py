"""Several objects on one image: selecting, points that move, the brush, classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.e2e_cases import PageDriver
from support.server_cases import wait_for

pytestmark = pytest.mark.long  # the page, in a browser, for most of a minute or more


def two_objects(driver: PageDriver) -> None:
    driver.drag(60, 60, 200, 200)
    driver.press("n")
    driver.drag(300, 200, 500, 350)


def test_a_click_on_another_mask_selects_it(driver: PageDriver) -> None:
    two_objects(driver)
    asked = len(driver.clicks)
    driver.click(100, 100)
    assert len(driver.clicks) == asked
    assert driver.page.locator(".object.active input").input_value() == "Object 1"
    driver.insist(*driver.place(400, 300))
    driver.settle()
    assert driver.clicks[-1]["points"][0] == pytest.approx([400, 300], abs=1)
    assert driver.clicks[-1]["box"] == pytest.approx([60, 60, 200, 200], abs=1)

    # Rows and masks highlight each other.
    driver.page.mouse.move(*driver.place(480, 340))
    driver.until("document.querySelector('.object.hot')")
    assert driver.highlighted() == ["Object 2"]
    plain = driver.page.locator("#canvas").screenshot()
    driver.page.hover("#bin-1")
    assert driver.highlighted() == ["Object 1"]
    driver.page.wait_for_timeout(100)
    assert driver.page.locator("#canvas").screenshot() != plain

    # What has neither prompt nor mask is no object, and none is written.
    driver.page.keyboard.press("n")
    assert driver.objects() == ["Object 1", "Object 2"]
    assert driver.page.inner_text("#count") == "2"


def test_points_are_dragged_and_deleted(driver: PageDriver) -> None:
    driver.page.uncheck("#hover")
    driver.click(320, 200)
    driver.click(420, 200)
    driver.drag(420, 200, 380, 260)
    assert driver.clicks[-1]["points"] == [
        pytest.approx([320, 200], abs=1),
        pytest.approx([380, 260], abs=1),
    ]
    driver.press("Control+z")
    driver.click(320, 200)  # picks the point
    assert "point" in driver.page.inner_text("#tip").lower()
    driver.press("Delete")
    assert driver.clicks[-1]["points"] == [pytest.approx([420, 200], abs=1)]
    driver.click(420, 200, button="right")
    assert driver.objects() == []
    driver.press("Control+z", "Control+z")
    assert driver.objects() == ["Object 1"]


def test_brush_and_eraser(driver: PageDriver, tmp_path: Path) -> None:
    driver.page.keyboard.press("p")
    driver.drag(100, 100, 200, 100)
    driver.painted()
    painted = driver.masks(tmp_path)["Object 1"]
    assert painted[100, 100:200].all()
    assert not painted[130].any()
    # The model is asked what it makes of it; the painted mask stays until another is chosen.
    assert set(driver.clicks[-1]) == {"mask"}
    assert driver.candidates()[0] == "*yours"
    assert len(driver.candidates()) == 5
    driver.page.keyboard.press("e")
    driver.drag(150, 60, 150, 140)
    erased = driver.masks(tmp_path)["Object 1"]
    assert not erased[100, 150]
    assert erased[100, 105]
    assert erased.sum() < painted.sum()
    driver.press("2")
    assert driver.candidates()[1].startswith("*0.")
    driver.press("Control+z", "Control+z")
    assert (driver.masks(tmp_path)["Object 1"] == painted).all()
    driver.press("a")
    driver.click(300, 200)
    assert set(driver.clicks[-1]) == {"points", "labels", "mask"}
    # Nothing is left of an object that is erased.
    driver.press("e")
    driver.slide("#brush-size", 120)
    for y in (60, 200, 340):
        driver.drag(10, y, 630, y)
    driver.drag(10, 395, 630, 395)
    assert driver.objects() == []


def test_classes_have_numbers(driver: PageDriver, tmp_path: Path) -> None:
    two_objects(driver)
    driver.page.click("#classes-title")
    for name in ("dog", "cat"):
        driver.page.fill("#class-name", name)
        driver.page.keyboard.press("Enter")
    driver.page.click("#select-1")
    driver.press("Shift+Digit2")
    driver.page.click("#select-2")
    driver.press("Shift+Digit2")
    assert driver.page.locator(".object .label").all_inner_texts() == ["cat", "cat"]
    coco = driver.coco(tmp_path)
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["cat"]
    driver.press("Shift+Digit2")
    assert driver.page.locator(".object .label").all_inner_texts() == ["cat", ""]
    driver.page.reload()
    driver.until("document.querySelectorAll('#classes li').length === 2")


def test_sliders_filter_without_asking_again(driver: PageDriver) -> None:
    searches: list[str] = []
    driver.page.on(
        "request", lambda one: searches.append(one.url) if one.url.endswith("/auto") else None
    )
    driver.page.select_option("#grid", "8")
    driver.page.click("#auto")
    driver.toast("Found")
    count = int(driver.page.inner_text("#count"))
    driver.page.fill(".object:first-child input", "mine")
    driver.page.keyboard.press("Enter")
    driver.slide("#least-iou", 1)
    driver.until("document.querySelector('#count').textContent === '1'")
    assert driver.objects() == ["mine"]  # what the user changed is no longer the search's
    assert "best predicted IoU is 0.95" in driver.page.inner_text("#found")
    driver.slide("#least-iou", 0)
    wait_for(lambda: int(driver.page.inner_text("#count")) >= count)
    driver.press("Control+z", "Control+z")
    assert int(driver.page.inner_text("#count")) == count
    assert len(searches) == 1
