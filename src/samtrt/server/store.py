"""Encoded images by id: in memory up to a number of bytes, then on disk, then forgotten."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samtrt.errors import OutputError
from samtrt.files import write_atomic
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics
from samtrt.server.settings import Settings
from samtrt.types import Embedding, Size

log = logging.getLogger("samtrt.server")

REMEMBERED = 100_000
"""Ids of forgotten images for which the answer is "gone" rather than "never heard of"."""


@dataclass(frozen=True)
class _OnDisk:
    """What is needed to bring an embedding back."""

    path: Path
    nbytes: int
    original_size: Size
    input_size: Size


class ImageStore:
    """Least recently used first out. Safe for threads; may touch the disk, so not for the loop.

    A failing disk loses cached images (their clients get 410 and upload again), nothing else.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._limit = settings.cache_bytes
        self._spill_limit = settings.spill_bytes
        self._metrics = metrics
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, Embedding] = OrderedDict()
        self._leaving: dict[str, Embedding] = {}  # being written to disk
        self._disk: OrderedDict[str, _OnDisk] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._bytes = 0
        self._disk_bytes = 0
        self._directory: Path | None = None
        if settings.spill_dir is not None:
            self._directory = _private_directory(settings.spill_dir)

    def __len__(self) -> int:
        with self._lock:
            return len(self._memory) + len(self._leaving) + len(self._disk)

    def add(self, embedding: Embedding) -> str:
        """Keep an embedding; return its id, which cannot be guessed."""
        image_id = secrets.token_urlsafe(16)
        self._insert(image_id, embedding)
        return image_id

    def get(self, image_id: str) -> Embedding:
        """Return an embedding and mark it as used.

        Raises:
            ApiError: 410 where it was dropped to make room, 404 where the id is not known.
        """
        with self._lock:
            found = self._memory.get(image_id) or self._leaving.get(image_id)
            if found is not None:
                if image_id in self._memory:
                    self._memory.move_to_end(image_id)
                return found
            spilled = self._disk.get(image_id)
        if spilled is not None:
            embedding = self._read(image_id, spilled)
            if embedding is not None:
                return embedding
        with self._lock:
            # Another thread may have brought it back from disk while we looked.
            if image_id in self._memory:
                return self._memory[image_id]
            raise self._missing(image_id)

    def remove(self, image_id: str) -> None:
        """Forget an image on purpose.

        Raises:
            ApiError: as `get`.
        """
        with self._lock:
            found = self._memory.pop(image_id, None)
            if found is not None:
                self._bytes -= found.features.nbytes
            leaving = self._leaving.pop(image_id, None)
            if found is None and leaving is None and image_id not in self._disk:
                raise self._missing(image_id)
            self._drop_file(image_id)
            self._publish()

    def close(self) -> None:
        """Forget everything and remove the spill files."""
        with self._lock:
            self._memory.clear()
            self._leaving.clear()
            self._disk.clear()
            self._bytes = self._disk_bytes = 0
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _insert(self, image_id: str, embedding: Embedding) -> None:
        victims: list[tuple[str, Embedding]] = []
        with self._lock:
            self._memory[image_id] = embedding
            self._bytes += embedding.features.nbytes
            # The newest stays even where it alone is over the limit: its client just paid for it.
            while self._bytes > self._limit and len(self._memory) > 1:
                name, old = self._memory.popitem(last=False)
                self._bytes -= old.features.nbytes
                victims.append((name, old))
                self._leaving[name] = old
            self._publish()
        for name, old in victims:
            self._metrics.evictions.inc()
            self._spill(name, old)

    def _spill(self, image_id: str, embedding: Embedding) -> None:
        """Move an evicted embedding to disk; without room there, forget it."""
        # Not named after the id: errors with the path go to the log, ids do not.
        name = f"{secrets.token_hex(8)}.npy"
        path = None if self._directory is None else self._directory / name
        nbytes = embedding.features.nbytes
        written = False
        if path is not None and nbytes <= self._spill_limit:
            try:
                with write_atomic(path) as temporary, temporary.open("wb") as file:
                    np.save(file, embedding.host_features(), allow_pickle=False)
                written = True
            except OutputError as error:
                self._metrics.spill_failures.inc()
                log.warning("an evicted image was dropped, not spilled: %s", error)
        with self._lock:
            removed = self._leaving.pop(image_id, None) is None
            if path is None or not written:
                if not removed:
                    self._forget(image_id)
            elif removed:
                path.unlink(missing_ok=True)
            else:
                self._disk[image_id] = _OnDisk(
                    path, nbytes, embedding.original_size, embedding.input_size
                )
                self._disk_bytes += nbytes
                while self._disk_bytes > self._spill_limit:
                    oldest = next(iter(self._disk))
                    self._drop_file(oldest)
                    self._forget(oldest)
            self._publish()

    def _read(self, image_id: str, spilled: _OnDisk) -> Embedding | None:
        """Bring an embedding back into memory; None where its file is gone or damaged."""
        try:
            features = np.load(spilled.path, allow_pickle=False)
        except (OSError, ValueError) as error:
            log.warning("a spilled image could not be read back: %s", error)
            with self._lock:
                if image_id in self._disk:
                    self._drop_file(image_id)
                    self._forget(image_id)
            return None
        embedding = Embedding(features, spilled.original_size, spilled.input_size)
        with self._lock:
            if image_id not in self._disk:  # brought back or removed meanwhile
                return self._memory.get(image_id)
            self._drop_file(image_id)
        self._insert(image_id, embedding)
        return embedding

    def _drop_file(self, image_id: str) -> None:
        spilled = self._disk.pop(image_id, None)
        if spilled is not None:
            self._disk_bytes -= spilled.nbytes
            spilled.path.unlink(missing_ok=True)

    def _forget(self, image_id: str) -> None:
        self._gone[image_id] = None
        while len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def _missing(self, image_id: str) -> ApiError:
        if image_id in self._gone:
            return ApiError(
                410, "the image was dropped to make room: upload it again", "image_evicted"
            )
        return ApiError(404, "no image has this id: upload it first", "image_unknown")

    def _publish(self) -> None:
        self._metrics.cached_images.set(len(self._memory))
        self._metrics.cached_bytes.set(self._bytes)
        self._metrics.spilled_bytes.set(self._disk_bytes)


def _private_directory(parent: Path) -> Path:
    """Make a directory that only this process's user can read."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="samtrt-", dir=parent))
    except OSError as error:
        raise OutputError(f"cannot spill into {parent}: {error.strerror or error}") from None
