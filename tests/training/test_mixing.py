"""Mixtures of checkpoints, and what they are chosen by."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def code(scripts):
    return SimpleNamespace(**scripts("mix", "eval_labels"))


def state(value: float, shape: tuple[int, ...] = (2, 3)) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full(shape, value).half(), "a.bias": torch.full((2,), -value).half()}


def test_the_script_weighs_by_share(code, tmp_path, monkeypatch) -> None:
    old, new, out = (tmp_path / f"{name}.safetensors" for name in ("old", "new", "out"))
    save_file(state(1.0), old)
    save_file(state(5.0), new)
    monkeypatch.setattr(sys, "argv", ["mix.py", str(out), "3", str(old), "1", str(new)])
    code.mix.main()
    found = load_file(out)
    assert found["a.weight"].dtype == torch.float16
    assert found["a.weight"].unique().tolist() == [2.0]
    assert found["a.bias"].unique().tolist() == [-2.0]


@pytest.mark.parametrize("parts", [["1"], ["1", "a"], ["1", "a", "1"]])
def test_less_than_two_checkpoints_are_refused(code, parts, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["mix.py", "out", *parts])
    with pytest.raises(SystemExit):
        code.mix.main()
    assert "at least twice" in capsys.readouterr().err


def test_other_forms_and_shares_are_refused(code) -> None:
    with pytest.raises(ValueError, match="different forms"):
        code.mix.mixed([state(1.0), state(1.0, (3, 3))], [1, 1])
    with pytest.raises(ValueError, match="positive"):
        code.mix.mixed([state(1.0), state(2.0)], [1, 0])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_prompts_belong_to_their_mask(code, seed) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((60, 80), bool)
    y, x = rng.integers(0, 50), rng.integers(0, 70)
    mask[y : y + rng.integers(2, 30), x : x + rng.integers(2, 30)] = True
    item = code.eval_labels.prompted("0", mask, rng)
    x0, y0, x1, y1 = item.box.astype(int)
    assert mask[y0:y1, x0:x1].all()
    assert mask.sum() == (x1 - x0) * (y1 - y0)
    assert item.points.shape == (3, 2)
    assert all(mask[int(y), int(x)] for x, y in item.points)
    assert (item.loose_box >= 0).all()
    assert (item.loose_box <= [79, 59, 79, 59]).all()


def test_what_thresholds_keep_is_counted(code) -> None:
    fates = np.array([[0.95, 0.9, 0.96], [0.5, 0.9, 0.96], [0.9, 0.65, 0.95], [0.9, 0.9, 0.85]])
    rows = {(row["pred_iou"], row["stability"]): row for row in code.eval_labels.kept(fates)}
    assert rows[0.88, 0.95] | {"kept": 2, "mean_iou": 0.725, "above_0.75": 0.5} == rows[0.88, 0.95]
    assert rows[0.6, 0.9]["kept"] == 3
    assert rows[0.6, 0.8]["kept"] == 4
    assert "mean_iou" not in code.eval_labels.kept(fates * [1, 1, 0.1])[0]


def test_a_mask_counts_for_the_object_that_it_fits_best(code) -> None:
    small, large = np.zeros((2, 40, 40), bool)
    small[10:20, 10:20] = large[5:35, 5:35] = True
    rng = np.random.default_rng(0)
    objects = [
        code.eval_labels.prompted(name, mask, rng)
        for name, mask in zip("ab", (small, large), strict=True)
    ]
    logits = np.where(np.stack([small, large, ~large]), 3.0, -3.0)
    logits[1][large & ~small] = 0.5  # not stable
    answer = SimpleNamespace(masks=logits, iou_predictions=np.array([0.7, 0.8, 0.9]))
    model = SimpleNamespace(predict=lambda **_: answer)
    fates = list(code.eval_labels.fates_of(model, objects[0], objects))
    assert [round(best, 3) for best, _, _ in fates] == [1.0, 1.0, 0.0]
    assert [score for _, score, _ in fates] == [0.7, 0.8, 0.9]
    assert fates[0][2] == 1.0
    assert fates[1][2] == pytest.approx(100 / 900)
