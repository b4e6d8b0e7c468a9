"""The reference backend: which checkpoint it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from samtrt.backends import BackendOptions
from samtrt.errors import BackendError, CheckpointError
from samtrt.predictor import Predictor


def test_needs_a_checkpoint(tiny_model: Path) -> None:
    with pytest.raises(BackendError, match="name it with --checkpoint"):
        Predictor.load(tiny_model, "pytorch")
    with pytest.raises(CheckpointError, match="nowhere"):
        Predictor.load(tiny_model, "pytorch", BackendOptions(checkpoint=Path("nowhere.pth")))


def test_refuses_another_checkpoint(
    tiny_model: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(tiny_checkpoint, weights_only=True)
    state["mask_decoder.iou_token.weight"] += 1
    other = tmp_path / "other.pth"
    torch.save(state, other)
    with pytest.raises(BackendError, match=r"was exported from tiny.pth .*other.pth .* is not"):
        Predictor.load(tiny_model, "pytorch", BackendOptions(checkpoint=other))


def test_device_that_is_not_there(tiny_model: Path, tiny_checkpoint: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match="cannot use the device 'cuda'"):
        Predictor.load(
            tiny_model, "pytorch", BackendOptions(device="cuda", checkpoint=tiny_checkpoint)
        )
