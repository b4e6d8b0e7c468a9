"""Servers around the fake backend, whose masks a test can predict; no torch anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from samtrt.manifest import Manifest
from samtrt.server.settings import Settings
from support.server_cases import Served, make_picture


@pytest.fixture
def picture() -> np.ndarray:
    """A non-square picture."""
    return make_picture()


@pytest.fixture
def serve(manifest: Manifest) -> Iterator[Callable[..., Served]]:
    """Start an application with the given `Settings`."""
    with ExitStack() as stack:

        def start(model: Manifest = manifest, directory: Any = None, **settings: Any) -> Served:
            served = Served(model, Settings(**settings), directory=directory)
            stack.enter_context(served.client)
            stack.callback(served.encoder.open.set)
            stack.callback(served.decoder.open.set)
            return served

        yield start


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()
