"""What ships inside the package: a photograph and the project's own small checkpoint."""

from __future__ import annotations

from pathlib import Path

from samtrt.images import read_image
from samtrt.types import UInt8Array

_HERE = Path(__file__).parent

SMALL_CHECKPOINT = _HERE / "vit_s.safetensors"
"""Trained by this project; see docs/model-card.md. float16, official key names."""

DEMO_PHOTOGRAPH = _HERE / "demo.jpg"
"""See SOURCES.md beside it."""


def verification_images() -> dict[str, UInt8Array]:
    """Return the pictures that `samtrt verify` uses by default: one wide, one tall, one tiny."""
    photograph = read_image(DEMO_PHOTOGRAPH)
    height, width = photograph.shape[:2]
    return {
        "photograph": photograph,
        "tall crop": photograph[:, width // 3 : width // 3 + height // 3],
        "tiny crop": photograph[height // 2 :, width // 2 :][:31, :45],
    }
