"""Independent implementations to check against, and an image to check them with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from official_packages import (
    official_generator,
    official_predictor,
    official_sam,
    official_transform,
    oracle_package,
    segment_anything_oracle,
    standing_in,
)
from sam2_official import fit_sizes, official_sam2, official_sam2_predictor, sam2_package
from seeded import official_names

__all__ = [
    "fit_sizes",
    "official_generator",
    "official_names",
    "official_predictor",
    "official_sam",
    "official_sam2",
    "official_sam2_predictor",
    "official_transform",
    "oracle_package",
    "random_image",
    "sam2_package",
    "segment_anything_oracle",
    "standing_in",
]


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colour blobs: an image with edges at several scales, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 16, 1), max(width // 16, 1), 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.integers(-8, 9, (height, width, 3))
    return np.clip(np.asarray(image, dtype=np.int16) + noise, 0, 255).astype(np.uint8)
