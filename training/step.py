"""One training step: compose, encode once, prompt in rounds, back-propagate.

It draws all it needs on the GPU and waits for nothing, so a CUDA graph can replay it whole.
(Code that it calls avoids `torch.where` with a Python number: that copies it to the GPU and waits.)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from choosing import choose_masks
from losses import round_loss
from prompting import PADDING, Shapes, corrective_points, fresh_prompt
from samtrt.models import Sam
from scenes import Composer, Scenes, normalise
from teacher import Student, Teacher

RESTARTS = 0.3
"""Share of prompts that are new in a later round: several points, or a box with points."""


class Step:
    """Callable: fills `gradients` and returns loss, distillation loss and each round's IoU.

    `gradients` is one flat tensor of which every parameter's `.grad` is a view. `pull`, a tensor
    of one number, is how much of the teacher's gradient the encoder gets; the student gets all.
    """

    def __init__(
        self,
        model: Sam,
        composer: Composer,
        args: argparse.Namespace,
        teacher: Teacher | None = None,
        student: Student | None = None,
    ) -> None:
        self.model, self.composer, self.args = model, composer, args
        self.teacher, self.student = teacher, student
        self.device, self.generator = composer.device, composer.dice.generator
        self.gradients = flat_gradients(
            [*model.parameters(), *(student or nn.Module()).parameters()]
        )
        with torch.no_grad():
            self.scenes = composer.batch(args.batch)
        self.encode: Callable[[Tensor], Tensor] = model.image_encoder
        self.decode: Callable[..., tuple[Tensor, Tensor]] = model.decode
        self.loss: Callable[..., tuple[Tensor, Tensor]] = round_loss
        self.pull = torch.ones((), device=self.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._metrics = torch.zeros(2 + args.rounds, device=self.device)

    def compile(self) -> None:
        """Fuse the parts with torch.compile; the first call then takes about two minutes."""
        self.encode = torch.compile(self.encode, dynamic=False)
        self.decode = torch.compile(self.decode, dynamic=False)
        self.loss = torch.compile(self.loss, dynamic=False)

    def capture(self) -> None:
        """Record the step as a CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # Other threads, such as NCCL's watchdog, may go on using the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._metrics = self._run()
        self._graph = graph

    def __call__(self) -> Tensor:
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._metrics

    def _run(self) -> Tensor:
        self.gradients.zero_()
        self._refresh()
        scenes = self.scenes
        masks, usable = choose_masks(scenes, self.args.masks, self.generator, self.args.smallest)
        loss, distance, ious = self._losses(scenes, masks.flatten(0, 1), usable.flatten())
        (loss + self.args.distill * distance).backward()
        return torch.stack([loss.detach(), distance.detach(), *ious])

    @torch.no_grad()
    def _refresh(self) -> None:
        """Replace the oldest scenes by new ones; each is used `echo` times, with new prompts."""
        fresh = self.composer.batch(len(self.scenes.ids) // self.args.echo)
        kept = len(self.scenes.ids) - len(fresh.ids)
        for field in fields(Scenes):
            ring, new = getattr(self.scenes, field.name), getattr(fresh, field.name)
            ring.copy_(torch.cat([new, ring[:kept]]))

    def _losses(
        self, scenes: Scenes, masks: Tensor, usable: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        args, prompts = self.args, len(masks)
        shapes = Shapes.of(masks)
        truth = F.avg_pool2d(shapes.cover[:, None], 2)[:, 0]
        use_box = torch.rand(prompts, generator=self.generator, device=self.device) < 0.5
        coords, labels = fresh_prompt(shapes, use_box, 2, self.generator)
        side = truth.shape[-1]
        previous = torch.zeros(prompts, 1, side, side, device=self.device)
        has_mask = torch.zeros(prompts, device=self.device)
        distance = total = torch.zeros((), device=self.device)
        ious = []
        enabled = args.bf16 and self.device.type == "cuda"
        # Without its cache: a graph must not hold casts that were made before it.
        with torch.autocast(self.device.type, torch.bfloat16, enabled, cache_enabled=False):
            embeddings = self.encode(normalise(scenes))
            if self.teacher is not None and self.student is not None:
                with torch.no_grad():
                    targets = self.teacher(scenes.image)
                distance = self.distance(embeddings, targets)
            each = embeddings[:, None].expand(-1, args.masks, -1, -1, -1)
            repeated = each.flatten(0, 1)
            for turn in range(args.rounds):
                logits, scores = self.decode(repeated, coords, labels, previous, has_mask)
                loss, mean_iou = self.loss(logits, scores, shapes.cover, usable)
                total = total + loss
                ious.append((mean_iou * usable).sum() / usable.sum().clamp(min=1))
                if turn + 1 < args.rounds:
                    chosen = answer(logits, scores, use_box, turn)
                    coords, labels, kept = self._next_prompt(
                        shapes, truth, chosen, coords, labels, turn + 1
                    )
                    previous, has_mask = chosen[:, None] * kept[:, None, None, None], kept.float()
        return total, distance, ious

    def distance(self, embeddings: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """The student's error on the teacher's features; `pull` of its gradient goes further."""
        fixed = embeddings.detach()
        pulled = fixed + self.pull.to(fixed.dtype) * (embeddings - fixed)
        assert self.student is not None
        error: Tensor = self.student(pulled, targets)
        return error

    def _next_prompt(
        self,
        shapes: Shapes,
        truth: Tensor,
        chosen: Tensor,
        coords: Tensor,
        labels: Tensor,
        count: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add `count` points where `chosen` is wrong, or start anew with as many tokens.

        Returns coords, labels and which prompts go on, bool [P]: those come with their mask.
        """
        points, their = corrective_points(chosen, truth, count, self.generator, shapes.size)
        draw = torch.rand(3, len(truth), 1, generator=self.generator, device=self.device)
        # Now and then a mask comes back with no new point, only to be refined.
        their = torch.where(draw[0] < 0.15, torch.full_like(their, PADDING), their)
        coords, labels = torch.cat([coords, points], 1), torch.cat([labels, their], 1)
        kept = draw[1] >= RESTARTS
        new = fresh_prompt(shapes, draw[2, :, 0] < 0.5, labels.shape[1], self.generator)
        coords = torch.where(kept[:, :, None], coords, new[0])
        return coords, torch.where(kept, labels, new[1]), kept[:, 0]


def answer(logits: Tensor, scores: Tensor, use_box: Tensor, turn: int) -> Tensor:
    """The mask a user would see: the best scored of three for one point, else mask 0."""
    logits = logits.detach().float()
    best = 1 + scores[:, 1:].argmax(1)
    index = best * ~use_box if turn == 0 else torch.zeros_like(best)
    return logits[torch.arange(len(logits), device=logits.device), index]


def flat_gradients(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Give every parameter a `.grad` that is a view into one tensor, which is returned."""
    parameters = list(parameters)
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    start = 0
    for parameter in parameters:
        parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return flat
