"""Use a Triton server from Python as if the model were here.

    from samtrt import TritonClient

    with TritonClient("grpc://127.0.0.1:8001") as client, client.upload("photo.jpg") as image:
        masks, scores, logits = image.predict([[320, 240]], [1])

Methods, arguments and results are those of `samtrt.Client`. Needs the `triton` extra.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samtrt.client import image_bytes
from samtrt.errors import RemoteError
from samtrt.triton.connection import Place, connect, new_sequence
from samtrt.triton.image import Arrays, TritonImage, read_json
from samtrt.types import Closeable, UInt8Array

_FIRST_WAIT = 0.25
"""Seconds before a request is repeated that the server had no room for; doubled each time."""


class TritonClient(Closeable):
    """A connection to a Triton server with a repository of `samtrt triton`. Safe for threads.

    Args:
        url: "http://host:8000" or "grpc://host:8001"; with TLS "https" or "grpcs".
        token: Sent as `Authorization: Bearer TOKEN`, for a proxy: Triton itself knows no tokens.
        timeout: Seconds to wait for an answer.
        retries: How often to try again while the server is busy.
        model: The model's name in the repository.
    """

    def __init__(
        self,
        url: str = "grpc://127.0.0.1:8001",
        token: str | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        model: str = "sam",
    ) -> None:
        self._connection = connect(url, token, timeout)
        self._retries, self._model = retries, model

    def model(self) -> dict[str, Any]:
        """Return what the server says of its model and limits."""
        found = self.ask(self._model, {}, ["model"], Place(new_sequence(), first=True, last=True))
        model: dict[str, Any] = read_json(found, "model")
        return model

    def upload(self, image: str | Path | bytes | UInt8Array) -> TritonImage:
        """Send an image and have it encoded.

        Args:
            image: A file's path, a file's bytes, or RGB pixels, uint8 [H, W, 3].

        Raises:
            ImageError: where it is not an image that the server reads.
            RemoteError: where the server cannot take it.
        """
        return TritonImage(self, self._model, image_bytes(image))

    def ask(
        self, model: str, inputs: Arrays, outputs: Sequence[str], place: Place | None = None
    ) -> Arrays:
        """Ask a model; wait and repeat it while the server has no room.

        Raises:
            RemoteError: where it cannot or will not answer.
        """
        wait = _FIRST_WAIT
        for _ in range(self._retries):
            try:
                return self._connection.infer(model, inputs, outputs, place)
            except RemoteError as error:
                if error.status != 503:
                    raise
            time.sleep(wait)
            wait *= 2
        return self._connection.infer(model, inputs, outputs, place)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
