"""Compose training scenes with exact masks, whole batches at a time, on the GPU.

Objects are cut-outs painted back to front on photographs or procedural backgrounds, some of them
as a part of the one before; a share of the scenes are plain photographs with the pseudo-objects
that `prepare.py` found. A scene is an image and an id map, so occlusion comes by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from effects import Dice, blurred, finish, procedural, recolour, shadowed
from pool import WHOLES, Pool

SIDE = 512
"""Of scenes, in pixels, where nothing else is asked for."""
BLOCK = 8
"""Sides are its multiples: of JPEG's."""
PART_IDS = 32
SLOTS = 9  # objects a scene at most; their ids are 1..SLOTS
INNER_IDS = 16
"""What lies inside object k has the ids from 16 k + 1 on."""
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass
class Scenes:
    """A batch of scenes.

    image: float [B, 3, S, S] in 0..255, zero outside the content.
    ids: uint8 [B, S, S], 0 for the background.
    parents: uint8 [B, 256], the id of which each id is a part, 0 for whole things.
    own_area: float [B, 256], pixels each id would cover alone (0 for ids that are not there).
    sizes: int64 [B, 2], (height, width) of the content, at the top left.
    """

    image: Tensor
    ids: Tensor
    parents: Tensor
    own_area: Tensor
    sizes: Tensor

    @property
    def side(self) -> int:
        """S."""
        return self.ids.shape[-1]

    def parent_ids(self) -> Tensor:
        """For each pixel the id of which its own id is a part: uint8 [B, S, S]."""
        flat = self.parents.gather(1, self.ids.flatten(1).long())
        return flat.reshape(self.ids.shape)

    def enlarged(self, side: int) -> Scenes:
        """The same scenes, `side` pixels wide: bilinearly, as a small picture is enlarged."""
        image = F.interpolate(self.image, size=side, mode="bilinear")
        ids = F.interpolate(self.ids[:, None].float(), size=side)[:, 0].to(torch.uint8)
        scale = side / self.side
        sizes = (scale * self.sizes).round().long()
        # Interpolation mixes the last row of the content with what lies beside it.
        inside = content_mask(sizes, side)
        area = scale**2 * self.own_area
        return Scenes(image * inside[:, None], ids * inside, self.parents, area, sizes)

    def masks(self, index: Tensor) -> Tensor:
        """Masks of ids [B, K], parts included: bool [B, K, S, S]."""
        wanted = index[:, :, None, None].to(torch.uint8)
        return (self.ids[:, None] == wanted) | (self.parent_ids()[:, None] == wanted)


class Composer:
    """Draw random scenes from a pool; the same generator state gives the same scenes.

    `real_share` of a batch are photographs; `part_share` of the objects lie on the one before
    and are a part of it. Scenes are `side` pixels wide; `coarse_share` of a batch are composed at
    two thirds of that and enlarged, as users' small pictures are.
    """

    def __init__(
        self,
        pool: Pool,
        generator: torch.Generator,
        real_share: float = 0.0,
        part_share: float = 0.0,
        side: int = SIDE,
        coarse_share: float = 0.0,
    ) -> None:
        self.pool = pool
        self.device = pool.objects.device
        half = self.device.type == "cuda"
        self.dice = Dice(generator, torch.float16 if half else torch.float32)
        self.real_share = real_share
        self.part_share = part_share
        self.side = side
        self.coarse_share = coarse_share
        self.coarse = (
            Composer(pool, generator, real_share, part_share, side * 2 // 3 // BLOCK * BLOCK)
            if coarse_share
            else None
        )

    def crop_grid(self, index: Tensor, sizes: Tensor, least: float) -> Tensor:
        """Sampling grid of a random crop of each photo that fills content of `sizes`.

        The crop is as large as fits, or smaller, down to `least` of that.
        """
        count = len(index)
        content = self.pool.photo_sizes[index]
        # One scale for both axes keeps shapes: frame pixels to photo pixels.
        scale = (content / sizes).amin(1) * self.dice.rand(count, low=least, high=1.0)
        origin = self.dice.rand(count, 2) * (content - sizes * scale[:, None])
        flip = (self.dice.rand(count) < 0.5).float()
        pixel, whole = torch.arange(self.side, device=self.device) + 0.5, self.pool.photo_side
        xs = pixel + flip[:, None] * (sizes[:, 1:] - 2 * pixel)
        x = (xs * scale[:, None] + origin[:, 1:]) / whole * 2 - 1
        y = (pixel * scale[:, None] + origin[:, :1]) / whole * 2 - 1
        return torch.stack(
            [x[:, None, :].expand(-1, self.side, -1), y[:, :, None].expand(-1, -1, self.side)], -1
        )

    def photo_crop(self, sizes: Tensor) -> Tensor:
        """Crop random photos: [B, 3, S, S]."""
        index = self.dice.pick(len(self.pool.photos), len(sizes))
        grid = self.crop_grid(index, sizes, 0.4).to(self.dice.dtype)
        photos = self.pool.photos[index].to(self.dice.dtype)
        return F.grid_sample(photos, grid, padding_mode="border", align_corners=False)

    def background(self, sizes: Tensor) -> Tensor:
        count = len(sizes)
        image = recolour(self.dice, self.photo_crop(sizes), 0.15)
        image = torch.where(self.dice.chance(0.25, count), blurred(image, 9), image)
        made = procedural(self.dice, count, self.side)
        return torch.where(self.dice.chance(0.2, count), made, image)

    def placement(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Where an object goes: centre (y, x) [B, 2] and share [B] of the frame, both in -1..1."""
        count = len(sizes)
        share = self.dice.rand(count, low=math.log(0.1), high=math.log(0.85)).exp()
        centre = self.dice.rand(count, 2, low=0.02, high=0.98) * sizes / self.side * 2 - 1
        return centre, share

    def placed(self, sizes: Tensor, centre: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One random object a scene.

        Returns premultiplied RGB [B,3,S,S] in 0..255, alpha [B,1,S,S], and what lies inside it,
        uint8 [B,S,S].
        """
        dice, count = self.dice, len(sizes)
        index = dice.pick(len(self.pool.objects), count)
        sprite = self.pool.objects[index].to(dice.dtype)
        alpha = sprite[:, 3:] / 255
        colour = recolour(dice, sprite[:, :3], 0.25)
        sprite = torch.cat([colour * alpha, alpha], 1)
        # Small ones are blurred before sampling.
        for limit, kernel in ((0.4, 3), (0.2, 5)):
            soft = F.avg_pool2d(sprite, kernel, 1, kernel // 2)
            sprite = torch.where((share < limit).reshape(-1, 1, 1, 1), soft, sprite)
        grid = self.sprite_grid(centre, share)
        drawn = F.grid_sample(sprite.float(), grid, align_corners=False).to(dice.dtype)
        alpha = drawn[:, 3:]
        # Enlarged sprites have soft edges; sharpen most of them, as real edges are.
        steep = 1 + 3 * share.reshape(-1, 1, 1, 1).to(dice.dtype) * dice.knob(count, high=1.5)
        sharp = ((alpha - 0.5) * steep + 0.5).clamp(0, 1)
        colour = drawn[:, :3] / alpha.clamp(min=0.02)
        texture = recolour(dice, self.photo_crop(sizes), 0.3)
        shade = (colour.mean(1, keepdim=True) - 128) * dice.knob(count, high=0.6)
        textured = dice.chance(0.3, count)
        colour = torch.where(textured, texture + shade, colour)
        grain = dice.grain(count, 1, self.side, self.side) * dice.knob(count, low=-15, high=15)
        inside = self.pool.insides[index][:, None].float()
        inside = F.grid_sample(inside, grid, mode="nearest", align_corners=False) * ~textured
        return (colour + grain).clamp(0, 255) * sharp, sharp, inside[:, 0].to(torch.uint8)

    def sprite_grid(self, centre: Tensor, share: Tensor) -> Tensor:
        """Turn, stretch and mirror at random: the inverse map, frame to sprite coordinates."""
        dice, count = self.dice, len(share)
        most = 0.3 + 2.84 * (dice.rand(count) < 0.4)  # many things stand upright
        turn = most * dice.rand(count, low=-1)
        aspect = (0.15 * dice.randn(count)).exp()
        flip = 1.0 - 2.0 * (dice.rand(count) < 0.5)
        cos, sin = turn.cos() / share, turn.sin() / share
        row_x = torch.stack([flip * aspect * cos, flip * aspect * sin], 1)
        row_y = torch.stack([-sin / aspect, cos / aspect], 1)
        linear = torch.stack([row_x, row_y], 1)
        shift = -(linear @ centre.flip(1).unsqueeze(2))
        matrix = torch.cat([linear, shift], 2)
        return F.affine_grid(matrix, [count, 4, self.side, self.side], align_corners=False)

    def sizes(self, count: int) -> Tensor:
        """Content sizes: half square, half down to 1:2, either way up."""
        short = (self.dice.rand(count, low=0.5, high=1.0) * self.side).round()
        short = torch.where(self.dice.rand(count) < 0.5, torch.full_like(short, self.side), short)
        full = torch.full_like(short, self.side)
        tall = self.dice.rand(count) < 0.4
        return torch.stack([torch.where(tall, full, short), torch.where(tall, short, full)], 1)

    @torch.no_grad()
    def composed(self, count: int) -> Scenes:
        """Compose `count` scenes of cut-outs."""
        sizes = self.sizes(count)
        image, inside = self.background(sizes), content_mask(sizes, self.side)
        ids = torch.zeros(count, self.side, self.side, dtype=torch.uint8, device=self.device)
        parents = torch.zeros(count, 256, dtype=torch.uint8, device=self.device)
        own = torch.zeros(count, 256, device=self.device)
        wanted = 3 + self.dice.pick(SLOTS - 2, count)
        part = torch.zeros(count, dtype=torch.bool, device=self.device)
        centre, share = self.placement(sizes)
        for slot in range(1, SLOTS + 1):
            free_centre, free_share = self.placement(sizes)
            # A part lies on a whole thing, the one before: smaller, near its middle, inside it.
            part = (self.dice.rand(count) < self.part_share) & ~part & (slot > 1)
            near = centre + 0.4 * share[:, None] * self.dice.rand(count, 2, low=-1)
            less = share * self.dice.rand(count, low=0.25, high=0.7)
            centre = torch.where(part[:, None], near, free_centre)
            share = torch.where(part, less, free_share)
            colour, alpha, inner = self.placed(sizes, centre, share)
            owner = torch.where(ids < INNER_IDS, ids, ids // INNER_IDS)
            host = ~part.reshape(-1, 1, 1) | (owner == slot - 1)
            seen = ((slot <= wanted).reshape(-1, 1, 1) & host)[:, None]
            colour, alpha = colour * seen, alpha * seen
            image = shadowed(self.dice, image, alpha)
            image = image * (1 - alpha) + colour
            covered = (alpha[:, 0] > 0.5) & inside
            # Parts are one level deep: what lies inside a part is the part.
            inner = inner * (covered & ~part.reshape(-1, 1, 1))
            named = slot + (inner > 0) * (INNER_IDS * slot - slot + inner)
            ids = torch.where(covered, named.to(torch.uint8), ids)
            parents[:, slot] = (part * (slot - 1)).to(torch.uint8)
            first = INNER_IDS * slot
            parents[:, first : first + INNER_IDS] = slot
            own[:, slot] = covered.sum((1, 2)).float()
            # Of every 16th pixel: counting all is slow, and only says how much is hidden.
            seen_alone = 16 * areas(inner[:, ::4, ::4])
            own[:, first + 1 : first + INNER_IDS] = seen_alone[:, 1:INNER_IDS]
        image = finish(self.dice, image) * inside[:, None]
        return Scenes(image, ids * inside, parents, own, sizes.long())

    @torch.no_grad()
    def real(self, count: int) -> Scenes:
        """Crop `count` photographs that have pseudo-objects."""
        sizes = self.sizes(count)
        index, which = self.pool.with_ids[self.dice.pick(len(self.pool.with_ids), count)].unbind(1)
        grid = self.crop_grid(index, sizes, 0.65)
        image = F.grid_sample(
            self.pool.photos[index].float(), grid, padding_mode="border", align_corners=False
        )
        maps = self.pool.ids[index, which].float()
        # A map is not always the same part of its photo's size: small photos are not enlarged.
        grid = (grid + 1) * self.pool.id_scales[index].flip(1)[:, None, None] - 1
        ids = F.grid_sample(maps[:, None], grid, mode="nearest", align_corners=False)
        inside = content_mask(sizes, self.side)
        image = finish(self.dice, recolour(self.dice, image.to(self.dice.dtype), 0.12))
        ids = ids[:, 0].to(torch.uint8) * inside
        own = areas(ids)
        own[:, 0] = 0
        # Ids of a map of wholes from PART_IDS on are parts: of the first whole PART_IDS of them.
        every = torch.arange(256, device=self.device)
        parents = (every // PART_IDS) * (which == WHOLES)[:, None]
        return Scenes(image * inside[:, None], ids, parents.to(torch.uint8), own, sizes.long())

    def batch(self, count: int) -> Scenes:
        """Mix composed and real scenes by `real_share`, coarse and fine ones by `coarse_share`."""
        coarse = round(count * self.coarse_share) if self.coarse else 0
        groups = [self.coarse.batch(coarse).enlarged(self.side)] if self.coarse and coarse else []
        real = round((count - coarse) * self.real_share) if len(self.pool.with_ids) else 0
        if count - coarse > real:
            groups.append(self.composed(count - coarse - real))
        if real:
            groups.append(self.real(real))
        return joined(groups)


def joined(groups: list[Scenes]) -> Scenes:
    """One batch of several."""
    return Scenes(*(torch.cat([getattr(g, f.name) for g in groups]) for f in fields(Scenes)))


def content_mask(sizes: Tensor, side: int) -> Tensor:
    """True inside the content of frames that are `side` pixels wide: bool [B, side, side]."""
    pixel = torch.arange(side, device=sizes.device)
    return (pixel[:, None] < sizes[:, 0, None, None]) & (pixel < sizes[:, 1, None, None])


def areas(ids: Tensor) -> Tensor:
    """Count each id's pixels: float [B, 256]."""
    flat = ids.flatten(1).long()
    out = torch.zeros(len(ids), 256, device=ids.device)
    return out.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))


def normalise(scenes: Scenes) -> Tensor:
    """Normalise as the official model does, then pad with zeros: float [B, 3, S, S]."""
    channels = [(scenes.image[:, c] - MEAN[c]) / STD[c] for c in range(3)]
    return torch.stack(channels, 1) * content_mask(scenes.sizes, scenes.side)[:, None]
