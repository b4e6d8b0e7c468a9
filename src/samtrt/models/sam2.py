"""SAM 2's mask decoder: finer features as the masks are upscaled, and whether there is an object.

Parameter names and results are those of the official `modeling/sam/mask_decoder.py` (Ravi et al.,
2024). What depends on the image alone is computed once an image, with the encoder.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.image_kernels import ImageKernels, quadruple_weight, upscale_rows
from samtrt.models.layers import MLP
from samtrt.models.mask_decoder import MaskDecoder
from samtrt.models.pyramid import FpnNeck


class MaskDecoder2(MaskDecoder):
    """As `MaskDecoder`, with two finer maps of the image, and a token for the object itself."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.obj_score_token = nn.Embedding(1, dim)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)
        self.conv_s0 = nn.Conv2d(dim, dim // 8, kernel_size=1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, kernel_size=1)

    def fine_maps(self, neck: FpnNeck, fine: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Make the finer maps of images: [B, 32, S/4, S/4] and [B, 64, S/8, S/8].

        Args:
            neck: Whose lateral convolutions they pass through first. Two convolutions of 1 x 1 in
                a row are one, which never has 256 channels of the finest map in memory.
            fine: [B, C, S/4, S/4], of the encoder's first stage.
            middle: [B, C', S/8, S/8], of its second.
        """
        return (
            _through(fine, neck.lateral(0), self.conv_s0),
            _through(middle, neck.lateral(1), self.conv_s1),
        )

    def forward(  # type: ignore[override]  # one result more
        self,
        kernels: ImageKernels,
        image: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        side: int,
        *further: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Do as `MaskDecoder.forward`; the further maps are those of `fine_maps`.

        Returns:
            Low-res logits [P, 4, 4 * side, 4 * side], IoU predictions [P, 4] in 0..1, and the
            object's score [P], above 0 where there is one.
        """
        _, masks, scores, found = self.decode(kernels, image, image_pe, sparse, side, *further)
        return masks, scores, found

    def decode(
        self,
        kernels: ImageKernels,
        image: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        side: int,
        *further: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Do as `forward`, and return the fixed tokens [P, 6, 256] before its results.

        The tokens are that of the scores, those of the four masks, and that of the object.
        """
        tokens, image = self.attend(kernels, image, image_pe, sparse)
        masks = self.masks(kernels, image, tokens, side, *further)
        scores = self.iou_prediction_head(tokens[:, 0]).sigmoid()
        return tokens, masks, scores, self.pred_obj_score_head(tokens[:, -1]).squeeze(1)

    def fixed_tokens(self) -> Tensor:
        # Behind the others, where the official decoder has it before them: attention is blind to
        # the order.
        return torch.cat([super().fixed_tokens(), self.obj_score_token.weight])

    def masks(
        self, kernels: ImageKernels, image: Tensor, tokens: Tensor, side: int, *further: Tensor
    ) -> Tensor:
        del kernels  # they upscale without finer maps
        modules: Any = list(self.output_upscaling)
        first, norm, _, second, _ = modules
        fine, middle = further
        linear = quadruple_weight(first), first.bias, quadruple_weight(second), second.bias
        added = _as_rows(middle, side), _as_rows(fine, side)
        weights = self.mask_weights(tokens)
        return upscale_rows(image, weights, *linear, norm.channels_last, side, added)


def _through(x: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """Apply two convolutions of 1 x 1, the one after the other, as one."""
    assert first.bias is not None
    assert second.bias is not None
    outer = second.weight.flatten(1)
    weight, bias = outer @ first.weight.flatten(1), outer @ first.bias + second.bias
    return F.conv2d(x, weight[:, :, None, None], bias)


def _as_rows(fine: Tensor, side: int) -> Tensor:
    """Bring [1, C, n side, n side] to rows [1, side * side * n * n, C], as upscaling orders them.

    Rows are (y, x) of the embedding, then (dy, dx) of each upscaling by two.
    """
    channels, times = fine.shape[1], fine.shape[2] // side
    # Channels last first: what is then reordered are whole cells, four times as fast on a CPU. No
    # axis of the one image, or ONNX Runtime makes a single, slow transpose of both.
    cells = fine.flatten(2).transpose(1, 2)
    if times == 2:
        cells = cells.reshape(side, 2, side, 2, channels).transpose(1, 2)
    else:
        cells = cells.reshape(side, 2, 2, side, 2, 2, channels).permute(0, 3, 1, 4, 2, 5, 6)
    return cells.reshape(1, -1, channels)
