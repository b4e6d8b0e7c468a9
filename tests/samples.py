"""Small values that several tests start from."""

from __future__ import annotations

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
