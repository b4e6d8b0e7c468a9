"""What a comparison found, what it must reach, and what it missed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from samtrt.choices import Precision
from samtrt.feature_maps import IMAGE_EMBEDDINGS
from samtrt.preparation.spec import Preparation
from samtrt.types import Size


@dataclass(frozen=True)
class Thresholds:
    """What a backend must reach. NaN or an infinity in any output fails whatever is set here.

    Attributes:
        embedding_relative: Most that |a - b| / |b| may be of an image embedding, or of another map
            that the decoder takes.
        mean_iou: Least mean IoU over all masks.
        worst_iou: Least IoU of any mask.
        logits_relative: Most that |a - b| / |b| of the low-res logits of one kind of prompt may
            be, over all four masks of each prompt.
        scores_abs: Most that an IoU prediction may be off.
        other_order: Most of all pairs of IoU predictions of one call that may be in another order.
        other_choices: Most of all prompts whose best of three masks may be another one.
    """

    embedding_relative: float
    mean_iou: float
    worst_iou: float
    logits_relative: float = 5e-2
    scores_abs: float = 3e-2
    other_order: float = 0.05
    other_choices: float = 0.05


THRESHOLDS = {
    Precision.FP32: Thresholds(
        embedding_relative=1e-4,
        mean_iou=0.9995,
        worst_iou=0.999,
        logits_relative=1e-3,
        scores_abs=1e-3,
        other_order=0.01,
        other_choices=0.02,
    ),
    Precision.FP16: Thresholds(
        embedding_relative=2e-2,
        mean_iou=0.99,
        worst_iou=0.95,
        logits_relative=2e-2,
        scores_abs=2e-2,
        other_order=0.05,
        other_choices=0.05,
    ),
    # 8 bits of mantissa, 3 fewer than float16: eight times its rounding, not of its limits.
    Precision.BF16: Thresholds(embedding_relative=5e-2, mean_iou=0.95, worst_iou=0.8),
}
REDUCED = Thresholds(embedding_relative=5e-2, mean_iou=0.99, worst_iou=0.9)
"""For int8. With every layer in it an embedding was 1.8e-2 off, and the masks decide."""


@dataclass(frozen=True)
class EmbeddingResult:
    """How far one map of an image is from the checkpoint's; infinitely, where one has NaN."""

    image: str
    size: Size
    max_abs: float
    relative: float
    map: str = IMAGE_EMBEDDINGS

    @property
    def label(self) -> str:
        """Name the image, and the map where it is not the one that every model has."""
        return self.image if self.map == IMAGE_EMBEDDINGS else f"{self.image}, {self.map}"


@dataclass(frozen=True)
class PromptResult:
    """How far the results of one kind of prompt on one image are from the checkpoint's.

    Attributes:
        image, prompt: Which.
        logits_max_abs, logits_relative: Of all low-res logits that the decoder gave, four masks a
            prompt; infinite where there is NaN.
        scores_max_abs: Of all IoU predictions; infinite where there is NaN.
        ious: Of the masks at the image's size that the predictor picks.
        pairs: Pairs among the IoU predictions of the call.
        pairs_differing: Those that are in another order than the checkpoint's; ties count.
        choices: Prompts.
        choices_differing: Those whose best-scored of three masks is another one.
    """

    image: str
    prompt: str
    logits_max_abs: float
    logits_relative: float
    scores_max_abs: float
    ious: tuple[float, ...]
    pairs: int
    pairs_differing: int
    choices: int
    choices_differing: int


@dataclass(frozen=True)
class FrameResult:
    """How near the masks of one frame of a video are to the checkpoint's.

    Attributes:
        frame: Its number.
        corrected: Whether it was tracked after an object was corrected.
        ious: Of each object's mask at the video's size.
        presence_differs: Of how many objects one side finds something and the other nothing.
    """

    frame: int
    corrected: bool
    ious: tuple[float, ...]
    presence_differs: int


@dataclass(frozen=True)
class VideoReport:
    """Objects followed through a clip, frame by frame beside the checkpoint."""

    clip: str
    size: Size
    frames: tuple[FrameResult, ...]

    @property
    def ious(self) -> tuple[float, ...]:
        return tuple(iou for one in self.frames for iou in one.ious)

    def failures(self, limits: Thresholds) -> list[str]:
        """Name each limit of masks that was missed, and where."""
        found = []
        mean, worst = float(np.mean(self.ious)), min(self.frames, key=lambda one: min(one.ious))
        if not mean >= limits.mean_iou:
            found.append(
                f"mean mask IoU over {self.clip} is {mean:.4f}, less than {limits.mean_iou}"
            )
        if not min(worst.ious) >= limits.worst_iou:
            found.append(
                f"a mask on frame {worst.frame} of {self.clip} has IoU {min(worst.ious):.4f}, less "
                f"than {limits.worst_iou}"
            )
        return found


@dataclass(frozen=True)
class Report:
    """The whole comparison; `as_json` is what `samtrt verify --json` writes."""

    model: str
    backend: str
    device: str
    precision: str
    preparation: Preparation
    thresholds: Thresholds
    embeddings: tuple[EmbeddingResult, ...]
    prompts: tuple[PromptResult, ...]
    failures: tuple[str, ...] = field(default=())
    video: VideoReport | None = None

    def with_video(self, video: VideoReport) -> Report:
        """Return it with what was found on a video beside it."""
        missed = video.failures(self.thresholds)
        return replace(self, video=video, failures=(*self.failures, *missed))

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def ious(self) -> tuple[float, ...]:
        return tuple(iou for result in self.prompts for iou in result.ious)

    @property
    def other_order(self) -> float:
        """Share of pairs of IoU predictions that are in another order than the checkpoint's."""
        return sum(p.pairs_differing for p in self.prompts) / sum(p.pairs for p in self.prompts)

    @property
    def other_choices(self) -> float:
        """Share of prompts whose best of three masks is another one than the checkpoint's."""
        return sum(p.choices_differing for p in self.prompts) / sum(p.choices for p in self.prompts)

    def as_json(self) -> dict[str, Any]:
        """Return values for JSON, in which null stands for infinitely far off."""
        summary = {
            "passed": self.passed,
            "embedding_relative": max(e.relative for e in self.embeddings),
            "logits_relative": max(p.logits_relative for p in self.prompts),
            "mean_iou": float(np.mean(self.ious)),
            "worst_iou": min(self.ious),
            "scores_max_abs": max(p.scores_max_abs for p in self.prompts),
            "other_order": self.other_order,
            "choices": sum(p.choices for p in self.prompts),
            "choices_differing": sum(p.choices_differing for p in self.prompts),
        }
        if self.video:
            summary["video_mean_iou"] = float(np.mean(self.video.ious))
            summary["video_worst_iou"] = min(self.video.ious)
        preparation = self.preparation.model_dump(mode="json")
        whole = {"summary": summary, **asdict(self), "preparation": preparation}
        finite: dict[str, Any] = _finite(whole)
        return finite


def failures_of(report: Report) -> list[str]:
    """Name each limit that was missed, and where."""
    limits = report.thresholds
    found = []
    embedding = max(report.embeddings, key=lambda e: e.relative)
    if _misses(embedding.relative, limits.embedding_relative):
        found.append(
            f"embedding of {embedding.label} {_off(embedding.relative, limits.embedding_relative)}"
        )
    logits = max(report.prompts, key=lambda p: p.logits_relative)
    if _misses(logits.logits_relative, limits.logits_relative):
        found.append(
            f"logits of '{logits.prompt}' on {logits.image} "
            f"{_off(logits.logits_relative, limits.logits_relative)}"
        )
    mean = float(np.mean(report.ious))
    if not mean >= limits.mean_iou:
        found.append(f"mean mask IoU is {mean:.4f}, less than {limits.mean_iou}")
    worst = min(report.prompts, key=lambda p: min(p.ious))
    if not min(worst.ious) >= limits.worst_iou:
        found.append(
            f"a mask of '{worst.prompt}' on {worst.image} has IoU {min(worst.ious):.4f}, "
            f"less than {limits.worst_iou}"
        )
    scores = max(report.prompts, key=lambda p: p.scores_max_abs)
    if _misses(scores.scores_max_abs, limits.scores_abs):
        found.append(
            f"an IoU prediction of '{scores.prompt}' on {scores.image} "
            f"{_off(scores.scores_max_abs, limits.scores_abs)}"
        )
    if not report.other_order <= limits.other_order:
        found.append(
            f"{report.other_order:.1%} of pairs of IoU predictions are in another order, more "
            f"than {limits.other_order:.1%}"
        )
    if not report.other_choices <= limits.other_choices:
        found.append(
            f"another mask is the best of {report.other_choices:.1%} of prompts, more than "
            f"{limits.other_choices:.1%}"
        )
    return found


def _misses(value: float, limit: float) -> bool:
    """Tell whether a difference is beyond its limit; an infinite one is beyond any."""
    return not (math.isfinite(value) and value <= limit)


def _off(value: float, limit: float) -> str:
    if not math.isfinite(value):
        return "holds NaN or infinities"
    return f"is {value:.2e} off, more than {limit:.0e}"


def _finite(value: Any) -> Any:
    """Replace what JSON has no number for by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
