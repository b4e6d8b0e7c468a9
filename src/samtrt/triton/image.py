"""An image at a Triton server, and the prompts that go there."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import Generation, Resize
from samtrt.client import cut_maps, expecting
from samtrt.client.held import Held, decode_mask
from samtrt.errors import ImageError, PromptError, RemoteError
from samtrt.masks.prediction import Prediction
from samtrt.preparation.frame import Frame
from samtrt.preparation.prompts import one_prompt
from samtrt.triton.connection import Place, new_sequence
from samtrt.types import Embedding, Size, UInt8Array

if TYPE_CHECKING:
    from samtrt.triton.client import TritonClient

Arrays = dict[str, npt.NDArray[Any]]

_LOST_PLACE = ("START flag", "Stub process")
"""In Triton's words for a sequence that it does not know, since it was silent for too long or the
server is another one; and for an instance that died, which not every Triton starts again."""
_PLACES = 4
"""How often an image looks for a place at an instance that lives."""


class TritonImage(Held):
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
        masks = read_json(found, "masks")
        with expecting("masks"):
            return [
                {"segmentation": decode_mask(mask.pop("rle"), self.original_size), **mask}
                for mask in masks
            ]

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
        rles = read_json(found, "rle")
        with expecting("masks"):
            masks = np.stack(
                [np.stack([decode_mask(one, self.original_size) for one in each]) for each in rles]
            )
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
                number = new_sequence()
                found = self._client.ask(self._model, whole, outputs, Place(number, first=True))
                self._place = number
                return found
            except RemoteError as error:
                if not any(words in str(error) for words in _LOST_PLACE):
                    raise
                lost, self._place = error, None
        raise lost


def _uint8(data: bytes) -> UInt8Array:
    return np.frombuffer(data, dtype=np.uint8)


def _numbers(value: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(value, dtype=np.float32 if name == "mask_input" else np.float64)
    except (TypeError, ValueError):
        raise PromptError(f"{name} must be an array of numbers, the same count in each") from None


def _blamed(
    error: RemoteError, kind: type[ImageError] | type[PromptError]
) -> RemoteError | ImageError | PromptError:
    """Return a request's refusal as what is wrong with it."""
    return kind(str(error)) if error.status == 400 else error


def read_json(found: Arrays, name: str) -> Any:
    """Return what an output holds as JSON; raises `RemoteError` where that is none."""
    with expecting(name):
        return json.loads(found[name].tobytes())
