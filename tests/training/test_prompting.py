"""Simulated prompts, losses, and one whole training step."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "training"))  # its scripts

import torch.nn.functional as F  # noqa: E402

import evaluate  # noqa: E402
import losses  # noqa: E402
import prompting  # noqa: E402
from pool import Pool  # noqa: E402
from samtrt.models import build_sam  # noqa: E402
from samtrt.registry import get_spec  # noqa: E402
from scenes import Composer  # noqa: E402
from step import Step  # noqa: E402
from teacher import Student  # noqa: E402
from train import load_weights  # noqa: E402


@settings(max_examples=6, deadline=None)
@given(
    x=st.integers(0, 400),
    y=st.integers(0, 400),
    w=st.integers(6, 110),
    h=st.integers(6, 110),
    tokens=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_prompts_follow_the_mask(x: int, y: int, w: int, h: int, tokens: int, seed: int) -> None:
    masks = torch.zeros(2, 512, 512, dtype=torch.bool)
    masks[:, y : y + h, x : x + w] = True
    generator = torch.Generator().manual_seed(seed)
    assert prompting.boxes(masks)[0].tolist() == [x, y, x + w - 1, y + h - 1]
    use_box = torch.tensor([True, False])
    shapes = prompting.Shapes.of(masks)
    coords, labels = prompting.fresh_prompt(shapes, use_box, tokens, generator)
    assert labels.tolist() == [[1] * (tokens - 2) + [2, 3], [1] * (tokens - 1) + [-1]]
    for row, count in ((0, tokens - 2), (1, tokens - 1)):
        px, py = coords[row, :count].long().unbind(1)
        assert masks[row, py, px].all()


def test_most_boxes_are_exact_and_the_others_near() -> None:
    box = torch.tensor([[100.0, 120.0, 300.0, 220.0]]).expand(2000, 4)
    moved = prompting.jitter(box, torch.Generator().manual_seed(0), 512) - box
    exact = (moved == 0).all(1)
    assert exact.float().mean() == pytest.approx(prompting.EXACT_BOXES, abs=0.04)
    assert 3 < moved[~exact][:, 0].std() < 15  # 10% of 200 pixels at most
    assert moved.abs().max() <= 40


def test_corrective_points_lie_in_the_error_with_its_label() -> None:
    truth = torch.zeros(2, 128, 128)
    truth[:, 30:60, 30:60] = 1
    logits = torch.full((2, 128, 128), -5.0)  # first: all is missing; second: all is too much
    logits[1] = 5.0
    generator = torch.Generator().manual_seed(0)
    points, labels = prompting.corrective_points(logits, truth, 1, generator, 512)
    assert labels.tolist() == [[1], [0]]
    for i, wanted in enumerate((1.0, 0.0)):
        px, py = (points[i, 0] / 4).long().tolist()
        assert truth[i, py, px] == wanted


def test_doubling_is_bilinear() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    assert torch.allclose(losses.doubled(logits), expected, atol=1e-6)


def square(side: int = 64) -> torch.Tensor:
    truth = torch.zeros(1, side, side)
    truth[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    return truth


def logits_of(truth: torch.Tensor) -> torch.Tensor:
    """Half-size logits of four right masks."""
    small = F.avg_pool2d(truth[:, None], 2)
    return ((small * 2 - 1) * 12).expand(-1, 4, -1, -1)


def test_loss_is_least_for_the_right_mask_and_ignores_unusable_ones() -> None:
    truth = square().expand(2, -1, -1)
    right, yes = logits_of(truth), torch.tensor([True, True])
    good, mean = losses.round_loss(right, torch.ones(2, 4), truth, yes)
    assert good < 0.1
    assert mean.tolist() == [1, 1]
    half_wrong = torch.cat([right[:1], -right[1:]])
    assert losses.round_loss(half_wrong, torch.ones(2, 4), truth, yes)[0] > 1
    first = torch.tensor([True, False])
    assert losses.round_loss(half_wrong, torch.ones(2, 4), truth, first)[0] < 0.1


def test_only_the_best_of_three_masks_learns_from_the_mask_loss() -> None:
    truth = square()
    right = logits_of(truth)[:, 0]
    logits = torch.stack([right * 0, right / 2, right * 0, right * 0], 1).requires_grad_()
    loss, _ = losses.round_loss(logits, torch.zeros(1, 4), truth, torch.tensor([True]))
    loss.backward()
    assert [bool(g.any()) for g in logits.grad[0]] == [True, True, False, False]


def test_dice_of_hard_truth_is_the_usual_one() -> None:
    p = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    truth = square(16)
    usual = 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    assert losses.dice(p, truth).item() == pytest.approx(usual.item(), abs=1e-6)


@pytest.mark.parametrize("edge", [0.3, 0.45, 0.75, 0.95])
def test_soft_truth_is_its_own_best_answer(edge: float) -> None:
    """The usual dice would have every pixel of an edge all in or all out."""
    truth = torch.full((1, 1, 12, 12), 0.02)
    truth[..., 4:8, 4:8], truth[..., 4:8, 8] = 0.98, 0.6
    other = truth.clone()
    other[..., 4:8, 8] = edge
    assert losses.dice(other, truth) > losses.dice(truth, truth)
    good, bad = (losses.focal_dice(torch.logit(t), truth) for t in (truth, other))
    assert bad > good


def test_figures_are_told_apart_by_size() -> None:
    means = evaluate.by_area([0.2, 0.4, 0.9], [0.004, 0.009, 0.5])
    assert means == {"below 1%": pytest.approx(0.3), "above 3%": 0.9}


def test_reliability_tells_how_far_scores_are_off() -> None:
    found = evaluate.reliability([0.92, 0.98, 0.31, 1.03], [0.9, 0.8, 0.31, 0.9])
    assert found["reliability"] == [[0.31, 0.31, 1], [pytest.approx(0.977), 0.867, 3]]
    assert found["calibration_error"] == pytest.approx(0.75 * 0.11, abs=1e-4)


@pytest.fixture(scope="module")
def step() -> Step:
    """A step of the shipped weights on a composed scene of discs, with a student."""
    torch.manual_seed(0)
    axis = torch.arange(256.0) - 128
    disc = ((axis[:, None] ** 2 + axis**2) < 110**2) * 255.0
    objects = torch.stack([disc * c for c in (0.9, 0.3, 0.2)] + [disc])[None]
    pool = Pool(
        objects,
        torch.zeros(1, 256, 256, dtype=torch.uint8),
        torch.full((1, 3, 768, 768), 80.0),
        torch.tensor([[768.0, 768.0]]),
        torch.zeros(1, 6, 384, 384, dtype=torch.uint8),
        torch.ones(1, 2),
        torch.zeros(0, 2, dtype=torch.long),
    )
    model = build_sam(get_spec("vit_s")).train()
    load_weights(model, ROOT / "src/samtrt_assets/vit_s.safetensors")
    student = Student((6, 8))

    def teacher(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(len(image), 6, 16, 16), torch.ones(len(image), 8, 8, 8)

    args = Namespace(batch=1, masks=2, echo=1, rounds=3, distill=1.0, smallest=0.002, bf16=False)
    composer = Composer(pool, torch.Generator().manual_seed(0), side=model.spec.image_size)
    return Step(model, composer, args, teacher, student)  # type: ignore[arg-type]


def test_finished_weights_start_with_good_masks_and_learn(step: Step) -> None:
    loss, distance, *ious = step().tolist()
    assert len(ious) == 3
    assert min(ious) > 0.5
    assert distance == pytest.approx(2.0)  # a new student predicts nothing
    assert loss > 0
    assert step.gradients.isfinite().all()
    assert all(p.grad.any() for n, p in step.model.named_parameters() if n.endswith("qkv.weight"))


def test_pull_scales_what_the_encoder_learns_from_the_teacher(step: Step) -> None:
    assert step.student is not None
    torch.nn.init.normal_(step.student.heads[0].weight)
    embeddings = torch.randn(1, 256, 64, 64, requires_grad=True)
    targets = step.teacher(torch.zeros(1, 3, 1024, 1024))  # type: ignore[misc]
    got = []
    for pull in (0.0, 0.5, 1.0):
        step.pull.fill_(pull)
        embeddings.grad = None
        step.distance(embeddings, targets).backward()
        got.append(float(embeddings.grad.norm()))
    assert got[0] == 0
    assert got[2] > 0
    assert got[1] == pytest.approx(got[2] / 2, rel=1e-4)
