"""What was read of an image's file, in a run over many."""

from __future__ import annotations

from dataclasses import dataclass

from samtrt.types import Embedding, Size, UInt8Array


@dataclass(frozen=True)
class Given:
    """An image or an embedding, as it was read.

    Attributes:
        image: The picture, RGB, uint8 [H, W, 3], or the embedding of one.
        sha256: Hash of the file's bytes, those that were read.
        picture_name: Of an embedding, the name of its picture's file.
    """

    image: UInt8Array | Embedding
    sha256: str
    picture_name: str | None = None

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        if isinstance(self.image, Embedding):
            return self.image.original_size
        return self.image.shape[:2]

    @property
    def pixels(self) -> UInt8Array | None:
        """The picture; None for an embedding."""
        return None if isinstance(self.image, Embedding) else self.image
