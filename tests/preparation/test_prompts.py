"""Prompts: what is refused, and how the rest reaches the decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.choices import Generation, Resize
from samtrt.errors import PromptError
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import DecoderPrompts, build_prompts

SIZE, IMAGE, MASK = (120, 200), 256, 64


def build(size: tuple[int, int] = SIZE, **prompts: Any) -> Any:
    return build_prompts(Frame(size, IMAGE, MASK), **prompts)


def test_points_without_a_box_get_one_padding_point() -> None:
    prompts = build(point_coords=[[[100, 60], [0, 0]]], point_labels=[[1, 0]])
    assert prompts.point_labels.tolist() == [[1, 0, -1]]
    assert prompts.point_coords.tolist() == [[[128, 77], [0, 0], [0, 0]]]  # 154 / 120 * 60 = 77
    assert prompts.has_mask_input.tolist() == [0]
    assert not prompts.mask_input.any()


def test_a_box_follows_the_points_and_needs_no_padding() -> None:
    prompts = build(point_coords=[[[100, 60]]], point_labels=[[1]], boxes=[[0, 0, 100, 60]])
    assert prompts.point_labels.tolist() == [[1, 2, 3]]
    assert prompts.point_coords.tolist() == [[[128, 77], [0, 0], [128, 77]]]


def test_sam2_has_a_padding_point_beside_a_box_too() -> None:
    frame = Frame(SIZE, IMAGE, MASK, Resize.STRETCH, Generation.SAM2)
    alone = build_prompts(frame, boxes=[[0, 0, 100, 60]])
    assert alone.point_labels.tolist() == [[2, 3, -1]]
    both = build_prompts(frame, [[[100, 60]]], [[1]], boxes=[[0, 0, 100, 60]])
    assert both.point_labels.tolist() == [[1, 2, 3, -1]]
    logits = np.zeros((1, 1, MASK, MASK))
    assert build_prompts(frame, mask_input=logits).point_labels.shape == (1, 0)


def test_a_mask_alone_has_no_points() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 1, MASK, MASK))
    prompts = build(mask_input=logits)
    assert prompts.point_coords.shape == (2, 0, 2)
    assert prompts.has_mask_input.tolist() == [1, 1]
    assert np.array_equal(prompts.mask_input, logits.astype(np.float32))


def test_every_input_is_float32() -> None:
    prompts = build(boxes=[[0, 0, 5, 5]] * 3)
    assert len(prompts) == 3
    assert {array.dtype for array in prompts.part(0, 2).values()} == {np.dtype(np.float32)}
    assert {len(array) for array in prompts.part(0, 2).values()} == {2}


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "no prompt: give at least one point, box or mask"),
        ({"boxes": np.zeros((0, 4))}, "0 prompts"),
        ({"point_coords": [[[1, 1]]]}, "points and labels go together"),
        ({"point_labels": [[1]]}, "points and labels go together"),
        ({"point_coords": np.zeros((1, 0, 2)), "point_labels": np.zeros((1, 0))}, "no point"),
        ({"point_coords": [[[200, 1]]], "point_labels": [[1]]}, r"\(200, 1\) is outside .* 200 x"),
        ({"point_coords": [[[1, 120]]], "point_labels": [[1]]}, "outside the image"),
        ({"point_coords": [[[-1, 1]]], "point_labels": [[1]]}, "outside the image"),
        ({"point_coords": [[[1, 1]]], "point_labels": [[2]]}, "label 2 is not known: use 1 for"),
        ({"point_coords": [[[1, 1]]], "point_labels": [[-1]]}, "padding points alone"),
        ({"point_coords": [[[1, 1]]], "point_labels": [[1, 0]]}, "one label a point"),
        ({"point_coords": [[1, 1]], "point_labels": [[1]]}, r"shape P x N x 2, not \(1, 2\)"),
        ({"point_coords": [[[1, float("nan")]]], "point_labels": [[1]]}, "finite"),
        ({"point_coords": [[["a", 1]]], "point_labels": [[1]]}, "array of numbers"),
        ({"point_coords": [[[1, 1], [1]]], "point_labels": [[1]]}, "array of numbers"),
        ({"boxes": [[5, 5, 5, 9]]}, r"box \(5, 5, 5, 9\) is empty"),
        ({"boxes": [[9, 5, 5, 9]]}, "x1 < x2"),
        ({"boxes": [[200, 5, 300, 9]]}, "outside the image"),
        ({"boxes": [[1, 2, 3]]}, "x1, y1, x2, y2"),
        ({"boxes": [[1, 2, 3, float("inf")]]}, "finite"),
        ({"mask_input": np.zeros((1, 1, 64, 63))}, "low-res logits of the shape P x 1 x 64 x 64"),
        ({"mask_input": np.zeros((1, 64, 64))}, "low-res logits"),
        ({"mask_input": np.full((1, 1, 64, 64), np.nan)}, "finite"),
        (
            {"boxes": [[0, 0, 5, 5]] * 2, "mask_input": np.zeros((3, 1, 64, 64))},
            "same number, not 2 boxes, 3 mask_input",
        ),
    ],
)
def test_unusable_prompts_are_refused(prompts: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        build(**prompts)


def test_a_box_may_overshoot_the_border() -> None:
    assert len(build(boxes=[[-3.5, -2, 203, 121]])) == 1


sizes = st.tuples(st.integers(1, 6000), st.integers(1, 6000))


@given(sizes, st.data())
def test_any_point_of_an_image_lands_in_the_resized_image(
    size: tuple[int, int], data: st.DataObject
) -> None:
    x = data.draw(st.integers(0, size[1] - 1))
    y = data.draw(st.integers(0, size[0] - 1))
    prompts = build(size, point_coords=[[[x, y]]], point_labels=[[1]])
    height, width = Frame(size, IMAGE, MASK).resized
    px, py = prompts.point_coords[0, 0]
    assert 0 <= px < width
    assert 0 <= py < height


def test_coordinates_of_a_stretched_image_are_stretched() -> None:
    frame = Frame(SIZE, IMAGE, MASK, Resize.STRETCH)
    prompts = build_prompts(frame, point_coords=[[[100, 60]]], point_labels=[[1]])
    assert prompts.point_coords[0, 0].tolist() == [128, 128]


@pytest.mark.parametrize("masked", [(), (0,), (0, 1, 2)], ids=["none", "one", "all"])
def test_joined_prompts_follow_one_another(masked: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    parts = []
    for i, count in enumerate((1, 3, 2)):
        logits = {"mask_input": rng.normal(size=(count, 1, MASK, MASK))} if i in masked else {}
        parts.append(build(boxes=[[i, 1, 50 + i, 60]] * count, **logits))
    whole = DecoderPrompts.joined(parts)
    assert len(whole) == 6
    for name, value in vars(whole).items():
        together = np.concatenate([getattr(part, name) for part in parts])
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, together)
    # Without any mask there is one zero, which backends need not copy.
    assert (not any(whole.mask_input.strides)) is (not masked)
