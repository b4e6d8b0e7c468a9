"""Predictors on engines of the stand-in for TensorRT, and what they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, PixelWork
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from support.fake_runtime import fake_predictor


def load(directory: Path, device: str = "cuda", pixels: PixelWork = PixelWork.HOST) -> Predictor:
    options = BackendOptions(device=device, pixels=pixels)
    return Predictor.load(directory, BackendName.TENSORRT, options)


def expected(directory: Path) -> Predictor:
    return fake_predictor(Manifest.load(directory))


def boxes(count: int, seed: int = 0) -> np.ndarray:
    corners = np.random.default_rng(seed).integers(0, 50, (count, 2))
    return np.concatenate([corners, corners + 60], axis=1)


def same(got: Any, wanted: Any) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
