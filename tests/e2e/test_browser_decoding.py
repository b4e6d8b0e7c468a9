"""The decoder in the browser gives the server's masks, on a real (seeded) model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samtrt.choices import MaskChoice
from samtrt.manifest import Manifest
from samtrt.masks.logits import mask_iou
from support.e2e_cases import PageDriver
from support.oracle import random_image
from support.server_cases import live

pytest.importorskip("onnxruntime", reason="the server side runs ONNX Runtime")
pytest.importorskip("torch", reason="exporting the model needs torch")


@pytest.fixture(scope="module")
def url(tiny_model: Path) -> Iterator[str]:
    from samtrt.predictor import Predictor
    from samtrt.server.app import create_app

    app = create_app(Predictor.load(tiny_model), directory=tiny_model)
    with live(app) as url:
        yield url


# Each family's small model; SAM-HQ's decoder takes two maps, and SAM 2's three.
LONG = pytest.mark.long
# Of one map, as vit_t's, are those that take long; the others hand on two and three.
FAMILIES = (
    "vit_t, hq",
    "sam2.1_hiera_t",
    *(pytest.param(name, marks=LONG) for name in ("mobile_sam_t", "efficientvit_sam_t")),
)


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, family_model: Callable[[str], Path]
) -> Iterator[tuple[str, Manifest]]:
    """A server of a family's model: its address, and what the model is."""
    from samtrt.predictor import Predictor
    from samtrt.server.app import create_app

    directory = family_model(request.param)
    with live(create_app(Predictor.load(directory), directory=directory)) as url:
        yield url, Manifest.load(directory)


def choose(driver: PageDriver, where: str) -> None:
    driver.page.click(f"[data-decoder={where}]")
    driver.page.wait_for_selector(f"[data-decoder={where}][aria-checked=true]", timeout=60_000)


@pytest.mark.parametrize(
    "size", [(120, 200), *(pytest.param(s, marks=LONG) for s in ((333, 97), (700, 1300)))]
)
def test_both_give_the_same_masks(
    open_page: Callable[..., PageDriver], url: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    height, width = size
    shape = (width, height)
    photo = tmp_path / "photo.png"
    Image.fromarray(random_image(height, width)).save(photo)
    driver = open_page(url)
    driver.upload(photo)
    driver.page.uncheck("#hover")
    x, y = width / 2, height / 2

    def ask() -> None:
        """One object for each kind of prompt: a point, points, a box, a box with points, a mask."""
        driver.insist(*driver.place(x, y, shape))
        driver.settle()
        driver.press("3", "n")
        driver.insist(*driver.place(x, y, shape))
        driver.page.mouse.click(*driver.place(x * 1.5, y, shape), button="right")
        driver.settle()
        driver.press("n")
        for extra in (False, True):
            driver.page.mouse.move(*driver.place(x * 0.4, y * 0.5, shape))
            driver.page.mouse.down()
            driver.page.mouse.move(*driver.place(x * 1.7, y * 1.6, shape), steps=4)
            driver.page.mouse.up()
            if extra:
                driver.insist(*driver.place(x * 0.6, y, shape))
            driver.settle()
            driver.press("2", "n")
        # Painted: the second candidate is what the model makes of the mask.
        driver.press("p")
        driver.page.mouse.click(*driver.place(x, y, shape))
        driver.settle()
        driver.press("2", "a", "n")

    ask()
    server = driver.masks(tmp_path)
    asked = len(driver.prompts)
    assert asked
    choose(driver, "browser")
    told = driver.page.inner_text("#decoder")
    assert "WebAssembly" in told or "WebGPU" in told
    driver.page.click("#clear")
    ask()
    browser = driver.masks(tmp_path)
    assert len(driver.prompts) == asked  # no round trip
    assert len(server) == len(browser) == 5
    for there, here in zip(server.values(), browser.values(), strict=True):
        assert there.shape == here.shape == size
        assert 0 < there.mean() < 1
        assert mask_iou(there, here) >= 0.99

    choose(driver, "server")
    driver.page.click("#clear")
    driver.page.mouse.click(*driver.place(x, y, shape))
    driver.settle()
    assert len(driver.prompts) == asked + 1


def test_decoders_of_all_families_give_the_same_masks(
    open_page: Callable[..., PageDriver], family: tuple[str, Manifest], tmp_path: Path
) -> None:
    url, manifest = family
    photo = tmp_path / "photo.png"
    Image.fromarray(random_image(120, 200)).save(photo)
    driver = open_page(url)
    driver.upload(photo)
    driver.page.uncheck("#hover")

    def ask() -> tuple[list[list[str]], list[np.ndarray]]:
        """A point; then another, which takes away."""
        scores, masks = [], []
        for x, button in ((100, "left"), (150, "right")):
            driver.page.mouse.click(*driver.place(x, 60, (200, 120)), button=button)
            driver.settle()
            scores.append(driver.candidates())
            masks += driver.masks(tmp_path).values()
        return scores, masks

    scores, there = ask()
    # The page offers no choice of one: SAM-HQ gives the best of three alone, and then the single
    # mask beside it.
    best = manifest.mask_choice is MaskChoice.BEST
    assert [len(each) for each in scores] == ([0, 2] if best else [3, 4])
    asked = len(driver.prompts)
    choose(driver, "browser")
    driver.page.click("#clear")
    browser_scores, here = ask()
    assert len(driver.prompts) == asked, "no round trip"
    assert browser_scores == scores
    for one, other in zip(there, here, strict=True):
        assert 0 < one.mean() < 1
        assert mask_iou(one, other) >= 0.99


def test_previews_need_no_server(
    open_page: Callable[..., PageDriver], url: str, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(random_image(120, 200)).save(photo)
    driver = open_page(url)
    driver.upload(photo)
    choose(driver, "browser")
    before = driver.page.locator("#canvas").screenshot()
    driver.page.mouse.move(*driver.place(100, 60, (200, 120)))
    driver.page.mouse.move(*driver.place(103, 60, (200, 120)))
    driver.until("document.querySelector('#prompt-ms').textContent.endsWith('ms')")
    driver.page.wait_for_timeout(200)
    assert driver.page.locator("#canvas").screenshot() != before
    assert driver.prompts == []


def test_a_decoder_that_does_not_load_leaves_the_server_in_charge(
    open_page: Callable[..., PageDriver], url: str, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(random_image(120, 200)).save(photo)
    driver = open_page(url, expect_errors=True)
    driver.upload(photo)
    driver.page.route("**/decoder.onnx", lambda route: route.fulfill(body=b"not a graph"))
    driver.page.click("[data-decoder=browser]")
    driver.toast("Decoding in the browser failed")
    assert driver.page.locator("[data-decoder=server]").get_attribute("aria-checked") == "true"
    driver.page.mouse.click(*driver.place(100, 60, (200, 120)))
    driver.settle()
    assert len(driver.candidates()) == 3


@LONG
def test_a_server_that_has_another_model_now(
    open_page: Callable[..., PageDriver],
    family_model: Callable[[str], Path],
    photo: Path,
    picture: np.ndarray,
    tmp_path: Path,
) -> None:
    from samtrt.predictor import Predictor
    from samtrt.server.app import create_app

    before, after = (family_model(name) for name in ("mobile_sam_t", "sam2.1_hiera_t"))
    other = tmp_path / "other.png"
    Image.fromarray(picture).save(other)
    size = picture.shape[1], picture.shape[0]
    with live(create_app(Predictor.load(before), directory=before)) as url:
        driver = open_page(url, expect_errors=True)
        driver.page.uncheck("#hover", force=True)
        driver.upload(photo)
        choose(driver, "browser")
        driver.click(320, 200)
        assert driver.candidates()
    port = int(url.rpartition(":")[2])
    with live(create_app(Predictor.load(after), directory=after), port=port):
        driver.upload(other)
        driver.page.mouse.click(*driver.place(100, 60, size))
        driver.settle()
        driver.toast("another model now: sam2.1_hiera_t")
        driver.until("document.querySelector('#decoder').textContent.includes('hiera')")
        assert "Decoded in this browser" in driver.page.inner_text("#decoder")
        browser = driver.masks(tmp_path)["Object 1"]
        choose(driver, "server")
        driver.press("n")
        driver.insist(*driver.place(100, 60, size))
        driver.settle()
        assert mask_iou(driver.masks(tmp_path)["Object 2"], browser) > 0.99


@LONG
def test_going_back_to_the_server_while_the_browser_decodes(
    open_page: Callable[..., PageDriver], url: str, photo: Path
) -> None:
    driver = open_page(url)
    driver.page.uncheck("#hover", force=True)
    driver.upload(photo)
    choose(driver, "browser")
    driver.click(320, 200)
    driver.press("n")
    driver.page.evaluate(
        """async () => {
            const canvas = document.querySelector("#canvas");
            for (const key of ["ArrowRight", "Enter"]) {
                canvas.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
            }
            await new Promise((resolve) => setTimeout(resolve, 0));
            document.querySelector("[data-decoder=server]").click();
        }"""
    )
    driver.settle()
    assert driver.candidates()
