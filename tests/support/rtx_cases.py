"""Tests that need TensorRT-RTX: all from PyPI, Linux and Windows on x86, no GPU."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None, reason="needs the extra 'rtx'"
)
