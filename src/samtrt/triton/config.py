"""The text of `config.pbtxt`: what Triton is told of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samtrt.types import TensorInfo

TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
}
"""Triton's names of types, by NumPy's."""

Fields = dict[str, Any]
"""A message: texts, numbers, booleans, `Word`s, messages, and lists of any one of them."""


class Word(str):
    """A name of an enumeration, which stands without quotes."""


def render(fields: Mapping[str, Any], indent: str = "") -> str:
    """Return a message in protobuf's text format, a field a line."""
    lines = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name} {{\n{render(value, indent + '  ')}{indent}}}\n")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            if value and isinstance(value[0], Mapping):
                lines += [render({name: one}, indent) for one in value]
            else:
                lines.append(f"{indent}{name}: [{', '.join(map(_scalar, value))}]\n")
        else:
            lines.append(f"{indent}{name}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, Word):
        return value
    # Protobuf's escapes in texts are those of C, and JSON's for ASCII are some of them.
    return json.dumps(value)


def tensor(info: TensorInfo, batched: bool = False, optional: bool = False) -> Fields:
    """Describe an input or output; sizes that may vary are -1.

    Args:
        info: Its name, type and shape.
        batched: Leave out the first axis, which Triton adds where it batches.
        optional: An input that a request may lack.
    """
    dims = [size if isinstance(size, int) else -1 for size in info.shape[batched:]]
    fields: Fields = {
        "name": info.name,
        "data_type": Word(TYPES[np.dtype(info.dtype).name]),
        "dims": dims,
    }
    return {**fields, "optional": True} if optional else fields


def zeros(info: TensorInfo, sizes: Mapping[str, int], batched: bool = False) -> Fields:
    """Describe an input of a warm-up run: zeros, with these sizes for what may vary."""
    shape = info.shape[batched:]
    dims = [size if isinstance(size, int) else sizes[size] for size in shape]
    kind = Word(TYPES[np.dtype(info.dtype).name])
    return {"key": info.name, "value": {"data_type": kind, "dims": dims, "zero_data": True}}


def parameters(values: Mapping[str, str]) -> list[Fields]:
    """Return a model's parameters, which are texts."""
    return [{"key": name, "value": {"string_value": value}} for name, value in values.items()]
