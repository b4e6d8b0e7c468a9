"""What a run's workers have begun and done: one actor, which every worker asks.

A worker may die in the middle of a block of images, and Ray then gives the block to another. That
one must know which images were done before the run, and which image it was that ends processes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

TRIES = 2
"""How often a worker may die on an image, beside the first time, before that is given up."""


@dataclass
class _Block:
    attempts: int = 0
    before: list[int] = field(default_factory=list)
    begun: Counter[int] = field(default_factory=Counter)
    ended: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Begun:
    """What a worker is told of the block that it begins.

    Attributes:
        attempt: How many workers began it earlier.
        before: Numbers of the images that were done before the run.
        masks: Masks of each image that an earlier worker did.
        given_up: Numbers of the images that ended the process of every worker that tried them.
    """

    attempt: int
    before: list[int]
    masks: dict[int, int]
    given_up: list[int]


class Ledger:
    """Blocks by number, and their images by number."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._openings: Counter[str] = Counter()
        self._settings: dict[str, Any] | None = None
        self._first = ""

    def opening(self, worker: str, node: str) -> str | None:
        """Note that a worker opens engines; return why it may not, where it may not."""
        self._openings[worker] += 1
        if self._openings[worker] > 1 + TRIES:
            return f"{node}: each process that opened the engines died: memory ran out, or a crash"
        return None

    def opened(self, worker: str, node: str, settings: dict[str, Any]) -> str | None:
        """Take what results of a worker depend on; return why it may not work, where it may not."""
        self._openings.pop(worker, None)
        if self._settings is None:
            self._settings, self._first = settings, node
        ours = self._settings
        for name in sorted({*ours, *settings}):
            if ours.get(name) != settings.get(name):
                return (
                    f"{node} has {name} {settings.get(name)} and {self._first} has "
                    f"{ours.get(name)}: give all nodes the same engines"
                )
        return None

    def begin(self, block: int, done: list[int]) -> Begun:
        """Begin a block, of which these images are done."""
        one = self._blocks.setdefault(block, _Block())
        if not one.attempts:
            one.before = done
        one.attempts += 1
        given_up = [image for image, times in one.begun.items() if times >= TRIES]
        return Begun(one.attempts - 1, one.before, dict(one.ended), given_up)

    def image(self, block: int, image: int) -> None:
        """Note that a worker begins an image of a block whose earlier worker died."""
        self._blocks[block].begun[image] += 1

    def ended(self, block: int, masks: dict[int, int]) -> None:
        """Note the masks of images that are done, or failed in an orderly way."""
        one = self._blocks[block]
        one.ended |= masks
        for image in masks:
            one.begun.pop(image, None)

    def images(self) -> int:
        """Return how many images ended."""
        return sum(len(one.ended) for one in self._blocks.values())

    def settings(self) -> dict[str, Any] | None:
        """Return what results depend on, when a worker is open."""
        return self._settings
