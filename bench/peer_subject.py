"""What a subject of `peers.py` is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

Point = tuple[float, float]


class Subject(ABC):
    """One implementation, opened in `__init__` from the files that `prepare` left in `work`."""

    own: ClassVar[bool] = False
    batches: ClassVar[bool] = True
    """Whether many boxes are one call; else `boxes` is a loop of calls."""

    @classmethod
    def prepare(cls, work: Path) -> None:
        """Make from `work/vit.pth` what opening needs; not timed. Here nothing."""
        del work

    @abstractmethod
    def __init__(self, work: Path, threads: int) -> None: ...

    @abstractmethod
    def set_image(self, image: np.ndarray) -> None:
        """Encode uint8 [H, W, 3]."""

    @abstractmethod
    def click(self, point: Point) -> np.ndarray:
        """Answer one point with three masks, bool [3, H, W]."""

    @abstractmethod
    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Answer boxes [P, 4] with a mask each, bool [P, H, W]."""
