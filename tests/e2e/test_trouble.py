"""What the page does when things go wrong: it says so, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.e2e_cases import PageDriver
from support.server_cases import Served, live

pytestmark = pytest.mark.long  # the page, in a browser, for most of a minute or more

TOKEN = "token-of-the-page-tests"


def test_what_is_no_image(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path, tmp_path: Path
) -> None:
    driver = open_page(fake.url, expect_errors=True)
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    driver.page.set_input_files("#file", text)
    driver.toast("notes.txt is not an image")
    fraud = tmp_path / "fraud.png"
    fraud.write_text("hello")
    driver.page.set_input_files("#file", fraud)
    driver.toast("not an image of a format that the browser knows")
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(photo.read_bytes()[:500])
    driver.page.set_input_files("#file", damaged)
    driver.toast("damaged or truncated")
    assert driver.page.locator("#empty").is_visible()
    driver.upload(photo)


def test_an_image_that_the_server_dropped_is_sent_again(
    open_page: Callable[..., PageDriver], small_cache: Served, photo: Path, picture: object
) -> None:
    driver = open_page(small_cache.url, expect_errors=True)
    driver.upload(photo)
    driver.click(320, 200)
    first = driver.candidates()
    small_cache.add(picture)  # type: ignore[arg-type]
    driver.press("n")
    driver.insist(*driver.place(320, 200))
    driver.settle()
    assert driver.candidates() == first
    driver.toast("uploaded again")
    assert driver.page.inner_text("#count") == "2"


def test_another_image_is_opened_while_the_server_thinks(
    driver: PageDriver, fake: Served, photo: Path
) -> None:
    fake.decoder.open.clear()
    driver.page.mouse.click(*driver.place(320, 200))
    driver.page.click("#auto")
    other = photo.with_name("other.png")
    other.write_bytes(photo.read_bytes())
    driver.upload(other)
    fake.decoder.open.set()
    driver.page.wait_for_timeout(500)
    assert driver.objects() == ["Object 1"]  # the same bytes: the work on them comes along
    assert driver.page.locator(".toast").count() == 0
    driver.settle()
    assert len(driver.candidates()) == 3


def test_a_failed_upload_leaves_the_open_image_as_it_was(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path, tmp_path: Path
) -> None:
    driver = open_page(fake.url, expect_errors=True)
    driver.upload(photo)
    fake.decoder.open.clear()
    driver.page.mouse.click(*driver.place(320, 200))
    fraud = tmp_path / "fraud.png"
    fraud.write_text("hello")
    driver.page.set_input_files("#file", fraud)
    driver.toast("not an image of a format")
    fake.decoder.open.set()
    driver.settle()
    assert len(driver.candidates()) == 3
    assert driver.page.inner_text("#title").startswith("photo.png")


def test_a_backend_that_throws(driver: PageDriver, fake: Served) -> None:
    driver.page.uncheck("#hover")  # a preview would fail too, whenever its answer comes
    fake.decoder.fails = lambda _: True
    with driver.page.expect_response(lambda response: response.status == 500):
        driver.page.mouse.click(*driver.place(320, 200))
    toast = driver.toast("Internal error")
    fake.decoder.fails = lambda _: False
    toast.get_by_text("Retry").click()
    driver.settle()
    assert len(driver.candidates()) == 3
    assert all("status of 500" in line for line in driver.trouble), driver.trouble
    driver.trouble.clear()  # Chromium logs the 500 as an error


def test_a_server_that_is_gone(
    open_page: Callable[..., PageDriver], manifest: Manifest, photo: Path
) -> None:
    with live(Served(manifest, Settings()).app) as url:
        driver = open_page(url, expect_errors=True)
        driver.upload(photo)
    driver.page.mouse.click(*driver.place(320, 200))
    driver.toast("cannot be reached")
    assert driver.page.locator("#undo").is_enabled()


def test_a_busy_server_is_asked_again(driver: PageDriver, fake: Served) -> None:
    admission = fake.app.state.scheduler.prompts
    with admission.admit(10_000):
        driver.page.uncheck("#hover")
        with driver.page.expect_response(lambda response: response.status == 429):
            driver.page.mouse.click(*driver.place(320, 200))
    driver.settle()
    assert len(driver.candidates()) == 3
    driver.trouble.clear()  # Chromium logs the 429 as an error


@pytest.mark.parametrize("again", [False, True])
def test_a_token_is_asked_for(
    open_page: Callable[..., PageDriver], manifest: Manifest, photo: Path, again: bool
) -> None:
    with live(Served(manifest, Settings(token=TOKEN)).app) as url:
        driver = open_page(url, expect_errors=True, wait=False)
        dialog = driver.page.locator("#token")
        dialog.wait_for()
        if again:
            driver.page.fill("#token-input", "wrong")
            driver.page.click("#token button.primary")
            driver.until("document.querySelector('#token-text').textContent.includes('not accept')")
        driver.page.fill("#token-input", TOKEN)
        driver.page.click("#token button.primary")
        driver.upload(photo)
        driver.click(320, 200)
        assert len(driver.candidates()) == 3
        assert TOKEN not in driver.page.url


def test_retry_does_all_that_failed(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path
) -> None:
    driver = open_page(fake.url, expect_errors=True)
    driver.upload(photo)
    driver.page.uncheck("#hover")
    driver.page.route("**/masks", lambda route: route.abort())
    driver.page.route("**/auto", lambda route: route.abort())
    driver.page.mouse.click(*driver.place(100, 100))
    driver.toast("cannot be reached")
    driver.page.keyboard.press("n")
    driver.page.mouse.click(*driver.place(500, 300))
    driver.page.click("#auto")
    driver.page.wait_for_selector("#progress", state="hidden")
    toast = driver.toast("cannot be reached")
    assert toast.count() == 1  # the same trouble is told once
    driver.page.unroute("**/masks")
    driver.page.unroute("**/auto")
    toast.get_by_text("Retry").click()
    driver.toast("Found")
    driver.until("!document.querySelector('#objects').textContent.includes('…')")
    assert {"Object 1", "Object 2"} < set(driver.objects())


def test_messages_leave_and_no_retry_where_it_cannot_help(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path
) -> None:
    driver = open_page(fake.url, expect_errors=True)
    driver.page.clock.install()
    driver.upload(photo)
    refusal = {"error": {"code": "invalid", "message": "this cannot be done"}}
    driver.page.route("**/masks", lambda route: route.fulfill(status=422, json=refusal))
    driver.page.mouse.click(*driver.place(100, 100))
    toast = driver.toast("This cannot be done")
    assert toast.get_by_text("Retry").count() == 0
    driver.page.clock.run_for(16_000)
    toast.wait_for(state="detached")
    # Another object is not held up by it.
    driver.page.unroute("**/masks")
    driver.page.keyboard.press("n")
    driver.click(500, 300)
    assert len(driver.candidates()) == 3


def test_what_is_there_can_be_saved_when_the_server_is_gone(
    open_page: Callable[..., PageDriver], manifest: Manifest, photo: Path, tmp_path: Path
) -> None:
    with live(Served(manifest, Settings()).app) as url:
        driver = open_page(url)
        driver.upload(photo)
        driver.click(320, 200)
        driver.page.wait_for_load_state("networkidle")
    assert driver.masks(tmp_path)["Object 1"].any()


def test_what_was_said_of_a_refused_image_is_not_asked_of_the_next(
    open_page: Callable[..., PageDriver], fake: Served, photo: Path, tmp_path: Path
) -> None:
    driver = open_page(fake.url, expect_errors=True)
    driver.page.uncheck("#hover", force=True)
    tall = tmp_path / "tall.png"
    Image.new("RGB", (3, 3000), "red").save(tall)
    driver.upload(tall)
    driver.toast("cut it into tiles")
    driver.page.mouse.click(*driver.place(1.5, 1500, (3, 3000)))
    driver.upload(photo)
    driver.click(320, 200)
    assert len(driver.candidates()) == 3
    assert [asked["points"] for asked in driver.clicks] == [[[320, 200]]]
    assert driver.page.locator(".toast").count() == 0
