"""The model that clients prompt: an image's bytes once, then clicks and boxes on it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from samtrt import tracing
from samtrt.errors import ImageError, PromptError
from samtrt.triton.asked import ABOUT_MASKS, Asked, as_bytes, describe, inputs_of
from samtrt.triton.base import Arrays, ServedModel, digest_array
from samtrt.triton.masks import masks_of
from samtrt.types import Embedding, TensorInfo, to_host


class PromptedModel(ServedModel):
    """Keeps embeddings by the hash of their image, and answers prompts on them.

    Triton's sequence batching brings all requests of a client to the instance of its first one.
    """

    word = "predict"

    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        self._model = as_bytes(describe(self.manifest, self.settings))

    @cached_property
    def inputs(self) -> Mapping[str, TensorInfo]:
        return {one.name: one for one in inputs_of(self.manifest)}

    def answer(self, arrays: Arrays, outputs: frozenset[str]) -> Arrays:
        asked = Asked.of(arrays, outputs, self.settings.limits)
        self._check(asked)
        found: Arrays = {}
        if "model" in outputs:
            found["model"] = self._model
        if asked.has_image:
            found |= self._of_image(asked)
        return {name: found[name] for name in outputs & found.keys()}

    def _check(self, asked: Asked) -> None:
        """Refuse what nothing can be given for.

        A request that names no outputs asks for all, and gets those that there can be.
        """
        if not asked.has_image and (asked.prompts or "model" not in asked.outputs):
            raise ImageError("no image: give image, or image_sha256 of one that was sent before")
        if not asked.prompts and asked.outputs <= ABOUT_MASKS:
            raise PromptError("no prompt: give at least one point, box or mask")

    def _of_image(self, asked: Asked) -> Arrays:
        if asked.image is not None:
            digest, embedding = self.embed(asked.image)
        else:
            assert asked.digest is not None
            digest, embedding = asked.digest, self.kept(asked.digest)
        found: Arrays = {
            "image_sha256": digest_array(digest),
            "original_size": np.array(embedding.original_size, dtype=np.int32),
        }
        if "embedding" in asked.outputs:
            found["embedding"] = _flat(embedding)
        if asked.prompts:
            prompts = asked.build(embedding.frame, self.settings)
            with tracing.span("samtrt.decode", prompts=len(prompts)):
                found |= masks_of(self.predictor, embedding, prompts, asked, self.settings)
            self.metrics.prompts.add(len(prompts))
        return found


def _flat(embedding: Embedding) -> Any:
    """Return all maps as float32 [N], one after the other, in the manifest's order."""
    maps = embedding.maps.values()
    return np.concatenate([to_host(one).astype(np.float32).ravel() for one in maps])
