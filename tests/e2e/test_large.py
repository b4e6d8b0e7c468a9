"""Large pictures: shown at once, encoded meanwhile, exported in all their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samtrt.masks.logits import mask_iou
from support.e2e_cases import PageDriver
from support.server_cases import Served, make_picture, wait_for

pytestmark = pytest.mark.long  # the page, in a browser, for most of a minute or more

LARGE = (3000, 2000)


def test_masks_come_as_shown_and_leave_in_full(
    open_page: Callable[..., PageDriver], fake: Served, tmp_path: Path
) -> None:
    photo = tmp_path / "large.jpg"
    Image.fromarray(make_picture(LARGE[1], LARGE[0])).save(photo)
    driver = open_page(fake.url)
    driver.upload(photo)
    driver.page.uncheck("#hover")
    driver.page.mouse.click(*driver.place(1500, 1000, LARGE))
    driver.settle()
    assert [asked["longest_side"] for asked in driver.prompts] == [1280]
    (mask,) = driver.masks(tmp_path).values()
    assert [asked["longest_side"] for asked in driver.prompts] == [1280, None]
    ((x, y),) = driver.clicks[0]["points"]
    local = fake.predictor.bind(fake.predictor.encode(np.asarray(Image.open(photo))))
    np.testing.assert_array_equal(mask, local.predict([[x, y]], [1]).masks[0])

    # A stroke is put into all pixels, too.
    driver.press("p")
    driver.page.mouse.click(*driver.place(300, 300, LARGE))
    driver.page.mouse.click(*driver.place(2700, 300, LARGE))  # before the first is done
    driver.painted()
    wait_for(lambda: bool(driver.masks(tmp_path)["Object 1"][300, 2700]))
    painted = driver.masks(tmp_path)["Object 1"]
    assert painted[300, 300]
    assert mask_iou(painted & mask, mask) == 1


def test_the_picture_is_there_before_the_model(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path
) -> None:
    driver = open_page(fake.url)
    fake.encoder.open.clear()
    driver.upload(photo)
    driver.page.wait_for_selector("body[data-state=open]")
    assert "Encoding" in driver.page.inner_text("#progress")
    driver.page.click("#cancel")
    driver.page.wait_for_selector("#not-encoded", state="visible")
    fake.encoder.open.set()
    # A click is kept, and has the image encoded after all.
    driver.page.mouse.click(*driver.place(320, 200))
    wait_for(lambda: len(driver.candidates()) == 3)
    assert not driver.page.locator("#not-encoded").is_visible()


def test_formats_that_the_browser_or_the_server_cannot_read(
    open_page: Callable[..., PageDriver], fake: Served, tmp_path: Path
) -> None:
    driver = open_page(fake.url)
    uploads: list[str] = []
    driver.page.on(
        "request",
        lambda one: uploads.append(one.headers["content-type"]) if one.method == "POST" else None,
    )
    picture = Image.fromarray(make_picture())
    picture.save(tmp_path / "scan.tif")
    driver.page.set_input_files("#file", tmp_path / "scan.tif")
    driver.toast("Browsers cannot show TIFF")
    assert uploads == []
    picture.save(tmp_path / "photo.avif")
    driver.upload(tmp_path / "photo.avif")
    driver.page.wait_for_selector("#progress", state="hidden")
    assert uploads == ["image/png"]
