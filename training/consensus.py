"""Label photographs with the masks on which trained models agree, view by view.

    PYTHONPATH=src python training/consensus.py .data/parts .data/agreed \
        --weights src/samtrt_assets/vit_s.safetensors --weights run-4.safetensors

A grid of points finds masks in the whole photograph, in its mirror image and in crops. What
several views find is kept, and their mean is the label: it has parts that colour alone does not
give, and finer borders than any one view's. The method is that of SAM's data engine (Kirillov et
al., 2023, section 4), whose masks must be stable; here they must also be found again.

The parts written have the training photographs' maps 1 to 3 anew, and wholes without the regions
of one colour that were their parts; everything else is as it was. Several processes, as `torchrun`
starts them, share the photographs; the first writes the parts.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from borders import colour_step
from parts import read_parts, write_parts
from prompting import boxes as pixel_boxes
from samtrt.models import Sam, build_sam
from samtrt.registry import get_spec
from scenes import MEAN, PART_IDS, STD

FRAME = 512
"""Labels' longer side, in pixels."""
MATCH = 256
"""Masks are compared in frames of this longer side."""
LAYERS = 3
BATCH = 192
"""Prompts that are answered at once."""
CROP_FROM = 900
"""Photographs with a longer side below this have no more detail to show in crops."""
_SMALLEST, _LARGEST = 0.0025, 0.7  # of the photograph
_STABLE, _SCORED = 0.8, 0.2
_SAME = 0.8  # IoU of duplicates in one view
_AGREED = 0.85  # mean IoU of what two views answer to the same box
_SCORE = 0.75  # IoU that they predict for it
_FIT = 0.8  # IoU of their answer's box with the one that they were asked
_DUPLICATE = 0.65  # IoU of labels
_OVERLAP = 0.03  # of a label's area that another label of its layer may cover
_CROP = 0.6  # of each side
_STEP = 8.0  # Lab distance of the colours on both sides of a border


@dataclass(frozen=True)
class View:
    """Part of a photograph as one model sees it.

    `box` is (x0, y0, x1, y1) in 0..1 of the photograph, `grid` its points a side. Masks must be
    found again in views of the `whole`.
    """

    model: Sam
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False
    grid: int = 20

    @property
    def whole(self) -> bool:
        return self.box == (0.0, 0.0, 1.0, 1.0)

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


def load(path: Path) -> Sam:
    """Build vit_s for pictures of the size that the weights are for."""
    state = {name: tensor.float() for name, tensor in load_file(path).items()}
    spec = get_spec("vit_s")
    side = state["image_encoder.pos_embed"].shape[1] * spec.patch_size
    model = build_sam(replace(spec, image_size=side)).eval()
    model.load_state_dict(state, strict=True)
    return model.requires_grad_(False)


def views_of(models: Sequence[Sam], photo: Tensor) -> list[View]:
    """The photograph by each model, every other one's mirrored; crops by the first model."""
    views = [View(model, mirrored=bool(i % 2)) for i, model in enumerate(models)]
    views.append(View(models[0], mirrored=True, grid=16))
    if max(photo.shape) >= CROP_FROM:
        ends = ((0.0, _CROP), (1 - _CROP, 1.0))
        boxes = [(x0, y0, x1, y1) for x0, x1 in ends for y0, y1 in ends]
        views += [View(models[0], box, box[0] == box[1], grid=12) for box in boxes]
    return views


def frame_size(photo: Tensor, longest: int) -> tuple[int, int]:
    """Height and width of a photograph [..., H, W] in a frame of `longest` pixels."""
    height, width = photo.shape[-2:]
    return fitted(height, width, longest)


def fitted(height: int, width: int, longest: int) -> tuple[int, int]:
    """Bring a height and a width to a longer side of `longest`."""
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


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
            their = torch.tensor([labels], device=device).expand(len(some), -1)
            mask = none[: len(some)]
            found, told = self.view.model.decode(
                self.embedding, some, their, mask, mask[:, 0, 0, 0]
            )
            logits.append(found[..., :m, :n])
            scores.append(told)
        return torch.cat(logits), torch.cat(scores).float()

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


def search(seen: Seen) -> Tensor:
    """Find the stable masks of a view by its points, each once: bool [N, h, w] in its frame."""
    logits, scores = seen.ask(seen.points(), (1, -1))
    logits, scores = logits[:, 1:].flatten(0, 1), scores[:, 1:].flatten()
    inner = (logits > 1).sum((1, 2)).float()
    stability = inner / (logits > -1).sum((1, 2)).clamp(min=1)
    good = (scores > _SCORED) & (stability > _STABLE) & ~cut_off(seen.view, logits > 0)
    masks = drawn(seen, logits[good].sigmoid(), MATCH) > 0.5
    share = masks.float().mean((1, 2))
    fits = (share > _SMALLEST) & (share < _LARGEST)
    return masks[distinct(ious(masks, masks), (scores * stability)[good] * fits, _SAME)]


def drawn(seen: Seen, odds: Tensor, longest: int) -> Tensor:
    """Draw odds [N, m, n] of a view in the photograph's frame of `longest` pixels: [N, h, w]."""
    size = fitted(*seen.photo_size, longest)
    return torch.cat([seen.view.placed(some, *size) for some in odds.split(256)])


def cut_off(view: View, masks: Tensor) -> Tensor:
    """Tell which masks [N, m, n] of a view end where the view does and the photograph does not."""
    x0, y0, x1, y1 = view.box
    left, right = (1 - x1, 1 - x0) if view.mirrored else (x0, x1)
    sides = (
        (left > 0, masks[:, :, :2]),
        (right < 1, masks[:, :, -2:]),
        (y0 > 0, masks[:, :2]),
        (y1 < 1, masks[:, -2:]),
    )
    touched = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    for inside, edge in sides:
        if inside:
            touched |= edge.flatten(1).any(1)
    return touched


def ious(one: Tensor, two: Tensor) -> Tensor:
    """IoU of each of masks [N, h, w] with each of [M, h, w]: [N, M]."""
    one, two = one.flatten(1), two.flatten(1)
    both = one.float() @ two.float().T
    areas = one.sum(1)[:, None] + two.sum(1)[None]
    return both / (areas - both).clamp(min=1)


def distinct(same: Tensor, rank: Tensor, most: float) -> list[int]:
    """Indexes of those of positive `rank` [N], the best first, that are no other's duplicates.

    `same` [N, N] is how much they are alike, `most` how much two may be.
    """
    close, values = (same > most).cpu().numpy(), rank.cpu().numpy()
    gone, kept = values <= 0, []
    for i in np.argsort(-values):
        if not gone[i]:
            kept.append(int(i))
            gone |= close[i]
    return kept


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes of masks [N, h, w]: (x0, y0, x1, y1) [N, 4] in 0..1 of the frame."""
    height, width = masks.shape[-2:]
    scale = torch.tensor([width, height] * 2, device=masks.device)
    far = torch.tensor([0, 0, 1, 1], device=masks.device)  # boxes end after the last pixel
    return (pixel_boxes(masks) + far) / scale


@torch.inference_mode()
def agreed(photo: Tensor, views: Sequence[View], known: Tensor) -> list[np.ndarray]:
    """Find what views of a photograph, uint8 [3, H, W], agree on: bool [h, w] in a frame of 512.

    Each mask that any view finds by points, and each of `known` [N, h, w], is asked for again by
    its box, in each view of the whole.
    """
    every = [Seen(view, photo) for view in views]
    proposals = torch.cat([known, *(search(seen) for seen in every)])
    alone = torch.ones(len(proposals), device=photo.device)
    proposals = proposals[distinct(ious(proposals, proposals), alone, _SAME)]
    if not len(proposals):
        return []
    boxes = boxes_of(proposals)
    whole = [seen for seen in every if seen.view.whole]
    answers = [seen.ask(seen.corners(boxes), (2, 3)) for seen in whole]
    odds = [logits[:, 0].float().sigmoid() for logits, _ in answers]
    masks = [drawn(seen, o, MATCH) > 0.5 for seen, o in zip(whole, odds, strict=True)]
    pairs = [each_iou(one, two) for one, two in combinations(masks, 2)]
    agreement, score = (
        torch.stack(pairs).mean(0),
        torch.stack([s[:, 0] for _, s in answers]).mean(0),
    )
    mean = torch.stack([mask.float() for mask in masks]).mean(0) > 0.5
    fit = box_ious(boxes, boxes_of(mean))
    good = (agreement > _AGREED) & (score > _SCORE) & (fit > _FIT)
    kept = distinct(ious(mean, mean), agreement * score * good, _DUPLICATE)
    fine = torch.stack([drawn(seen, o[kept], FRAME) for seen, o in zip(whole, odds, strict=True)])
    return list((fine.mean(0) > 0.5).cpu().numpy())


def each_iou(one: Tensor, two: Tensor) -> Tensor:
    """IoU of each of masks [N, h, w] with the same one of [N, h, w]: [N]."""
    return (one & two).sum((1, 2)) / (one | two).sum((1, 2)).clamp(min=1)


def box_ious(one: Tensor, two: Tensor) -> Tensor:
    """IoU of each of boxes [N, 4] with the same one of [N, 4]: [N]."""
    low, high = torch.maximum(one[:, :2], two[:, :2]), torch.minimum(one[:, 2:], two[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (one, two)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-9)


def solid(mask: np.ndarray) -> np.ndarray | None:
    """The largest piece of a mask without its holes, None where that is not most of it."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    outline = max(contours, key=cv2.contourArea)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), [outline], 0, 1, -1) > 0
    if (mask & filled).sum() < 0.9 * mask.sum():
        return None
    # Small holes are gaps between views; a large one is a part of the shape.
    holes = filled & ~mask
    return filled if holes.sum() < 0.1 * filled.sum() else mask & filled


def layered(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Spread masks bool [H, W] over maps in which they hardly overlap: uint8 [H, W, 3].

    The largest come first, each in the first map that has room; a map's later masks are on top.
    """
    out = np.zeros((*masks[0].shape, LAYERS), np.uint8)
    for mask in sorted(masks, key=lambda m: -int(m.sum())):
        for layer in range(LAYERS):
            ids = out[..., layer]
            if (ids[mask] > 0).sum() <= _OVERLAP * mask.sum():
                ids[mask] = ids.max() + 1
                break
    return out


def label(photo: Tensor, models: Sequence[Sam], known: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the maps of a photograph, uint8 [h, w, 3], or None where views agree on nothing.

    `known` are label maps, uint8 [h, w] of any size, of objects that may be there.
    """
    height, width = frame_size(photo, FRAME)
    proposals = known_masks(known, frame_size(photo, MATCH)).to(photo.device)
    with torch.autocast(photo.device.type, torch.bfloat16, enabled=photo.is_cuda):
        masks = agreed(photo, views_of(models, photo), proposals)
    rgb = np.ascontiguousarray(photo.permute(1, 2, 0).cpu().numpy())
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    pieces = [piece for mask in masks if (piece := solid(mask)) is not None]
    pieces = [
        p for p in pieces if p.mean() > _SMALLEST and colour_step(p.astype(np.uint8), lab) > _STEP
    ]
    return layered(pieces) if pieces else None


def known_masks(maps: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    """The objects of label maps in a frame of (height, width): bool [N, h, w]."""
    masks = [np.zeros((0, *size), bool)]
    for ids in maps:
        drawn = cv2.resize(ids, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
        masks += [(drawn == k)[None] for k in np.unique(drawn) if k]
    return torch.from_numpy(np.concatenate(masks))


def labelled(
    names: Sequence[str],
    items: Mapping[str, bytes],
    models: Sequence[Sam],
    device: torch.device,
    seconds: float,
) -> Iterator[tuple[str, bytes | None]]:
    """Yield the maps of photographs `names` among parts' items, as PNG, until the time is up."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(2) as ahead:
        for name, (photo, known) in zip(
            names, ahead.map(lambda name: decoded(name, items), names), strict=True
        ):
            if time.monotonic() < end:
                maps = label(torch.from_numpy(photo).to(device), models, known)
                yield name.replace("photo/", "ids/", 1), None if maps is None else as_png(maps)


def decoded(name: str, items: Mapping[str, bytes]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a photograph of the parts, uint8 [3, H, W], and the label maps that it has."""
    kinds = (name.replace("photo/", f"{kind}/", 1) for kind in ("photo", "ids", "wholes"))
    photo, *maps = (opened(items[kind]) for kind in kinds if kind in items)
    known = [ids for some in maps for ids in some.transpose(2, 0, 1)]
    return np.ascontiguousarray(photo.transpose(2, 0, 1)), known


def opened(blob: bytes) -> np.ndarray:
    """Return an encoded picture's pixels [H, W, C]."""
    with Image.open(io.BytesIO(blob)) as file:
        return np.atleast_3d(np.asarray(file))


def as_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def wholes_alone(items: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return parts' items with maps of wholes that show nothing else.

    Their parts were regions of one colour; those that are things are among what views agree on.
    """
    out = dict(items)
    for name in items:
        if name.startswith("wholes/"):
            ids = opened(items[name])[..., 0]
            out[name] = as_png(np.where(ids < PART_IDS, ids, ids // PART_IDS).astype(np.uint8))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of parts")
    parser.add_argument("out", type=Path, help="folder of the parts to write")
    parser.add_argument("--weights", type=Path, action="append", required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=1e9, help="others keep their maps")
    parser.add_argument("--limit", type=int, help="photographs, for a rehearsal")
    args = parser.parse_args()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if args.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if world > 1:
        dist.init_process_group("gloo")
    device = torch.empty(0, device=args.device).device
    cv2.setNumThreads(1)
    models = [load(path).to(device) for path in args.weights]
    items = wholes_alone(dict(read_parts(args.data)))
    photos = [name for name in items if name.startswith("photo/train/")][: args.limit]
    mine = dict(labelled(photos[rank::world], items, models, device, args.seconds))
    everyone: list[dict[str, bytes | None]] = [mine] * world
    if world > 1:
        dist.all_gather_object(everyone, mine)
    if rank == 0:
        new = {name: blob for some in everyone for name, blob in some.items()}
        empty = sum(blob is None for blob in new.values())
        print(f"{len(new)} of {len(photos)} photographs seen, views of {empty} agree on nothing")
        every = [(name, blob) for name, blob in (items | new).items() if blob is not None]
        for path in write_parts(every, args.out):
            print(path, path.stat().st_size)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
