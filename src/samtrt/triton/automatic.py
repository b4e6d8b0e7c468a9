"""The model that finds everything in an image."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic import ValidationError

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.automatic.remote import AutoOptions, describe
from samtrt.errors import ImageError, PromptError
from samtrt.triton.asked import as_bytes, auto_inputs
from samtrt.triton.base import Arrays, ServedModel, digest_array
from samtrt.types import TensorInfo


class AutomaticModel(ServedModel):
    """Takes an image and options, and gives all masks; no sequence, since nothing follows."""

    word = "auto"

    @cached_property
    def inputs(self) -> Mapping[str, TensorInfo]:
        return {one.name: one for one in auto_inputs()}

    def answer(self, arrays: Arrays, outputs: frozenset[str]) -> Arrays:
        image = arrays["image"].tobytes()
        if not image:
            raise ImageError("the image is empty (0 bytes)")
        options = _options(arrays["options"].tobytes() if "options" in arrays else b"")
        digest, embedding = self.embed(image)
        generator = AutomaticMaskGenerator(
            self.predictor, output_mode="coco_rle", **options.model_dump()
        )
        masks = [describe(record) for record in generator.generate(embedding)]
        found = {"masks": as_bytes(masks), "image_sha256": digest_array(digest)}
        return {name: found[name] for name in outputs}


def _options(text: bytes) -> AutoOptions:
    try:
        return AutoOptions.model_validate_json(text or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole text"
        raise PromptError(f"options: {where}: {first['msg']}") from None
