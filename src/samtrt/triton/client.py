"""Use a Triton server from Python as if the model were here.

    from samtrt import TritonClient

    with TritonClient("grpc://127.0.0.1:8001") as client, client.upload("photo.jpg") as image:
        masks, scores, logits = image.predict([[320, 240]], [1])

Methods, arguments and results are those of `samtrt.Client`. Needs the `triton` extra.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import Generation, Resize
from samtrt.client import cut_maps, expecting, image_bytes
from samtrt.errors import ImageError, PromptError, RemoteError
from samtrt.masks import rle
from samtrt.masks.prediction import Prediction
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import one_prompt
from samtrt.triton.connection import Place, connect
from samtrt.types import BoolArray, Closeable, Embedding, Size, UInt8Array

Arrays = dict[str, npt.NDArray[Any]]

_FIRST_WAIT = 0.25
"""Seconds before a request is repeated that the server had no room for; doubled each time."""
_LOST_PLACE = ("START flag", "Stub process")
"""In Triton's words for a sequence that it does not know, since it was silent for too long or the
server is another one; and for an instance that died, which not every Triton starts again."""
_PLACES = 4
"""How often an image looks for a place at an instance that lives."""


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
        found = self.ask(self._model, {}, ["model"], Place(_number(), first=True, last=True))
        model: dict[str, Any] = _json(found, "model")
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


class TritonImage:
    """An image that a server has encoded. Where the server dropped it, it is sent again.

    Attributes:
        id: The sha256 of its file, in hexadecimal.
        original_size: Height and width.
        encode_ms: How long the upload took, the way there and back included.
    """

    def __init__(self, client: TritonClient, model: str, data: bytes) -> None:
        self._client, self._model, self._data = client, model, data
        digest = hashlib.sha256(data).digest()
        self._digest, self.id = np.frombuffer(digest, dtype=np.uint8), digest.hex()
        self._place: int | None = None
        began = time.perf_counter()
        if not data:
            raise ImageError("the image is empty (0 bytes)")
        try:
            found = self._ask({}, ["original_size"])
        except RemoteError as error:
            raise _blamed(error, ImageError) from None
        self.encode_ms = 1000 * (time.perf_counter() - began)
        with expecting("an image's size"):
            height, width = (int(side) for side in found["original_size"])
            self.original_size: Size = (height, width)

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
            low_res_logits: Have the logits sent too, 256 KiB a mask at 1024 input. Without them
                `Prediction.low_res_logits` is [C, 0, 0].
            specks: As `Predictor.specks`.
        """
        prompt = one_prompt(point_coords, point_labels, box, mask_input)
        found = self._predict(prompt, multimask_output, low_res_logits, specks)
        return Prediction(*(array[0] for array in found))

    def predict_batch(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        boxes: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        low_res_logits: bool = True,
        specks: int = 0,
    ) -> Prediction:
        """Segment what P prompts point at: arguments and result as `Predictor.predict_batch`."""
        given = {
            "point_coords": point_coords,
            "point_labels": point_labels,
            "boxes": boxes,
            "mask_input": mask_input,
        }
        return self._predict(given, multimask_output, low_res_logits, specks)

    def auto(self, **options: Any) -> list[dict[str, Any]]:
        """Find everything in the image; options as `AutomaticMaskGenerator`, where the server
        takes them. Each mask has bool [H, W] as `segmentation`, and the server's other fields."""
        try:
            text = json.dumps(options, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise PromptError(f"options cannot be sent: {error}") from None
        inputs = {"image": _uint8(self._data), "options": _uint8(text)}
        try:
            found = self._client.ask(f"{self._model}_auto", inputs, ["masks"])
        except RemoteError as error:
            raise _blamed(error, PromptError) from None
        masks = _json(found, "masks")
        with expecting("masks"):
            return [{"segmentation": self._mask(mask.pop("rle")), **mask} for mask in masks]

    def embedding(self) -> Embedding:
        """Fetch the embedding, to prompt it with a decoder of one's own."""
        found, model = self._ask({}, ["embedding"]), self._client.model()
        with expecting("an embedding"):
            maps = cut_maps(found["embedding"].astype("<f4").tobytes(), model["maps"])
            resize = Resize(model["preparation"]["resize"])
            sizes = model["image_size"], model["mask_size"]
            generation = Generation(model["generation"])
            return Embedding.of(maps, Frame(self.original_size, *sizes, resize, generation))

    def delete(self) -> None:
        """Give the place at the server back. It drops the image when it needs the room."""
        if self._place is not None:
            place, self._place = Place(self._place, first=False, last=True), None
            try:
                self._client.ask(self._model, {}, ["model"], place)
            except RemoteError as error:
                if not any(words in str(error) for words in _LOST_PLACE):
                    raise

    def __enter__(self) -> TritonImage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()

    def _predict(
        self,
        prompts: Mapping[str, npt.ArrayLike | None],
        multimask: bool,
        low_res: bool,
        specks: int,
    ) -> Prediction:
        inputs = {
            name: _numbers(value, name) for name, value in prompts.items() if value is not None
        }
        inputs["multimask_output"] = np.array([multimask])
        if specks:
            inputs["specks"] = np.array([min(specks, 2**31 - 1)], dtype=np.int32)
        outputs = ["rle", "iou_predictions", *(["low_res_logits"] if low_res else [])]
        try:
            found = self._ask(inputs, outputs)
        except RemoteError as error:
            raise _blamed(error, PromptError) from None
        rles = _json(found, "rle")
        with expecting("masks"):
            masks = np.stack([np.stack([self._mask(one) for one in each]) for each in rles])
            scores = found["iou_predictions"]
            none = np.zeros((*scores.shape, 0, 0), dtype=np.float32)
            return Prediction(masks, scores, found["low_res_logits"] if low_res else none)

    def _ask(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Ask about the image by its hash, and with its bytes where that is not enough."""
        hashed = {**inputs, "image_sha256": self._digest}
        whole = {**inputs, "image": _uint8(self._data)}
        for _ in range(_PLACES):
            try:
                if self._place is not None:
                    place = Place(self._place, first=False)
                    try:
                        return self._client.ask(self._model, hashed, outputs, place)
                    except RemoteError as error:
                        if error.status != 404:
                            raise
                    return self._client.ask(self._model, whole, outputs, place)
                number = _number()
                found = self._client.ask(self._model, whole, outputs, Place(number, first=True))
                self._place = number
                return found
            except RemoteError as error:
                if not any(words in str(error) for words in _LOST_PLACE):
                    raise
                lost, self._place = error, None
        raise lost

    def _mask(self, encoded: rle.Rle) -> BoolArray:
        """Decode a mask of this image; one of another size is none."""
        if tuple(encoded["size"]) != self.original_size:
            raise ValueError("a mask has not the image's size")
        return rle.decode(encoded)


def _number() -> int:
    """Return a number for a sequence that no other client has: from 1 to 2^62."""
    return 1 + secrets.randbits(62)


def _uint8(data: bytes) -> UInt8Array:
    return np.frombuffer(data, dtype=np.uint8)


def _numbers(value: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(value, dtype=np.float32 if name == "mask_input" else np.float64)
    except (TypeError, ValueError):
        raise PromptError(f"{name} must be an array of numbers, the same count in each") from None


def _json(found: Arrays, name: str) -> Any:
    with expecting(name):
        return json.loads(found[name].tobytes())


def _blamed(
    error: RemoteError, kind: type[ImageError] | type[PromptError]
) -> RemoteError | ImageError | PromptError:
    """Return a request's refusal as what is wrong with it."""
    return kind(str(error)) if error.status == 400 else error
