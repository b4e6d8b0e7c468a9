"""The page in a real headless Chromium, against a server over real sockets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.e2e_cases import PageDriver
from support.moving_objects import video_manifest
from support.server_cases import Served, live, make_picture
from support.videos import numbered, write_video

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in CHROMIUM")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe() -> str:
    pytest.importorskip("axe_playwright_python", reason="axe-core comes with this package")
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., PageDriver]]:
    """Open the page of a server; afterwards, fail on whatever went wrong unseen."""
    with ExitStack() as stack:

        def start(
            url: str, expect_errors: bool = False, wait: bool = True, **options: Any
        ) -> PageDriver:
            context = browser.new_context(
                **{"viewport": {"width": 1280, "height": 800}, "accept_downloads": True, **options}
            )
            stack.callback(context.close)
            driver = PageDriver(context.new_page(), url)
            if not expect_errors:
                stack.callback(driver.check_console)
            driver.page.goto(url)
            if wait:
                driver.until("document.querySelector('#decoder').textContent")
            return driver

        yield start


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 640 x 400 with something to see in it."""
    y, x = np.mgrid[:400, :640]
    pixels = np.stack([x * 255 // 640, y * 255 // 400, (x + y) % 256], axis=-1).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def picture() -> np.ndarray:
    """A non-square picture."""
    return make_picture()


@pytest.fixture
def fake(manifest: Manifest) -> Iterator[Served]:
    """A server whose masks can be predicted: discs around points, boxes as drawn."""
    served = Served(manifest, Settings())
    served.decoder.steepness = 4  # so that automatic masks count as stable
    yield from _running(served)


@pytest.fixture
def small_cache(manifest: Manifest) -> Iterator[Served]:
    """A server that forgets an image as soon as another comes."""
    yield from _running(Served(manifest, Settings(cache_bytes=1)))


@pytest.fixture
def film(tmp_path: Path) -> Iterator[Served]:
    """A server that follows objects: what is pointed at moves to the right."""
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "street.mp4", numbered(6))
    settings = Settings(readers=1, videos_dir=folder, heartbeat_seconds=0.2)
    served = Served(video_manifest(), settings)
    for _ in _running(served):
        yield served
        served.video.open.set()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of 24 frames of 640 x 400."""
    y, x = np.mgrid[:400, :640]
    still = np.stack([x * 255 // 640, y * 255 // 400, (x + y) % 256], axis=-1).astype(np.uint8)
    return write_video(tmp_path / "clip.mp4", [np.roll(still, 8 * i, axis=1) for i in range(24)])


def _running(served: Served) -> Iterator[Served]:
    with live(served.app) as url:
        served.url = url
        yield served
        served.encoder.open.set()
        served.decoder.open.set()


@pytest.fixture
def driver(open_page: Callable[..., PageDriver], fake: Served, photo: Path) -> PageDriver:
    """The page with the photo open."""
    driver = open_page(fake.url)
    driver.upload(photo)
    return driver
