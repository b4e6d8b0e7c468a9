"""Masks from logits on a GPU, in the emulator and on a real one, against the host's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import Resize
from samtrt.cuda.memory import Memory
from samtrt.masks import rle
from samtrt.masks.cuda import Limits, MaskFormer, Place
from samtrt.masks.rle import Rle
from samtrt.masks.upscaling import upscale_one
from samtrt.preparation.frame import Frame
from support.blobs import random_logits
from support.on_device import device_memory
from support.places import PLACES

FRAMES = [
    Frame((96, 128), 64, 16),
    Frame((40, 57), 64, 16),  # smaller than the model's square
    Frame((130, 31), 64, 16),  # several strips, columns that are no multiple of four
    Frame((64, 64), 64, 16),
    Frame((1, 700), 64, 16),  # several groups of columns
    Frame((77, 90), 64, 16, Resize.STRETCH),
    Frame((9, 3), 64, 64),
]


@pytest.fixture(params=PLACES)
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    with device_memory(monkeypatch, request.param) as (memory, _):
        yield memory


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.original} {frame.resize}")
def test_masks_are_those_of_the_host(memory: Memory, frame: Frame) -> None:
    planes, chosen = random_logits(6, frame.mask_size), np.array([4, 1, 0, 5])
    wanted = np.stack([upscale_one(planes[i], frame) for i in chosen])
    former, logits = MaskFormer(frame, memory), memory.upload(planes)

    full = former.logits(logits, chosen).numpy()
    np.testing.assert_allclose(full, wanted, atol=2e-5)
    masks = former.masks(logits, chosen, 0.0).numpy()
    np.testing.assert_array_equal(masks, full > 0)
    facts = former.measure(logits, chosen, Limits(0.0, 1.0, -1.0))
    for i, mask in enumerate(masks):
        counts = facts.raised[i], facts.area[i], facts.lowered[i]
        assert counts == tuple((full[i] > limit).sum() for limit in (1.0, 0.0, -1.0))
        assert tuple(facts.boxes[i]) == rle.find_runs(mask.T, len(mask)).box
    assert listed(former.encode(logits, chosen, 0.0)) == [rle.encode(mask) for mask in masks]


@pytest.mark.parametrize("frame", FRAMES[:2], ids=lambda frame: str(frame.original))
@pytest.mark.parametrize(
    "margins", [(0, 0, 0, 0), (3, 0, 0, 0), (0, 0, 5, 7), (2, 9, 0, 1), (4, 4, 4, 0)]
)
def test_masks_of_a_crop_lie_in_the_whole_image(
    memory: Memory, frame: Frame, margins: tuple[int, int, int, int]
) -> None:
    left, right, top, bottom = margins
    planes = random_logits(5, frame.mask_size)
    planes[3], planes[4] = 1.0, -1.0  # all mask, and none
    former, logits = MaskFormer(frame, memory), memory.upload(planes)
    masks = former.masks(logits, np.arange(5), 0.0).numpy()
    whole = np.pad(masks, ((0, 0), (top, bottom), (left, right)))
    got = former.encode(logits, np.arange(5), 0.0, Place(left, top, whole.shape[1:]))
    assert listed(got) == [rle.encode(mask) for mask in whole]


def listed(found: list[Rle]) -> list[Rle]:
    return [rle.with_list(one) for one in found]


def test_poor_masks_are_not_measured(memory: Memory) -> None:
    frame = FRAMES[0]
    logits = memory.upload(np.ones((6, 16, 16), np.float32))
    scores = memory.upload(np.array([0.9, 0.5, np.nan, 0.51, 0.1, 0.9], np.float32))
    facts = MaskFormer(frame, memory).measure(
        logits, np.arange(6), Limits(0.0, 1.0, -1.0), scores, 0.5
    )
    pixels = 96 * 128
    assert facts.area.tolist() == [pixels, 0, 0, pixels, 0, pixels]
    assert facts.boxes.tolist()[:2] == [[0, 0, 127, 95], [0, 0, 0, 0]]


def test_no_masks(memory: Memory) -> None:
    former = MaskFormer(FRAMES[0], memory)
    logits, none = memory.upload(np.ones((1, 16, 16), np.float32)), np.empty(0, int)
    assert former.encode(logits, none, 0.0) == []
    assert former.masks(logits, none, 0.0).numpy().shape == (0, 96, 128)
    assert former.measure(logits, none, Limits(0.0, 1.0, -1.0)).boxes.shape == (0, 4)
