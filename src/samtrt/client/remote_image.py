"""An image on a server, prompted as `Predictor` prompts one."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import Generation, Resize
from samtrt.client.answers import cut_maps, expecting, json_of
from samtrt.client.held import Held, decode_mask
from samtrt.errors import (
    PromptError,
    RemoteError,
)
from samtrt.masks.prediction import Prediction
from samtrt.preparation.frame import Frame
from samtrt.types import Embedding, Size

if TYPE_CHECKING:
    import httpx

    from samtrt.client.connection import Client

_GONE = (404, 410)


class RemoteImage(Held):
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
            "points": listed(point_coords, "point_coords"),
            "labels": listed(point_labels, "point_labels"),
            "box": listed(box, "box"),
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
                np.stack([decode_mask(mask["rle"], self.original_size) for mask in masks]),
                np.array([mask["score"] for mask in masks], dtype=np.float32),
                np.stack([_logits(mask.get("low_res_logits")) for mask in masks]),
            )

    def auto(self, **options: Any) -> list[dict[str, Any]]:
        """Find everything in the image; options as `AutomaticMaskGenerator`, where the server
        takes them. Each mask has bool [H, W] as `segmentation`, and the server's other fields."""
        answer = json_of(self._call("POST", "/auto", json=options))
        with expecting("masks"):
            masks = answer["masks"]
            return [
                {"segmentation": decode_mask(mask.pop("rle"), self.original_size), **mask}
                for mask in masks
            ]

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

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"/v1/images/{self.id}{path}", **options)
        except RemoteError as error:
            if error.status not in _GONE:
                raise
        with expecting("an image's id"):
            self.id = str(self._client.send_image(self._data)["id"])
        return self._client.request(method, f"/v1/images/{self.id}{path}", **options)


def listed(value: npt.ArrayLike | None, what: str) -> Any:
    """Return an array of numbers as lists, for JSON; raises `PromptError`."""
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
