"""Layers that a code base has apart and samtrt as one.

Pruned SAMs (SlimSAM) have query, key and value in three; Hugging Face's EdgeTAM has key and value
in two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from samtrt.checkpoints.search import put
from samtrt.checkpoints.wording import dims
from samtrt.errors import CheckpointError, MissingExtraError

try:
    import torch
except ImportError:
    raise MissingExtraError("Loading a checkpoint", "export", "torch") from None

if TYPE_CHECKING:
    from torch import Tensor

_APART = {
    "qkv": re.compile(r"^(?P<layer>image_encoder\.blocks\.\d+\.attn)\.q\.(?P<kind>weight|bias)$"),
    "to_kv": re.compile(
        r"^(?P<layer>memory\.spatial_perceiver\.layers\.\d+\.(self_)?attn)\.to_k\.(?P<kind>weight)$"
    ),
}
"""By the name of the whole, the first of its layers."""


def join_qkv(state: dict[str, Tensor]) -> list[str]:
    """Join the layers of every block in `state`; return a line where a model was pruned.

    Raises:
        CheckpointError: where one of them is missing, or they have not one shape.
    """
    _join(state, "to_kv", ("to_k", "to_v"))
    blocks = _join(state, "qkv", ("q", "k", "v"))
    return [f"q, k and v of {blocks} blocks joined into qkv"] if blocks else []


def _join(state: dict[str, Tensor], whole: str, parts: Sequence[str]) -> int:
    """Join layers called `parts`, one behind another, into one; return of how many blocks."""
    first = [match for name in state if (match := _APART[whole].match(name))]
    for match in first:
        layer, kind = match["layer"], match["kind"]
        names = [f"{layer}.{part}.{kind}" for part in parts]
        missing = [name for name in names if name not in state]
        if missing:
            raise CheckpointError(f"{names[0]} is there and {missing[0]} is missing")
        found = [state.pop(name) for name in names]
        if len({tuple(one.shape) for one in found}) > 1 or not found[0].ndim:
            listed = f"{', '.join(parts[:-1])} and {parts[-1]}"
            shapes = ", ".join(dims(one.shape) for one in found)
            raise CheckpointError(f"{listed} of {layer} have the shapes {shapes}, not one of rows")
        joined = torch.cat([one.detach() for one in found])
        put(state, f"{layer}.{whole}.{kind}", joined, ", ".join(names))
    return len({match["layer"] for match in first})
