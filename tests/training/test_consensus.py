"""Labels from what views of a photograph agree on, with models that see only what is bright."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def code(scripts):
    return SimpleNamespace(**scripts("views", "agreement", "borders", "consensus", "parts", "pool"))


class Bright:
    """Answers every prompt with what is bright, or dark, in the picture."""

    spec = SimpleNamespace(image_size=256, mask_size=64)

    def __init__(self, sign: float = 1.0, score: float = 0.9) -> None:
        self.sign, self.score = sign, score

    def image_encoder(self, image):
        return image.mean(1, keepdim=True)

    def decode(self, embedding, coords, *_):
        logits = self.sign * torch.nn.functional.avg_pool2d(embedding, 4) * 8
        return logits.expand(len(coords), 4, -1, -1), torch.full((len(coords), 4), self.score)


def disc(height: int, width: int, centre: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def photo_of(mask: np.ndarray):
    """A picture of which a mask is bright and the rest is dark: uint8 [3, H, W]."""
    grey = np.where(mask, 235, 20).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(np.broadcast_to(grey, (3, *mask.shape))))


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / (one | two).sum())


def views_of(code, models, photo):
    """The views that a photograph is labelled by, with few points."""
    return [replace(view, grid=4) for view in code.views.views_of(models, photo)]


def none_of(code, photo):
    return torch.zeros(0, *code.views.frame_size(photo, code.agreement.MATCH), dtype=torch.bool)


@pytest.mark.parametrize("shape", [(256, 512), (512, 384)])
def test_views_agree_on_the_one_thing_there_is(code, shape) -> None:
    wanted = disc(*shape, (150, 180), 90)
    photo = photo_of(wanted)
    views = views_of(code, [Bright(), Bright()], photo)
    (found,) = code.agreement.agreed(photo, views, none_of(code, photo))
    assert found.shape == code.views.frame_size(photo, 512)
    drawn = np.asarray(Image.fromarray(wanted).resize(found.shape[::-1]))
    assert iou(found, drawn) > 0.95


def test_crops_find_it_too_and_what_they_cut_off_is_left_out(code) -> None:
    photo = photo_of(disc(800, 1000, (200, 250), 120))
    views = views_of(code, [Bright(), Bright()], photo)
    crops = [view for view in views if not view.whole]
    assert len(crops) == 4 + 9
    assert {view.mirrored for view in crops} == {False, True}
    seen = {view.box: code.agreement.search(code.views.Seen(view, photo)) for view in crops}
    (inside,) = seen[0.0, 0.0, 0.6, 0.6]
    size = code.views.frame_size(photo, 256)
    wanted = np.asarray(Image.fromarray(disc(800, 1000, (200, 250), 120)).resize(size[::-1]))
    assert iou(inside.numpy(), wanted) > 0.9
    photo = photo_of(disc(800, 1000, (400, 500), 220))  # beyond every crop
    for view in crops:
        assert len(code.agreement.search(code.views.Seen(view, photo))) == 0


def test_where_models_see_different_things_there_is_no_label(code) -> None:
    photo = photo_of(disc(256, 256, (128, 128), 60))
    for other in (Bright(sign=-1.0), Bright(score=0.3)):
        views = views_of(code, [Bright(), other], photo)
        assert code.agreement.agreed(photo, views, none_of(code, photo)) == []


def test_what_is_known_is_asked_for_by_its_box(code) -> None:
    wanted = disc(256, 256, (128, 128), 60)
    photo = photo_of(wanted)
    views = [code.views.View(Bright(), grid=1) for _ in range(3)]
    known = np.zeros((256, 256), np.uint8)
    known[68:188, 68:188] = 7  # as large as the disc, and square
    proposals = code.consensus.known_masks([known], (256, 256))
    (found,) = code.agreement.agreed(photo, views, proposals)
    drawn = np.asarray(Image.fromarray(wanted).resize((512, 512)))
    assert iou(found, drawn) > 0.95


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_corners_lie_where_the_box_is_seen(code, data) -> None:
    """A bright box is bright between its corners in every view that shows it, mirrored or not."""
    height, width = (data.draw(st.integers(60, 300)) for _ in range(2))
    x0, y0 = (data.draw(st.floats(0.1, 0.4)) for _ in range(2))
    x1, y1 = (data.draw(st.floats(0.6, 0.9)) for _ in range(2))
    mask = np.zeros((height, width), bool)
    mask[round(y0 * height) : round(y1 * height), round(x0 * width) : round(x1 * width)] = True
    crop = data.draw(st.sampled_from([(0.0, 0.0, 1.0, 1.0), (0.05, 0.05, 0.95, 0.95)]))
    view = code.views.View(Bright(), crop, data.draw(st.booleans()))
    seen = code.views.Seen(view, photo_of(mask))
    (corners,) = seen.corners(torch.tensor([[x0, y0, x1, y1]]))
    (left, top), (right, bottom) = corners.tolist()
    assert left < right
    assert top < bottom
    bright = seen.embedding[0, 0].numpy() > 0
    ys, xs = np.nonzero(bright)
    unit = 1.5 * max(seen.size) / max(seen.shown) + 1  # a pixel of the photograph, and rounding
    ends = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert np.abs(np.subtract(ends, [left, top, right, bottom])).max() <= unit


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_of_duplicates_the_best_stays(code, seed, most) -> None:
    rng = np.random.default_rng(seed)
    same = rng.random((12, 12))
    same = (same + same.T) / 2
    np.fill_diagonal(same, 1.0)
    rank = np.where(rng.random(12) < 0.3, 0.0, rng.random(12))
    kept = code.agreement.distinct(torch.from_numpy(same), torch.from_numpy(rank), most)
    assert all(same[i, j] <= most for i in kept for j in kept if i != j)
    for i in set(range(12)) - set(kept):
        assert rank[i] <= 0 or any(rank[j] >= rank[i] and same[j, i] > most for j in kept)


def test_maps_hold_things_and_what_lies_inside_them(code) -> None:
    whole, part, dot = (disc(200, 200, (100, 100), r) for r in (80, 40, 10))
    beside = disc(200, 200, (185, 185), 12)
    maps = code.consensus.layered([dot, part, beside, whole], 3)
    for mask, layer in ((whole, 0), (part, 1), (dot, 2), (beside, 0)):
        ids = maps[..., layer]
        value = np.bincount(ids[mask]).argmax()
        assert value > 0
        assert (ids == value).sum() == mask.sum() == (mask & (ids == value)).sum()
    fourth = disc(200, 200, (100, 100), 5)  # there is no room for a fourth level
    assert np.array_equal(code.consensus.layered([dot, part, beside, whole, fourth], 3), maps)


def test_what_the_frame_cuts_off_has_a_map_of_its_own(code) -> None:
    thing, corner = disc(200, 200, (100, 100), 40), disc(200, 200, (200, 200), 60)
    bust = disc(200, 200, (150, 100), 60)  # a portrait ends below, and is a thing
    assert [code.consensus.is_cut_off(m) for m in (thing, bust, corner)] == [False, False, True]
    maps = {k: code.parts.opened(v) for k, v in code.consensus.maps_of([thing, corner]).items()}
    assert maps["ids"].shape == (200, 200, code.consensus.LAYERS)
    assert np.array_equal(maps["ids"][..., 0] > 0, thing)
    assert np.array_equal(maps["cutoff"][..., 0] > 0, corner)
    assert [code.consensus.count_of(b) for b in code.consensus.maps_of([corner]).values()] == [1]
    assert code.consensus.maps_of([]) == {}


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_crop_holds_what_lies_inside_it_with_room_or_where_the_photograph_ends(
    code, data
) -> None:
    x0, y0 = (data.draw(st.floats(0, 0.9)) for _ in range(2))
    box = torch.tensor([[x0, y0, *(data.draw(st.floats(low + 0.02, 1)) for low in (x0, y0))]])
    view = code.views.View(Bright(), data.draw(st.sampled_from(code.views.crops(0.4, 3))))
    room = code.views._ROOM * (box[0, 2:] - box[0, :2])
    low = box[0, :2] - room, [v or -1.0 for v in view.box[:2]]
    high = [2.0 if v == 1 else v for v in view.box[2:]], box[0, 2:] + room
    wanted = all(a >= b for pair in (low, high) for a, b in zip(*pair, strict=True))
    assert bool(view.holds(box)[0]) == wanted
    assert view.holds(box).shape == (1,)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_window_shows_a_box_and_as_much_around_it(code, mirrored) -> None:
    wanted = np.zeros((300, 400), bool)
    wanted[90:150, 40:240] = True
    wanted[60:90, 40:140] = True  # half of the room above
    seen = code.views.Seen(code.views.View(Bright(), mirrored=mirrored), photo_of(wanted))
    logits, _ = seen.ask(torch.zeros(1, 2, 2), (2, 3))
    box = torch.tensor([[40 / 400, 90 / 300, 240 / 400, 150 / 300]])
    (window,) = seen.windows(logits[:, 0].sigmoid(), box, 64).numpy() > 0.5
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = expected[:16, 16:32] = True
    assert iou(window, expected) > 0.9


def test_a_label_is_one_piece_and_small_gaps_are_closed(code) -> None:
    whole = disc(200, 200, (100, 100), 80)
    gap, ring = disc(200, 200, (100, 100), 15), disc(200, 200, (100, 100), 60)
    speck, half = disc(200, 200, (10, 10), 8), disc(200, 200, (30, 30), 40)
    assert np.array_equal(code.borders.solid(whole & ~gap), whole)
    assert np.array_equal(code.borders.solid(whole & ~ring), whole & ~ring)
    assert np.array_equal(code.borders.solid(whole | speck), whole)
    assert code.borders.solid(disc(200, 200, (100, 100), 40) & ~half | half & ~whole) is None
    assert code.borders.solid(np.zeros((20, 20), bool)) is None


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_labels_take_the_place_of_regions_and_maps_of_two_sizes_lie_on_one_another(
    code, tmp_path, monkeypatch
) -> None:
    few = [code.views.View(Bright(), mirrored=bool(i % 2), grid=4) for i in range(3)]
    monkeypatch.setattr(code.consensus, "views_of", lambda *_: few)
    mask = disc(96, 128, (40, 60), 30)
    rgb = np.ascontiguousarray(photo_of(mask).permute(1, 2, 0).numpy())
    wholes = np.zeros((48, 64), np.uint8)
    wholes[mask[::2, ::2]] = 2
    wholes[15:25, 25:35] = 2 * 32 + 5  # a part of the second whole
    items = {
        "photo/train/0-0": png(rgb),
        "ids/train/0-0": png(np.zeros((48, 64, 3), np.uint8)),
        "wholes/train/0-0": png(wholes),
        "photo/heldout/1-0": png(rgb),
        "ids/heldout/1-0": png(np.ones((48, 64, 3), np.uint8)),
    }
    items = code.consensus.wholes_alone(items)
    assert set(np.unique(code.parts.opened(items["wholes/train/0-0"]))) == {0, 2}
    names, device = ["photo/train/0-0"], torch.device("cpu")
    new = dict(code.consensus.labelled(names, items, code.consensus.Look([], device)))
    assert {name: list(maps) for name, maps in new.items()} == {names[0]: ["ids/train/0-0"]}
    late = code.consensus.Look([], device, seconds=-1.0)
    assert dict(code.consensus.labelled(names, items, late)) == {}
    stale = items | {"cutoff/train/0-0": png(np.ones((48, 64), np.uint8))}
    renewed = code.consensus.renewed(stale, new)
    assert renewed.keys() == items.keys()
    code.parts.write_parts(renewed.items(), tmp_path)
    pool = code.pool.load_pool(tmp_path, "train", device)
    assert pool.ids.shape == (1, 6, 512, 512)
    label, whole = (pool.ids[0, k, :384].numpy() > 0 for k in (0, code.pool.WHOLES))
    assert iou(label, whole) > 0.9
    assert pool.id_scales[0].tolist() == [1.0, 1.0]
