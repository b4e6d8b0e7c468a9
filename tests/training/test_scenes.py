"""Data parts, composed scenes, simulated prompts, losses and pieces of the training code."""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
TRAINING = Path(__file__).parents[2] / "training"


@pytest.fixture(scope="module")
def code():
    """Import training/*.py as the scripts do, from their own folder."""
    sys.path.insert(0, str(TRAINING))
    try:
        names = (
            "parts",
            "pool",
            "effects",
            "step",
            "train",
            "scenes",
            "prompting",
            "losses",
            "pieces",
        )
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(TRAINING))


def encoded(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def disc(side: int) -> np.ndarray:
    axis = np.arange(side) - side / 2
    inside = axis[:, None] ** 2 + axis**2 < (0.45 * side) ** 2
    return np.dstack([np.full((side, side, 3), 220), 255 * inside]).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(code, tmp_path_factory):
    """Two objects and one photo with two pseudo-objects, in the train split."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 768, 3), dtype=np.uint8)
    ids = np.zeros((150, 384, 3), np.uint8)
    ids[20:120, 30:180, :2], ids[20:120, 200:370, :2] = 1, 2
    items = [
        ("object/train/a", encoded(disc(192))),
        ("object/train/b", encoded(disc(100))),
        ("object/heldout/c", encoded(disc(192))),
        ("photo/train/d", encoded(noise)),
        ("ids/train/d", encoded(ids)),
    ]
    path = tmp_path_factory.mktemp("parts")
    code["parts"].write_parts(items, path)
    return path


@pytest.fixture(scope="module")
def scenes(code, folder):
    pool = code["pool"].load_pool(folder, "train", torch.device("cpu"))
    assert len(pool.objects) == 2  # the held-out object stays out
    composer = code["scenes"].Composer(pool, torch.Generator().manual_seed(1), real_share=0.5)
    return composer.batch(4)


def test_parts_give_back_what_was_packed(code, tmp_path, monkeypatch):
    items = [(f"object/train/{i}", bytes([i]) * (10 + i)) for i in range(9)]
    monkeypatch.setattr(code["parts"], "PART_BYTES", 30)
    assert len(code["parts"].write_parts(items, tmp_path)) > 1
    assert list(code["parts"].read_parts(tmp_path)) == items


def test_split_holds_out_about_a_tenth(code):
    digests = [f"{i * 2654435761 % 2**32:08x}" for i in range(2000)]
    held = sum(code["parts"].split_of(d) == "heldout" for d in digests)
    assert 140 < held < 260


def test_scene_is_an_image_with_exact_masks(code, scenes):
    inside = code["scenes"].content_mask(scenes.sizes)
    assert scenes.image.shape == (4, 3, 512, 512)
    assert 0 <= scenes.image.min() <= scenes.image.max() <= 255
    assert not scenes.image[~inside[:, None].expand_as(scenes.image)].any()
    assert not scenes.ids[~inside].any()
    visible = code["scenes"].areas(scenes.ids)[:, 1:]
    assert (visible <= scenes.own_area[:, 1:]).all()  # occlusion only takes away
    padded = code["scenes"].normalise(scenes).amax(1)[~inside]
    assert not padded.any()


def test_chosen_masks_are_big_enough_to_ask_for(code, scenes):
    generator = torch.Generator().manual_seed(0)
    masks, usable = code["scenes"].choose_masks(scenes, 4, generator)
    assert usable.any()
    assert (masks[usable].sum((1, 2)) > code["scenes"].MIN_VISIBLE * 512 * 512).all()


def test_a_part_belongs_to_its_whole(code, folder):
    pool = code["pool"].load_pool(folder, "train", torch.device("cpu"))
    composer = code["scenes"].Composer(pool, torch.Generator().manual_seed(2), part_share=1.0)
    scenes = composer.composed(3)
    parts = [(b, k) for b, k in scenes.parents.nonzero().tolist() if scenes.own_area[b, k] > 0]
    assert parts
    for b, k in parts:
        parent = int(scenes.parents[b, k])
        assert scenes.parents[b, parent] == 0  # one level deep
        masks = scenes.masks(torch.tensor([[parent, k]]).expand(3, 2))[b]
        assert (masks[0] | ~masks[1]).all()  # the whole holds its part
        alone = scenes.ids[b] == parent
        assert masks[0].sum() == alone.sum() + masks[1].sum()


def test_jpeg_is_near_the_picture_and_smooth_ones_pass(code):
    dice = code["effects"].Dice(torch.Generator().manual_seed(0), torch.float32)
    ramp = torch.linspace(0, 255, 64).expand(2, 3, 64, 64).contiguous()
    assert (code["effects"].jpeg(dice, ramp) - ramp).abs().mean() < 6
    noise = torch.rand(2, 3, 64, 64) * 255
    lost = (code["effects"].jpeg(dice, noise) - noise).abs().mean()
    assert 1 < lost < 60


def test_gradients_are_one_tensor(code):
    layer = torch.nn.Linear(3, 2)
    flat = code["step"].flat_gradients(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    assert flat.tolist() == [1.0] * 8
    flat.zero_()
    assert not layer.weight.grad.any()


def test_learning_rate_warms_up_and_ends_at_zero(code):
    rate = code["train"].learning_rate
    assert rate(0.0, 1.0) < 0.02 < rate(0.015, 1.0) < rate(0.03, 1.0) == 1.0
    assert rate(0.5, 1.0) > rate(0.9, 1.0) > rate(1.0, 1.0) == pytest.approx(0, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    x=st.integers(0, 400),
    y=st.integers(0, 400),
    w=st.integers(6, 110),
    h=st.integers(6, 110),
    seed=st.integers(0, 99),
)
def test_prompts_follow_the_mask(code, x, y, w, h, seed):
    masks = torch.zeros(2, 512, 512, dtype=torch.bool)
    masks[:, y : y + h, x : x + w] = True
    prompting, generator = code["prompting"], torch.Generator().manual_seed(seed)
    assert prompting.boxes(masks)[0].tolist() == [x, y, x + w - 1, y + h - 1]
    coords, labels = prompting.first_prompt(masks, torch.tensor([True, False]), generator)
    assert labels.tolist() == [[2, 3], [1, -1]]
    px, py = coords[1, 0].long().tolist()
    assert masks[1, py, px]


def test_corrective_points_lie_in_the_error_with_its_label(code):
    truth = torch.zeros(2, 128, 128)
    truth[:, 30:60, 30:60] = 1
    logits = torch.full((2, 128, 128), -5.0)  # first: all is missing; second: all is too much
    logits[1] = 5.0
    generator = torch.Generator().manual_seed(0)
    points, labels = code["prompting"].corrective_points(logits, truth, 1, generator)
    assert labels.tolist() == [[1], [0]]
    for i, wanted in enumerate((1.0, 0.0)):
        px, py = (points[i, 0] / 4).long().tolist()
        assert truth[i, py, px] == wanted


def test_loss_is_least_for_the_right_mask_and_ignores_unusable_ones(code):
    truth = torch.zeros(2, 32, 32)
    truth[:, 8:20, 8:20] = 1
    right = ((truth * 2 - 1) * 12)[:, None].expand(-1, 4, -1, -1)
    good, mean = code["losses"].round_loss(
        right, torch.ones(2, 4), truth, torch.tensor([True, True])
    )
    assert good < 0.05
    assert mean.tolist() == [1, 1]
    half_wrong = torch.cat([right[:1], -right[1:]])
    loss = code["losses"].round_loss
    assert loss(half_wrong, torch.ones(2, 4), truth, torch.tensor([True, True]))[0] > 1
    assert loss(half_wrong, torch.ones(2, 4), truth, torch.tensor([True, False]))[0] < 0.05


def test_only_the_best_of_three_masks_learns_from_the_mask_loss(code):
    truth = torch.zeros(1, 32, 32)
    truth[:, 8:20, 8:20] = 1
    logits = torch.stack([truth * 0, truth * 9 - 4, truth * 0, truth * 0], 1).requires_grad_()
    loss, _ = code["losses"].round_loss(logits, torch.zeros(1, 4), truth, torch.tensor([True]))
    loss.backward()
    moved = [bool(g.any()) for g in logits.grad[0]]
    assert moved == [True, True, False, False]


@settings(max_examples=10, deadline=None)
@given(size=st.integers(0, 200))
def test_pieces_join_to_the_same_file(code, tmp_path_factory, size):
    folder = tmp_path_factory.mktemp("pieces")
    source = folder / "weights.safetensors"
    source.write_bytes(np.random.default_rng(size).bytes(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code["pieces"], "PIECE_BYTES", 64)
        pieces = code["pieces"].split(source, folder / "out")
    assert all(piece.stat().st_size <= 64 for piece in pieces)
    code["pieces"].join(pieces[0], folder / "back")
    assert (folder / "back").read_bytes() == source.read_bytes()
