"""LoRA and adapters inside a checkpoint: merged where the file says how, else refused by name.

A pair of a LoRA adds B A to a linear layer's weight, times a scale. `Sam_LoRA` and micro-sam wrap
the encoder's `qkv` and have no scale; PEFT's is alpha / r, which its weights do not hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from samtrt.checkpoints.search import put
from samtrt.checkpoints.wording import dims
from samtrt.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_WRAPPED = re.compile(r"^(?P<layer>.+\.qkv)\.(?:qkv|qkv_proj)\.(?P<kind>weight|bias)$")
_PAIR = re.compile(
    r"^(?P<layer>.+\.qkv)\.(?:linear_(?P<a>[ab])_|w_(?P<b>[ab])_linear_)(?P<which>[qkv])\.weight$"
)
_FOREIGN = re.compile(r"(^|[._])(lora|dora|adapter|adapters|adaptformer|prompt_generator)([._]|$)")
_THIRDS = "qkv"


def merge_adapters(state: dict[str, Tensor], beside: Iterable[str]) -> list[str]:
    """Merge the pairs on `qkv` into `state`; return a line for each kind of change.

    Args:
        state: Tensors by official name, changed.
        beside: Names of the file's other tensors.

    Raises:
        CheckpointError: where a pair is not whole, does not fit its layer, or there are adapters
            of another kind.
    """
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    for name in list(state):
        if match := _WRAPPED.match(name):
            put(state, f"{match['layer']}.{match['kind']}", state.pop(name), name)
        elif match := _PAIR.match(name):
            key = match["layer"], match["which"]
            pairs.setdefault(key, {})[match["a"] or match["b"]] = name
    for (layer, which), sides in pairs.items():
        _merge(state, layer, which, sides)
    foreign = [name for name in (*state, *beside) if _FOREIGN.search(name)]
    if foreign:
        raise CheckpointError(
            f"it has an adapter ({foreign[0]}), whose strength or place the file does not say: "
            "merge it into the model first (PEFT: merge_and_unload()) and save the whole"
        )
    return [f"{len(pairs)} LoRA pairs merged into the encoder's qkv"] if pairs else []


def _merge(state: dict[str, Tensor], layer: str, which: str, sides: dict[str, str]) -> None:
    weight = state.get(f"{layer}.weight")
    if weight is None or sides.keys() != {"a", "b"}:
        present = next(iter(sides.values()))
        raise CheckpointError(f"the LoRA of {layer} is not whole: {present} has no counterpart")
    down, up = (state.pop(sides[side]).float() for side in "ab")
    width = weight.shape[0] // 3 if weight.ndim == 2 else 0
    fits = down.ndim == up.ndim == 2 and up.shape == (width, down.shape[0])
    if not fits or down.shape[1] != weight.shape[-1]:
        raise CheckpointError(
            f"the LoRA of {layer} is {dims(up.shape)} by {dims(down.shape)} and does not fit its "
            f"weight, {dims(weight.shape)}"
        )
    merged = weight.detach().float().clone()
    start = _THIRDS.index(which) * width
    merged[start : start + width] += up @ down
    state[f"{layer}.weight"] = merged
