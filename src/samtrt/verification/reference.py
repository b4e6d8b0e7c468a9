"""The checkpoint's own results in a file, so that engines can be verified without PyTorch.

`record` runs what `verify` asks of its reference and keeps every engine result; `load_reference`
gives them back in the same order, as a predictor that computes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load

from samtrt._version import __version__
from samtrt.backends.base import Arrays, Backend, HostBackend, stage_tensors
from samtrt.choices import Stage
from samtrt.errors import VerificationError
from samtrt.files import write_tensors
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.types import UInt8Array
from samtrt.verification.compare import seeded_prompts

FORMAT = "samtrt-reference-2"
_PROMPTS = ("point_coords", "point_labels", "has_mask_input")
"""Inputs that are kept beside the results, to notice other prompts."""
_SAME_PIXELS = 1e-2

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """What `load_reference` found: a predictor to compare with, and the seed of its prompts."""

    predictor: Predictor
    seed: int


def record(
    path: Path,
    predictor: Predictor,
    images: Mapping[str, UInt8Array],
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write what `verify` will ask of a reference.

    Args:
        path: A .safetensors file; it appears whole or not at all. 25 MB for each image at 1024.
        predictor: On the `pytorch` backend.
        images: uint8 [H, W, 3] by name.
        seed: Of the prompts' positions.
        report: Called with a line of text for each image.

    Raises:
        OutputError: where the file cannot be written.
    """
    encoder, decoder = _Recorder(predictor.encoder), _Recorder(predictor.decoder)
    recording = Predictor(encoder, decoder, predictor.manifest)
    for name, image in images.items():
        report(f"computing the reference on {name} ({image.shape[1]} x {image.shape[0]})")
        recording.set_image(image)
        for arguments in seeded_prompts(recording, seed).values():
            recording.predict_batch(**arguments)
    about = {
        "samtrt": __version__,
        "model": predictor.manifest.model,
        "checkpoint_sha256": predictor.manifest.checkpoint.sha256,
        "preparation": str(predictor.manifest.preparation),
        "backend": predictor.encoder.name,
        "seed": seed,
        "images": {name: _hash(image) for name, image in images.items()},
        "runs": {"encoder": len(encoder.runs), "decoder": len(decoder.runs)},
    }
    tensors = {
        f"{stage}.{number}.{name}": np.ascontiguousarray(array)
        for stage, one in (("encoder", encoder), ("decoder", decoder))
        for number, run in enumerate(one.runs)
        for name, array in run.items()
    }
    write_tensors(path, tensors, {"format": FORMAT, "about": json.dumps(about)})


def load_reference(path: Path, manifest: Manifest, images: Mapping[str, UInt8Array]) -> Reference:
    """Read a file of `record` to verify engines of this model directory on these images.

    Raises:
        VerificationError: where the file is not such a file, or is of another checkpoint or of
            other images.
    """
    again = "write it again with: samtrt verify --save-reference"
    try:
        return _load(path, manifest, images, again)
    except OSError as error:
        raise VerificationError(f"cannot read {path}: {error.strerror or error}") from None
    except _DAMAGE as error:
        raise VerificationError(
            f"{path} is damaged or no stored reference ({type(error).__name__}); {again}"
        ) from None


_DAMAGE = (
    *(SafetensorError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(RecursionError, MemoryError),
)
"""What reading a file of any content may raise."""


def _load(
    path: Path, manifest: Manifest, images: Mapping[str, UInt8Array], again: str
) -> Reference:
    """Read a reference; raises `_DAMAGE` where the file is not as `record` writes it."""
    content = path.read_bytes()
    tensors = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__", {})
    if metadata.get("format") != FORMAT:
        raise VerificationError(
            f"{path} is not a stored reference of this version; write one with: "
            "samtrt verify --save-reference"
        )
    about = json.loads(metadata["about"])
    ours = manifest.checkpoint.sha256
    if about["checkpoint_sha256"] != ours:
        raise VerificationError(
            f"{path} is the reference of {about['model']} with the checkpoint "
            f"{about['checkpoint_sha256'][:12]}..., and the engines are of {manifest.model} with "
            f"{ours[:12]}..."
        )
    if about["preparation"] != str(manifest.preparation):
        raise VerificationError(
            f"{path} was computed on images prepared otherwise ({about['preparation']}; here: "
            f"{manifest.preparation}): {again}"
        )
    if about["images"] != {name: _hash(image) for name, image in images.items()}:
        raise VerificationError(
            f"{path} was computed on other images ({', '.join(about['images'])}): give the same "
            "ones in the same order"
        )
    encoder, decoder = (
        _Replay(manifest, stage, _runs(tensors, stage, about["runs"][stage.value]))
        for stage in (Stage.ENCODER, Stage.DECODER)
    )
    seed = about["seed"]
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"the seed is {seed}")
    return Reference(Predictor(encoder, decoder, manifest), seed)


class _Recorder(HostBackend):
    """Runs another backend and keeps what came out."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.device = backend.name, backend.device
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self.runs: list[Tensors] = []

    def _compute(self, feeds: Arrays) -> Tensors:
        out = self._backend.run(feeds)
        self.runs.append({**{name: feeds[name] for name in _PROMPTS if name in feeds}, **out})
        return out

    def close(self) -> None:
        self._backend.close()


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
        if recorded is None or not _same_prompts(recorded, feeds):
            raise VerificationError(
                "the stored reference is of other prompts: it was written by another version of "
                "samtrt; compute it again with: samtrt verify --save-reference"
            )
        if not all(
            name in recorded and info.accepts(recorded[name].shape)
            for name, info in self.outputs.items()
        ):
            raise VerificationError(
                "the stored reference lacks results: it is damaged; write it again with: samtrt "
                "verify --save-reference"
            )
        return {name: recorded[name] for name in self.outputs}

    def close(self) -> None:
        self._runs = iter(())


def _same_prompts(recorded: Tensors, feeds: Arrays) -> bool:
    return all(
        name in recorded
        and recorded[name].shape == feeds[name].shape
        and np.allclose(recorded[name], feeds[name], rtol=0, atol=_SAME_PIXELS)
        for name in _PROMPTS
        if name in feeds
    )


def _runs(tensors: Tensors, stage: Stage, count: int) -> list[Tensors]:
    if not 0 <= count <= len(tensors):
        raise ValueError(f"{count} runs of {len(tensors)} tensors")
    runs: list[Tensors] = [{} for _ in range(count)]
    for key, array in tensors.items():
        where, number, name = key.split(".")
        if where == stage.value:
            runs[int(number)][name] = array
    return runs


def _hash(image: UInt8Array) -> str:
    shape = "x".join(map(str, image.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(image).tobytes()).hexdigest()
