"""What a server holds for a client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from samtrt.masks import rle
from samtrt.types import BoolArray, Size

_H = TypeVar("_H", bound="Held")


class Held(ABC):
    """Something on a server; a `with` block frees it."""

    @abstractmethod
    def delete(self) -> None:
        """Free what the server holds; fine where it does not any more."""

    def __enter__(self: _H) -> _H:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()


def decode_mask(encoded: rle.Rle, size: Size) -> BoolArray:
    """Decode a mask that a server sent, bool [H, W]; raises `ValueError` for another size."""
    if tuple(encoded["size"]) != size:
        raise ValueError("a mask has another size")
    return rle.decode(encoded)
