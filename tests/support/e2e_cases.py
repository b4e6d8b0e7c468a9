"""Driving the page as a user does, and reading what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from samtrt.types import BoolArray
from support.server_cases import wait_for


def faults(page: Any, axe: str) -> list[str]:
    """Return what axe finds fault with."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]


class PageDriver:
    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.trouble: list[str] = []
        self.prompts: list[dict[str, Any]] = []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("console", self._console)
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.trouble.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.trouble.append(f"asked another host: {request.url}")
        if request.url.endswith("/masks"):
            self.prompts.append(request.post_data_json)

    def check_console(self) -> None:
        assert self.trouble == [], self.trouble

    @property
    def clicks(self) -> list[dict[str, Any]]:
        """The prompts that were asked for, previews left out."""
        return [asked["prompts"][0] for asked in self.prompts if not asked["best_only"]]

    def until(self, expression: str) -> None:
        """Wait until JavaScript is true. Polls from here: the page's policy forbids eval."""
        wait_for(lambda: bool(self.page.evaluate(f"Boolean({expression})")))

    def upload(self, path: Path) -> None:
        self.page.set_input_files("#file", path)
        self.until(f"document.querySelector('#title').textContent.startsWith('{path.name}')")

    def place(self, x: float, y: float, size: tuple[int, int] = (640, 400)) -> tuple[float, float]:
        """Where on the screen a pixel of the image is, while the image is fitted."""
        box = self.page.locator("#canvas").bounding_box()
        scale = min((box["width"] - 48) / size[0], (box["height"] - 48) / size[1])
        return (
            box["x"] + (box["width"] - size[0] * scale) / 2 + x * scale,
            box["y"] + (box["height"] - size[1] * scale) / 2 + y * scale,
        )

    def click(self, x: float, y: float, **options: Any) -> None:
        self.page.mouse.click(*self.place(x, y), **options)
        self.settle()

    def insist(self, x: float, y: float) -> None:
        """Click to add a point whatever lies there: on an object's mask, a click selects it."""
        self.page.keyboard.down("Shift")
        self.page.mouse.click(x, y)
        self.page.keyboard.up("Shift")

    def painted(self) -> None:
        """Wait until the stroke is in the active object's mask, and the model has been asked."""
        self.until("document.querySelector('.candidate')?.textContent.includes('yours')")
        self.settle()

    def drag(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.page.mouse.move(*self.place(x1, y1))
        self.page.mouse.down()
        self.page.mouse.move(*self.place((x1 + x2) / 2, (y1 + y2) / 2), steps=3)
        self.page.mouse.move(*self.place(x2, y2), steps=3)
        self.page.mouse.up()
        self.settle()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def kept(self) -> None:
        """Wait until the browser has kept all work."""
        self.page.wait_for_selector("body[data-kept=true]")

    def slide(self, slider: str, value: float) -> None:
        """Move a slider as a drag does."""
        self.page.locator(slider).evaluate(
            """(slider, value) => {
                slider.value = value;
                slider.dispatchEvent(new Event("input"));
                slider.dispatchEvent(new Event("change"));
            }""",
            value,
        )

    def open_video(self, path: Path) -> None:
        self.page.set_input_files("#file", path)
        self.page.wait_for_selector("body[data-mode=video]")
        self.still()

    def still(self) -> None:
        """Wait until the video is neither tracked nor asked about."""
        self.page.wait_for_selector("body[data-video=idle]")

    def frame(self) -> int:
        """The number of the frame on show, from 0."""
        return int(self.page.input_value("#frame"))

    def areas(self) -> dict[str, str]:
        """What the list says of each object's mask on the frame on show."""
        rows = self.page.locator(".object").all()
        return {
            row.locator("input").input_value(): row.locator(".area").inner_text() for row in rows
        }

    def settle(self) -> None:
        """Wait until the active object has the masks of its prompt."""
        self.page.wait_for_selector("#candidates[aria-busy=false]", state="attached")

    def candidates(self) -> list[str]:
        """The scores on show; the chosen one has a star."""
        return [
            ("*" if item.get_attribute("aria-checked") == "true" else "")
            + item.locator("span").inner_text().split()[-1]
            for item in self.page.locator(".candidate").all()
        ]

    def highlighted(self) -> list[str]:
        """Names of the objects whose rows stand out."""
        return [one.input_value() for one in self.page.locator(".object.hot input").all()]

    def objects(self) -> list[str]:
        return [item.input_value() for item in self.page.locator(".object input").all()]

    def toast(self, words: str) -> Any:
        found = self.page.locator(".toast", has_text=words)
        found.wait_for()
        return found

    def download(self, button: str) -> Path:
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path())

    def coco(self, tmp_path: Path) -> COCO:
        """Export as a user does, and load the file as one's training script does."""
        path = tmp_path / "coco.json"
        path.write_bytes(self.download("#export-coco").read_bytes())
        assert json.loads(path.read_text())["images"][0]["file_name"]
        return COCO(str(path))

    def masks(self, tmp_path: Path) -> dict[str, BoolArray]:
        """Every object's mask by its name."""
        coco = self.coco(tmp_path)
        names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
        return {
            names[annotation["category_id"]]: np.asarray(coco.annToMask(annotation), dtype=bool)
            for annotation in coco.loadAnns(coco.getAnnIds())
        }
