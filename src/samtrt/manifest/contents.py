"""The manifest itself, and the files that it vouches for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from samtrt.choices import (
    AnyStage,
    Family,
    Generation,
    MaskChoice,
    Precision,
    Stage,
    VideoStage,
)
from samtrt.errors import ManifestError
from samtrt.feature_maps import IMAGE_EMBEDDINGS, FeatureMap
from samtrt.files import printable, write_atomic
from samtrt.manifest.parts import (
    EncoderSizes,
    FileEntry,
    Frozen,
    Quantized,
    Source,
    Video,
    check_file,
    state_of,
)
from samtrt.manifest.reading import FORMAT, MANIFEST_NAME, read_manifest
from samtrt.onnx_files import external_files
from samtrt.preparation.frame import Frame
from samtrt.preparation.spec import Preparation
from samtrt.registry import (
    MASK_THRESHOLD,
    MODELS,
    OFFICIAL_THRESHOLDS,
    HieraSpec,
    MaskThresholds,
    ViTSpec,
)
from samtrt.sealed import sealed_json
from samtrt.types import Size


class Manifest(Frozen):
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
        default=None,
        description="of a ViT or Hiera; None in older manifests: see `encoder_sizes`",
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
        """Sizes of a ViT or Hiera; of a manifest that lacks them, those of the model of its name.

        Raises:
            ManifestError: where it lacks them and no known model has the name.
        """
        if self.encoder is not None:
            return self.encoder
        known = MODELS.get(self.model)
        if not isinstance(known, ViTSpec | HieraSpec):
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
        path, data = directory / MANIFEST_NAME, read_manifest(directory)
        try:
            return cls.model_validate(data)
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
            check_file(directory / entry.name, entry)
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
        before = [state_of(path) for path in paths]
        yield self.path_of(directory, stage)
        for path, state in zip(paths, before, strict=True):
            if state_of(path) != state:
                raise ManifestError(
                    f"{path} was changed while it was read: was the model exported meanwhile? Try "
                    "again"
                )
