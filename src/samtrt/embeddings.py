"""Image embeddings on disk: one safetensors file an image, tied by hashes to image and model.

The file holds a tensor for each map that flows from encoder to decoder (`image_embeddings`, and
what further ones the model has), in float16 or float32, and the fields of `EmbeddingInfo` as the
header's metadata; one checksum covers all (see `sealed`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from samtrt.choices import Precision
from samtrt.errors import ImageError, OutputError
from samtrt.feature_maps import IMAGE_EMBEDDINGS
from samtrt.files import check_ours, printable, read_whole, sha256_of
from samtrt.predictor import Predictor
from samtrt.sealed import Tensors, begins_with, check_seal, parse_tensors, write_sealed
from samtrt.types import Embedding, Size, to_host

SUFFIX = ".safetensors"
FORMAT = "samtrt-embedding-3"
_FORMATS = "samtrt-embedding-"
"""1 did not say how the image was prepared, nor what its engine computed in; 2 had no checksum over
what it said."""
_MOST_BYTES = 1 << 30
_STORED_AS = {Precision.FP16: np.float16, Precision.FP32: np.float32}


@dataclass(frozen=True)
class EmbeddingInfo:
    """What an embedding file says of itself.

    Attributes:
        model: Name of the model that encoded the image.
        checkpoint_sha256: Hash of the checkpoint that the model's engines were made from.
        precision: What the encoder computed in; of one that was quantized also the hash of its
            file.
        preparation: How the image became the encoder's input.
        stored_as: What the tensor is stored in.
        image_name: Name of the image's file.
        image_sha256: Hash of the image's file, of the bytes that were decoded.
        original_height, original_width: Size of the image in pixels.
        read_as: How the image's values became pixels, where the user chose it.
    """

    model: str
    checkpoint_sha256: str
    precision: str
    preparation: str
    stored_as: str
    image_name: str
    image_sha256: str
    original_height: int
    original_width: int
    read_as: str = ""

    @classmethod
    def parse(cls, fields: dict[str, str]) -> EmbeddingInfo:
        """Read what a header says.

        Raises:
            TypeError, ValueError, LookupError: where it says too little, too much or nonsense.
        """
        height, width = int(fields.pop("original_height")), int(fields.pop("original_width"))
        if min(height, width) < 1:
            raise ValueError(f"its image has the size {(height, width)}")
        return cls(**fields, original_height=height, original_width=width)

    @property
    def original_size(self) -> Size:
        return self.original_height, self.original_width


@dataclass(frozen=True)
class StoredEmbedding:
    """An embedding file that was read.

    Attributes:
        embedding: Its features in float32.
        info: What the file says of itself.
        sha256: Hash of the file's bytes, those that were read.
    """

    embedding: Embedding
    info: EmbeddingInfo
    sha256: str


def is_embedding_file(path: str | Path) -> bool:
    """Tell by its name whether a path is meant as an embedding rather than as an image."""
    return Path(path).suffix.lower() == SUFFIX


def check_storable(precision: Precision) -> None:
    """Refuse a precision that an embedding file cannot hold, before anything is encoded.

    Raises:
        OutputError: for another precision than fp16 and fp32.
    """
    if precision not in _STORED_AS:
        raise OutputError(f"an embedding cannot be stored in {precision.value}: use fp16 or fp32")


def save_embedding(
    path: str | Path,
    embedding: Embedding,
    predictor: Predictor,
    image_path: str | Path,
    precision: Precision = Precision.FP16,
    read_as: str = "",
    force: bool = False,
    image_sha256: str | None = None,
) -> EmbeddingInfo:
    """Write an embedding; the file appears whole or not at all.

    Args:
        path: Where to write, by custom `NAME.safetensors`.
        embedding: What `Predictor.encode` returned.
        predictor: What encoded it.
        image_path: The image's file.
        precision: What the tensor is stored in: fp16 takes half the room (2 MB at 1024 input) and
            rounds by at most 0.05 %.
        read_as: How the image's values became pixels, where the user chose it.
        force: Whether a file that is no embedding may be replaced, such as a checkpoint.
        image_sha256: Hash of the bytes that were decoded, as `read_picture` returns it. None to
            hash the file as it is now.

    Raises:
        ImageError: where the image's file is to be hashed and is gone.
        OutputError: where the file cannot be written or is another's, the values do not fit into
            fp16, or another precision than fp16 and fp32 is asked for.
    """
    path, image_path = Path(path), Path(image_path)
    check_storable(precision)
    check_ours(path, has_embedding_header, force)
    dtype = _STORED_AS[precision]
    with np.errstate(over="ignore"):
        maps = {
            name: np.ascontiguousarray(to_host(one), dtype=dtype)
            for name, one in embedding.maps.items()
        }
    if not _are_finite(maps):
        raise OutputError(f"the embedding of {image_path} does not fit into fp16: store it as fp32")
    info = EmbeddingInfo(
        **predictor.identity,
        stored_as=precision.value,
        image_name=printable(image_path.name),
        image_sha256=image_sha256 or _sha256_of_image(image_path),
        original_height=embedding.original_size[0],
        original_width=embedding.original_size[1],
        read_as=read_as,
    )
    metadata = {"format": FORMAT} | {name: str(value) for name, value in asdict(info).items()}
    write_sealed(path, maps, metadata)
    return info


def has_embedding_header(path: Path) -> bool:
    """Tell whether a file begins as an embedding does, even if the rest is damaged; or is empty."""
    return begins_with(path, _FORMATS)


def read_embedding_info(path: str | Path) -> EmbeddingInfo:
    """Read what an embedding file says of itself.

    Raises:
        ImageError: where the file is missing, damaged, or not an embedding.
    """
    return _read(Path(path))[0]


def load_embedding(
    path: str | Path, predictor: Predictor, image_path: str | Path | None = None
) -> Embedding:
    """Read an embedding for use with a predictor.

    Args:
        path: A file that `save_embedding` wrote.
        predictor: What is to use it.
        image_path: The image that it is thought to be of, to be checked; None to take its word.

    Returns:
        The embedding, its features in float32.

    Raises:
        ImageError: where the file is missing or damaged, was made by another model (checkpoint,
            precision or preparation), or is of another image.
    """
    return read_embedding(path, predictor, image_path).embedding


def read_embedding(
    path: str | Path, predictor: Predictor, image_path: str | Path | None = None
) -> StoredEmbedding:
    """Read an embedding as `load_embedding` does, with all that the file says."""
    path = Path(path)
    info, tensors, sha256 = _read(path)
    again = "encode the image again with: samtrt embed"
    ours = predictor.identity
    if info.checkpoint_sha256 != ours["checkpoint_sha256"]:
        raise ImageError(
            f"{path} was made by another model: {info.model}, checkpoint sha256 "
            f"{info.checkpoint_sha256[:12]}..., not {ours['model']}, "
            f"{ours['checkpoint_sha256'][:12]}...; {again}"
        )
    if info.precision != ours["precision"]:
        raise ImageError(
            f"{path} was made by {info.precision} engines and these are {ours['precision']}; "
            f"{again}"
        )
    if info.preparation != ours["preparation"]:
        raise ImageError(
            f"{path} was made of an image prepared otherwise ({info.preparation}; here: "
            f"{ours['preparation']}); {again}"
        )
    if image_path is not None and info.image_sha256 != (found := _sha256_of_image(image_path)):
        raise ImageError(
            f"{path} is not of {image_path}: it was made from {info.image_name}, sha256 "
            f"{info.image_sha256[:12]}..., not {found[:12]}...; {again}"
        )
    manifest = predictor.manifest
    expected = {one.name: (1, *one.shape) for one in manifest.maps}
    known = {name: one.shape for name, one in tensors.items()} == expected and all(
        one.dtype in _STORED_AS.values() for one in tensors.values()
    )
    if not known or not _are_finite(tensors):
        raise ImageError(f"{path} is damaged: its tensors are not those of this model; {again}")
    maps = {one.name: tensors[one.name].astype(one.dtype) for one in manifest.maps}
    embedding = Embedding.of(maps, manifest.frame(info.original_size))
    return StoredEmbedding(embedding, info, sha256)


def _read(path: Path) -> tuple[EmbeddingInfo, Tensors, str]:
    """Read a file whole and check it; return what it says, its tensors and the file's hash."""
    if not path.is_file():
        raise ImageError(f"no embedding at {path}; make one with: samtrt embed")
    try:
        # Before all of it is read: it may be a checkpoint.
        if os.access(path, os.R_OK) and not begins_with(path, _FORMATS):
            raise ImageError(f"{path} is not an embedding; make one with: samtrt embed")
        content = read_whole(path, _MOST_BYTES)
        tensors, metadata = parse_tensors(content)
        if metadata.get("format") != FORMAT:
            raise ImageError(
                f"{path} was written by an older or newer samtrt, whose embeddings say other "
                f"things of themselves ({metadata.get('format')}); make it again with: samtrt embed"
            )
        fields = check_seal(tensors, metadata)
        del fields["format"]
        if IMAGE_EMBEDDINGS not in tensors:
            raise ValueError(f"it holds {', '.join(tensors)}")
        return EmbeddingInfo.parse(fields), tensors, hashlib.sha256(content).hexdigest()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from None
    except (LookupError, TypeError, ValueError) as error:
        raise ImageError(
            f"{path} is damaged or not an embedding ({error}); make it again with: samtrt embed"
        ) from None


def _sha256_of_image(path: str | Path) -> str:
    try:
        return sha256_of(Path(path))
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror or error}") from None


def _are_finite(tensors: Tensors) -> bool:
    return all(np.isfinite(one).all() for one in tensors.values())
