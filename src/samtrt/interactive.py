"""What an annotation tool asks for: one object's mask, of an image that comes as a file's bytes.

Tools send the image again with every click. Here it is encoded once, and found again by its hash.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName
from samtrt.errors import PromptError
from samtrt.images.read import decode_image
from samtrt.masks.prediction import Prediction
from samtrt.predictor import Predictor
from samtrt.types import BoolArray, Closeable, Size


class Encoded(Protocol):
    """An image that can be prompted: a predictor with an image set, or an image on a server."""

    @property
    def original_size(self) -> Size: ...

    @property
    def predict(self) -> Callable[..., Prediction]: ...


IMAGES = 8
"""Images that are kept encoded, where nothing else is said."""


class Segment(NamedTuple):
    """The mask of one prompt.

    Attributes:
        mask: bool [H, W], of the upright image.
        score: The model's own estimate of the mask's IoU.
    """

    mask: BoolArray
    score: float


class Segmenter(Closeable):
    """Answers prompts about images given as bytes, from a model directory or a server.

    Safe for threads. An image that is asked about again is not encoded again, as long as it is
    among the last `images`.

    Args:
        model: A model directory, or the address of a server (`http://`, `https://`).
        backend: What runs a model directory; of no use with a server.
        options: Of the backend.
        token: The server's token, where it asks for one.
        images: How many images are kept encoded here. A server keeps its own.

    Raises:
        ManifestError, BackendError, MissingExtraError: where the model cannot be run here.
    """

    def __init__(
        self,
        model: str | Path,
        backend: BackendName | str = BackendName.ONNXRUNTIME,
        options: BackendOptions | None = None,
        token: str | None = None,
        images: int = IMAGES,
    ) -> None:
        if images < 1:
            raise PromptError(f"at least one image has to be kept, not {images}")
        self._images = images
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._lock = Lock()
        self._source: Any
        if str(model).startswith(("http://", "https://")):
            from samtrt.client import Client

            self._source = client = Client(str(model), token)
            self._encode: Callable[[bytes], Encoded] = client.upload
            self._without_logits = {"low_res_logits": False}
        else:
            self._source = predictor = Predictor.load(model, backend, options)
            self._encode = lambda data: predictor.bind(predictor.encode(decode_image(data)))
            self._without_logits = {}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Segmenter:
        """Open what the environment names: plugins are configured so.

        `SAMTRT_MODEL` is a model directory or a server's address and must be there; `SAMTRT_TOKEN`,
        `SAMTRT_BACKEND`, `SAMTRT_DEVICE` and `SAMTRT_IMAGES` may be.

        Raises:
            PromptError: where one of them is missing or makes no sense.
        """
        model = environment.get("SAMTRT_MODEL")
        if not model:
            raise PromptError(
                "SAMTRT_MODEL is not set: give a model directory (samtrt export) or the address "
                "of a server (samtrt serve)"
            )
        images = environment.get("SAMTRT_IMAGES") or str(IMAGES)
        if not (images.isascii() and images.isdecimal() and 0 < len(images) < 7):
            raise PromptError(f"SAMTRT_IMAGES is a number of images, not {images!r}")
        return cls(
            model,
            environment.get("SAMTRT_BACKEND") or BackendName.ONNXRUNTIME,
            BackendOptions(environment.get("SAMTRT_DEVICE") or None),
            environment.get("SAMTRT_TOKEN") or None,
            int(images),
        )

    def segment(
        self,
        image: bytes,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
    ) -> Segment:
        """Segment what one prompt points at; arguments as `Predictor.predict`.

        One point alone is ambiguous: of the model's three masks, the one with the highest score is
        taken. Of other prompts the model gives its single answer, as the official predictor
        recommends.

        Args:
            image: The bytes of a picture's file.

        Raises:
            ImageError: where it is not a picture.
            PromptError: where the prompt is not usable with it.
            RemoteError: where a server fails.
        """
        alone = box is None and point_labels is not None and np.size(point_labels) == 1
        found = self._encoded(image).predict(
            point_coords, point_labels, box, multimask_output=alone, **self._without_logits
        )
        return Segment(found.best, float(found.iou_predictions.max()))

    def size_of(self, image: bytes) -> Size:
        """Return height and width of an image, upright. Raises as `segment`."""
        return self._encoded(image).original_size

    def _encoded(self, image: bytes) -> Encoded:
        key = hashlib.sha256(image).hexdigest()
        # Held while encoding: of two clicks on a new image the second waits instead of encoding it.
        with self._lock:
            encoded = self._kept.get(key)
            if encoded is None:
                encoded = self._kept[key] = self._encode(image)
            self._kept.move_to_end(key)
            while len(self._kept) > self._images:
                self._kept.popitem(last=False)
        return encoded

    def close(self) -> None:
        """Free the engines, or the connections."""
        self._kept.clear()
        self._source.close()
