"""Label photographs with the masks on which trained models agree, view by view.

    PYTHONPATH=src python training/consensus.py .data/parts .data/agreed \
        --weights src/samtrt_assets/vit_s.safetensors --weights run-4.safetensors

A grid of points finds masks in the whole photograph, in its mirror image and in crops. What
several views find is kept, and their mean is the label: it has parts that colour alone does not
give, and finer borders than any one view's. The method is that of SAM's data engine (Kirillov et
al., 2023, section 4), whose masks must be stable; here they must also be found again.

The parts written have maps 1 to 3 of the split's photographs anew, and wholes without the regions
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
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from agreement import FRAME, MATCH, SMALLEST, agreed
from borders import colour_step
from parts import read_parts, write_parts
from samtrt.models import Sam
from scenes import PART_IDS
from views import View, frame_size, load, views_of

LAYERS = 3
_OVERLAP = 0.03  # of a label's area that another label of its layer may cover
_STEP = 8.0  # Lab distance of the colours on both sides of a border


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
            if ids.max() < 255 and (ids[mask] > 0).sum() <= _OVERLAP * mask.sum():
                ids[mask] = ids.max() + 1
                break
    return out


def label(photo: Tensor, views: Sequence[View], known: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the maps of a photograph, uint8 [h, w, 3], or None where views agree on nothing.

    `known` are label maps, uint8 [h, w] of any size, of objects that may be there.
    """
    height, width = frame_size(photo, FRAME)
    proposals = known_masks(known, frame_size(photo, MATCH)).to(photo.device)
    with torch.autocast(photo.device.type, torch.bfloat16, enabled=photo.is_cuda):
        masks = agreed(photo, views, proposals)
    rgb = np.ascontiguousarray(photo.permute(1, 2, 0).cpu().numpy())
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    pieces = [piece for mask in masks if (piece := solid(mask)) is not None]
    pieces = [
        p for p in pieces if p.mean() > SMALLEST and colour_step(p.astype(np.uint8), lab) > _STEP
    ]
    return layered(pieces) if pieces else None


def known_masks(maps: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    """The objects of label maps in a frame of (height, width): bool [N, h, w]."""
    masks = [np.zeros((0, *size), bool)]
    for ids in maps:
        drawn = cv2.resize(ids, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
        masks += [(drawn == k)[None] for k in np.unique(drawn) if k]
    return torch.from_numpy(np.concatenate(masks))


@dataclass(frozen=True)
class Look:
    """How photographs are looked at: by which models, where, how closely, and for how long."""

    models: Sequence[Sam]
    device: torch.device
    quick: bool = False
    seconds: float = 1e9


def labelled(
    names: Sequence[str], items: Mapping[str, bytes], look: Look
) -> Iterator[tuple[str, bytes | None]]:
    """Yield the maps of photographs `names` among parts' items, as PNG, until the time is up."""
    end = time.monotonic() + look.seconds
    with ThreadPoolExecutor(2) as ahead:
        for name, (photo, known) in zip(
            names, ahead.map(lambda name: decoded(name, items), names), strict=True
        ):
            if time.monotonic() < end:
                pixels = torch.from_numpy(photo).to(look.device)
                maps = label(pixels, views_of(look.models, pixels, look.quick), known)
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
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--quick", action="store_true", help="fewer points, no crops: for a CPU")
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
    photos = [name for name in items if name.startswith(f"photo/{args.split}/")]
    look = Look(models, device, args.quick, args.seconds)
    mine = dict(labelled(photos[: args.limit][rank::world], items, look))
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
