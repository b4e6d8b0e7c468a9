"""A SAM is found wherever a trainer put it; two of them are never guessed between."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samtrt.checkpoints.load import load_checkpoint
from samtrt.checkpoints.search import find_model, flatten
from samtrt.errors import CheckpointError
from support.checkpoint_cases import PROJ, QKV, State, equal, refusal

Save = Callable[[object], Path]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def split(state: State) -> dict[str, State]:
    """Return the model's three parts as mappings of their own."""
    parts: dict[str, State] = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    return parts


def inside(state: State, word: str, part: str = "") -> State:
    """Wrap parts one by one: the word comes behind the part's name."""
    return {
        name.replace(".", f".{word}.", 1) if name.startswith(part) else name: tensor
        for name, tensor in state.items()
    }


KINDS: dict[str, Callable[[State], object]] = {
    "micro-sam": lambda s: {
        "model_state": prefixed(s, "sam."),
        "decoder_state": {"out_conv.weight": torch.ones(2)},
        "current_metric": np.float64(0.5),
        "config": {"lr": np.float32(1e-4), "history": np.arange(3)},
    },
    "a configuration beside": lambda s: {"model": {"name": "sam", "depth": 3}, "state_dict": s},
    "net": lambda s: {"net": s, "epoch": 7},
    "weights": lambda s: {"weights": s},
    "ema alone": lambda s: {"ema": prefixed(s, "module."), "updates": 100},
    "any word": lambda s: {"a": {"b": {"c": prefixed(s, "d.e.")}}},
    "parts": split,
    "parts in a wrapper": lambda s: {"model": split(s), "optimizer": {"param_groups": [1]}},
    "parts from two places": lambda s: {
        "encoder": {k: v for k, v in s.items() if k.startswith("image")},
        "rest": {k: v for k, v in s.items() if not k.startswith("image")},
    },
    "parallel inside": lambda s: inside(s, "module"),
    "one part parallel": lambda s: inside(s, "module", "image_encoder"),
    "compiled inside": lambda s: inside(s, "_orig_mod"),
    "compiled block": lambda s: {
        k.replace("blocks.0.", "blocks.0._orig_mod."): v for k, v in s.items()
    },
    "Lightning": lambda s: {
        "state_dict": {**prefixed(s, "model."), "loss.weight": torch.ones(2)},
        "hyper_parameters": argparse.Namespace(lr=0.1, path=Path("x")),
        "callbacks": {"best": torch.tensor(0.5)},
    },
    "an optimizer": lambda s: {
        "model": s,
        "optimizer": {"state": {0: {"exp_avg": s[PROJ] + 1, "step": torch.tensor(3.0)}}},
    },
    "strays between": lambda s: {**s, "epoch": 3, "name": "x", "none": None, "list": [1, 2]},
    "NumPy weights": lambda s: {name: tensor.numpy() for name, tensor in s.items()},
    "NumPy weights, Fortran order": lambda s: {
        name: np.asfortranarray(tensor.numpy()) for name, tensor in s.items()
    },
    "a default dict": lambda s: {"model": defaultdict(list, s)},
    "the same model twice": lambda s: {"model": s, "ema": {k: v.clone() for k, v in s.items()}},
    "one tensor of another model": lambda s: {**s, f"teacher.{PROJ}": s[PROJ] + 1},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_trainers_save(save: Save, state: State, kind: str) -> None:
    assert equal(load_checkpoint(save(KINDS[kind](state))), state)


def test_what_is_left_out_is_told(save: Save, state: State) -> None:
    checkpoint = load_checkpoint(save({"model": state, "head": {"weight": torch.ones(2)}}))
    assert checkpoint.notices == ("left out 1 tensors that are not its own: head.weight",)
    assert load_checkpoint(save(state)).notices == ()


def test_names_are_told_on_one_line(save: Save, state: State) -> None:
    odd = {"notes.a\nb": torch.ones(2), "notes.\x1b[2J": torch.ones(2)}
    (notice,) = load_checkpoint(save({**state, **odd})).notices
    assert notice.endswith(r"not its own: notes.a\nb, notes.\x1b[2J")
    assert r"mask_decoder.a\nb" in refusal(save({**state, "mask_decoder.a\nb": torch.ones(2)}))


def test_two_models_are_an_error_and_one_can_be_chosen(save: Save, state: State) -> None:
    ema = {**state, QKV: state[QKV] + 1}
    path = save({"model": state, "ema": {"module": ema}})
    message = refusal(path)
    assert "it holds 2 different SAMs, 'model' and 'ema.module'" in message
    assert "--tensors model (or ema.module)" in message
    chosen = load_checkpoint(path, tensors="ema.module")
    assert equal(chosen, ema)
    assert chosen.tensors == "ema.module"
    assert equal(load_checkpoint(path, tensors="model"), state)
    assert chosen.sha256 != load_checkpoint(path, tensors="model").sha256
    with pytest.raises(CheckpointError, match="begin with 'net'; --tensors takes model, ema"):
        load_checkpoint(path, tensors="net")


def test_a_model_at_the_top_is_chosen_by_a_dot(save: Save, state: State) -> None:
    path = save({**state, "ema": {**state, QKV: state[QKV] + 1}})
    assert "'.' and 'ema'" in refusal(path)
    assert equal(load_checkpoint(path, tensors="."), state)


def test_one_name_with_two_values_is_an_error(save: Save, state: State) -> None:
    path = save({**state, f"_orig_mod.{PROJ}": state[PROJ] + 1})
    assert f"two tensors have the name {PROJ}" in refusal(path)


def test_a_dict_nested_a_million_times_is_walked_once() -> None:
    inner: dict[object, object] = {"x": torch.ones(1)}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    assert len(flatten(inner)) == 1


words = st.text("abc._", max_size=4)
values = st.recursive(
    st.one_of(
        st.none(),
        st.integers(),
        st.builds(torch.zeros, st.lists(st.integers(0, 3), max_size=4)),
        st.just(torch.zeros(1).as_strided((100_000, 100_000), (0, 0))),
        st.just(torch.zeros(2, 2).to_sparse()),
        st.just(torch.zeros(2, device="meta")),
    ),
    lambda inner: st.dictionaries(
        st.one_of(
            words,
            st.integers(),
            st.sampled_from([PROJ, f"x.{PROJ}", "image_encoder", "mask_decoder", "pixel_mean"]),
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(content=st.dictionaries(words, values), wanted=st.none() | words)
def test_nothing_but_an_error_of_ours_leaves_the_search(
    content: dict[Any, Any], wanted: str | None
) -> None:
    try:
        found, _ = find_model(content, wanted)
    except CheckpointError as error:
        message = str(error)
    else:
        message = ""
        assert found.state
    assert "\n" not in message


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_changed_tensor_is_refused_or_is_another_model(
    save: Save, state: State, data: st.DataObject
) -> None:
    """Shapes fix the model: no change of one passes for the same one."""
    name = data.draw(st.sampled_from(sorted(state)))
    axis = data.draw(st.integers(0, state[name].ndim - 1))
    changed = {**state, name: state[name].narrow(axis, 0, state[name].shape[axis] - 1)}
    refusal(save({"model": changed}))
