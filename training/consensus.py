"""Label photographs with the masks on which trained models agree, view by view.

    PYTHONPATH=src python training/consensus.py .data/parts .data/agreed \
        --weights src/samtrt_assets/vit_s.safetensors --weights run-4.safetensors

A grid of points finds masks in the whole photograph, in its mirror image and in crops. What
several views find is kept, and their mean is the label: it has parts that colour alone does not
give, and finer borders than any one view's. The method is that of SAM's data engine (Kirillov et
al., 2023, section 4), whose masks must be stable; here they must also be found again.

The parts written have the split's photographs' maps anew: four of things and what lies inside them,
and one of what the frame cuts off. Their wholes come without the regions of one colour that were
their parts, and cut-outs with a map of what lies inside them (`cutouts.py`). Everything else is as
it was. Several processes, as `torchrun` starts them, share the work; the first writes the parts.
"""

from __future__ import annotations

import argparse
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
from torch import Tensor

from agreement import MATCH, SMALLEST, agreed
from borders import clear_pieces
from cutouts import insides
from parts import as_png, opened, read_parts, write_parts
from pool import MAPS
from samtrt.models import Sam
from scenes import PART_IDS
from views import View, frame_size, load, views_of

NEW_MAPS = ("ids", "cutoff")
LAYERS = MAPS["ids"].stop
_AT_FRAME = 0.3
"""Of a label's outline: where more of it is the frame, it is something that the frame cuts off."""
_OVERLAP = 0.03  # of a label's area that another label of its layer may cover


def layered(masks: Sequence[np.ndarray], layers: int = LAYERS) -> np.ndarray:
    """Spread masks bool [H, W] over maps in which they hardly overlap: uint8 [H, W, layers].

    The largest come first, each in the first map that has room; a map's later masks are on top.
    """
    out = np.zeros((*masks[0].shape, layers), np.uint8)
    for mask in sorted(masks, key=lambda m: -int(m.sum())):
        for layer in range(layers):
            ids = out[..., layer]
            if ids.max() < 255 and (ids[mask] > 0).sum() <= _OVERLAP * mask.sum():
                ids[mask] = ids.max() + 1
                break
    return out


def is_cut_off(mask: np.ndarray) -> bool:
    """Tell whether much of a mask's outline, bool [H, W], is the frame."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    outline = mask & (inner == 0)
    at_frame = outline.sum() - outline[1:-1, 1:-1].sum()
    return bool(at_frame > _AT_FRAME * outline.sum())


def labels(photo: Tensor, views: Sequence[View], known: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Find what views of a photograph agree on, pieces with a clear border: bool [h, w] each.

    `known` are label maps, uint8 [h, w] of any size, of objects that may be there.
    """
    proposals = known_masks(known, frame_size(photo, MATCH)).to(photo.device)
    with torch.autocast(photo.device.type, torch.bfloat16, enabled=photo.is_cuda):
        masks = agreed(photo, views, proposals)
    rgb = np.ascontiguousarray(photo.permute(1, 2, 0).cpu().numpy())
    return [mask for mask in clear_pieces(masks, rgb) if mask.mean() > SMALLEST]


def maps_of(masks: Sequence[np.ndarray]) -> dict[str, bytes]:
    """Draw labels as maps, PNG: `ids` of things and `cutoff` of what the frame cuts off."""
    kinds = {
        "ids": (LAYERS, [mask for mask in masks if not is_cut_off(mask)]),
        "cutoff": (1, [mask for mask in masks if is_cut_off(mask)]),
    }
    return {
        kind: as_png(np.squeeze(layered(some, layers)))
        for kind, (layers, some) in kinds.items()
        if some
    }


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
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield photographs `names` of parts' items, each with its maps by name, until time is up."""
    end = time.monotonic() + look.seconds
    with ThreadPoolExecutor(2) as ahead:
        for name, (photo, known) in zip(
            names, ahead.map(lambda name: decoded(name, items), names), strict=True
        ):
            if time.monotonic() < end:
                pixels = torch.from_numpy(photo).to(look.device)
                masks = labels(pixels, views_of(look.models, pixels, look.quick), known)
                found = maps_of(masks).items()
                yield name, {name.replace("photo/", f"{kind}/", 1): map_ for kind, map_ in found}


def decoded(name: str, items: Mapping[str, bytes]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a photograph of the parts, uint8 [3, H, W], and the label maps that it has."""
    kinds = (name.replace("photo/", f"{kind}/", 1) for kind in ("photo", *MAPS))
    photo, *maps = (opened(items[kind]) for kind in kinds if kind in items)
    known = [ids for some in maps for ids in some.transpose(2, 0, 1)]
    return np.ascontiguousarray(photo.transpose(2, 0, 1)), known


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


def renewed(
    items: Mapping[str, bytes], seen: Mapping[str, Mapping[str, bytes]]
) -> dict[str, bytes]:
    """Return parts' items in which the photographs `seen` have new maps, and no older ones."""
    out = dict(items)
    for name, maps in seen.items():
        for kind in NEW_MAPS:
            out.pop(name.replace("photo/", f"{kind}/", 1), None)
        out |= maps
    return out


def count_of(blob: bytes) -> int:
    """Count the labels of an encoded map or maps."""
    return int(opened(blob).max((0, 1)).astype(int).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of parts")
    parser.add_argument("out", type=Path, help="folder of the parts to write")
    parser.add_argument("--weights", type=Path, action="append", required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--quick", action="store_true", help="fewer points, no crops: for a CPU")
    parser.add_argument(
        "--cutouts", type=float, default=0.0, help="seconds for insides of cut-outs"
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile the decoders")
    parser.add_argument("--seconds", type=float, default=1e9, help="others stay as they are")
    parser.add_argument("--limit", type=int, help="pictures of each kind, for a rehearsal")
    args = parser.parse_args()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if args.device == "cuda":
        torch.cuda.set_device(rank % torch.cuda.device_count())
    if world > 1:
        dist.init_process_group("gloo")
    device = torch.empty(0, device=args.device).device
    cv2.setNumThreads(1)
    models = [load(path, args.compile).to(device) for path in args.weights]
    items = wholes_alone(dict(read_parts(args.data)))
    photos, cutouts = (
        [name for name in items if name.startswith(f"{kind}/{args.split}/")][: args.limit]
        for kind in ("photo", "object")
    )
    look = Look(models, device, args.quick, args.seconds)
    mine = dict(labelled(photos[rank::world], items, look))
    inner = dict(insides(cutouts[rank::world], items, models, device, args.cutouts))
    everyone = [(mine, inner)] * world
    if world > 1:
        dist.all_gather_object(everyone, (mine, inner))
    if rank == 0:
        seen = {name: maps for some, _ in everyone for name, maps in some.items()}
        found = {name: blob for _, some in everyone for name, blob in some.items()}
        every = renewed(items, seen) | found
        count = sum(count_of(blob) for maps in seen.values() for blob in maps.values())
        print(f"{len(seen)} of {len(photos)} photographs seen, {count} labels")
        print(f"{len(found)} of {len(cutouts)} cut-outs have something inside")
        for path in write_parts(every.items(), args.out):
            print(path, path.stat().st_size)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    main()
