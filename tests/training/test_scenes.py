"""Data parts, composed scenes, the trainer's schedules and pieces of the training code."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def code(scripts):
    return scripts("parts", "pool", "effects", "step", "train", "scenes", "choosing", "pieces")


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
    inside = code["scenes"].content_mask(scenes.sizes, scenes.side)
    assert scenes.image.shape == (4, 3, 512, 512)
    assert 0 <= scenes.image.min() <= scenes.image.max() <= 255
    assert not scenes.image[~inside[:, None].expand_as(scenes.image)].any()
    assert not scenes.ids[~inside].any()
    visible = code["scenes"].areas(scenes.ids)[:, 1:]
    assert (visible <= scenes.own_area[:, 1:]).all()  # occlusion only takes away
    padded = code["scenes"].normalise(scenes).amax(1)[~inside]
    assert not padded.any()


def test_some_scenes_are_composed_coarser_and_enlarged(code, folder):
    pool = code["pool"].load_pool(folder, "train", torch.device("cpu"))
    dice = torch.Generator().manual_seed(4)
    composer = code["scenes"].Composer(pool, dice, side=96, coarse_share=0.5)
    scenes = composer.batch(2)
    assert scenes.image.shape == (2, 3, 96, 96)
    assert scenes.ids.shape == (2, 96, 96)
    outside = ~code["scenes"].content_mask(scenes.sizes, 96)
    assert not scenes.ids[outside].any()
    assert not scenes.image[outside[:, None].expand_as(scenes.image)].any()
    visible = code["scenes"].areas(scenes.ids)[:, 1:]
    assert (visible <= 1.2 * scenes.own_area[:, 1:] + 4).all()  # counted before it was enlarged


def test_chosen_masks_are_big_enough_to_ask_for(code, scenes):
    generator = torch.Generator().manual_seed(0)
    masks, usable = code["choosing"].choose_masks(scenes, 4, generator)
    assert usable.any()
    assert (masks[usable].sum((1, 2)) > code["choosing"].MIN_VISIBLE * 512 * 512).all()


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


def test_a_map_of_wholes_has_parts_and_other_maps_have_none(code, tmp_path):
    """Id 1 is a whole, 32 a part of it; the same ids of another map are two things."""
    maps = np.zeros((200, 384), np.uint8)
    maps[20:180, 60:320], maps[60:120, 120:200] = 1, 32
    grey = np.full((400, 768, 3), 90, np.uint8)
    for kind, labels in (("wholes", maps), ("ids", np.repeat(maps[:, :, None], 3, 2))):
        folder = tmp_path / kind
        items = [("photo/train/a-0", encoded(grey)), (f"{kind}/train/a-0", encoded(labels))]
        code["parts"].write_parts([*items, ("object/train/b", encoded(disc(64)))], folder)
        pool = code["pool"].load_pool(folder, "train", torch.device("cpu"))
        weights = code["pool"].MAP_WEIGHTS
        wanted = code["pool"].MAPS[kind] if kind == "wholes" else slice(3)
        expected = list(weights[wanted])
        assert pool.with_ids[:, 1].bincount()[pool.with_ids[:, 1].unique()].tolist() == expected
        scenes = code["scenes"].Composer(pool, torch.Generator().manual_seed(3)).real(2)
        masks = scenes.masks(torch.tensor([[1, 32]]).expand(2, 2))
        chosen = code["choosing"].choose_masks(scenes, 1, torch.Generator().manual_seed(0))[0]
        if kind == "wholes":  # of a whole and its part the whole comes first
            assert torch.equal(chosen, masks[:, :1])
        inside = (masks[:, 1] <= masks[:, 0]).flatten(1).all(1)
        assert inside.tolist() == [kind == "wholes"] * 2
        assert code["choosing"].usable(scenes).nonzero()[:, 1].unique().tolist() == [1, 32]


@pytest.mark.parametrize("side", [300, 384, 500, 768])
def test_masks_of_photographs_of_any_size_lie_on_their_objects(code, tmp_path, side):
    photo = np.full((side * 3 // 4, side, 3), 40, np.uint8)
    photo[side // 4 : side // 2, side // 3 : side * 2 // 3] = 220
    picture = Image.fromarray(photo)
    small = picture.copy()
    small.thumbnail((384, 384))  # never enlarged, as in prepare.py
    labels = (np.asarray(small) > 130).astype(np.uint8)
    items = [("photo/train/a-0", encoded(photo)), ("ids/train/a-0", encoded(labels))]
    code["parts"].write_parts([*items, ("object/train/b", encoded(disc(64)))], tmp_path)
    pool = code["pool"].load_pool(tmp_path, "train", torch.device("cpu"))
    scenes = code["scenes"].Composer(pool, torch.Generator().manual_seed(3)).real(4)
    grey = scenes.image.mean(1)
    for image, ids in zip(grey, scenes.ids == 1, strict=True):
        middle = image[ids].quantile(0.5) / 2 + image[~ids & (image > 0)].quantile(0.5) / 2
        bright = image > middle
        assert (bright & ids).sum() / (bright | ids).sum() > 0.9


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


def test_a_new_student_teaches_the_encoder_of_finished_weights_late(code):
    pull = code["train"].pull_of_teacher
    assert [pull(done, warm=False) for done in (0.0, 0.1, 1.0)] == [1, 1, 1]
    assert [pull(done, warm=True) for done in (0.0, 0.05, 0.16, 1.0)] == [0, 0, 1, 1]
    assert pull(0.1, warm=True) == pytest.approx(0.5)


@pytest.mark.parametrize("content", [None, b"no tensors", "other"])
def test_weights_that_do_not_fit_are_one_line(code, tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content == "other":
        save_file({"a": torch.zeros(2)}, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        code["train"].load_weights(torch.nn.Linear(2, 2), path)
    message = str(caught.value.code)
    assert message.startswith("--init ")
    assert "\n" not in message


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
