"""What servers keep under an id, and the ids."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from samtrt.server.spill import Spilled
from samtrt.types import Embedding

REMEMBERED = 100_000
"""Ids of forgotten images for which the answer is "gone" rather than "never heard of"."""


def new_id() -> str:
    """Return an id that cannot be guessed."""
    return secrets.token_urlsafe(16)


@dataclass(eq=False)
class StoredImage:
    """One id of an `ImageStore` from `add` to its end.

    All but `disk` is changed under the store's lock alone.

    Attributes:
        nbytes: Of the embedding's numbers.
        embedding: Where it is in memory, also while it is being written.
        spilled: Where it is on disk, also while it is being read.
        ended: It was removed or dropped: who writes or reads it lets go of what is left.
        disk: Held for as long as it is written or read, so that one thread does it and the others
            wait for the outcome.
    """

    nbytes: int
    embedding: Embedding | None = None
    spilled: Spilled | None = None
    ended: bool = False
    disk: threading.Lock = field(default_factory=threading.Lock)

    @property
    def on_device(self) -> bool:
        return self.embedding is not None and self.embedding.on_device
