"""Small values that several tests start from, and how far apart results are."""

from __future__ import annotations

import numpy as np

from samtrt.choices import Precision
from samtrt.manifest import Manifest, Source


def make_manifest(**changes: object) -> Manifest:
    """Return a manifest in the shape of vit_t, without files."""
    values: dict[str, object] = {
        "model": "vit_t",
        "image_size": 256,
        "patch_size": 16,
        "embed_channels": 256,
        "precision": Precision.FP32,
        "opset": 20,
        "simplified": True,
        "dynamic_batch": False,
        "attention": "add",
        "checkpoint": Source(name="none.pth", sha256="0" * 64),
        "files": {},
        "versions": {"samtrt": "test"},
    }
    return Manifest.model_validate({**values, **changes})


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Return the norm of a - b over that of b."""
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b.astype(np.float64)))
