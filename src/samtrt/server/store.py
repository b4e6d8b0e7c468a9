"""Encoded images by id: on the GPU that encoded them, in memory, then on disk, then forgotten.

Each place holds up to a number of bytes of its own.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict

import numpy as np

from samtrt.errors import BackendError, OutputError
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics
from samtrt.server.settings import Settings
from samtrt.server.spill import Spilled, SpillFolder
from samtrt.server.stored import REMEMBERED, StoredImage, new_id
from samtrt.types import Embedding, to_host

log = logging.getLogger("samtrt.server")


class ImageStore:
    """Least recently used first out. Safe for threads; may touch the disk, so not for the loop.

    An id is in `_images` from `add` until `remove` or until there is no room for it: what `get`
    and `remove` answer is decided by that alone, however many threads move it between memory and
    disk. A failing disk loses cached images (their clients get 410 and upload again), nothing else.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._limit = settings.cache_bytes
        self._device_limit = settings.device_cache_bytes
        self._spill_limit = settings.spill_bytes
        self._metrics = metrics
        self._lock = threading.Lock()
        self._images: dict[str, StoredImage] = {}
        # Of these, where they are unless they move; what goes first comes first.
        self._memory: OrderedDict[str, StoredImage] = OrderedDict()
        self._disk: OrderedDict[str, StoredImage] = OrderedDict()
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._bytes = 0
        self._device_bytes = 0  # of those in `_memory` that are on a GPU; the rest are in `_bytes`
        self._disk_bytes = 0
        self._folder = None if settings.spill_dir is None else SpillFolder(settings.spill_dir)

    def __len__(self) -> int:
        with self._lock:
            return len(self._images)

    def add(self, embedding: Embedding, image_id: str | None = None) -> str:
        """Keep an embedding; return its id, which cannot be guessed.

        Args:
            embedding: What to keep.
            image_id: The id that it gets, in place of what had it; None for a new one.
        """
        image_id = image_id or new_id()
        image = StoredImage(embedding.nbytes, embedding)
        left = None
        with self._lock:
            if image_id in self._images:
                left = self._end(image_id)
            self._gone.pop(image_id, None)
            self._images[image_id] = image
            self._keep(image_id, image)
        self._unlink(left)
        self._make_room()
        return image_id

    def holds(self, image_id: str) -> bool:
        """Tell whether `get` would return an image."""
        with self._lock:
            return image_id in self._images

    def ids(self) -> list[str]:
        """Return the ids of all images."""
        with self._lock:
            return list(self._images)

    def discard(self, image_id: str) -> None:
        """Forget an image if there is one, as if it had never been."""
        with self._lock:
            left = self._end(image_id) if image_id in self._images else None
            self._gone.pop(image_id, None)
            self._publish()
        self._unlink(left)

    def get(self, image_id: str) -> Embedding:
        """Return an embedding and mark it as used.

        Raises:
            ApiError: 410 where it was dropped to make room, 404 where the id is not known.
        """
        with self._lock:
            image = self._find(image_id)
            if image_id in self._memory:
                self._memory.move_to_end(image_id)
            if image.embedding is not None:
                return image.embedding
        embedding = self._bring_back(image_id, image)
        self._make_room()
        return embedding

    def remove(self, image_id: str) -> None:
        """Forget an image on purpose.

        Raises:
            ApiError: as `get`.
        """
        with self._lock:
            self._find(image_id)
            left = self._end(image_id)
            self._publish()
        self._unlink(left)

    def close(self) -> None:
        """Forget everything and remove the spill files."""
        with self._lock:
            for image_id in list(self._images):
                self._end(image_id)
        if self._folder is not None:
            self._folder.close()

    def _find(self, image_id: str) -> StoredImage:
        image = self._images.get(image_id)
        if image is not None:
            return image
        if image_id in self._gone:
            raise ApiError(
                410, "the image was dropped to make room: upload it again", "image_evicted"
            )
        raise ApiError(404, "no image has this id: upload it first", "image_unknown")

    def _bring_back(self, image_id: str, image: StoredImage) -> Embedding:
        """Bring an image back from disk, or wait for the thread that does."""
        with image.disk:
            with self._lock:
                if self._images.get(image_id) is not image:
                    self._find(image_id)  # raises: it ended meanwhile
                if image.embedding is not None:
                    return image.embedding
                spilled = image.spilled
                self._take_from_disk(image_id, image)
            # It is on disk, and nobody else takes it from there while we hold `disk`.
            assert self._folder is not None
            assert spilled is not None
            embedding = self._folder.read(spilled)
            with self._lock:
                image.spilled = None
                if embedding is not None and not image.ended:
                    image.embedding = embedding
                    self._keep(image_id, image)
                elif not image.ended:
                    self._forget(image_id)
        self._unlink(spilled)
        if embedding is None:
            with self._lock:
                self._find(image_id)  # raises: it is gone
            raise AssertionError("an id is never given twice")
        return embedding

    def leave_device(self) -> bool:
        """Move the least recently used half of what is on a GPU to memory, where one is full.

        Returns:
            Whether there was any.
        """
        with self._lock:
            wanted = self._device_bytes // 2
            found = self._device_bytes > 0
        self._shrink_device(wanted)
        self._make_room()
        return found

    def _make_room(self) -> None:
        """Move the least recently used images on, from GPU to memory to disk, until all fits."""
        self._shrink_device(self._device_limit)
        while True:
            with self._lock:
                self._publish()
                newest = next(reversed(self._memory), None)
                image_id = next((i for i, one in self._memory.items() if not one.on_device), None)
                # The newest stays even where it alone is over the limit: its client just paid.
                if self._bytes <= self._limit or image_id is None or image_id == newest:
                    return
                image = self._memory.pop(image_id)
                self._bytes -= image.nbytes
            self._metrics.evictions.inc()
            self._spill(image_id, image)

    def _shrink_device(self, limit: int) -> None:
        """Copy the least recently used images from GPU to memory until the rest fit the limit."""
        while True:
            with self._lock:
                images = (item for item in self._memory.items() if item[1].on_device)
                image_id, image = next(images, (None, None))
                if self._device_bytes <= limit or image_id is None or image is None:
                    return
                embedding = image.embedding
            assert embedding is not None
            try:
                # Ordinary memory: what comes from a GPU lies in pinned memory, which is scarce.
                copied = embedding.mapped(lambda one: np.copy(to_host(one)))
            except (BackendError, MemoryError) as error:
                log.warning("an image on the GPU was dropped, not copied: %s", error)
                copied = None
            with self._lock:
                if image.embedding is not embedding or image_id not in self._memory:
                    continue  # another thread was first
                if copied is None:
                    self._forget(image_id)
                    continue
                self._count(image, -1)
                image.embedding = copied
                self._count(image, 1)

    def _count(self, image: StoredImage, sign: int) -> None:
        if image.on_device:
            self._device_bytes += sign * image.nbytes
        else:
            self._bytes += sign * image.nbytes

    def _spill(self, image_id: str, image: StoredImage) -> None:
        """Write an image to disk and let go of it in memory; without room there, forget it."""
        with image.disk:
            written = self._write(image)
            left: list[Spilled | None] = []
            with self._lock:
                image.embedding = None
                if image.ended:
                    left.append(written)
                elif written is None:
                    self._forget(image_id)
                else:
                    image.spilled = written
                    self._disk[image_id] = image
                    self._disk_bytes += image.nbytes
                    while self._disk_bytes > self._spill_limit:
                        left.append(self._forget(next(iter(self._disk))))
                self._publish()
        for spilled in left:
            self._unlink(spilled)

    def _write(self, image: StoredImage) -> Spilled | None:
        embedding = image.embedding
        if self._folder is None or image.nbytes > self._spill_limit or embedding is None:
            return None
        try:
            return self._folder.write(embedding)
        except (OutputError, BackendError, MemoryError) as error:
            self._metrics.spill_failures.inc()
            log.warning("an evicted image was dropped, not spilled: %s", error)
            return None

    def _keep(self, image_id: str, image: StoredImage) -> None:
        self._memory[image_id] = image
        self._count(image, 1)

    def _take_from_disk(self, image_id: str, image: StoredImage) -> None:
        del self._disk[image_id]
        self._disk_bytes -= image.nbytes

    def _forget(self, image_id: str) -> Spilled | None:
        """End an image for want of room; return what to unlink."""
        self._gone[image_id] = None
        while len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)
        return self._end(image_id)

    def _end(self, image_id: str) -> Spilled | None:
        """Take an image out; return what to unlink. Of one that moves, its mover lets go."""
        image = self._images.pop(image_id)
        image.ended = True
        if image_id in self._memory:
            del self._memory[image_id]
            self._count(image, -1)
            image.embedding = None
        elif image_id in self._disk:
            self._take_from_disk(image_id, image)
            return image.spilled
        return None

    def _unlink(self, spilled: Spilled | None) -> None:
        if spilled is not None and self._folder is not None:
            self._folder.remove(spilled)

    def _publish(self) -> None:
        self._metrics.cached_images.set(len(self._memory))
        self._metrics.cached_bytes.set(self._bytes)
        self._metrics.cached_device_bytes.set(self._device_bytes)
        self._metrics.spilled_bytes.set(self._disk_bytes)
