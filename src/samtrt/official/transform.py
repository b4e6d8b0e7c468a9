"""Images and coordinates to the model's frame, as the official `ResizeLongestSide` does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt.choices import ResizeFilter
from samtrt.manifest import Manifest
from samtrt.preparation.frame import Frame
from samtrt.preparation.host import FILTERS, check_image
from samtrt.types import Size, UInt8Array


class ResizeLongestSide:
    """Images and coordinates to a square, the image's longest side as long as its.

    Methods named `torch` take and give tensors of PyTorch.

    Attributes:
        target_length: Side of the square.
    """

    filter = ResizeFilter.BILINEAR

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def frame(self, original: Size) -> Frame:
        """Return where an image of (H, W) lies in the square."""
        return Frame(original, self.target_length, self.target_length // 4)

    def input_frame(self, original: Size) -> Frame:
        """Return where it lies in the encoder's input, where that is another square."""
        return self.frame(original)

    def apply_image(self, image: UInt8Array) -> UInt8Array:
        """Resize an image, uint8 [H, W, 3]."""
        height, width = self.input_frame(check_image(image).shape[:2]).resized
        resample = FILTERS[self.filter]
        return np.array(Image.fromarray(image).resize((width, height), resample))

    def apply_coords(self, coords: npt.ArrayLike, original_size: Size) -> npt.NDArray[np.float64]:
        """Bring XY coordinates [..., 2] of an image of (H, W) to the model's frame."""
        xy = np.asarray(coords, dtype=np.float64)
        return self.frame((original_size[0], original_size[1])).to_model(xy)

    def apply_boxes(self, boxes: npt.ArrayLike, original_size: Size) -> npt.NDArray[np.float64]:
        """Bring boxes [P, 4], XYXY, to the model's frame."""
        corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2)
        return self.apply_coords(corners, original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Any) -> Any:
        """Resize a tensor [B, 3, H, W]; not quite as `apply_image`, which the model expects."""
        from torch.nn import functional

        size = self.input_frame(tuple(image.shape[-2:])).resized
        return functional.interpolate(
            image, size, mode="bilinear", align_corners=False, antialias=True
        )

    def apply_coords_torch(self, coords: Any, original_size: Size) -> Any:
        """As `apply_coords`, of a tensor; float32."""
        import torch

        moved = self.apply_coords(coords.detach().cpu().numpy(), original_size)
        return torch.from_numpy(moved).to(device=coords.device, dtype=torch.float32)

    def apply_boxes_torch(self, boxes: Any, original_size: Size) -> Any:
        """As `apply_boxes`, of a tensor; float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)


class Transform(ResizeLongestSide):
    """`SamPredictor.transform`: as the model's own images are resized."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest.input_size)
        self.filter = manifest.preparation.filter
        self.frame = manifest.frame  # type: ignore[method-assign]
        self.input_frame = manifest.input_frame  # type: ignore[method-assign]
