"""One connection to a Triton server, by HTTP or gRPC, with the same calls and the same errors."""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from samtrt import tracing
from samtrt.errors import MissingExtraError, RemoteError
from samtrt.types import Closeable

Arrays = Mapping[str, npt.NDArray[Any]]

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""HTTP's statuses for those of gRPC."""


@dataclass(frozen=True)
class Place:
    """Where in a client's sequence of requests one stands.

    Attributes:
        number: Of the sequence; Triton sends all of them to one instance.
        first: Whether it is the first of them.
        last: Whether none follows, so that another client may have the place.
    """

    number: int
    first: bool
    last: bool = False


def new_sequence() -> int:
    """Return a number for a sequence that no other client has: from 1 to 2^62."""
    return 1 + secrets.randbits(62)


class Connection(Closeable):
    """What a client needs of a server. Safe for threads."""

    @abstractmethod
    def infer(
        self, model: str, inputs: Arrays, outputs: Sequence[str], place: Place | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Ask a model; return those outputs that it gives.

        Raises:
            RemoteError: where it cannot or will not answer.
        """


def connect(url: str, token: str | None, timeout: float) -> Connection:
    """Return a connection, which is not made before its first use.

    Args:
        url: "http://host:8000" or "grpc://host:8001"; with TLS "https" or "grpcs".
        token: Sent as `Authorization: Bearer TOKEN`, for a proxy: Triton itself knows no tokens.
        timeout: Seconds to wait for an answer.

    Raises:
        MissingExtraError: where Triton's client is not installed.
        RemoteError: where the address is none.
    """
    try:
        parts = urlsplit(url)
        kind, port = parts.scheme, parts.port
    except ValueError:
        kind, port = "", None
    if kind not in ("http", "https", "grpc", "grpcs") or not parts.hostname:
        raise RemoteError(
            f"'{url}' is no address of a Triton server: use http://host:8000 or grpc://host:8001"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    headers = {"authorization": f"Bearer {token}"} if token else {}
    secure = kind in ("https", "grpcs")
    if kind.startswith("http"):
        address = f"{host}:{port or (443 if secure else 8000)}{parts.path.rstrip('/')}"
        return _Http(url, address, secure, headers, timeout)
    return _Grpc(url, f"{host}:{port or 8001}", secure, headers, timeout)


class _Client(Connection, ABC):
    def __init__(
        self, url: str, address: str, secure: bool, headers: dict[str, str], timeout: float
    ) -> None:
        self._url, self._address, self._secure = url, address, secure
        self._headers, self._timeout = headers, timeout
        self._library = self._load()

    @abstractmethod
    def _load(self) -> Any: ...

    @abstractmethod
    def _ask(self, options: dict[str, Any]) -> Any: ...

    def infer(
        self, model: str, inputs: Arrays, outputs: Sequence[str], place: Place | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        from tritonclient.utils import InferenceServerException

        options: dict[str, Any] = {
            "model_name": model,
            "inputs": [self._input(name, array) for name, array in inputs.items()],
            "outputs": [self._library.InferRequestedOutput(name) for name in outputs],
            "headers": {**self._headers, **tracing.headers()},
        }
        if place is not None:
            options["sequence_id"] = place.number
            options["sequence_start"], options["sequence_end"] = place.first, place.last
        try:
            result = self._ask(options)
            found = {name: result.as_numpy(name) for name in outputs}
        except InferenceServerException as error:
            raise self._error(error) from None
        except TimeoutError:
            raise RemoteError(f"{self._url} did not answer in time", 504, "timeout") from None
        except OSError as error:  # of HTTP alone
            raise RemoteError(f"cannot reach {self._url}: {error.strerror or error}") from None
        except (ValueError, LookupError, TypeError) as error:
            raise RemoteError(
                f"the answer of {self._url} is not Triton's ({error}): is this its address?"
            ) from None
        return {name: array for name, array in found.items() if array is not None}

    def _input(self, name: str, array: npt.NDArray[Any]) -> Any:
        from tritonclient.utils import np_to_triton_dtype

        made = self._library.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        made.set_data_from_numpy(np.ascontiguousarray(array))
        return made

    def _error(self, error: Any) -> RemoteError:
        # What Triton says first is of no use: our requests have no names.
        message = str(error.message()).removeprefix("[request id: <id_unknown>] ")
        word = str(error.status() or "")
        status = int(word) if word.isdecimal() else _STATUS.get(word.rpartition(".")[2], 0)
        if status == 504 or word == "499":
            return RemoteError(f"{self._url} did not answer in time", 504, "timeout")
        if "onnect" in message and status == 503:  # gRPC's words for no connection are many
            return RemoteError(f"cannot reach {self._url}: {message}")
        return RemoteError(message, status, "triton")


class _Http(_Client):
    """A client for each thread: theirs are of the thread that made them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._of_thread = threading.local()
        self._clients: list[Any] = []

    def _load(self) -> Any:
        try:
            import tritonclient.http as library
        except ImportError:
            raise MissingExtraError("A Triton server", "triton", "tritonclient[http]") from None
        return library

    def _ask(self, options: dict[str, Any]) -> Any:
        client = getattr(self._of_thread, "client", None)
        if client is None:
            client = self._library.InferenceServerClient(
                self._address,
                connection_timeout=self._timeout,
                network_timeout=self._timeout,
                ssl=self._secure,
            )
            self._of_thread.client = client
            self._clients.append(client)
        if "sequence_id" not in options:
            options["sequence_id"] = 0
        return client.infer(**options)

    def close(self) -> None:
        while self._clients:
            self._clients.pop().close()
        self._of_thread = threading.local()


class _Grpc(_Client):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._client = self._library.InferenceServerClient(self._address, ssl=self._secure)

    def _load(self) -> Any:
        try:
            import tritonclient.grpc as library
        except ImportError:
            raise MissingExtraError("A Triton server", "triton", "tritonclient[grpc]") from None
        return library

    def _ask(self, options: dict[str, Any]) -> Any:
        return self._client.infer(**options, client_timeout=self._timeout)

    def close(self) -> None:
        self._client.close()
