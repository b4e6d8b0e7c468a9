"""The decoder's graph, for browsers that decode by themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from samtrt.choices import Stage
from samtrt.errors import ManifestError
from samtrt.manifest import Manifest
from samtrt.server.schemas import DecoderFile


@dataclass(frozen=True)
class Decoder:
    """A graph and what the API says of it.

    Attributes:
        file: Its address, hash and size.
        content: Its bytes, of this hash. They are kept: the file may become another while the
            server runs.
    """

    file: DecoderFile
    content: bytes


def load_decoder(manifest: Manifest, directory: Path | None) -> Decoder | None:
    """Read the decoder's graph, if there is one that a browser can load: a single file.

    Raises:
        ManifestError: where the file is not the one that the manifest describes.
    """
    entries = manifest.files.get(Stage.DECODER, ())
    if directory is None or len(entries) != 1:
        return None
    path = manifest.path_of(directory, Stage.DECODER)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror or error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != entries[0].sha256:
        raise ManifestError(
            f"{path} is not the file that the manifest describes: export the model again"
        )
    return Decoder(
        DecoderFile(url="/v1/model/decoder.onnx", sha256=digest, size=len(content)), content
    )
