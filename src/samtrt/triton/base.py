"""What the models have in common that Triton's clients talk to.

A request is read and checked in Triton's thread and answered from another, so that a click never
waits for an image that is being encoded.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

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

UPLOAD_THREADS = min(4, os.cpu_count() or 1)
"""Images that an instance reads and prepares at once."""


class BusyError(SamtrtError):
    """There is no room for more work now."""


class UnknownImageError(SamtrtError):
    """The image of a hash is not kept, or not any more."""


class ServedModel(ABC):
    """What Triton's Python backend calls. An instance is a process."""

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
        self._uploads = ThreadPoolExecutor(UPLOAD_THREADS, "upload")
        self._lock, self._waiting = Lock(), 0
        tracing.start(args["model_name"])

    def execute(self, requests: Sequence[Any]) -> None:
        """Take requests. Each is answered once, by `answer`, later and from another thread."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                arrays = tensors.read_inputs(request, self.inputs)
                outputs = frozenset(request.requested_output_names())
                self.take(arrays, outputs, Answer(sender, request))
            except Exception as error:
                Answer(sender, request).fail(error)

    @abstractmethod
    def take(self, arrays: Arrays, outputs: frozenset[str], answer: Answer) -> None:
        """Check a request and have it answered: its tensors, and the names of what it asks for."""

    def finalize(self) -> None:
        """Let what was taken be answered."""
        self._uploads.shutdown()

    def upload(self, work: Callable[[], None]) -> None:
        """Have an image read and encoded.

        Raises:
            BusyError: where as many wait as may.
        """
        with self._lock:
            if self._waiting >= self.settings.limits.uploads:
                raise BusyError("too many images wait to be encoded: try again later")
            self._waiting += 1

        def done() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._waiting -= 1

        self._uploads.submit(done)

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


class Answer:
    """Answers one request, once."""

    def __init__(self, sender: Any, request: Any) -> None:
        self._sender = sender
        # Of the server: to be read before the request is its own again.
        self.context = _trace_context(request)

    @contextmanager
    def given(self, name: str) -> Iterator[None]:
        """Answer with the error where the block fails; the work is a span of the client's trace."""
        try:
            with tracing.span(name, self.context):
                yield
        except Exception as error:
            self.fail(error)

    def send(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Answer with tensors."""
        import triton_python_backend_utils as backend

        made = [tensors.write(name, array) for name, array in arrays.items()]
        self._send(backend.InferenceResponse(made))

    def fail(self, error: Exception) -> None:
        """Answer with an error: what the request is to blame for, or what we are."""
        import triton_python_backend_utils as backend

        kinds = backend.TritonError
        if isinstance(error, UnknownImageError):
            kind = kinds.NOT_FOUND
        elif isinstance(error, BusyError):
            kind = kinds.UNAVAILABLE
        elif isinstance(error, SamtrtError) and not isinstance(error, BackendError):
            kind = kinds.INVALID_ARG
        else:
            kind = kinds.INTERNAL
        text = str(error) if isinstance(error, SamtrtError) else "internal error: see Triton's log"
        if kind == kinds.INTERNAL:
            backend.Logger.log_error(f"{type(error).__name__}: {error}")
        self._send(backend.InferenceResponse(error=kinds(text, kind)))

    def _send(self, response: Any) -> None:
        import triton_python_backend_utils as backend

        self._sender.send(response, flags=backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def digest_array(digest: bytes) -> npt.NDArray[np.uint8]:
    """Return a hash as uint8 [32]."""
    return np.frombuffer(digest, dtype=np.uint8)


def _trace_context(request: Any) -> str | None:
    """Return the trace that Triton writes for a request, as JSON; None where it writes none."""
    trace = getattr(request, "trace", None)  # not before Triton 24
    found: str | None = trace().get_context() if trace else None
    return found
