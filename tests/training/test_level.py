"""The level of a point's scores: one number for its three masks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def level(scripts):
    return scripts("level")["level"]


@pytest.fixture
def samples(level):
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int, shift: float):
        hidden = torch.randn(count, 8, generator=generator)
        return level.Samples(hidden, 0.05 * hidden[:, 0] + shift)

    return drawn


def test_the_fit_follows_what_tells_points_apart(level, samples, monkeypatch) -> None:
    monkeypatch.setattr(level, "RIDGE", 1e-6)
    slope, bias = level.fitted([samples(400, 0.2), samples(300, 0.2)])
    wanted = torch.zeros(8).double()
    wanted[0] = 0.05
    assert torch.allclose(slope, wanted, atol=1e-4)
    assert float(bias) == pytest.approx(0.2, abs=1e-4)


def test_each_group_counts_the_same(level, samples, monkeypatch) -> None:
    monkeypatch.setattr(level, "RIDGE", 1e9)
    _, bias = level.fitted([samples(4000, 0.3), samples(40, 0.1)])
    assert float(bias) == pytest.approx(0.2, abs=0.02)


def test_scores_rise_and_the_choice_stays(level) -> None:
    generator = torch.Generator().manual_seed(1)
    name = "mask_decoder.iou_prediction_head.layers.2."
    state = {f"{name}weight": torch.randn(4, 8, generator=generator).half()}
    state[f"{name}bias"] = torch.randn(4, generator=generator).half()
    slope = torch.randn(8, generator=generator).double() * 0.1
    new = level.levelled(state, slope, torch.tensor(0.25).double())
    hidden = torch.randn(200, 8, generator=generator)
    old, now = (hidden @ s[f"{name}weight"].float().T + s[f"{name}bias"] for s in (state, new))
    assert torch.equal(old[:, 0], now[:, 0])
    assert torch.allclose(
        now[:, 1:] - old[:, 1:], (hidden @ slope.float() + 0.25)[:, None], atol=0.02
    )
    assert state[f"{name}weight"].dtype == new[f"{name}weight"].dtype == torch.float16


def test_samples_of_a_picture(level) -> None:
    from samtrt.models import build_sam
    from samtrt.registry import get_spec

    torch.manual_seed(0)
    model = build_sam(get_spec("vit_t")).eval()
    photo = torch.randint(0, 255, (3, 120, 160), dtype=torch.uint8)
    masks = torch.zeros(3, 120, 160, dtype=torch.bool)
    masks[0, 10:90, 10:90] = masks[1, 30:60, 30:60] = masks[2, 100:115, 100:150] = True
    found = level.samples_of(model, photo, masks, torch.Generator().manual_seed(0))
    assert found.hidden.shape == (3, 256)
    assert found.gap.shape == (3,)
    assert torch.isfinite(found.hidden).all()
    last = model.mask_decoder.iou_prediction_head.layers[-1]
    with torch.inference_mode():
        scores = last(found.hidden)[:, 1:].mean(1)
    best = found.gap + scores
    assert ((best >= -1e-5) & (best <= 1 + 1e-5)).all()
    none = level.samples_of(model, photo, masks[:0], torch.Generator())
    assert len(none.gap) == 0
