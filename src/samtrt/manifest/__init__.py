"""`samtrt.json`: what a model directory holds, and proof that its files are those."""

from samtrt.manifest.contents import Manifest
from samtrt.manifest.parts import (
    PROMPTED_FRAMES,
    EncoderSizes,
    FileEntry,
    Quantized,
    Source,
    Video,
)
from samtrt.manifest.reading import FORMAT, MANIFEST_NAME, check_model_directory

__all__ = [
    "FORMAT",
    "MANIFEST_NAME",
    "PROMPTED_FRAMES",
    "EncoderSizes",
    "FileEntry",
    "Manifest",
    "Quantized",
    "Source",
    "Video",
    "check_model_directory",
]
