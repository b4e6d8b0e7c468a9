"""Views of a photograph, as models see them: whole, mirrored, in crops.

`consensus.py` asks several of them about the same things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from samtrt.models import Sam, build_sam
from samtrt.registry import get_spec
from scenes import MEAN, STD

BATCH = 96
"""Prompts that are answered at once."""
CROP_FROM = 900
"""Photographs with a longer side below this have no more detail to show in crops."""
_CROPS = ((0.6, 2), (0.4, 3))
"""Crops: the share of each side that they show, and how many of them stand side by side."""
_ROOM = 0.15  # of a box's side, between it and a crop's edge


@dataclass(frozen=True)
class View:
    """Part of a photograph as one model sees it.

    `box` is (x0, y0, x1, y1) in 0..1 of the photograph, `grid` its points a side.
    """

    model: Sam
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False
    grid: int = 20

    @property
    def whole(self) -> bool:
        return self.box == (0.0, 0.0, 1.0, 1.0)

    def holds(self, boxes: Tensor) -> Tensor:
        """Tell which boxes [N, 4], in 0..1 of the photograph, it shows with some room around."""
        if self.whole:
            return torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        room = _ROOM * (boxes[:, 2:] - boxes[:, :2])
        x0, y0, x1, y1 = self.box
        # Where the photograph ends too, nothing is cut off.
        low = torch.tensor([x0 or -1.0, y0 or -1.0], device=boxes.device)
        high = torch.tensor([x1 if x1 < 1 else 2.0, y1 if y1 < 1 else 2.0], device=boxes.device)
        return ((boxes[:, :2] - room >= low) & (boxes[:, 2:] + room <= high)).all(1)

    def within(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The box in pixels of a frame: top, bottom, left, right."""
        x0, y0, x1, y1 = self.box
        return round(y0 * height), round(y1 * height), round(x0 * width), round(x1 * width)

    def placed(self, answers: Tensor, height: int, width: int) -> Tensor:
        """Draw answers [N, m, n] of the view in the photograph's frame [N, h, w], else 0."""
        top, bottom, left, right = self.within(height, width)
        size = (bottom - top, right - left)
        if not len(answers):
            return answers.new_zeros((0, height, width))
        drawn = F.interpolate(
            answers[None].float(), size, mode="bilinear", antialias=size[0] < answers.shape[1]
        )[0]
        drawn = drawn.flip(-1) if self.mirrored else drawn
        return F.pad(drawn, (left, width - right, top, height - bottom))


class Seen:
    """One view of a photograph, encoded once, to be asked about points and boxes."""

    def __init__(self, view: View, photo: Tensor) -> None:
        """Encode what the view shows of a photograph, uint8 [3, H, W]."""
        self.view, self.photo_size = view, photo.shape[-2:]
        side, cells = view.model.spec.image_size, view.model.spec.mask_size
        self.top, bottom, self.left, right = view.within(*self.photo_size)
        part = photo[:, self.top : bottom, self.left : right].float()
        # Whole cells, so that logits end where the content does.
        self.cells = frame_size(part, cells)
        self.size = tuple(count * side // cells for count in self.cells)
        self.shown = part.shape[-2:]
        part = part.flip(-1) if view.mirrored else part
        part = F.interpolate(part[None], self.size, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v, device=photo.device).reshape(1, 3, 1, 1) for v in (MEAN, STD))
        square = F.pad((part - mean) / std, (0, side - self.size[1], 0, side - self.size[0]))
        self.embedding = view.model.image_encoder(square)

    def ask(self, coords: Tensor, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Answer P >= 1 prompts [P, 2, 2], in the view's pixels, all with these two labels.

        Returns logits [P, 4, m, n] of the view's content and scores [P, 4].
        """
        m, n = self.cells
        cells, device = self.view.model.spec.mask_size, coords.device
        none = torch.zeros(BATCH, 1, cells, cells, device=device)
        logits, scores = [], []
        for some in coords.split(BATCH):
            # On a GPU every batch is whole: there a compiled decoder is made for one size.
            count = BATCH if coords.is_cuda else len(some)
            some = F.pad(some, (0, 0, 0, 0, 0, count - len(some)))
            their = torch.tensor([labels], device=device).expand(count, -1)
            mask = none[:count]
            found, told = self.view.model.decode(
                self.embedding, some, their, mask, mask[:, 0, 0, 0]
            )
            logits.append(found[..., :m, :n])
            scores.append(told)
        return torch.cat(logits)[: len(coords)], torch.cat(scores)[: len(coords)].float()

    def points(self) -> Tensor:
        """The grid, each point with padding: [P, 2, 2]."""
        device, grid = self.embedding.device, self.view.grid
        place = (torch.arange(grid, device=device) + 0.5) / grid
        points = torch.cartesian_prod(place * self.size[1], place * self.size[0])
        return torch.stack([points, torch.zeros_like(points)], 1)

    def corners(self, boxes: Tensor) -> Tensor:
        """Boxes [N, 4] in 0..1 of the photograph as prompts of this view: [N, 2, 2]."""
        height, width = self.photo_size
        scale = torch.tensor([width, height] * 2, device=boxes.device)
        offset = torch.tensor([self.left, self.top] * 2, device=boxes.device)
        x0, y0, x1, y1 = (boxes * scale - offset).unbind(1)
        if self.view.mirrored:
            x0, x1 = self.shown[1] - x1, self.shown[1] - x0
        fit = torch.tensor(
            [self.size[1] / self.shown[1], self.size[0] / self.shown[0]], device=boxes.device
        )
        return torch.stack([x0, y0, x1, y1], 1).reshape(-1, 2, 2) * fit

    def windows(self, odds: Tensor, boxes: Tensor, side: int) -> Tensor:
        """Draw odds [N, m, n] around boxes [N, 4] in 0..1 of the photograph: [N, side, side].

        A window is twice as wide and as high as its box, and 0 beyond what the view shows.
        """
        corners = self.corners(boxes)
        middle, half = corners.mean(1), (corners[:, 1] - corners[:, 0]) / 2
        place = (torch.arange(side, device=odds.device) + 0.5) / side * 4 - 2
        x = middle[:, :1] + half[:, :1] * place  # [N, side], in the view's pixels
        y = middle[:, 1:] + half[:, 1:] * place
        x = x.flip(1) if self.view.mirrored else x
        x, y = x / self.size[1] * 2 - 1, y / self.size[0] * 2 - 1
        grid = torch.stack(
            [x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], -1
        )
        return F.grid_sample(odds[:, None], grid, align_corners=False)[:, 0]

    def drawn(self, odds: Tensor, longest: int) -> Tensor:
        """Draw odds [N, m, n] in the photograph's frame of `longest` pixels: [N, h, w]."""
        size = fitted(*self.photo_size, longest)
        return torch.cat([self.view.placed(some, *size) for some in odds.split(256)])


def load(path: Path, compiled: bool = False) -> Sam:
    """Build vit_s for pictures of the size that the weights are for; `compiled` for a GPU."""
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    spec = get_spec("vit_s")
    side = state["image_encoder.pos_embed"].shape[1] * spec.patch_size
    model = build_sam(replace(spec, image_size=side)).eval()
    model.load_state_dict(state, strict=True)
    if compiled:
        model.decode = torch.compile(model.decode, dynamic=False)  # type: ignore[method-assign]
    return model.requires_grad_(False)


def views_of(models: Sequence[Sam], photo: Tensor, quick: bool = False) -> list[View]:
    """The photograph by each model, every other one's mirrored; crops by each in turn.

    The `quick` ones have fewer points, and there are no crops.
    """
    grid = 14 if quick else 20
    views = [View(model, mirrored=bool(i % 2), grid=grid) for i, model in enumerate(models)]
    views.append(View(models[0], mirrored=True, grid=grid - 4))
    if max(photo.shape) >= CROP_FROM and not quick:
        boxes = [box for share, count in _CROPS for box in crops(share, count)]
        views += [
            View(models[i % len(models)], box, bool(i // len(models) % 2), grid=12)
            for i, box in enumerate(boxes)
        ]
    return views


def crops(share: float, count: int) -> list[tuple[float, float, float, float]]:
    """Boxes of `count` x `count` crops, each `share` of a side wide, from edge to edge."""
    starts = [i * (1 - share) / (count - 1) for i in range(count)]
    spans = [(a, 1.0 if i == count - 1 else a + share) for i, a in enumerate(starts)]
    return [(x0, y0, x1, y1) for x0, x1 in spans for y0, y1 in spans]


def frame_size(photo: Tensor, longest: int) -> tuple[int, int]:
    """Height and width of a photograph [..., H, W] in a frame of `longest` pixels."""
    height, width = photo.shape[-2:]
    return fitted(height, width, longest)


def fitted(height: int, width: int, longest: int) -> tuple[int, int]:
    """Bring a height and a width to a longer side of `longest`."""
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
