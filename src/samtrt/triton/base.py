"""What the models have in common that Triton's clients talk to.

An instance answers one request at a time: what should not wait for another image has an instance of
its own.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from samtrt import tracing
from samtrt.choices import Stage
from samtrt.errors import BackendError, SamtrtError
from samtrt.images import UPLOADED, Limits, decode_image
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.triton import tensors
from samtrt.triton.bls import TritonBackend
from samtrt.triton.cache import EmbeddingCache
from samtrt.triton.metrics import Metrics
from samtrt.triton.settings import Settings
from samtrt.triton.stage import directory_of
from samtrt.types import Embedding, TensorInfo

Arrays = dict[str, npt.NDArray[Any]]


class UnknownImageError(SamtrtError):
    """The image of a hash is not kept, or not any more."""


class ServedModel(ABC):
    """What Triton's Python backend calls. An instance is a process."""

    word: ClassVar[str]
    """What it does, in traces."""

    @property
    @abstractmethod
    def inputs(self) -> Mapping[str, TensorInfo]:
        """What a request may give, by name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the version's files; Triton tells in its log what is wrong with them."""
        import triton_python_backend_utils as backend

        directory = directory_of(args)
        try:
            self.settings, self.manifest = Settings.load(directory), Manifest.load(directory)
            tracing.start(args["model_name"])
        except SamtrtError as error:
            raise backend.TritonModelException(str(error)) from None
        version = int(args["model_version"])
        encoder, decoder = (
            TritonBackend(self.manifest, self.settings, stage, version) for stage in Stage
        )
        self.predictor = Predictor(encoder, decoder, self.manifest, self.settings.prompts_per_run)
        limits = self.settings.limits
        self._limits = Limits(
            formats=UPLOADED,
            max_file_bytes=limits.max_upload_bytes,
            max_pixels=limits.max_pixels,
            max_side=limits.max_side,
            max_ratio=limits.max_ratio,
        )
        self.cache = EmbeddingCache(self.settings.cache_bytes)
        self.metrics = Metrics(args)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, each with what it asks for or with what is wrong."""
        return [self._response(request) for request in requests]

    @abstractmethod
    def answer(self, arrays: Arrays, outputs: frozenset[str]) -> Arrays:
        """Answer a request.

        Args:
            arrays: Its tensors.
            outputs: The names of what it asks for.

        Returns:
            Those of them that there are.

        Raises:
            SamtrtError: where it cannot be answered.
        """

    def finalize(self) -> None:
        """Forget everything."""
        self.predictor.close()

    def _response(self, request: Any) -> Any:
        import triton_python_backend_utils as backend

        try:
            with tracing.span(f"samtrt.{self.word}", _trace_context(request)):
                arrays = tensors.read_inputs(request, self.inputs)
                found = self.answer(arrays, frozenset(request.requested_output_names()))
        except Exception as error:
            return backend.InferenceResponse(error=_fault(error))
        return backend.InferenceResponse([tensors.write(*item) for item in found.items()])

    def embed(self, image: bytes) -> tuple[bytes, Embedding]:
        """Return an image's hash and embedding, encoded where it is not kept.

        Raises:
            ImageError: where it is no image, damaged or too large.
        """
        digest = hashlib.sha256(image).digest()
        if found := self.cache.get(digest):
            self.metrics.hits.add()
            return digest, found
        self.metrics.misses.add()
        with tracing.span("samtrt.read"):
            pixels = decode_image(image, "the image", self._limits)
        with tracing.span("samtrt.encode"):
            embedding = self.predictor.encode(pixels)
        self.metrics.encoded.add()
        self.metrics.evictions.add(self.cache.put(digest, embedding))
        self.metrics.cached_bytes.set(self.cache.nbytes)
        self.metrics.cached_images.set(len(self.cache))
        return digest, embedding

    def kept(self, digest: bytes) -> Embedding:
        """Return the embedding of an image that was sent before.

        Raises:
            UnknownImageError: where this instance does not have it.
        """
        if found := self.cache.get(digest):
            self.metrics.hits.add()
            return found
        self.metrics.misses.add()
        raise UnknownImageError(
            "the image is not here, or was dropped to make room: send its bytes as image"
        )


def _fault(error: Exception) -> Any:
    """Return what Triton tells the client: what is wrong with the request, or that it is not."""
    import triton_python_backend_utils as backend

    kinds = backend.TritonError
    if isinstance(error, UnknownImageError):
        return kinds(str(error), kinds.NOT_FOUND)
    if isinstance(error, SamtrtError) and not isinstance(error, BackendError):
        return kinds(str(error), kinds.INVALID_ARG)
    backend.Logger.log_error(f"{type(error).__name__}: {error}")
    ours = isinstance(error, SamtrtError)
    return kinds(str(error) if ours else "internal error: see Triton's log", kinds.INTERNAL)


def digest_array(digest: bytes) -> npt.NDArray[np.uint8]:
    """Return a hash as uint8 [32]."""
    return np.frombuffer(digest, dtype=np.uint8)


def _trace_context(request: Any) -> str | None:
    """Return the trace that Triton writes for a request, as JSON; None where it writes none."""
    trace = getattr(request, "trace", None)  # not before Triton 24
    found: str | None = trace().get_context() if trace else None
    return found
