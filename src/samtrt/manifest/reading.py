"""`samtrt.json` as a file: of this format or an older one, and as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from samtrt.choices import Stage, VideoStage
from samtrt.errors import ManifestError, OutputError
from samtrt.feature_maps import IMAGE_EMBEDDINGS
from samtrt.files import check_target, read_whole
from samtrt.preparation.spec import SAM_MEAN, SAM_STD
from samtrt.sealed import CHECKSUM, begins_as_json, check_json

MANIFEST_NAME = "samtrt.json"
FORMAT = 4
"""4 says which maps flow from encoder to decoder, before it was one; 3 has a checksum over all that
it says; 2 says how images are prepared; 1 had the official mean and deviation, and longest side
alone."""
_FIRST_SEALED = 3


def read_manifest(directory: Path) -> object:
    """Return what `directory/samtrt.json` holds, brought to this format but not checked further.

    Raises:
        ManifestError: where it is missing, cannot be read or was changed, or is of a newer format.
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
    return _upgraded(data)


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
