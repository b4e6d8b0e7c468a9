"""The page for everyone: axe finds no fault in any state, and little has to be loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.e2e_cases import PageDriver, faults
from support.server_cases import Served

pytest.importorskip("axe_playwright_python", reason="axe-core comes with this package")

BUDGET = 80_000
"""Bytes on the wire before an image is opened."""


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_no_fault(
    open_page: Callable[..., PageDriver], fake: Served, photo: Any, axe: str, scheme: str
) -> None:
    driver = open_page(fake.url, color_scheme=scheme)
    assert faults(driver.page, axe) == []
    driver.upload(photo)
    driver.click(320, 200)
    driver.page.click("#classes-title")
    driver.page.fill("#class-name", "dog")
    driver.page.keyboard.press("Enter")
    driver.page.click("#select-1")
    driver.press("Shift+Digit1", "p")
    assert faults(driver.page, axe) == []
    driver.press("a", "?")
    assert faults(driver.page, axe) == []
    driver.press("Escape", "g")
    assert faults(driver.page, axe) == []


def test_little_is_loaded(open_page: Callable[..., PageDriver], fake: Served) -> None:
    driver = open_page(fake.url)
    sizes = driver.page.evaluate(
        """() => [...performance.getEntriesByType("navigation"),
                  ...performance.getEntriesByType("resource")]
            .map(entry => [entry.name, entry.transferSize])"""
    )
    assert len(sizes) >= 4  # page, style, script, model
    assert sum(size for _, size in sizes) <= BUDGET, sizes
    assert not any("worker" in name or "exporting" in name for name, _ in sizes)
