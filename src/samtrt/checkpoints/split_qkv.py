"""Query, key and value in three layers, as pruned SAMs have them (SlimSAM): joined into `qkv`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from samtrt.checkpoints.wording import dims
from samtrt.errors import CheckpointError, MissingExtraError

try:
    import torch
except ImportError:
    raise MissingExtraError("Loading a checkpoint", "export", "torch") from None

if TYPE_CHECKING:
    from torch import Tensor

_QUERY = re.compile(r"^(?P<layer>image_encoder\.blocks\.\d+\.attn)\.q\.(?P<kind>weight|bias)$")


def join_qkv(state: dict[str, Tensor]) -> list[str]:
    """Join the three layers of every block in `state`; return a line where there were any.

    Raises:
        CheckpointError: where one of three is missing, or they have not one shape.
    """
    queries = [match for name in state if (match := _QUERY.match(name))]
    for match in queries:
        layer, kind = match["layer"], match["kind"]
        names = [f"{layer}.{which}.{kind}" for which in "qkv"]
        missing = [name for name in names if name not in state]
        if missing:
            raise CheckpointError(f"{names[0]} is there and {missing[0]} is missing")
        three = [state.pop(name) for name in names]
        if len({tuple(one.shape) for one in three}) > 1:
            shapes = ", ".join(dims(one.shape) for one in three)
            raise CheckpointError(f"q, k and v of {layer} have the shapes {shapes}, not one")
        state[f"{layer}.qkv.{kind}"] = torch.cat([one.detach() for one in three])
    blocks = len({match["layer"] for match in queries})
    return [f"q, k and v of {blocks} blocks joined into qkv"] if blocks else []
