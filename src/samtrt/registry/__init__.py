"""The models that samtrt knows: what each is made of, and where its official checkpoint lies.

A family has a file here, with the numbers of its encoder and a row for each checkpoint.
"""

from __future__ import annotations

from samtrt.errors import CheckpointError
from samtrt.registry import efficientvit, hiera, repvit, tiny_vit, vit
from samtrt.registry.efficientvit import EfficientViTSpec
from samtrt.registry.hiera import HieraSpec
from samtrt.registry.repvit import RepViTSpec
from samtrt.registry.sam2 import Sam2Spec
from samtrt.registry.spec import (
    MASK_THRESHOLD,
    OFFICIAL_THRESHOLDS,
    Download,
    MaskThresholds,
    ModelSpec,
)
from samtrt.registry.tiny_vit import TinyViTSpec
from samtrt.registry.vit import ViTSpec

__all__ = [
    "MASK_THRESHOLD",
    "MODELS",
    "OFFICIAL_THRESHOLDS",
    "Download",
    "EfficientViTSpec",
    "HieraSpec",
    "MaskThresholds",
    "ModelSpec",
    "RepViTSpec",
    "Sam2Spec",
    "TinyViTSpec",
    "ViTSpec",
    "get_spec",
]

_FAMILIES = (vit, tiny_vit, efficientvit, hiera, repvit)

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    # Small models last: they are for demos and tests.
    for rows in (*(one.PUBLISHED for one in _FAMILIES), *(one.SMALL for one in _FAMILIES))
    for spec in rows
}


def get_spec(name: str) -> ModelSpec:
    """Return the spec called `name`; raise `CheckpointError` that lists the known names."""
    try:
        return MODELS[name]
    except KeyError:
        raise CheckpointError(
            f"unknown model '{name}'; known models: {', '.join(MODELS)}"
        ) from None
