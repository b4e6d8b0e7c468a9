"""No work is lost: not by a reload, by another image, or on its way through a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from support.e2e_cases import PageDriver
from support.server_cases import make_picture


def test_a_reload_and_another_image_lose_nothing(
    driver: PageDriver, tmp_path: Path, photo: Path
) -> None:
    driver.click(100, 100)
    driver.press("n")
    driver.drag(300, 200, 500, 350)
    driver.page.fill("#name-2", "table")
    driver.page.keyboard.press("Enter")
    masks = driver.masks(tmp_path)
    driver.kept()
    driver.page.reload()
    driver.until("document.querySelector('#title').textContent.startsWith('photo.png')")
    driver.until("document.querySelector('#count').textContent === '2'")
    assert driver.objects() == ["Object 1", "table"]
    for name, mask in driver.masks(tmp_path).items():
        np.testing.assert_array_equal(mask, masks[name])

    other = tmp_path / "other.png"
    Image.fromarray(make_picture()).save(other)
    driver.upload(other)
    assert driver.objects() == []
    assert driver.page.inner_text("#place") == "2 / 2"
    driver.page.keyboard.press("PageUp")
    driver.until("document.querySelector('#title').textContent.startsWith('photo.png')")
    assert driver.objects() == ["Object 1", "table"]
    # Undo goes back over all of that.
    driver.press("Control+z")
    assert driver.objects() == ["Object 1", "Object 2"]
    driver.press("Control+z", "Control+z")
    assert driver.objects() == []
    driver.press("Control+y", "Control+y", "Control+y")
    assert driver.objects() == ["Object 1", "table"]
    # The same bytes under another name are the same image.
    again = tmp_path / "again.png"
    again.write_bytes(photo.read_bytes())
    driver.upload(again)
    assert driver.objects() == ["Object 1", "table"]
    driver.page.click("#gallery")
    assert [row.inner_text().split() for row in driver.page.locator(".images li").all()] == [
        ["other.png"],
        ["again.png", "2", "objects"],
    ]


def test_coco_comes_in_again(driver: PageDriver, tmp_path: Path) -> None:
    driver.click(100, 100)
    driver.press("n")
    driver.drag(300, 200, 500, 350)
    masks = driver.masks(tmp_path)
    driver.page.click("#clear")
    driver.page.set_input_files("#coco-file", tmp_path / "coco.json")
    driver.toast("2 objects came in")
    assert driver.objects() == ["Object 1", "Object 2"]
    for name, mask in driver.masks(tmp_path).items():
        np.testing.assert_array_equal(mask, masks[name])
    # A click refines what came in: its mask goes along.
    driver.page.locator(".object .swatch").last.click()
    driver.click(320, 220)
    assert set(driver.clicks[-1]) == {"points", "labels", "mask"}

    content = json.loads((tmp_path / "coco.json").read_text())
    content["annotations"] = [
        {"image_id": 1, "category_id": 1, "segmentation": [[10, 20, 110, 20, 110, 70, 10, 70]]}
    ]
    content["categories"] = [{"id": 1, "name": "dog"}]
    polygons = tmp_path / "polygons.json"
    polygons.write_text(json.dumps(content))
    driver.page.set_input_files("#file", polygons)
    driver.toast("1 object came in")
    dog = driver.masks(tmp_path)["dog"]
    assert dog[20:70, 10:110].all()
    assert dog.sum() == 100 * 50
    content["images"][0]["width"] = 641
    polygons.write_text(json.dumps(content))
    driver.page.set_input_files("#coco-file", polygons)
    driver.toast("of an image of 641 × 400, and photo.png has 640 × 400")
    polygons.write_text("{}")
    driver.page.set_input_files("#coco-file", polygons)
    driver.toast("This is not a COCO file")
