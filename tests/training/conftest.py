"""The scripts of training/, imported as they import one another: from their own folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def scripts() -> Iterator[Callable[..., dict[str, ModuleType]]]:
    """Import scripts by their names; they find one another while the module's tests run."""
    folder = str(Path(__file__).parents[2] / "training")
    sys.path.insert(0, folder)
    try:
        yield lambda *names: {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(folder)
