"""A connection to a server: requests that wait their turn, answers that become errors of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from samtrt import tracing
from samtrt.client.answers import expecting, image_bytes, json_of
from samtrt.client.remote_image import RemoteImage
from samtrt.client.remote_video import RemoteVideo
from samtrt.errors import (
    ImageError,
    MissingExtraError,
    PromptError,
    RemoteError,
    SamtrtError,
)
from samtrt.types import Closeable, UInt8Array

try:
    import httpx
except ImportError:
    raise MissingExtraError("The client", "client", "httpx") from None

_UPLOADS = ("/v1/images", "/v1/videos")

LONGEST_WAIT = 60.0
"""Seconds that the client waits at most before it repeats a request, whatever the server asks."""


class Client(Closeable):
    """A connection to a server. Safe for threads, as `httpx.Client` is.

    Args:
        url: Where the server is, such as "http://127.0.0.1:8000".
        token: The server's token, where it asks for one.
        timeout: Seconds to wait for an answer.
        retries: How often to try again while the server is busy, each time after as long as it
            asked for.
        http: A configured client to use instead of a new one; it is not closed.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: str | None = None,
        timeout: float = 120.0,
        retries: int = 5,
        http: httpx.Client | None = None,
    ) -> None:
        self._own = http is None
        self._http = http or httpx.Client(timeout=timeout)
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._retries = retries

    def model(self) -> dict[str, Any]:
        """Return what the server says of its model and limits."""
        return self._json("GET", "/v1/model")

    def upload(self, image: str | Path | bytes | UInt8Array) -> RemoteImage:
        """Send an image and have it encoded.

        Args:
            image: A file's path, a file's bytes, or RGB pixels, uint8 [H, W, 3].

        Raises:
            ImageError: where it is not an image that the server reads.
            RemoteError: where the server cannot take it.
        """
        data = image_bytes(image)
        return RemoteImage(self, data, self.send_image(data))

    def open_video(
        self, video: str | Path | bytes | None = None, name: str | None = None
    ) -> RemoteVideo:
        """Send a video, or open one of the server's folder, to follow objects through it.

        Args:
            video: A file's path, or a file's bytes.
            name: Of a video in the folder, as `videos` lists it, where `video` is None; else what
                the video is called.

        Raises:
            ImageError: where it is not a video that the server reads.
            PromptError: where neither is given.
            RemoteError: where the server cannot take it.
        """
        if video is None:
            if name is None:
                raise PromptError("give a video, or the name of one in the server's folder")
            return RemoteVideo(self, self._json("POST", "/v1/videos", json={"name": name}))
        if name is None:
            name = "video" if isinstance(video, bytes) else Path(video).name
        answer = self._json(
            "POST",
            "/v1/videos",
            params={"name": name},
            content=image_bytes(video),
            headers={"Content-Type": "application/octet-stream"},
        )
        return RemoteVideo(self, answer)

    def videos(self) -> list[str]:
        """Return the names of the videos in the server's folder."""
        answer = self._json("GET", "/v1/videos")
        with expecting("names of videos"):
            return [str(name) for name in answer["files"]]

    @contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[Iterator[str]]:
        """Send a POST; yield the lines of its answer as they come.

        Raises:
            SamtrtError: as `request`, also where the answer breaks off.
        """
        headers = {**self._headers, **tracing.headers()}
        with (
            self._told("lost the connection to"),
            self._http.stream("POST", self._url + path, headers=headers, **options) as response,
        ):
            if not response.is_success:
                response.read()
                raise _error(response, is_upload=False)
            yield response.iter_lines()

    def send_image(self, data: bytes) -> dict[str, Any]:
        """Upload a file's bytes; return the server's answer."""
        return self._json(
            "POST", "/v1/images", content=data, headers={"Content-Type": "application/octet-stream"}
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; wait and repeat it while the server is busy.

        Raises:
            PromptError, ImageError: where the server says that the request is not usable.
            RemoteError: for any other failure.
        """
        headers = {**self._headers, **tracing.headers(), **options.pop("headers", {})}
        for attempt in range(self._retries + 1):
            with self._told("cannot reach"):
                response = self._http.request(method, self._url + path, headers=headers, **options)
            if response.status_code != 429 or attempt == self._retries:
                break
            time.sleep(_seconds(response.headers.get("Retry-After")))
        if response.is_success:
            return response
        raise _error(response, is_upload=method == "POST" and path in _UPLOADS)

    @contextmanager
    def _told(self, failed: str) -> Iterator[None]:
        """Tell what goes wrong on the way to the server, or back, in a line."""
        try:
            yield
        except httpx.TimeoutException:
            raise RemoteError(f"{self._url} did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(f"{failed} {self._url}: {error}") from None

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return json_of(self.request(method, path, **options))

    def close(self) -> None:
        """Close the connections."""
        if self._own:
            self._http.close()


def _seconds(header: str | None) -> float:
    """Return how long to wait, from `Retry-After`: a count of seconds, or a date."""
    text = (header or "").strip()
    if text.isdecimal():
        # By its digits first: Python refuses to read numbers of thousands.
        return min(float(text), LONGEST_WAIT) if len(text) < 10 else LONGEST_WAIT
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
        return 1.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _error(response: httpx.Response, is_upload: bool) -> SamtrtError:
    try:
        detail = response.json()["error"]
        message, code = str(detail["message"]), str(detail["code"])
    except (ValueError, LookupError, TypeError, RecursionError):
        message, code = f"the server answered {response.status_code}", "error"
    if is_upload and response.status_code in (413, 415, 422):
        return ImageError(message)
    if response.status_code == 422:
        return PromptError(message)
    return RemoteError(message, response.status_code, code)
