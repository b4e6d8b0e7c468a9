"""Take the pictures of the page that docs/server.md shows, from a running server.

    samtrt serve demo-out/model &
    python bench/screenshots.py http://127.0.0.1:8000

Opens the page's sample in headless Chromium, draws a box around the spoon, clicks on the
coffee, and writes docs/images/server-{light,dark,phone}.png.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SAMPLE = (600, 400)  # width and height of the sample
BOXES = {"Spoon": (324, 66, 426, 328)}
COFFEE = (290, 150)


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where on the screen a pixel of the fitted sample is."""
    box = page.locator("#canvas").bounding_box()
    scale = min((box["width"] - 48) / SAMPLE[0], (box["height"] - 48) / SAMPLE[1])
    return (
        box["x"] + (box["width"] - SAMPLE[0] * scale) / 2 + x * scale,
        box["y"] + (box["height"] - SAMPLE[1] * scale) / 2 + y * scale,
    )


def settle(page: Any) -> None:
    # On a phone they may lie below the fold. Encoding may take a minute on a busy machine.
    page.wait_for_selector(
        "#candidates[aria-busy=false] .candidate", state="attached", timeout=180_000
    )
    page.wait_for_timeout(300)


def name_last(page: Any, name: str) -> None:
    field = page.locator(".object input").last
    field.fill(name)
    field.press("Enter")


def open_sample(page: Any, url: str) -> None:
    page.goto(url)
    page.click("#sample")
    page.wait_for_selector("body[data-state=open]", timeout=180_000)


def desktop(page: Any, url: str, path: Path) -> None:
    open_sample(page, url)
    for name, (x1, y1, x2, y2) in BOXES.items():
        page.mouse.move(*place(page, x1, y1))
        page.mouse.down()
        page.mouse.move(*place(page, x2, y2), steps=4)
        page.mouse.up()
        settle(page)
        name_last(page, name)
        page.click("#add")
    page.mouse.click(*place(page, *COFFEE))
    settle(page)
    name_last(page, "Coffee")
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    page.screenshot(path=path)


def phone(page: Any, url: str, path: Path) -> None:
    open_sample(page, url)
    page.touchscreen.tap(*place(page, *COFFEE))
    settle(page)
    page.screenshot(path=path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("url")
    parser.add_argument("--out", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
            desktop(page, arguments.url, arguments.out / f"server-{scheme}.png")
            page.close()
        page = browser.new_page(
            viewport={"width": 390, "height": 844},
            device_scale_factor=1.5,
            is_mobile=True,
            has_touch=True,
        )
        phone(page, arguments.url, arguments.out / "server-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
