"""A photograph that ships in the package, and the small checkpoint where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from samtrt.errors import MissingExtraError

if TYPE_CHECKING:
    from samtrt.types import UInt8Array

    SMALL_CHECKPOINT: Path
    """Trained by this project; see docs/model-card.md. float16, official key names. Of the extra
    `assets`: to ask for it raises `MissingExtraError` where that is not installed."""

SMALL_MODEL = "vit_s"
"""The small checkpoint's model: by this name commands take it."""

DEMO_PHOTOGRAPH = Path(__file__).parent / "demo.jpg"
"""See SOURCES.md beside it."""


def __getattr__(name: str) -> Path:
    if name != "SMALL_CHECKPOINT":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    try:
        from samtrt_assets import SMALL_CHECKPOINT
    except ImportError:
        raise MissingExtraError("The small checkpoint", "assets", "samtrt-assets") from None
    return SMALL_CHECKPOINT


def verification_images() -> dict[str, UInt8Array]:
    """Return the pictures that `samtrt verify` uses by default: one wide, one tall, one tiny."""
    from samtrt.images import read_image

    photograph = read_image(DEMO_PHOTOGRAPH)
    height, width = photograph.shape[:2]
    return {
        "photograph": photograph,
        "tall crop": photograph[:, width // 3 : width // 3 + height // 3],
        "tiny crop": photograph[height // 2 :, width // 2 :][:31, :45],
    }
