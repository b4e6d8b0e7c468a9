"""`samtrt.json`: what a model directory holds, and proof that its files are those."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from samtrt.choices import (
    AnyStage,
    Family,
    Generation,
    MaskChoice,
    Precision,
    Quantization,
    Stage,
    VideoStage,
)
from samtrt.errors import ManifestError, OutputError
from samtrt.feature_maps import IMAGE_EMBEDDINGS, FeatureMap
from samtrt.files import check_target, printable, read_whole, sha256_of, write_atomic
from samtrt.onnx_files import external_files
from samtrt.preparation.frame import Frame
from samtrt.preparation.spec import SAM_MEAN, SAM_STD, Preparation
from samtrt.registry import (
    MASK_THRESHOLD,
    MODELS,
    OFFICIAL_THRESHOLDS,
    MaskThresholds,
    ViTSpec,
)
from samtrt.sealed import CHECKSUM, begins_as_json, check_json, sealed_json
from samtrt.types import Size

MANIFEST_NAME = "samtrt.json"
FORMAT = 4
"""4 says which maps flow from encoder to decoder, before it was one; 3 has a checksum over all that
it says; 2 says how images are prepared; 1 had the official mean and deviation, and longest side
alone."""
_FIRST_SEALED = 3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Frozen):
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


class Source(_Frozen):
    """The checkpoint that the graphs were made from."""

    name: str
    sha256: str
    hub: str | None = Field(
        default=None, description="owner/name@commit, where it came from the Hugging Face Hub"
    )
    tensors: str | None = Field(
        default=None, description="which of several models in the file, by its names' beginning"
    )


class Quantized(_Frozen):
    """That and how the encoder's linear layers were turned into int8."""

    method: Quantization
    float32_layers: tuple[str, ...] = Field(description="left as they were: they lost too much")
    images: int = Field(ge=0, description="measured on")
    mean_iou: float = Field(description="of masks on those images with the float32 model's")


class EncoderSizes(_Frozen):
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
    def of(cls, spec: ViTSpec) -> EncoderSizes:
        return cls(
            width=spec.embed_dim, depth=spec.depth, heads=spec.num_heads, window=spec.window_size
        )


class Video(_Frozen):
    """What is known of a model that follows objects through videos, beside its graphs."""

    memory_channels: int = Field(gt=0)
    memories: int = Field(gt=1, description="of one prompted frame and of frames before this one")
    pointers: int = Field(gt=1, description="of objects, as memories")
    mask_weights: tuple[float, ...] = Field(
        min_length=16, max_length=16, description="from 4 x 4 cells of a user's mask to one logit"
    )
    mask_bias: float


class Manifest(_Frozen):
    """Everything that is needed to run a model directory rightly."""

    format: int = FORMAT
    model: str
    image_size: int = Field(gt=0, description="side of the square that prompts and masks are in")
    input_size: int = Field(gt=0, description="side of the encoder's input")
    maps: tuple[FeatureMap, ...] = Field(
        min_length=1, description="what flows from encoder to decoder; the image embedding first"
    )
    mask_choice: MaskChoice = Field(
        default=MaskChoice.SAM, description="which of the decoder's masks answer a prompt"
    )
    hq_token_only: bool = Field(
        default=False, description="of a SAM-HQ: its own mask alone, not the sum with SAM's"
    )
    generation: Generation = Field(
        default=Generation.SAM, description="how prompts are completed and masks are formed"
    )
    object_scores: bool = Field(
        default=False, description="whether the decoder tells if there is an object at all"
    )
    family: Family = Field(default=Family.VIT, description="which image encoder it has")
    encoder: EncoderSizes | None = Field(
        default=None, description="of a ViT; None in manifests of 0.1: see `encoder_sizes`"
    )
    preparation: Preparation = Field(description="how images become the encoder's input")
    mask_threshold: float = MASK_THRESHOLD
    automatic: MaskThresholds = Field(
        default=OFFICIAL_THRESHOLDS, description="which automatic masks are kept unless asked"
    )
    precision: Precision
    opset: int
    simplified: bool
    dynamic_batch: bool
    attention: str
    checkpoint: Source
    quantized: Quantized | None = None
    video: Video | None = Field(default=None, description="None for a model of images alone")
    files: dict[Stage | VideoStage, tuple[FileEntry, ...]] = Field(
        description="for each stage the ONNX file first, then its external data"
    )
    versions: dict[str, str]

    @model_validator(mode="after")
    def _maps_fit(self) -> Manifest:
        names = [one.name for one in self.maps]
        if names[0] != IMAGE_EMBEDDINGS or len(set(names)) < len(names):
            raise ValueError(f"the maps are {', '.join(names)}, not {IMAGE_EMBEDDINGS} and others")
        _, height, width = self.maps[0].shape
        if height != width:
            raise ValueError(f"the image embedding is {height} x {width}, not a square")
        return self

    @property
    def embed_channels(self) -> int:
        """Channels of the image embedding."""
        return self.maps[0].shape[0]

    @property
    def embedding_size(self) -> int:
        """Height and width of the image embedding."""
        return self.maps[0].shape[1]

    @property
    def mask_size(self) -> int:
        """Height and width of low-res logits and of the mask input."""
        return 4 * self.embedding_size

    @property
    def encoder_sizes(self) -> EncoderSizes:
        """The sizes of a ViT; of a manifest that lacks them, those of the model of its name.

        Raises:
            ManifestError: where it lacks them and no known model has the name.
        """
        if self.encoder is not None:
            return self.encoder
        known = MODELS.get(self.model)
        if not isinstance(known, ViTSpec):
            raise ManifestError(
                f"the {MANIFEST_NAME} of this '{self.model}' model is of an older samtrt and does "
                "not say the encoder's sizes; export the model again"
            )
        return EncoderSizes.of(known)

    def frame(self, original: Size) -> Frame:
        """Return where an image of (height, width) lies in the square of prompts and masks."""
        return Frame(
            *(original, self.image_size, self.mask_size, self.preparation.resize, self.generation)
        )

    def input_frame(self, original: Size) -> Frame:
        """Return where an image of (height, width) lies in the encoder's input."""
        return replace(self.frame(original), image_size=self.input_size)

    def save(self, directory: Path) -> Path:
        """Write the manifest into `directory`; it appears whole or not at all."""
        path = directory / MANIFEST_NAME
        with write_atomic(path) as temporary:
            temporary.write_text(sealed_json(self.model_dump(mode="json")), encoding="utf-8")
        return path

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read `directory/samtrt.json`, of this format or an older one.

        Raises:
            ManifestError: where it is missing, is not a manifest or not as it was written, or is
                of a newer format.
        """
        path = directory / MANIFEST_NAME
        if not directory.is_dir():
            raise ManifestError(f"no model directory at {directory}; make one with: samtrt export")
        try:
            data = json.loads(read_whole(path))
        except FileNotFoundError:
            raise ManifestError(
                f"{directory} has no {MANIFEST_NAME}; make it with: samtrt export"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ManifestError(f"cannot read {path}: {reason}; export the model again") from None
        version = data.get("format", 1) if isinstance(data, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise ManifestError(
                f"{path} has format {version} and this samtrt reads up to {FORMAT}; update samtrt"
            )
        older = type(version) is int and version < _FIRST_SEALED  # True would be 1
        if isinstance(data, dict) and (CHECKSUM in data or not older):
            try:
                data = check_json(data)
            except ValueError as error:
                raise ManifestError(
                    f"{path} is damaged or was changed by hand ({error}); export the model again"
                ) from None
        try:
            return cls.model_validate(_upgraded(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise ManifestError(
                f"{path} is not a valid manifest: {where}: {first['msg']}; export the model again"
            ) from None

    def path_of(self, directory: Path, stage: AnyStage) -> Path:
        """Return the checked path of a stage's ONNX file.

        Raises:
            ManifestError: where a file of the stage is missing or is not what was exported, or the
                graph takes weights from a file that the manifest does not list.
        """
        entries = self.files.get(stage)
        if not entries:
            raise ManifestError(f"{directory / MANIFEST_NAME} names no {stage.value}; export again")
        for entry in entries:
            _check_file(directory / entry.name, entry)
        path = directory / entries[0].name
        if unlisted := external_files(path) - {entry.name for entry in entries[1:]}:
            raise ManifestError(
                f"{path} takes weights from {printable(sorted(unlisted)[0])}, which "
                f"{MANIFEST_NAME} does not list: nothing vouches for them; export the model again"
            )
        return path

    @contextmanager
    def checked(self, directory: Path, stage: AnyStage) -> Iterator[Path]:
        """Yield what `path_of` returns, for a block that reads the files anew.

        Raises:
            ManifestError: as `path_of`, and where a file was replaced or written since it was
                checked, by the end of the block.
        """
        paths = [directory / entry.name for entry in self.files.get(stage, ())]
        before = [_state(path) for path in paths]
        yield self.path_of(directory, stage)
        for path, state in zip(paths, before, strict=True):
            if _state(path) != state:
                raise ManifestError(
                    f"{path} was changed while it was read: was the model exported meanwhile? Try "
                    "again"
                )


def check_model_directory(directory: Path, force: bool) -> None:
    """Make sure that a model may be written into a directory, before any work.

    Raises:
        OutputError: where files of a model's names are there that samtrt did not write, and
            `force` is not set; or what is there is no file.
    """
    if not directory.is_dir():
        return
    graphs = [
        f"{stage.value}.onnx{suffix}" for stage in (*Stage, *VideoStage) for suffix in ("", ".data")
    ]
    places = [directory / name for name in (MANIFEST_NAME, *graphs)]
    taken = [path for path in places if check_target(path).exists()]
    if taken and not force and not begins_as_json(directory / MANIFEST_NAME, "format"):
        raise OutputError(
            f"{taken[0]} is there already and was not written by samtrt: choose another directory, "
            "or replace it with --force"
        )


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes with whatever is done to a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _upgraded(data: object) -> object:
    """Bring what was read to this format."""
    if not isinstance(data, dict) or data.get("format", 1) not in range(1, FORMAT):
        return data
    changes: dict[str, Any] = {"format": FORMAT}
    if data.get("format", 1) == 1:
        mean, std = data.get("pixel_mean", SAM_MEAN), data.get("pixel_std", SAM_STD)
        changes["preparation"] = {"mean": mean, "std": std}
    image, patch = data.get("image_size"), data.get("patch_size")
    if isinstance(image, int) and isinstance(patch, int) and patch > 0:
        shape = (data.get("embed_channels"), image // patch, image // patch)
        changes["input_size"] = image
        changes["maps"] = [{"name": IMAGE_EMBEDDINGS, "shape": shape}]
    gone = ("pixel_mean", "pixel_std", "patch_size", "embed_channels")
    rest = {name: value for name, value in data.items() if name not in gone}
    return {**rest, **changes}


def _check_file(path: Path, entry: FileEntry) -> None:
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
