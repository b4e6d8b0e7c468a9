"""Compose training scenes with exact masks, whole batches at a time, on the GPU.

Objects are cut-outs painted back to front on photographs or procedural backgrounds; a share of
the scenes are plain photographs with the pseudo-objects that `prepare.py` found. A scene is an
image and an id map: a mask is where the id map has one id, so occlusion comes by itself.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from parts import read_parts

SIZE = 512
SLOTS = 9  # objects a scene at most; their ids are 1..SLOTS
MIN_VISIBLE = 0.002  # of the frame
MIN_SHARE = 0.3  # of an object's own area
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass
class Pool:
    """Decoded pictures on one device: objects RGBA, photos RGB with their content's size."""

    objects: Tensor  # uint8 [N, 4, 192, 192]
    photos: Tensor  # uint8 [M, 3, 768, 768], content at the top left
    photo_sizes: Tensor  # float [M, 2], (height, width) of the content
    ids: Tensor  # uint8 [M, 2, 384, 384], pseudo-objects at two scales
    with_ids: Tensor  # int64 [K], indices of photos that have pseudo-objects


@dataclass
class Scenes:
    """A batch of scenes.

    image: float [B, 3, 512, 512] in 0..255, zero outside the content.
    ids: uint8 [B, 512, 512], 0 for the background.
    own_area: float [B, 256], pixels each id would cover alone (0 for ids that are not there).
    sizes: int64 [B, 2], (height, width) of the content, at the top left.
    """

    image: Tensor
    ids: Tensor
    own_area: Tensor
    sizes: Tensor


def _decode(item: tuple[str, bytes]) -> tuple[str, np.ndarray]:
    name, blob = item
    with Image.open(io.BytesIO(blob)) as file:
        return name, np.asarray(file).transpose(2, 0, 1)


def load_pool(folder: Path, split: str, device: torch.device, limit: int | None = None) -> Pool:
    """Decode the parts' pictures of one split; `limit` bounds both kinds (for rehearsals)."""
    wanted: list[tuple[str, bytes]] = []
    counts: dict[str, int] = {}
    for name, blob in read_parts(folder):
        kind, its_split, _ = name.split("/")
        if its_split == split and (limit is None or counts.get(kind, 0) < limit):
            counts[kind] = counts.get(kind, 0) + 1
            wanted.append((name, blob))
    with ThreadPoolExecutor() as executor:
        decoded = dict(executor.map(_decode, wanted))
    keys = [k for k in decoded if k.startswith("object/")]
    objects = np.zeros((len(keys), 4, 192, 192), np.uint8)
    for i, key in enumerate(keys):
        _, h, w = decoded[key].shape
        objects[i, :, (192 - h) // 2 : (192 - h) // 2 + h, (192 - w) // 2 : (192 - w) // 2 + w] = (
            decoded[key]
        )
    names = [k.split("/", 1)[1] for k in decoded if k.startswith("photo/")]
    photos = np.zeros((len(names), 3, 768, 768), np.uint8)
    ids = np.zeros((len(names), 2, 384, 384), np.uint8)
    sizes = np.zeros((len(names), 2), np.float32)
    for i, name in enumerate(names):
        picture = decoded[f"photo/{name}"]
        small = decoded[f"ids/{name}"][:2] if f"ids/{name}" in decoded else ids[i, :, :0, :0]
        sizes[i] = picture.shape[1:]
        photos[i, :, : picture.shape[1], : picture.shape[2]] = picture
        ids[i, :, : small.shape[1], : small.shape[2]] = small
    with_ids = np.flatnonzero(ids.reshape(len(names), -1).max(1) > 0)
    arrays = (objects, photos, sizes, ids, with_ids)
    return Pool(*(torch.from_numpy(array).to(device) for array in arrays))


class Composer:
    """Draw random scenes from a pool; the same generator state gives the same scenes."""

    def __init__(self, pool: Pool, generator: torch.Generator, real_share: float = 0.25) -> None:
        self.pool = pool
        self.generator = generator
        self.device = pool.objects.device
        self.real_share = real_share

    def rand(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        value = torch.rand(shape, generator=self.generator, device=self.device)
        return low + (high - low) * value

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def pick(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self.generator, device=self.device)

    def chance(self, probability: float, count: int) -> Tensor:
        return (self.rand(count) < probability).reshape(count, 1, 1, 1)

    def photo_crop(self, index: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Crop photos at random to fill content of `sizes`: image [B,3,S,S] and its grid."""
        count = len(index)
        content = self.pool.photo_sizes[index]
        # One scale for both axes keeps shapes: frame pixels to photo pixels.
        fit = (content / sizes).amin(1)
        scale = fit * self.rand(count, low=0.4, high=1.0)
        room = content - sizes * scale[:, None]
        origin = self.rand(count, 2) * room
        flip = (self.rand(count) < 0.5).float()
        pixel = torch.arange(SIZE, device=self.device) + 0.5
        xs = pixel + flip[:, None] * (sizes[:, 1:] - 2 * pixel)
        x = (xs * scale[:, None] + origin[:, 1:]) / 768 * 2 - 1
        y = (pixel * scale[:, None] + origin[:, :1]) / 768 * 2 - 1
        grid = torch.stack(
            [x[:, None, :].expand(-1, SIZE, -1), y[:, :, None].expand(-1, -1, SIZE)], -1
        )
        image = F.grid_sample(
            self.pool.photos[index].float(), grid, padding_mode="border", align_corners=False
        )
        return image, grid

    def recolour(self, image: Tensor, strength: float) -> Tensor:
        """Mix channels and change contrast and brightness, differently for each picture."""
        count = len(image)
        mix = torch.eye(3, device=self.device) + 0.4 * strength * self.randn(count, 3, 3)
        mix = mix / mix.sum(2, keepdim=True).clamp(min=0.5)
        gain = (strength * self.randn(count, 1, 1, 1)).exp()
        offset = 45 * strength * self.randn(count, 3, 1, 1)
        mixed = torch.einsum("bij,bjhw->bihw", mix, image - 128) * gain + 128 + offset
        return mixed.clamp(0, 255)

    def procedural(self, count: int) -> Tensor:
        """Gradients, stripes and cloud noise of two colours: float [B, 3, S, S]."""
        axis = torch.linspace(-1, 1, SIZE, device=self.device)
        angle, turns = self.rand(count, 1, 1, high=6.3), self.rand(count, 1, 1, low=0.1, high=20)
        along = angle.cos() * axis[None, None, :] + angle.sin() * axis[None, :, None]
        stripes = (along * turns + self.rand(count, 1, 1, high=6.3)).sin()
        cloud = torch.zeros(count, 1, SIZE, SIZE, device=self.device)
        for side in (4, 16, 64, 256):
            noise = self.randn(count, 1, side, side) * self.rand(count, 1, 1, 1)
            cloud += F.interpolate(noise, size=(SIZE, SIZE), mode="bilinear")
        weight = self.rand(count, 1, 1, 1)
        blend = (weight * stripes[:, None] + (1 - weight) * cloud).mul(1.5).sigmoid()
        one, two = (self.rand(count, 3, 1, 1, high=255) for _ in range(2))
        return one + (two - one) * blend

    def background(self, count: int, sizes: Tensor) -> Tensor:
        image, _ = self.photo_crop(self.pick(len(self.pool.photos), count), sizes)
        image = self.recolour(image, 0.15)
        soft = F.avg_pool2d(F.pad(image, (4, 4, 4, 4), mode="replicate"), 9, 1)
        image = torch.where(self.chance(0.25, count), soft, image)
        return torch.where(self.chance(0.2, count), self.procedural(count), image)

    def placed(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """One random object a scene: premultiplied RGB [B,3,S,S] in 0..255, alpha [B,1,S,S]."""
        count = len(sizes)
        sprite = self.pool.objects[self.pick(len(self.pool.objects), count)].float()
        alpha = sprite[:, 3:] / 255
        colour = self.recolour(sprite[:, :3], 0.25)
        texture, _ = self.photo_crop(self.pick(len(self.pool.photos), count), sizes)
        texture = self.recolour(texture, 0.3)
        sprite = torch.cat([colour * alpha, alpha], 1)
        # Longest side as a share of the frame, log-uniform; small ones are blurred before sampling.
        share = (self.rand(count, low=np.log(0.1), high=np.log(0.85))).exp()
        for limit, kernel in ((0.3, 3), (0.16, 5)):
            soft = F.avg_pool2d(sprite, kernel, 1, kernel // 2)
            sprite = torch.where((share < limit).reshape(-1, 1, 1, 1), soft, sprite)
        turn = torch.where(self.rand(count) < 0.4, 3.14, 0.3) * self.rand(count, low=-1)
        aspect = (0.15 * self.randn(count)).exp()
        flip = torch.where(self.rand(count) < 0.5, 1.0, -1.0)
        centre = self.rand(count, 2, low=0.02, high=0.98) * sizes / SIZE * 2 - 1  # y, x
        # Rows of the inverse map, frame coordinates to sprite coordinates.
        cos, sin = turn.cos() / share, turn.sin() / share
        row_x = torch.stack([flip * aspect * cos, flip * aspect * sin], 1)
        row_y = torch.stack([-sin / aspect, cos / aspect], 1)
        linear = torch.stack([row_x, row_y], 1)
        shift = -(linear @ centre.flip(1).unsqueeze(2))
        grid = F.affine_grid(
            torch.cat([linear, shift], 2), [count, 4, SIZE, SIZE], align_corners=False
        )
        drawn = F.grid_sample(sprite, grid, align_corners=False)
        alpha = drawn[:, 3:]
        # Enlarged sprites have soft edges; sharpen most of them, as real edges are.
        steep = 1 + 3 * share.reshape(-1, 1, 1, 1) * self.rand(count, 1, 1, 1, high=1.5)
        sharp = ((alpha - 0.5) * steep + 0.5).clamp(0, 1)
        colour = drawn[:, :3] / alpha.clamp(min=0.02)
        shade = (colour.mean(1, keepdim=True) - 128) * self.rand(count, 1, 1, 1, high=0.6)
        colour = torch.where(self.chance(0.35, count), texture + shade, colour)
        grain = self.randn(count, 1, SIZE, SIZE) * self.rand(count, 1, 1, 1, low=-15, high=15)
        return (colour + grain).clamp(0, 255) * sharp, sharp

    def shadow(self, image: Tensor, alpha: Tensor) -> Tensor:
        """Darken under a shifted, blurred copy of the object, in some scenes."""
        small = F.avg_pool2d(alpha, 8)
        small = F.avg_pool2d(small, 5, 1, 2)
        dy, dx = (int(v) for v in self.pick(7, 2).tolist())
        small = torch.roll(small, (dy - 2, dx - 3), (2, 3))
        soft = F.interpolate(small, size=(SIZE, SIZE), mode="bilinear")
        strength = self.rand(len(image), 1, 1, 1, low=0.1, high=0.7) * self.chance(0.4, len(image))
        return image * (1 - strength * soft)

    def finish(self, image: Tensor) -> Tensor:
        """Lighting, blur, resampling, contrast, noise over the whole scene."""
        count = len(image)
        axis = torch.linspace(-1, 1, SIZE, device=self.device)
        tilt = self.randn(count, 2, 1, 1, 1) * 0.2
        light = tilt[:, 0] * axis[:, None] + tilt[:, 1] * axis[None, :]
        image = image * light.exp()
        soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
        image = torch.where(self.chance(0.35, count), soft, image)
        if float(self.rand(1)) < 0.3:
            side = int(self.rand(1, low=192, high=SIZE))
            image = F.interpolate(image, size=(side, side), mode="bilinear", antialias=True)
            image = F.interpolate(image, size=(SIZE, SIZE), mode="bilinear")
        grey = image.mean(1, keepdim=True).expand_as(image)
        image = torch.where(self.chance(0.08, count), grey, image)
        contrast = (0.2 * self.randn(count, 1, 1, 1)).exp()
        image = (image - 120) * contrast + 120 + 12 * self.randn(count, 3, 1, 1)
        image = image + self.randn(*image.shape) * self.rand(count, 1, 1, 1, high=9) ** 1.2
        return image.clamp(0, 255).round()

    def sizes(self, count: int) -> Tensor:
        """Content sizes: half square, half down to 1:2, either way up."""
        short = (self.rand(count, low=0.5, high=1.0) * SIZE).round()
        short = torch.where(self.rand(count) < 0.5, torch.full_like(short, SIZE), short)
        full = torch.full_like(short, SIZE)
        tall = self.rand(count) < 0.4
        return torch.stack([torch.where(tall, full, short), torch.where(tall, short, full)], 1)

    @torch.no_grad()
    def composed(self, count: int) -> Scenes:
        """Compose `count` scenes of cut-outs."""
        sizes = self.sizes(count)
        image = self.background(count, sizes)
        inside = content_mask(sizes)
        ids = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8, device=self.device)
        own = torch.zeros(count, 256, device=self.device)
        wanted = 3 + self.pick(SLOTS - 2, count)
        for slot in range(1, SLOTS + 1):
            colour, alpha = self.placed(sizes)
            present = (slot <= wanted).reshape(-1, 1, 1, 1)
            colour, alpha = colour * present, alpha * present
            image = self.shadow(image, alpha)
            image = image * (1 - alpha) + colour
            covered = (alpha[:, 0] > 0.5) & inside
            ids = torch.where(covered, torch.full_like(ids, slot), ids)
            own[:, slot] = covered.sum((1, 2)).float()
        image = self.finish(image) * inside[:, None]
        return Scenes(image, ids * inside, own, sizes.long())

    @torch.no_grad()
    def real(self, count: int) -> Scenes:
        """Crop `count` photographs that have pseudo-objects."""
        sizes = self.sizes(count)
        index = self.pool.with_ids[self.pick(len(self.pool.with_ids), count)]
        image, grid = self.photo_crop(index, sizes)
        maps = self.pool.ids[index, self.pick(2, count)].float()
        ids = F.grid_sample(maps[:, None], grid, mode="nearest", align_corners=False)
        inside = content_mask(sizes)
        image = self.finish(self.recolour(image, 0.12)) * inside[:, None]
        ids = ids[:, 0].to(torch.uint8) * inside
        own = areas(ids)
        own[:, 0] = 0
        return Scenes(image, ids, own, sizes.long())

    def batch(self, count: int) -> Scenes:
        """Mix composed and real scenes by `real_share`."""
        real = round(count * self.real_share) if len(self.pool.with_ids) else 0
        groups = [self.composed(count - real)] + ([self.real(real)] if real else [])
        fields = ("image", "ids", "own_area", "sizes")
        return Scenes(*(torch.cat([getattr(g, f) for g in groups]) for f in fields))


def content_mask(sizes: Tensor) -> Tensor:
    """True inside the content: bool [B, S, S]."""
    pixel = torch.arange(SIZE, device=sizes.device)
    return (pixel[:, None] < sizes[:, 0, None, None]) & (pixel < sizes[:, 1, None, None])


def areas(ids: Tensor) -> Tensor:
    """Count each id's pixels: float [B, 256]."""
    flat = ids.flatten(1).long()
    out = torch.zeros(len(ids), 256, device=ids.device)
    return out.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))


def usable(scenes: Scenes) -> Tensor:
    """Which ids are visible enough to be asked for: bool [B, 256]."""
    visible = areas(scenes.ids)
    enough = (visible > MIN_VISIBLE * SIZE * SIZE) & (visible > MIN_SHARE * scenes.own_area)
    return enough & (scenes.own_area > 0)


def choose_masks(scenes: Scenes, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` masks a scene: bool [B, count, S, S] and whether each is usable [B, count]."""
    allowed = usable(scenes)
    score = torch.rand(allowed.shape, generator=generator, device=allowed.device) * allowed
    best, index = score.topk(count, dim=1)
    # A scene with fewer objects asks for its first one again.
    index = torch.where(best > 0, index, index[:, :1])
    masks = scenes.ids[:, None] == index[:, :, None, None].to(torch.uint8)
    return masks, allowed.gather(1, index)


def normalise(scenes: Scenes) -> Tensor:
    """Normalise as the official model does, then pad with zeros: float [B, 3, S, S]."""
    mean = torch.tensor(MEAN, device=scenes.image.device).reshape(3, 1, 1)
    std = torch.tensor(STD, device=scenes.image.device).reshape(3, 1, 1)
    return (scenes.image - mean) / std * content_mask(scenes.sizes)[:, None]


def stream(composer: Composer, batch: int, masks: int) -> Iterator[tuple[Scenes, Tensor, Tensor]]:
    """Yield scenes with their chosen masks, for ever."""
    while True:
        scenes = composer.batch(batch)
        yield scenes, *choose_masks(scenes, masks, composer.generator)
