"""What was read of an image's file, in a run over many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from samtrt.encoding import Image
from samtrt.types import Embedding, Size, UInt8Array, to_host


@dataclass(frozen=True)
class Given:
    """An image or an embedding, as it was read.

    Attributes:
        image: The picture, RGB, uint8 [H, W, 3], on the host or a GPU; or the embedding of one.
        sha256: Hash of the file's bytes, those that were read.
        picture_name: Of an embedding, the name of its picture's file.
    """

    image: Image | Embedding
    sha256: str
    picture_name: str | None = None

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        if isinstance(self.image, Embedding):
            return self.image.original_size
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def pixels(self) -> UInt8Array | None:
        """The picture on the host, copied once from a GPU; None for an embedding."""
        return None if isinstance(self.image, Embedding) else to_host(self.image)
