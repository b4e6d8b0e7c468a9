"""The pictures that scenes are made of, decoded into tensors on one device."""

from __future__ import annotations

import io
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from parts import read_parts

OBJECT_SIDE = 256
MAPS = {"ids": slice(0, 4), "cutoff": slice(4, 5), "wholes": slice(5, 6)}
"""Where a photo's maps are, by kind: see `prepare.py` and `consensus.py`."""
WHOLES = MAPS["wholes"].start
MAP_WEIGHTS = (4, 3, 2, 2, 1, 4)
"""How often a map is drawn: what lies inside other things less, what the frame cuts off least."""


@dataclass
class Pool:
    """Decoded pictures on one device: objects RGBA, photos RGB with their content's size."""

    objects: Tensor  # uint8 [N, 4, 256, 256]
    insides: Tensor  # uint8 [N, 256, 256], 1 to 15 for what lies inside an object
    photos: Tensor  # uint8 [M, 3, P, P], content at the top left
    photo_sizes: Tensor  # float [M, 2], (height, width) of the content
    ids: Tensor  # uint8 [M, 6, L, L], six maps of pseudo-objects
    id_scales: Tensor  # float [M, 2], (y, x): a map's size by that of its photo, over L by P
    with_ids: Tensor  # int64 [K, 2], photo and map of those maps that have pseudo-objects

    @property
    def photo_side(self) -> int:
        """P: the largest photo's longer side."""
        return self.photos.shape[-1]


def _decode(item: tuple[str, bytes]) -> tuple[str, np.ndarray]:
    name, blob = item
    with Image.open(io.BytesIO(blob)) as file:
        pixels = np.asarray(file)
    return name, pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def enlarged(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bring a label map [..., h, w] to another size (height, width): the nearest pixels."""
    rows, columns = (
        (np.arange(new) * old // new) for new, old in zip(size, ids.shape[-2:], strict=True)
    )
    return ids[..., rows[:, None], columns]


def load_pool(
    folder: Path,
    split: str,
    device: torch.device,
    limit: int | None = None,
    only: Collection[str] | None = None,
) -> Pool:
    """Decode the parts' pictures of one split.

    `limit` bounds both kinds (for rehearsals); `only` names the files to take, by the first 16
    digits of their SHA-256.
    """
    wanted: list[tuple[str, bytes]] = []
    counts: dict[str, int] = {}
    for name, blob in read_parts(folder):
        kind, its_split, digest = name.split("/")
        if only is not None and digest[:16] not in only:
            continue
        if its_split == split and (limit is None or counts.get(kind, 0) < limit):
            counts[kind] = counts.get(kind, 0) + 1
            wanted.append((name, blob))
    with ThreadPoolExecutor() as executor:
        decoded = dict(executor.map(_decode, wanted))
    keys = [k for k in decoded if k.startswith("object/")]
    objects = np.zeros((len(keys), 4, OBJECT_SIDE, OBJECT_SIDE), np.uint8)
    insides = np.zeros((len(keys), OBJECT_SIDE, OBJECT_SIDE), np.uint8)
    for i, key in enumerate(keys):
        _, h, w = decoded[key].shape
        top, left = (OBJECT_SIDE - h) // 2, (OBJECT_SIDE - w) // 2
        objects[i, :, top : top + h, left : left + w] = decoded[key]
        inside = decoded.get(key.replace("object/", "inside/", 1), 0)
        insides[i, top : top + h, left : left + w] = inside
    names = [k.split("/", 1)[1] for k in decoded if k.startswith("photo/")]
    side = max((max(decoded[f"photo/{name}"].shape) for name in names), default=1)
    mapped = [decoded[k].shape[-2:] for k in decoded if k.split("/")[0] in MAPS]
    ids_side = max(map(max, mapped), default=1)
    photos = np.zeros((len(names), 3, side, side), np.uint8)
    ids = np.zeros((len(names), len(MAP_WEIGHTS), ids_side, ids_side), np.uint8)
    sizes = np.zeros((len(names), 2), np.float32)
    scales = np.ones((len(names), 2), np.float32)
    for i, name in enumerate(names):
        picture = decoded[f"photo/{name}"]
        sizes[i] = picture.shape[1:]
        photos[i, :, : picture.shape[1], : picture.shape[2]] = picture
        known = [(m, decoded[f"{k}/{name}"]) for k, m in MAPS.items() if f"{k}/{name}" in decoded]
        size = max((small.shape[-2:] for _, small in known), default=(0, 0))
        for maps, small in known:
            count = len(small) if small.ndim == 3 else 1
            ids[i, maps.start : maps.start + count, : size[0], : size[1]] = enlarged(small, size)
            scales[i] = np.array(size) / sizes[i] * (side / ids_side)
    pairs = np.argwhere(ids.reshape(*ids.shape[:2], -1).max(2) > 0)
    with_ids = pairs.repeat(np.array(MAP_WEIGHTS)[pairs[:, 1]], axis=0)
    arrays = (objects, insides, photos, sizes, ids, scales, with_ids)
    return Pool(*(torch.from_numpy(array).to(device) for array in arrays))
