"""Where cases run that a GPU and its stand-in share."""

from __future__ import annotations

import pytest

PLACES = ["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)]
"""Parameters of a fixture or test."""
