"""The reference backend: which checkpoint it takes, and that it reads it once."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samtrt.backends import BackendOptions, pytorch
from samtrt.backends.pytorch import TorchArray
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


def test_a_checkpoint_is_read_once_for_both_stages(
    tiny_model: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copy(tiny_checkpoint, tmp_path / "tiny.pth")
    reads: list[object] = []
    load = pytorch.load_checkpoint
    monkeypatch.setattr(
        pytorch, "load_checkpoint", lambda p, **rest: reads.append(p) or load(p, **rest)
    )
    options = BackendOptions(checkpoint=path)
    image = np.zeros((40, 60, 3), np.uint8)
    with Predictor.load(tiny_model, "pytorch", options) as first:
        assert reads == [path]
        first.set_image(image)
        expected = first.predict([[5, 5]], [1]).low_res_logits
        with Predictor.load(tiny_model, "pytorch", options) as second:
            assert len(reads) == 1
        # The second is closed; the first goes on, and the model is still there to be shared.
        np.testing.assert_array_equal(first.predict([[5, 5]], [1]).low_res_logits, expected)
        path.touch()
        os.utime(path, ns=(1, 1))  # another file, by all that can be seen
        with Predictor.load(tiny_model, "pytorch", options) as second:
            assert len(reads) == 2
            second.set_image(image)
    del first, second
    gc.collect()
    assert not pytorch._open


@pytest.mark.parametrize(
    "rows", [slice(None), slice(2, 4), slice(0, 6, 4), 5, -1, [3, 3, -5], [[0], [2]], []], ids=str
)
def test_tensors_as_arrays(rows: Any) -> None:
    """What `on_host=False` gives on a GPU, here on the CPU's tensors."""
    numbers = np.arange(6 * 4 * 3, dtype=np.float32).reshape(6, 2, 6)
    array = TorchArray(torch.from_numpy(numbers)).reshape(6, -1, 3)
    rows = np.array(rows, int) if rows == [] else rows
    got, wanted = array[rows], numbers.reshape(6, 4, 3)[rows]
    assert (got.shape, got.dtype, got.nbytes) == (wanted.shape, wanted.dtype, wanted.nbytes)
    np.testing.assert_array_equal(got.numpy(), wanted)
    np.testing.assert_array_equal(np.from_dlpack(got), wanted)
    with pytest.raises(TypeError, match=r"numpy\(\)"):
        np.asarray(got)
