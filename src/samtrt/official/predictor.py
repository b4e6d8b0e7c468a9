"""`SamPredictor`, with the official methods, attributes and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.encoding import Prepared, encode_together
from samtrt.errors import ImageError, PromptError
from samtrt.masks.prediction import Prediction
from samtrt.official.model import SamModel, as_model
from samtrt.official.transform import Transform
from samtrt.preparation.host import normalise
from samtrt.preparation.prompts import build_prompts, check_pixels, one_prompt
from samtrt.types import Embedding, Size, Tensor, UInt8Array, to_host


class HostTensor(np.ndarray[Any, np.dtype[Any]]):
    """An array with what code for the official package calls on a tensor to get one."""

    def cpu(self) -> HostTensor:
        return self

    def detach(self) -> HostTensor:
        return self

    def numpy(self) -> npt.NDArray[Any]:
        return np.asarray(self)


class SamPredictor:
    """Encode an image once, then answer prompts, as `segment_anything.SamPredictor` does.

    Attributes:
        model: What is run.
        transform: Images and coordinates to the model's frame.
        is_image_set: Whether there is an image to ask about.
        original_size, input_size: (H, W) of the image, and of what became of it in the model's
            frame; None without an image.
    """

    def __init__(self, sam_model: SamModel | str | Path) -> None:
        """Take what `sam_model_registry` gives, a model directory, or a checkpoint."""
        self.model = as_model(sam_model)
        self.transform = Transform(self.model.manifest)
        self.reset_image()

    def reset_image(self) -> None:
        """Forget the current image."""
        self.is_image_set = False
        self._features: Tensor | None = None
        self._further: Mapping[str, Tensor] = {}
        self.original_size: Size | None = None
        self.input_size: Size | None = None

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.model.device

    @property
    def features(self) -> HostTensor | None:
        """The image embedding, float32 [1, 256, S/16, S/16], on the host. It may be set, with the
        two sizes and `is_image_set`, to one that was kept."""
        return None if self._features is None else to_host(self._features).view(HostTensor)

    @features.setter
    def features(self, value: Any) -> None:
        self._features = None if value is None else _array(value, "features")

    def get_image_embedding(self) -> HostTensor:
        """Return `features`; raise `PromptError` where no image is set."""
        return to_host(self._embedding().features).view(HostTensor)

    def set_image(self, image: UInt8Array, image_format: str = "RGB") -> None:
        """Encode an image, uint8 [H, W, 3]."""
        self.reset_image()
        self._keep(self.model.predictor.encode(image, image_format))  # type: ignore[arg-type]

    def set_torch_image(self, transformed_image: Any, original_image_size: Size) -> None:
        """Encode an image that `transform` resized: [1, 3, h, w], 0..255, as a tensor or array."""
        pixels = _array(transformed_image, "the image", ImageError)
        manifest = self.model.manifest
        frame = manifest.frame((int(original_image_size[0]), int(original_image_size[1])))
        inside = manifest.input_frame(frame.original)
        expected = (1, 3, *inside.resized)
        if pixels.shape != expected:
            raise ImageError(
                f"set_torch_image takes an image that transform.apply_image resized, of the shape "
                f"{expected} for an original of {frame.original}, not {pixels.shape}"
            )
        self.reset_image()
        ready = Prepared(normalise(pixels[0], inside, manifest.preparation), frame)
        self._keep(encode_together(self.model.predictor.encoder, [ready])[0])

    def _keep(self, embedding: Embedding) -> None:
        self._features, self._further = embedding.features, embedding.further
        self.original_size, self.input_size = embedding.original_size, embedding.frame.resized
        self.is_image_set = True

    def _embedding(self) -> Embedding:
        if not self.is_image_set or self._features is None or self.original_size is None:
            raise PromptError("no image is set: call set_image(image) before predicting")
        frame = self.model.manifest.frame((self.original_size[0], self.original_size[1]))
        if self.input_size is not None and tuple(self.input_size) != frame.resized:
            raise ImageError(
                f"input_size is {self.input_size}, and an image of {frame.original} becomes "
                f"{frame.resized} with this model"
            )
        return self.model.predictor.bind(Embedding(self._features, frame, self._further)).embedding

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """As `Predictor.predict`; points may lie beyond the image's border."""
        embedding = self._embedding()
        prompt = one_prompt(point_coords, point_labels, box, mask_input)
        check_pixels(embedding.frame, prompt.get("point_coords"), prompt.get("boxes"))
        prompts = build_prompts(embedding.frame, **prompt, beyond=True)
        batch = self.model.predictor.form(embedding, prompts, multimask_output, return_logits)
        return Prediction(*(array[0] for array in batch))

    def predict_torch(
        self,
        point_coords: Any,
        point_labels: Any,
        boxes: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Any, Any, Any]:
        """Answer P prompts that `transform` brought to the model's frame; needs PyTorch.

        Arguments may be tensors of any library that shares them by DLPack, or arrays.

        Args:
            point_coords: [P, N, 2], or None.
            point_labels: [P, N]: 1, 0, and -1 for padding; or None.
            boxes: [P, 4], XYXY, or None.
            mask_input: [P, 1, M, M], or None.
            multimask_output: Three masks for each prompt, or one.
            return_logits: Logits instead of boolean masks.

        Returns:
            Tensors of PyTorch, on the device of the arguments: masks [P, C, H, W], IoU predictions
            [P, C] and low-res logits [P, C, M, M]. On the host they share the answer's memory.
        """
        import torch

        embedding = self._embedding()
        named = {
            "point_coords": point_coords,
            "point_labels": point_labels,
            "boxes": boxes,
            "mask_input": mask_input,
        }
        arrays = {k: _array(v, k) for k, v in named.items() if v is not None}
        # In a frame whose image has the model's size, coordinates stay as they are.
        frame = replace(embedding.frame, original=embedding.frame.resized)
        prompts = build_prompts(frame, **arrays, beyond=True)
        found = self.model.predictor.form(embedding, prompts, multimask_output, return_logits)
        where = next((value.device for value in named.values() if _is_torch(value)), "cpu")
        arrays_out = [np.require(array, None, ["C", "W"]) for array in found]
        masks, scores, low_res = (
            torch.utils.dlpack.from_dlpack(array).to(where) for array in arrays_out
        )
        return masks, scores, low_res


def _array(
    value: Any, what: str, error: type[PromptError | ImageError] = PromptError
) -> npt.NDArray[np.float32]:
    """Copy a tensor of any library, or an array, to the host as float32."""
    try:
        if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
            import torch

            value = value if _is_torch(value) else torch.utils.dlpack.from_dlpack(value)
            value = value.detach().cpu().numpy()
        return np.array(value, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError, BufferError):
        raise error(f"{what} must be an array of numbers, not {type(value).__name__}") from None


def _is_torch(value: Any) -> bool:
    """Tell whether it is a tensor of PyTorch, without importing that."""
    return hasattr(value, "detach") and hasattr(value, "device")
