"""Write a few held-out scenes as pictures with COCO masks, for tests of mask quality.

    PYTHONPATH=src python training/heldout.py --data .data/parts --raw .data/raw \
        --out tests/assets/heldout

Only packages whose pictures may be given away under any terms take part, since these scenes do.
Each annotation has, besides COCO's fields, `point`: the (x, y) deepest inside the mask.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from evaluate import deepest, truths_of
from pool import load_pool
from scenes import Composer, Scenes

MAX_MASKS = 6  # a scene; the largest are kept
PACKAGES = ("openclipart-png", "npm")


def annotations(truths: list[np.ndarray], image_id: int, first: int) -> list[dict[str, object]]:
    """COCO annotations with compressed RLE of one scene's masks, largest first."""
    rows: list[dict[str, object]] = []
    for truth in sorted(truths, key=lambda t: -int(t.sum()))[:MAX_MASKS]:
        rle = coco_mask.encode(np.asfortranarray(truth.astype(np.uint8)))
        x, y, _ = deepest(truth)
        rows.append(
            {
                "id": first + len(rows),
                "image_id": image_id,
                "category_id": 1,
                "iscrowd": 0,
                "area": int(truth.sum()),
                "bbox": [float(v) for v in coco_mask.toBbox(rle)],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "point": [x, y],
            }
        )
    return rows


def write(scenes: Scenes, folder: Path) -> None:
    """Write scene-NN.jpg and masks.json into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, object]] = []
    rows: list[dict[str, object]] = []
    for i in range(len(scenes.image)):
        height, width = scenes.sizes[i].tolist()
        pixels = scenes.image[i, :, :height, :width].permute(1, 2, 0).to(torch.uint8).numpy()
        name = f"scene-{i:02d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=95)
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        rows += annotations([t[:height, :width] for t in truths_of(scenes, i)], i, len(rows))
    data = {
        "info": {"description": "Composed scenes of held-out objects; see docs/model-card.md"},
        "categories": [{"id": 1, "name": "object"}],
        "images": images,
        "annotations": rows,
    }
    (folder / "masks.json").write_text(json.dumps(data) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--raw", type=Path, required=True, help="what prepare.py read")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    paths = [p for name in PACKAGES for p in (args.raw / name).rglob("*") if p.is_file()]
    only = {hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths}
    pool = load_pool(args.data, "heldout", torch.device("cpu"), only=only)
    print(f"{len(pool.objects)} objects, {len(pool.photos)} photos")
    composer = Composer(pool, torch.Generator().manual_seed(args.seed))
    write(composer.composed(args.count), args.out)


if __name__ == "__main__":
    main()
