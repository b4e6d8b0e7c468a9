"""Turn unpacked Debian packages into data-set parts (see SOURCES.md for what they are).

    python training/prepare.py --raw .data/raw --out .data/parts

`--raw` holds one folder a package, as `dpkg -x PACKAGE.deb RAW/PACKAGE` leaves it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.segmentation import felzenszwalb

from parts import split_of, write_parts

OBJECT_SIDE = 192
PHOTO_SIDE = 768
IDS_SIDE = 384
OBJECT_PACKAGES = ("openclipart-png", "tuxpaint-stamps-default")
# Flags are rectangles, playing cards and letters have no inside worth a mask.
OBJECT_SKIP = ("/flags/", "/cards/", "/semaphore/", "/alphabets/", "/math", "/00_symbols/", "icon")
PHOTO_PACKAGES = (
    "gnome-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "palapeli-data",
    "plasma-workspace-wallpapers",
    "ukui-wallpapers",
)
PHOTO_SKIP = ("screenshot", "/doc/", "_dark", "1080x1920", "720x1440", "-d.webp")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
Item = tuple[str, bytes]


def cut_out(path: Path) -> list[Item]:
    """Return one object as WebP with alpha, cropped and resized, or nothing if unfit."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except Exception as error:  # a broken clip is skipped, and said so
        print(f"skip {path}: {error}")
        return []
    box = picture.getchannel("A").point(lambda a: 255 * (a > 24)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < 64:
        return []
    picture = picture.crop(box)
    scale = OBJECT_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    alpha = np.asarray(picture.getchannel("A"))
    solid = alpha > 128
    fraction = solid.mean()
    soft = ((alpha > 40) & (alpha < 215)).sum() / max(1, solid.sum())
    # Line art falls apart when eroded; a solid thing keeps most of itself.
    core = cv2.erode(solid.astype(np.uint8), np.ones((5, 5), np.uint8)).sum()
    thin = core < 0.5 * solid.sum()
    if not 0.15 < fraction < 0.95 or soft > 0.25 or thin or min(size) < 24:
        return []
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=4)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return [(f"object/{split_of(digest)}/{digest[:16]}", buffer.getvalue())]


def pseudo_objects(rgb: np.ndarray, scale: float) -> np.ndarray:
    """Label compact regions with a strong edge: uint8 [H, W], 0 where there is none.

    Regions come from Felzenszwalb and Huttenlocher's graph segmentation (2004). One is kept when
    it covers 0.5 to 40% of the picture, fills most of its convex hull, lies mostly off the frame,
    and differs in Lab from the ring around it by more than it varies inside.
    """
    smooth = cv2.bilateralFilter(rgb, 7, 40, 7)
    labels = felzenszwalb(
        smooth, scale=scale, sigma=0.8, min_size=rgb.shape[0] * rgb.shape[1] // 400
    )
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)
    out = np.zeros(labels.shape, np.uint8)
    kept = 0
    for label in np.flatnonzero(np.bincount(labels.ravel()) > 0.005 * labels.size):
        region = (labels == label).astype(np.uint8)
        contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if not contours:
            continue
        outline = max(contours, key=cv2.contourArea)
        region = cv2.drawContours(np.zeros_like(region), [outline], 0, 1, -1)
        region = cv2.morphologyEx(region, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        area = float(region.sum())
        if not 0.005 < area / region.size < 0.4:
            continue
        hull = cv2.contourArea(cv2.convexHull(outline))
        edge = region[0].sum() + region[-1].sum() + region[:, 0].sum() + region[:, -1].sum()
        if area < 0.65 * hull or edge > 0.3 * len(outline):
            continue
        inner = region - cv2.erode(region, np.ones((7, 7), np.uint8))
        outer = cv2.dilate(region, np.ones((9, 9), np.uint8)) - cv2.dilate(
            region, np.ones((3, 3), np.uint8)
        )
        step = np.linalg.norm(lab[inner > 0].mean(0) - lab[outer > 0].mean(0))
        if step > max(14.0, 0.9 * float(lab[region > 0].std(0).mean())) and kept < 250:
            kept += 1
            out[region > 0] = kept
    return out


def views(picture: Image.Image) -> Iterator[Image.Image]:
    """Yield the whole picture, and its four quarters when it is large enough to have detail."""
    yield picture.copy()
    if min(picture.size) >= 1000:
        width, height = (side // 2 for side in picture.size)
        for x in (0, width):
            for y in (0, height):
                yield picture.crop((x, y, x + width, y + height))


def photo(path: Path) -> list[Item]:
    """Return a photo's views as JPEG, each followed by its pseudo-objects at two scales."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    items = []
    for i, view in enumerate(views(picture)):
        view.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        view.save(buffer, "JPEG", quality=90)
        name = f"{split_of(digest)}/{digest[:16]}-{i}"
        items.append((f"photo/{name}", buffer.getvalue()))
        view.thumbnail((IDS_SIDE, IDS_SIDE), Image.Resampling.LANCZOS)
        rgb = np.asarray(view)
        fine, coarse = pseudo_objects(rgb, 150), pseudo_objects(rgb, 500)
        buffer = io.BytesIO()
        Image.fromarray(np.stack([fine, coarse, fine * 0], -1)).save(buffer, "PNG")
        items.append((f"ids/{name}", buffer.getvalue()))
    return items


def largest_of_each(photos: list[Path]) -> list[Path]:
    """Keep one file of a KDE wallpaper's many sizes, so that none straddles the split."""
    best: dict[Path, Path] = {}
    for path in photos:
        key = path.parent if "contents/images" in path.as_posix() else path
        if key not in best or path.stat().st_size > best[key].stat().st_size:
            best[key] = path
    return sorted(best.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    objects = [p for name in OBJECT_PACKAGES for p in sorted((args.raw / name).rglob("*.png"))]
    objects = [p for p in objects if not any(word in str(p) for word in OBJECT_SKIP)]
    photos = [p for name in PHOTO_PACKAGES for p in sorted((args.raw / name).rglob("*"))]
    photos = [
        p
        for p in photos
        if p.is_file()
        and p.suffix.lower() in PHOTO_SUFFIXES
        and not any(word in str(p) for word in PHOTO_SKIP)
    ]
    photos = largest_of_each(photos)
    found: dict[str, bytes] = {}  # by name: a file shipped twice counts once
    with ProcessPoolExecutor(args.workers) as pool:
        for items in pool.map(photo, photos):
            found.update(items)
        for items in pool.map(cut_out, objects, chunksize=32):
            found.update(items)
    for path in write_parts(found.items(), args.out):
        print(path, path.stat().st_size)
    for kind in ("object", "photo"):
        for split in ("train", "heldout"):
            print(kind, split, sum(name.startswith(f"{kind}/{split}/") for name in found))


if __name__ == "__main__":
    main()
