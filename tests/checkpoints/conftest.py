from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoint_cases import SPEC, State
from oracle import official_sam
from samtrt.models import seed_weights


@pytest.fixture(scope="module")
def seeded() -> State:
    model = official_sam(SPEC)
    seed_weights(model)
    return dict(model.state_dict())


@pytest.fixture
def state(seeded: State) -> State:
    """Official weights of `SPEC`; a test may change the dict, not the tensors."""
    return dict(seeded)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def torch_save(content: object, **options: Any) -> Path:
        torch.save(content, tmp_path / "sam.pth", **options)
        return tmp_path / "sam.pth"

    return torch_save
