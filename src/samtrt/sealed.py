"""Files that vouch for themselves: one checksum over all that they say and hold.

A .safetensors file whose metadata has a `checksum`: SHA-256 of the metadata beside it and of each
tensor's name, dtype, shape and bytes. Or a JSON object with a `checksum` of all else in it. It
tells damage and mixing, not forgery: who can write the file can write its checksum.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from samtrt.files import open_regular, read_whole, write_tensors

Tensors = dict[str, npt.NDArray[Any]]
CHECKSUM = "checksum"
_OTHER = "its checksum is of other contents"
_START = 4096
"""Bytes that the length and the first metadata of a file are within."""


def write_sealed(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata with their checksum; the file appears whole or not at all.

    Raises:
        OutputError: where the place cannot be written or has no room.
    """
    sealed = {**metadata, CHECKSUM: _checksum(tensors, metadata)}
    write_tensors(path, tensors, sealed)


def read_tensors(path: Path, most_bytes: int | None = None) -> tuple[Tensors, dict[str, str]]:
    """Read a file whole, so that what is checked is what is used.

    Args:
        path: A .safetensors file.
        most_bytes: What a larger file is refused for; None for no limit.

    Raises:
        OSError: where it cannot be read, or is a device or the like.
        ValueError: where it is damaged or no such file; the message says how.
    """
    return parse_tensors(read_whole(path, most_bytes))


def parse_tensors(content: bytes) -> tuple[Tensors, dict[str, str]]:
    """Return the tensors and the metadata of a .safetensors file's bytes.

    Raises:
        ValueError: where they are no such file; the message says how.
    """
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    metadata = header.get("__metadata__") or {}
    return tensors, {str(name): str(value) for name, value in metadata.items()}


def check_seal(tensors: Tensors, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without its checksum.

    Raises:
        ValueError: where there is none, or it is of other metadata or tensors.
    """
    rest = {name: value for name, value in metadata.items() if name != CHECKSUM}
    if metadata.get(CHECKSUM) != _checksum(tensors, rest):
        raise ValueError(_OTHER)
    return rest


def sealed_json(document: Mapping[str, Any]) -> str:
    """Return a document of JSON values as text, with its checksum."""
    sealed = {**document, CHECKSUM: _checksum_of_json(document)}
    return json.dumps(sealed, indent=2, allow_nan=False) + "\n"


def check_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without its checksum.

    Raises:
        ValueError: where there is none, or it is of another document.
    """
    rest = {name: value for name, value in document.items() if name != CHECKSUM}
    if document.get(CHECKSUM) != _checksum_of_json(rest):
        raise ValueError(_OTHER)
    return rest


def begins_as_json(path: Path, name: str) -> bool:
    """Tell whether a file begins as an object whose first value has a name; or is empty."""
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except OSError:
        return False
    return not start or re.match(rb'\{\s*"' + re.escape(name.encode()) + b'"', start) is not None


def begins_with(path: Path, word: str) -> bool:
    """Tell whether a file's header has a word, even if the rest is damaged; or is empty."""
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except OSError:
        return False
    return not start or word.encode() in start


def _checksum(tensors: Tensors, metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(tensors.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _checksum_of_json(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
