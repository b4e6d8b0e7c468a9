"""Find people in photographs: the large, many-coloured things that colour alone does not give.

MediaPipe's selfie segmentation (Google, Apache 2.0; the npm package
`@mediapipe/selfie_segmentation` holds it) says roughly where a person is, GrabCut draws the border.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIDE = 256
_SURE, _NONE = 0.9, 0.1
_AGREE = 0.72
_MOST_DOUBT = 0.7
_SMALLEST, _LARGEST = 0.02, 0.85


class PeopleFinder:
    """Callable: RGB uint8 [H, W, 3] to whole persons, bool [H, W] each, perhaps none."""

    def __init__(self, model: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise SystemExit(
                f"{error.name} is missing; install it with: pip install 'samtrt[training]', or "
                "leave out --people"
            ) from None
        self._net = Interpreter(str(model), num_threads=1)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]

    def odds(self, rgb: np.ndarray) -> np.ndarray:
        """Probability of a person at each pixel: float32 [H, W]."""
        small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        self._net.set_tensor(self._input, small[None].astype(np.float32) / 255)
        self._net.invoke()
        odds: np.ndarray = self._net.get_tensor(self._output)[0, ..., 0]
        return cv2.resize(odds, (rgb.shape[1], rgb.shape[0]))

    def __call__(self, rgb: np.ndarray) -> list[np.ndarray]:
        return people(rgb, self.odds(rgb))


def people(rgb: np.ndarray, odds: np.ndarray) -> list[np.ndarray]:
    """Turn odds [H, W] into masks: separate pieces, each kept where GrabCut agrees with the odds.

    Pieces are dropped that are small, nearly the whole picture, or mostly in doubt. What is left is
    mostly right, and as often an animal as a person; `prepare.py` uses it only in pictures where
    someone has looked at it.
    """
    cut = _refined(rgb, odds)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cut.astype(np.uint8))
    kept = []
    for label in range(1, count):
        share = stats[label, cv2.CC_STAT_AREA] / cut.size
        if not _SMALLEST < share < _LARGEST:
            continue
        piece = labels == label
        near = cv2.dilate(piece.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        rough = (odds > 0.5) & near
        doubt = ((odds > _NONE) & (odds < _SURE) & near).sum() / piece.sum()
        agreed = (piece & rough).sum() / max(1, (piece | rough).sum())
        if agreed > _AGREE and doubt < _MOST_DOUBT:
            kept.append(piece)
    return kept


def _refined(rgb: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Draw the border anew between sure and sure-not (GrabCut, Rother et al., 2004): bool."""
    sure = cv2.erode((odds > _SURE).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    never = cv2.dilate((odds > _NONE).astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
    if sure.sum() < 0.01 * sure.size or never.sum() < 0.01 * sure.size:
        return np.zeros(odds.shape, bool)
    mask = np.where(odds > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    mask[sure], mask[never] = cv2.GC_FGD, cv2.GC_BGD
    nowhere = (0, 0, 0, 0)  # the mask says it all
    cv2.grabCut(rgb, mask, nowhere, np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    solid = cv2.morphologyEx((mask & 1).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Small holes are GrabCut's noise; large ones, as inside an akimbo arm, are real.
    filled = cv2.drawContours(np.zeros_like(solid), contours, -1, 1, -1)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(filled - solid)
    for label in range(1, count):
        if stats[label, cv2.CC_STAT_AREA] > 0.02 * solid.sum():
            filled[labels == label] = 0
    return filled > 0


def wholes_and_parts(wholes: list[np.ndarray], regions: np.ndarray) -> np.ndarray:
    """Label wholes and the regions inside them: uint8 [H, W].

    Wholes [H, W] are 1 to 7, the largest first; parts of whole k are 32 k to 32 k + 31, as
    `scenes.py` reads them. A region is a part where nine tenths of it lie inside and it is less
    than 60% of the whole.
    """
    out = np.zeros(regions.shape, np.uint8)
    for k, whole in enumerate(sorted(wholes, key=lambda w: -int(w.sum()))[:7], 1):
        out[whole] = k
        parts = 0
        for label in np.unique(regions[whole]):
            region = regions == label
            inside = region & whole
            if (
                label
                and parts < 32
                and inside.sum() > 0.9 * region.sum()
                and inside.sum() < 0.6 * whole.sum()
            ):
                out[inside] = 32 * k + parts
                parts += 1
    return out
