"""Use a server from Python as if the model were here.

    from samtrt import Client

    with Client("http://127.0.0.1:8000") as client, client.upload("photo.jpg") as image:
        masks, scores, logits = image.predict([[320, 240]], [1])

`RemoteImage.predict` takes what `Predictor.predict` takes and returns what it returns; the work is
done by `samtrt serve`. Needs the extra `client`.
"""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt import tracing
from samtrt.choices import Generation, Resize
from samtrt.errors import (
    ImageError,
    MaskError,
    MissingExtraError,
    PromptError,
    RemoteError,
    SamtrtError,
)
from samtrt.files import read_whole
from samtrt.masks import rle
from samtrt.preparation.frame import Frame
from samtrt.preparation.host import check_image
from samtrt.types import BoolArray, Closeable, Embedding, Prediction, Size, UInt8Array

try:
    import httpx
except ImportError:
    raise MissingExtraError("The client", "client", "httpx") from None

_GONE = (404, 410)

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
            try:
                response = self._http.request(method, self._url + path, headers=headers, **options)
            except httpx.TimeoutException:
                raise RemoteError(f"{self._url} did not answer in time") from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise RemoteError(f"cannot reach {self._url}: {error}") from None
            if response.status_code != 429 or attempt == self._retries:
                break
            time.sleep(_seconds(response.headers.get("Retry-After")))
        if response.is_success:
            return response
        raise _error(response, is_upload=path == "/v1/images")

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        return json_of(self.request(method, path, **options))

    def close(self) -> None:
        """Close the connections."""
        if self._own:
            self._http.close()


class RemoteImage:
    """An image that a server has encoded. Where the server dropped it, it is sent again."""

    def __init__(self, client: Client, data: bytes, answer: dict[str, Any]) -> None:
        self._client = client
        self._data = data
        with expecting("an image's id and size"):
            self.id = str(answer["id"])
            self.original_size: Size = (int(answer["height"]), int(answer["width"]))
            self.encode_ms = float(answer["encode_ms"])

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        low_res_logits: bool = True,
        specks: int = 0,
    ) -> Prediction:
        """Segment what one prompt points at: arguments and result as `Predictor.predict`.

        Args:
            low_res_logits: Have the logits sent too, 350 kB a mask at 1024 input. Without them
                `Prediction.low_res_logits` is [C, 0, 0].
            specks: As `Predictor.specks`.
        """
        prompt: dict[str, Any] = {
            "points": _listed(point_coords, "point_coords"),
            "labels": _listed(point_labels, "point_labels"),
            "box": _listed(box, "box"),
        }
        if mask_input is not None:
            logits = np.ascontiguousarray(mask_input, dtype="<f4")
            prompt["low_res_logits"] = base64.b64encode(logits.tobytes()).decode("ascii")
        body = {
            "prompts": [{name: value for name, value in prompt.items() if value is not None}],
            "candidates": 3 if multimask_output else 1,
            "low_res_logits": low_res_logits,
            **({"specks": specks} if specks else {}),
        }
        answer = json_of(self._call("POST", "/masks", json=body))
        with expecting("masks"):
            masks = answer["results"][0]["masks"]
            return Prediction(
                np.stack([self._mask(mask["rle"]) for mask in masks]),
                np.array([mask["score"] for mask in masks], dtype=np.float32),
                np.stack([_logits(mask.get("low_res_logits")) for mask in masks]),
            )

    def auto(self, **options: Any) -> list[dict[str, Any]]:
        """Find everything in the image; options as `AutomaticMaskGenerator`, where the server
        takes them. Each mask has bool [H, W] as `segmentation`, and the server's other fields."""
        answer = json_of(self._call("POST", "/auto", json=options))
        with expecting("masks"):
            masks = answer["masks"]
            return [{"segmentation": self._mask(mask.pop("rle")), **mask} for mask in masks]

    def embedding(self) -> Embedding:
        """Fetch the embedding, to prompt it with a decoder of one's own."""
        response, model = self._call("GET", "/embedding"), self._client.model()

        def numbers(name: str) -> tuple[int, ...]:
            return tuple(int(part) for part in response.headers[name].split(","))

        with expecting("an embedding"):
            maps = cut_maps(response.content, model["maps"])
            height, width = numbers("X-Original-Size")
            resize = Resize(model["preparation"]["resize"])
            generation = Generation(model.get("generation", Generation.SAM))
            sizes = model["image_size"], model["mask_size"]
            frame = Frame((height, width), *sizes, resize, generation)
            return Embedding.of(maps, frame)

    def delete(self) -> None:
        """Free what the server holds of the image; fine where it does not any more."""
        try:
            self._client.request("DELETE", f"/v1/images/{self.id}")
        except RemoteError as error:
            if error.status not in _GONE:
                raise

    def __enter__(self) -> RemoteImage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()

    def _mask(self, encoded: rle.Rle) -> BoolArray:
        """Decode a mask of this image; one of another size is none."""
        if tuple(encoded["size"]) != self.original_size:
            raise ValueError("a mask has not the image's size")
        return rle.decode(encoded)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"/v1/images/{self.id}{path}", **options)
        except RemoteError as error:
            if error.status not in _GONE:
                raise
        with expecting("an image's id"):
            self.id = str(self._client.send_image(self._data)["id"])
        return self._client.request(method, f"/v1/images/{self.id}{path}", **options)


def image_bytes(image: str | Path | bytes | UInt8Array) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return read_whole(Path(image))
        except OSError as error:
            raise ImageError(f"cannot read {image}: {error.strerror or error}") from None
    out = io.BytesIO()
    Image.fromarray(check_image(image)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def cut_maps(content: bytes, declared: list[dict[str, Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Cut an embedding into the maps that the model declares; raise `ValueError` where it is not
    of them."""
    flat, maps, start = np.frombuffer(content, dtype="<f4"), {}, 0
    for one in declared:
        stop = start + math.prod(one["shape"])
        maps[str(one["name"])] = flat[start:stop].reshape(1, *one["shape"])
        start = stop
    if start != len(flat):
        raise ValueError("the embedding has another size than the model's maps")
    return maps


def _listed(value: npt.ArrayLike | None, what: str) -> Any:
    if value is None:
        return None
    try:
        return np.asarray(value, dtype=np.float64).tolist()
    except (TypeError, ValueError):
        raise PromptError(f"{what} must be an array of numbers, the same count in each") from None


def _logits(text: str | None) -> npt.NDArray[np.float32]:
    if text is None:
        return np.zeros((0, 0), dtype=np.float32)
    flat = np.frombuffer(base64.b64decode(text), dtype="<f4")
    side = round(len(flat) ** 0.5)
    return flat.reshape(side, side)


def json_of(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object that a response holds.

    Raises:
        RemoteError: where it holds none: some other server answers there, or a proxy.
    """
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _unexpected(response.status_code, "JSON")
    return answer


@contextmanager
def expecting(what: str) -> Iterator[None]:
    """Turn an answer that lacks something, or has it in another form, into one line."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, MaskError):
        raise _unexpected(200, what) from None


def _unexpected(status: int, what: str) -> RemoteError:
    return RemoteError(
        f"the server's answer is not {what}: is this the address of a samtrt server?",
        status,
        "unexpected_answer",
    )


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
