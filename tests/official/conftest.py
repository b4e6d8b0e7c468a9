"""The tiny seeded checkpoint in both packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samtrt import SamPredictor, sam_model_registry
from samtrt.registry import get_spec
from support.official_cases import IMAGE
from support.oracle import official_sam, segment_anything_oracle


@pytest.fixture(scope="session")
def official_model(tiny_checkpoint: Path) -> Any:
    """The official package's model."""
    model = official_sam(get_spec("vit_t"))
    model.load_state_dict(torch.load(tiny_checkpoint))
    return model


@pytest.fixture(scope="session")
def both(tiny_checkpoint: Path, official_model: Any) -> tuple[SamPredictor, Any]:
    """Predictors of ours and of the official package, with an image set."""
    ours = SamPredictor(sam_model_registry["vit_t"](checkpoint=tiny_checkpoint).to(device="cpu"))
    official = segment_anything_oracle().SamPredictor(official_model)
    ours.set_image(IMAGE)
    official.set_image(IMAGE)
    return ours, official
