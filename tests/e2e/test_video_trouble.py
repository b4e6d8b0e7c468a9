"""Videos on the page where something fails, ends early, or is gone: nothing is lost."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samtrt.server.settings import Settings
from support.e2e_cases import PageDriver
from support.moving_objects import video_manifest
from support.server_cases import Served, live, wait_for
from support.videos import numbered, write_video

pytestmark = pytest.mark.long  # the page, in a browser, for most of a minute

COUNT = 24
GONE = "cannot be reached"

OVERLAPS = """() => {
    const boxes = [...document.querySelectorAll("header button")]
        .filter((one) => one.checkVisibility({visibilityProperty: true}))
        .map((one) => [one.id, one.getBoundingClientRect()]);
    return boxes.flatMap(([a, x]) => boxes
        .filter(([b, y]) => a < b && x.left < y.right - 1 && y.left < x.right - 1
            && x.top < y.bottom - 1 && y.top < x.bottom - 1)
        .map(([b]) => `${a} and ${b}`));
}"""


@pytest.fixture
def driver(open_page: Callable[..., PageDriver], film: Served, clip: Path) -> PageDriver:
    """The page with the video open."""
    driver = open_page(film.url, expect_errors=True)
    driver.open_video(clip)
    return driver


def click(driver: PageDriver, x: float, y: float, **options: Any) -> None:
    driver.page.mouse.click(*driver.place(x, y), **options)
    driver.still()


def track(driver: PageDriver) -> None:
    driver.page.keyboard.press("t")
    driver.page.wait_for_selector("body[data-video=tracking]")
    driver.still()


def status(driver: PageDriver) -> str:
    return str(driver.page.inner_text("#video-status"))


def test_names_stay_over_one_reload_after_another(driver: PageDriver) -> None:
    click(driver, 200, 200)
    driver.page.fill("#name-1", "cart")
    driver.page.keyboard.press("Enter")
    for _ in range(2):
        driver.page.reload()
        driver.page.wait_for_selector("body[data-mode=video]")
        wait_for(lambda: status(driver) == f"Masks on 1 of {COUNT} frames.")
        assert driver.objects() == ["cart"]


def test_a_video_that_is_closed_while_it_is_tracked(driver: PageDriver, film: Served) -> None:
    click(driver, 200, 200)
    (session,) = film.app.state.videos._open.values()
    closed = threading.Event()
    pictures: list[Any] = []

    def picture(route: Any) -> None:
        if closed.is_set():
            route.continue_()
        else:
            pictures.append(route)

    driver.page.route("**/frames/*", picture)
    driver.page.keyboard.press("t")
    driver.page.wait_for_selector("body[data-video=tracking]")
    wait_for(lambda: session.masks.rows() == [(0, COUNT - 1)])
    driver.page.wait_for_timeout(300)
    assert pictures
    driver.page.click("#close-video")
    closed.set()
    wait_for(lambda: not film.app.state.videos._open)
    for one in pictures:
        one.continue_()
    driver.page.wait_for_timeout(500)
    assert driver.page.locator(".toast").count() == 0
    assert driver.page.locator("#empty").is_visible()


def failing_clicks(driver: PageDriver, film: Served, *places: int) -> None:
    """Click at these x before the first is answered, and have all of them fail."""
    film.video.open.clear()
    film.video.fails = lambda _: True
    for x in places:
        driver.page.mouse.click(*driver.place(x, 200))
    film.video.open.set()
    driver.still()


def test_clicks_that_fail_leave_no_object(driver: PageDriver, film: Served) -> None:
    failing_clicks(driver, film, 200, 230)
    driver.toast("Internal error")
    assert driver.objects() == []
    film.video.fails = lambda _: False
    click(driver, 200, 200)
    assert driver.areas() == {"Object 1": "1.0%"}


def test_a_click_that_fails_leaves_what_was_said_before(driver: PageDriver, film: Served) -> None:
    click(driver, 200, 200)
    failing_clicks(driver, film, 230, 260)
    film.video.fails = lambda _: False
    click(driver, 200, 200, button="right")  # on the only point that there is
    assert driver.objects() == []


def test_an_object_that_is_gone_on_the_server_can_be_removed(
    driver: PageDriver, film: Served
) -> None:
    click(driver, 200, 200)
    (session,) = film.app.state.videos._open.values()
    session.remove(1)
    driver.page.click("#bin-1")
    driver.still()
    assert driver.objects() == []
    assert driver.page.locator(".toast").count() == 0


def test_stopping_before_what_was_said_is_answered(driver: PageDriver, film: Served) -> None:
    film.video.open.clear()
    driver.page.mouse.click(*driver.place(200, 200))
    driver.page.keyboard.press("t")
    driver.page.click("#track-stop")
    film.video.open.set()
    driver.still()
    assert driver.objects() == ["Object 1"]
    assert status(driver) == f"Masks on 1 of {COUNT} frames."


def test_a_server_that_is_gone(open_page: Callable[..., PageDriver], clip: Path) -> None:
    served = Served(video_manifest(), Settings(readers=1))
    with live(served.app) as url:
        driver = open_page(url, expect_errors=True)
        driver.open_video(clip)
        click(driver, 200, 200)
        track(driver)
        driver.slide("#frame", 0)
        wait_for(lambda: driver.frame() == 0)
        driver.page.wait_for_load_state("networkidle")
    click(driver, 200, 200, button="right")  # takes back all that was said, if that succeeds
    driver.toast(GONE)
    assert driver.objects() == ["Object 1"]
    document = json.loads(driver.download("#export-youtube-vis").read_text())
    (one,) = document["annotations"]
    assert None not in one["segmentations"]
    with zipfile.ZipFile(driver.download("#export-davis")) as archive:
        assert len(archive.namelist()) == COUNT
    port = int(url.rpartition(":")[2])
    with live(Served(video_manifest(), Settings(readers=1)).app, port=port):
        driver.page.reload()
        driver.toast("no longer has the video")


def test_no_name_leads_out_of_the_zip(
    open_page: Callable[..., PageDriver], film: Served, tmp_path: Path
) -> None:
    driver = open_page(film.url)
    driver.open_video(write_video(tmp_path / "clip.mp4", numbered(3)).rename(tmp_path / "...mp4"))
    driver.page.mouse.click(*driver.place(20, 20, (64, 48)))
    driver.still()
    with zipfile.ZipFile(driver.download("#export-davis")) as archive:
        assert archive.namelist() == ["Annotations/video/00000.png"]


@pytest.mark.parametrize("width", [390, 700, 1280])
def test_no_button_lies_on_another(
    open_page: Callable[..., PageDriver], film: Served, clip: Path, photo: Path, width: int
) -> None:
    driver = open_page(film.url, viewport={"width": width, "height": 800})

    def check() -> None:
        assert driver.page.evaluate(OVERLAPS) == []
        assert driver.page.evaluate("document.documentElement.scrollWidth") == width

    check()
    driver.upload(photo)
    check()
    driver.open_video(clip)
    check()
    driver.upload(photo)
    driver.page.wait_for_selector("#to-video")
    check()
