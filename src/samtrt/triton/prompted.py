"""The model that clients prompt: an image's bytes once, then clicks and boxes on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from samtrt import tracing
from samtrt.errors import ImageError, PromptError
from samtrt.triton.asked import ABOUT_MASKS, Asked, as_bytes, describe, inputs_of
from samtrt.triton.base import Answer, Arrays, ServedModel, digest_array
from samtrt.triton.masks import masks_of
from samtrt.types import Embedding, TensorInfo, to_host

PROMPT_THREADS = min(8, 2 * (os.cpu_count() or 1))
"""Requests that an instance answers at once: a thread mostly waits for the decoder."""


class PromptedModel(ServedModel):
    """Keeps embeddings by the hash of their image, and answers prompts on them.

    Triton's sequence batching brings all requests of a client to the instance of its first one.
    """

    def initialize(self, args: dict[str, str]) -> None:
        super().initialize(args)
        self._prompts = ThreadPoolExecutor(PROMPT_THREADS, "prompt")
        self._model = as_bytes(describe(self.manifest, self.settings))

    @cached_property
    def inputs(self) -> Mapping[str, TensorInfo]:
        return {one.name: one for one in inputs_of(self.manifest)}

    def take(self, arrays: Arrays, outputs: frozenset[str], answer: Answer) -> None:
        asked = Asked.of(arrays, outputs, self.settings.limits)
        self._check(asked)
        if asked.image is not None:
            self.upload(lambda: self._answer(asked, answer))
        else:
            self._prompts.submit(self._answer, asked, answer)

    def finalize(self) -> None:
        super().finalize()
        self._prompts.shutdown()

    def _check(self, asked: Asked) -> None:
        """Refuse what nothing can be given for.

        A request that names no outputs asks for all, and gets those that there can be.
        """
        if not asked.has_image and (asked.prompts or "model" not in asked.outputs):
            raise ImageError("no image: give image, or image_sha256 of one that was sent before")
        if not asked.prompts and asked.outputs <= ABOUT_MASKS:
            raise PromptError("no prompt: give at least one point, box or mask")

    def _answer(self, asked: Asked, answer: Answer) -> None:
        with answer.given("samtrt.predict" if asked.prompts else "samtrt.upload"):
            found: Arrays = {}
            if "model" in asked.outputs:
                found["model"] = self._model
            if asked.has_image:
                found |= self._of_image(asked)
            answer.send({name: found[name] for name in asked.outputs & found.keys()})

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
