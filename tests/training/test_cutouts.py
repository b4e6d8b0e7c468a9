"""What lies inside cut-outs: found by a model that sees what is bright, and drawn in scenes."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def code(scripts):
    return SimpleNamespace(**scripts("cutouts", "parts", "pool", "scenes"))


class Bright:
    """Answers every prompt with the brightest things near it."""

    spec = SimpleNamespace(image_size=1024, mask_size=256)

    def image_encoder(self, image):
        return image.mean(1, keepdim=True)

    def decode(self, embedding, coords, *_):
        bright = torch.nn.functional.avg_pool2d(embedding, 4) - 1.9
        cells = torch.arange(256.0) * 4 + 2
        x, y = (coords[:, 0, k, None] for k in (0, 1))
        far = ((cells - x)[:, None, :] ** 2 + (cells - y)[:, :, None] ** 2).sqrt()
        logits = torch.where(far[:, None] < 160, bright * 40, -40.0)
        return logits.expand(-1, 4, -1, -1), torch.full((len(coords), 4), 0.9)


def disc(side: int, centre: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.ogrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def cutout() -> tuple[np.ndarray, np.ndarray]:
    """A dark disc with a bright spot, RGBA, and where the spot is."""
    alpha, spot = disc(200, (100, 100), 95), disc(200, (90, 110), 20)
    rgb = np.where(spot, 255, 30)[..., None].repeat(3, 2)
    return np.dstack([rgb, 255 * alpha]).astype(np.uint8), spot


def webp(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_what_is_bright_inside_a_cutout_is_found_and_drawn_in_scenes(
    code, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(code.cutouts, "_GRID", 8)
    monkeypatch.setattr(code.cutouts, "_GROUNDS", ((90, 90, 90),) * 4)
    pixels, spot = cutout()
    plain = pixels.copy()
    plain[..., :3] = 30
    items = {"object/train/a": webp(plain), "object/train/b": webp(pixels)}
    device = torch.device("cpu")
    models = [Bright(), Bright()]
    found = dict(code.cutouts.insides(list(items), items, models, device, 1e9))
    assert list(found) == ["inside/train/b"]
    ids = code.parts.opened(found["inside/train/b"])[..., 0]
    assert set(np.unique(ids)) == {0, 1}
    assert ((ids > 0) & spot).sum() > 0.9 * ((ids > 0) | spot).sum()
    assert dict(code.cutouts.insides(list(items), items, models, device, -1.0)) == {}

    grey = webp(np.full((300, 400, 3), 60, np.uint8))
    code.parts.write_parts((items | found | {"photo/train/c-0": grey}).items(), tmp_path)
    pool = code.pool.load_pool(tmp_path, "train", device)
    assert pool.insides.flatten(1).amax(1).tolist() == [0, 1]
    scenes = code.scenes.Composer(pool, torch.Generator().manual_seed(3)).composed(6)
    inner = code.scenes.INNER_IDS
    seen = [(b, k) for b, k in scenes.own_area.nonzero().tolist() if k > inner]
    assert seen
    for b, k in seen:
        assert scenes.parents[b, k] == k // inner
        whole, part = scenes.masks(torch.tensor([[k // inner, k]]).expand(6, 2))[b]
        assert (whole | ~part).all()
        if part.any():  # it may be hidden
            bright, rest = (scenes.image[b].mean(0)[m].mean() for m in (part, whole & ~part))
            assert bright > rest


def test_of_parts_that_overlap_the_small_ones_stay(code) -> None:
    alpha = disc(200, (100, 100), 90)
    face, eye, other = (disc(200, *at) for at in (((90, 90), 50), ((80, 80), 12), ((140, 140), 14)))
    beyond = disc(200, (100, 190), 20)
    masks = []
    for mask in (face, eye, other, alpha, beyond):
        frame = np.zeros((512, 512), bool)
        frame[256 : 256 + 200, :200] = mask
        masks.append(frame)
    ids = code.cutouts.parts_of(alpha, (256, 0), masks)
    assert np.array_equal(ids == 1, eye)
    assert np.array_equal(ids == 2, other)
    assert ids.max() == 2
    assert not code.cutouts.parts_of(alpha, (0, 0), masks).any()
