"""Planes of low-res logits on the host, and on a GPU, emulated or real."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import MaskChoice
from samtrt.cuda.memory import CudaArray, Memory
from samtrt.decoding import choose_masks, mask_prompts
from samtrt.masks.planes import count_above, limited
from samtrt.types import Tensor
from support.on_device import device_memory
from support.places import PLACES


@pytest.fixture(params=[None, *PLACES])
def memory(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Memory | None]:
    """Of a GPU, or None for the host."""
    if request.param is None:
        yield None
        return
    with device_memory(monkeypatch, request.param) as (memory, _):
        yield memory


def placed(array: np.ndarray, memory: Memory | None) -> Tensor:
    return memory.upload(array) if memory else array


def host(tensor: Tensor, memory: Memory | None) -> np.ndarray:
    assert isinstance(tensor, CudaArray) == (memory is not None)
    return tensor.numpy() if isinstance(tensor, CudaArray) else tensor


@pytest.mark.parametrize("side", [3, 16, 64])
def test_planes_are_cut_and_counted(memory: Memory | None, side: int) -> None:
    planes = np.random.default_rng(side).normal(0, 30, (9, side, side)).astype(np.float32)
    planes[4, 0, :3] = np.inf, -np.inf, np.nan
    planes[7], planes[0] = 0.05, -0.05  # neither is above itself
    chosen = np.array([4, 7, 0, 8, 4])
    logits = placed(planes, memory)
    cut = host(limited(logits, chosen, 32.0), memory)
    np.testing.assert_array_equal(cut, np.clip(planes[chosen], -32, 32))
    counts = count_above(logits, chosen, (0.05, -0.05))
    wanted = [(planes[chosen] > np.float32(one)).sum(axis=(1, 2)) for one in (0.05, -0.05)]
    np.testing.assert_array_equal(counts, wanted)


def test_without_kernels_planes_are_counted_on_the_host(
    memory: Memory | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory is None:
        pytest.skip("there are none on the host")
    monkeypatch.setattr(memory, "has_kernels", False)
    monkeypatch.delattr("samtrt.masks.planes.load_kernels")
    planes = np.random.default_rng(0).normal(size=(5, 8, 8)).astype(np.float32)
    counts = count_above(placed(planes, memory), np.array([4, 1]), (0.5, -0.5))
    wanted = [(planes[[4, 1]] > np.float32(one)).sum(axis=(1, 2)) for one in (0.5, -0.5)]
    np.testing.assert_array_equal(counts, wanted)


def test_sam2s_masks_are_chosen_and_become_prompts(memory: Memory | None) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 40, (6, 4, 16, 16)).astype(np.float32)
    logits[::2, 0] = np.sign(logits[::2, 0]) * 9  # stable
    logits[1::2, 0, :4] = 0.01  # not stable
    scores = rng.uniform(size=(6, 4)).astype(np.float32)
    given = placed(logits, memory)
    chosen = choose_masks(given, placed(scores, memory), False, MaskChoice.STABLE)
    best = scores[:, 1:].argmax(axis=1) + 1
    assert chosen[:, 0].tolist() == [0, best[1], 0, best[3], 0, best[5]]
    prompts = host(mask_prompts(given, chosen), memory)
    wanted = np.clip(logits[np.arange(6), chosen[:, 0]], -32, 32)[:, None]
    np.testing.assert_array_equal(prompts, wanted)
