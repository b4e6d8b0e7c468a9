"""What a manifest is put together from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from samtrt.choices import Quantization
from samtrt.errors import ManifestError
from samtrt.files import sha256_of
from samtrt.manifest.reading import MANIFEST_NAME
from samtrt.registry import HieraSpec, ViTSpec


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(Frozen):
    """One file of a model directory."""

    name: str
    size: int = Field(ge=0, description="bytes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _stays_inside(self) -> FileEntry:
        if Path(self.name).name != self.name:
            raise ValueError(f"file name {self.name!r} leaves the model directory")
        return self

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        return cls(name=path.name, size=path.stat().st_size, sha256=sha256_of(path))


class Source(Frozen):
    """The checkpoint that the graphs were made from."""

    name: str
    sha256: str
    hub: str | None = Field(
        default=None, description="owner/name@commit, where it came from the Hugging Face Hub"
    )
    tensors: str | None = Field(
        default=None, description="which of several models in the file, by its names' beginning"
    )


class Quantized(Frozen):
    """That and how the encoder's linear layers were turned into int8."""

    method: Quantization
    float32_layers: tuple[str, ...] = Field(description="left as they were: they lost too much")
    images: int = Field(ge=0, description="measured on")
    mean_iou: float = Field(description="of masks on those images with the float32 model's")


class EncoderSizes(Frozen):
    """What fixes the shape of an image encoder, beside the sizes of its image and patches."""

    width: int = Field(gt=0, description="channels of a token")
    depth: int = Field(gt=0, description="blocks")
    heads: int = Field(gt=0)
    window: int = Field(ge=0, description="tokens along a side of a window; 0 for no windows")

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @classmethod
    def of(cls, spec: ViTSpec | HieraSpec) -> EncoderSizes:
        """Return those of a ViT, or of a Hiera's last stage; heads are as wide in all."""
        if isinstance(spec, HieraSpec):
            widest = spec.stage_widths[-1]
            heads = widest * spec.num_heads // spec.embed_dim
            return cls(width=widest, depth=sum(spec.stages), heads=heads, window=spec.windows[-1])
        return cls(
            width=spec.embed_dim, depth=spec.depth, heads=spec.num_heads, window=spec.window_size
        )


PROMPTED_FRAMES = 4
"""Prompted frames that an object's frames attend to, where nothing else is asked for. The queues
have room for one; each further one takes a place more."""


class Video(Frozen):
    """What is known of a model that follows objects through videos, beside its graphs."""

    memory_channels: int = Field(gt=0)
    memory_tokens: int | None = Field(
        default=None, gt=0, description="of one memory; null for one at each cell of the image"
    )
    memories: int = Field(gt=1, description="of one prompted frame and of frames before this one")
    pointers: int = Field(gt=1, description="of objects, as memories")
    mask_weights: tuple[float, ...] = Field(
        min_length=16, max_length=16, description="from 4 x 4 cells of a user's mask to one logit"
    )
    mask_bias: float

    def memory_shape(self, embedding_size: int) -> tuple[int, ...]:
        """Return the shape of one memory: channels and cells, or tokens and channels."""
        if self.memory_tokens is None:
            return self.memory_channels, embedding_size, embedding_size
        return self.memory_tokens, self.memory_channels


def check_file(path: Path, entry: FileEntry) -> None:
    """Make sure that a file is the one that a manifest lists.

    Raises:
        ManifestError: where it is missing or another.
    """
    try:
        size = path.stat().st_size
    except OSError:
        raise ManifestError(
            f"{path} is missing, though {MANIFEST_NAME} names it; export again"
        ) from None
    if size != entry.size:
        raise ManifestError(
            f"{path} has {size} bytes and {MANIFEST_NAME} says {entry.size}: the file is truncated "
            "or was replaced; export the model again"
        )
    if sha256_of(path) != entry.sha256:
        raise ManifestError(
            f"{path} is not the file that {MANIFEST_NAME} describes (sha256 differs); "
            "export the model again"
        )


def state_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes with whatever is done to a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
