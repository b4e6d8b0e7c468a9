"""Embeddings that an instance keeps, by the hash of their image's file."""

from __future__ import annotations

import threading
from collections import OrderedDict

from samtrt.types import Embedding


class EmbeddingCache:
    """Least recently used first out. Safe for threads.

    Args:
        limit: Bytes of embeddings to keep. The newest stays even where it alone has more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Embedding] = OrderedDict()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, digest: bytes) -> Embedding | None:
        """Return an image's embedding and mark it as used; None where it is not kept."""
        with self._lock:
            found = self._kept.get(digest)
            if found is not None:
                self._kept.move_to_end(digest)
            return found

    def put(self, digest: bytes, embedding: Embedding) -> int:
        """Keep an embedding; return how many others went for it."""
        gone = 0
        with self._lock:
            old = self._kept.pop(digest, None)
            self.nbytes += embedding.nbytes - (old.nbytes if old else 0)
            self._kept[digest] = embedding
            while self.nbytes > self._limit and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self.nbytes -= dropped.nbytes
                gone += 1
        return gone
