"""The checkpoint's own results in a file, so that engines can be verified without PyTorch.

`record` runs what `verify` asks of its reference and keeps every engine result; `load_reference`
gives them back in the same order, as a predictor that computes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samtrt._version import __version__
from samtrt.backends.base import Arrays, HostBackend, image_inputs, stage_tensors
from samtrt.choices import Stage
from samtrt.errors import VerificationError
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.sealed import Tensors, begins_with, check_seal, read_tensors, write_sealed
from samtrt.types import TensorInfo, UInt8Array
from samtrt.verification.compare import BOXES_AT_ONCE, seeded_prompts
from samtrt.verification.tap import tapped
from samtrt.verification.video import Clip, Followed

FORMAT = "samtrt-reference-3"
_FORMATS = "samtrt-reference-"
_VIDEO = "video."
_SAME_PIXELS = 1e-2
_AGAIN = "write it again with: samtrt verify --save-reference"


class _Clip(BaseModel):
    """Which clip objects were followed through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str


class _About(BaseModel):
    """What a reference says of itself, beside its arrays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samtrt: str
    model: str
    checkpoint_sha256: str
    preparation: str
    backend: str
    seed: int = Field(ge=0)
    images: tuple[tuple[str, str], ...] = Field(description="name and hash of each, in order")
    clip: _Clip | None = None


@dataclass(frozen=True)
class Reference:
    """What `load_reference` found: a predictor to compare with, and the seed of its prompts.

    Attributes:
        clip: Name and hash of the clip that objects were followed through; None for none.
        masks: What was found on it, packed bits by name.
    """

    predictor: Predictor
    seed: int
    path: Path
    clip: tuple[str, str] | None
    masks: Tensors

    def followed(self, clip: Clip) -> Followed:
        """Return what was found on a clip.

        Raises:
            VerificationError: where it is another clip than the stored one.
        """
        if self.clip is None or self.clip[1] != clip.sha256:
            raise VerificationError(
                f"{self.path} is of {'another clip' if self.clip else 'images alone'}, not of "
                f"{clip.name} with {len(clip.frames)} frames: {_AGAIN}, or leave videos out by "
                "--no-video"
            )
        try:
            return Followed.unpacked(self.masks, clip)
        except ValueError as error:
            raise VerificationError(
                f"{self.path} is no whole reference ({error}): {_AGAIN}"
            ) from None


def record(
    path: Path,
    predictor: Predictor,
    images: Mapping[str, UInt8Array],
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
    video: tuple[Clip, Followed] | None = None,
) -> None:
    """Write what `verify` will ask of a reference.

    Args:
        path: A .safetensors file; it appears whole or not at all. 25 MB for each image at 1024.
        predictor: On the `pytorch` backend.
        images: uint8 [H, W, 3] by name.
        seed: Of the prompts' positions.
        report: Called with a line of text for each image.
        video: What was found on a clip.

    Raises:
        OutputError: where the file cannot be written.
        VerificationError: where the checkpoint's own results are not numbers.
    """
    recording, encoder, decoder = tapped(predictor, BOXES_AT_ONCE)
    for name, image in images.items():
        report(f"computing the reference on {name} ({image.shape[1]} x {image.shape[0]})")
        recording.set_image(image)
        for arguments in seeded_prompts(recording, seed).values():
            recording.predict_batch(**arguments)
    manifest = predictor.manifest
    about = _About(
        samtrt=__version__,
        model=manifest.model,
        checkpoint_sha256=manifest.checkpoint.sha256,
        preparation=str(manifest.preparation),
        backend=predictor.encoder.name,
        seed=seed,
        images=tuple((name, _hash(image)) for name, image in images.items()),
        clip=_Clip(name=video[0].name, sha256=video[0].sha256) if video else None,
    )
    tensors = {
        f"{stage.value}.{number}.{name}": np.ascontiguousarray(array)
        for stage, tap in ((Stage.ENCODER, encoder), (Stage.DECODER, decoder))
        for number, run in enumerate(tap.take())
        for name, array in {**run.inputs, **run.outputs}.items()
    }
    if video:
        tensors |= {f"{_VIDEO}{name}": array for name, array in video[1].packed().items()}
    if not _are_numbers(tensors):
        raise VerificationError(
            "the checkpoint's own results hold NaN or infinities: no engine can be compared with it"
        )
    write_sealed(path, tensors, {"format": FORMAT, "about": about.model_dump_json()})


def is_reference(path: Path) -> bool:
    """Tell whether a file begins as a reference does, even if the rest is damaged; or is empty."""
    return begins_with(path, _FORMATS)


def load_reference(path: Path, manifest: Manifest, images: Mapping[str, UInt8Array]) -> Reference:
    """Read a file of `record` to verify engines of this model directory on these images.

    Raises:
        VerificationError: where the file is not such a file, is damaged, or is of another
            checkpoint or of other images.
    """
    tensors, about = _read(path)
    ours = manifest.checkpoint.sha256
    if about.checkpoint_sha256 != ours:
        raise VerificationError(
            f"{path} is the reference of {about.model} with the checkpoint "
            f"{about.checkpoint_sha256[:12]}..., and the engines are of {manifest.model} with "
            f"{ours[:12]}..."
        )
    if about.preparation != str(manifest.preparation):
        raise VerificationError(
            f"{path} was computed on images prepared otherwise ({about.preparation}; here: "
            f"{manifest.preparation}): {_AGAIN}"
        )
    if [sha256 for _, sha256 in about.images] != [_hash(image) for image in images.values()]:
        names = ", ".join(name for name, _ in about.images)
        raise VerificationError(
            f"{path} was computed on other images ({names}): give the same ones in the same order"
        )
    masks = {
        name.removeprefix(_VIDEO): tensors.pop(name)
        for name in [*tensors]
        if name.startswith(_VIDEO)
    }
    try:
        runs = {stage: _runs(tensors, stage, manifest) for stage in Stage}
        if len(runs[Stage.ENCODER]) != len(images):
            raise ValueError(f"it has {len(runs[Stage.ENCODER])} embeddings")
        encoder, decoder = (_Replay(manifest, stage, runs[stage]) for stage in Stage)
    except ValueError as error:
        raise VerificationError(f"{path} is no whole reference ({error}): {_AGAIN}") from None
    clip = (about.clip.name, about.clip.sha256) if about.clip else None
    predictor = Predictor(encoder, decoder, manifest, BOXES_AT_ONCE)
    return Reference(predictor, about.seed, path, clip, masks)


def _read(path: Path) -> tuple[Tensors, _About]:
    try:
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != FORMAT:
            raise VerificationError(f"{path} is not a stored reference of this version; {_AGAIN}")
        check_seal(tensors, metadata)
        return tensors, _About.model_validate_json(metadata.get("about", ""))
    except OSError as error:
        raise VerificationError(f"cannot read {path}: {error.strerror or error}") from None
    except MemoryError:
        raise VerificationError(f"{path} takes more memory than there is") from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'about'}: {first['msg']}"
        raise VerificationError(
            f"{path} is damaged or no stored reference ({reason}); {_AGAIN}"
        ) from None
    except ValueError as error:
        raise VerificationError(
            f"{path} is damaged or no stored reference ({error}); {_AGAIN}"
        ) from None


class _Replay(HostBackend):
    """Gives recorded results, one run after the other."""

    name = "stored reference"
    device = "none"

    def __init__(self, manifest: Manifest, stage: Stage, runs: list[Tensors]) -> None:
        inputs, outputs = stage_tensors(manifest, stage)
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}
        self._runs = iter(runs)

    def _compute(self, feeds: Arrays) -> Tensors:
        recorded = next(self._runs, None)
        if recorded is None or not self._is_of(recorded, feeds):
            raise VerificationError(
                "the stored reference is of other prompts: it was written by another version of "
                "samtrt; compute it again with: samtrt verify --save-reference"
            )
        return {name: recorded[name] for name in self.outputs}

    def _is_of(self, recorded: Tensors, feeds: Arrays) -> bool:
        """Tell whether the prompts are those of the recorded run."""
        return all(
            array.shape == feeds[name].shape
            and np.allclose(array, feeds[name], rtol=0, atol=_SAME_PIXELS)
            for name, array in recorded.items()
            if name in self.inputs
        )

    def close(self) -> None:
        self._runs = iter(())


def _runs(tensors: Tensors, stage: Stage, manifest: Manifest) -> list[Tensors]:
    """Return a stage's recorded runs, in order.

    Raises:
        ValueError: where one lacks an array, or has one that the stage cannot have given.
    """
    runs: dict[int, Tensors] = {}
    for key, array in tensors.items():
        found = re.fullmatch(r"(encoder|decoder)\.(\d{1,9})\.(\w+)", key, re.ASCII)
        if not found:
            raise ValueError(f"there is no run {key!r}")
        if found[1] == stage.value:
            runs.setdefault(int(found[2]), {})[found[3]] = array
    if sorted(runs) != list(range(len(runs))):
        raise ValueError(f"runs of the {stage.value} are missing")
    inputs, outputs = stage_tensors(manifest, stage)
    kept = {info.name: info for info in (*inputs, *outputs)}
    for name in (*image_inputs(stage, manifest), "mask_input"):
        kept.pop(name, None)
    for number, run in runs.items():
        _check_run(f"{stage.value}.{number}", run, kept)
    return [runs[number] for number in range(len(runs))]


def _check_run(where: str, run: Tensors, kept: Mapping[str, TensorInfo]) -> None:
    if run.keys() != kept.keys():
        raise ValueError(f"{where} has {', '.join(sorted(run))} and not {', '.join(sorted(kept))}")
    sizes: dict[str, int] = {}
    for name, info in kept.items():
        array = run[name]
        if array.dtype != info.dtype or not info.accepts(array.shape):
            raise ValueError(f"{where}.{name} is {array.dtype} {array.shape} and not {info}")
        for dim, size in zip(info.shape, array.shape, strict=True):
            if isinstance(dim, str) and sizes.setdefault(dim, size) != size:
                raise ValueError(f"{where}.{name} has {size} {dim}")
    if not _are_numbers(run):
        raise ValueError(f"{where} holds NaN or infinities")


def _are_numbers(tensors: Tensors) -> bool:
    return all(np.isfinite(array).all() for array in tensors.values())


def _hash(image: UInt8Array) -> str:
    shape = "x".join(map(str, image.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(image).tobytes()).hexdigest()
