"""Proof that engines still give the checkpoint's masks.

The same images and the same seeded prompts go through PyTorch and through a backend, each with the
whole predictor around it, and every stage's results are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import Precision
from samtrt.errors import VerificationError
from samtrt.masks.logits import mask_iou
from samtrt.predictor import Predictor
from samtrt.preparation.spec import Preparation
from samtrt.types import Size, UInt8Array

BOXES_AT_ONCE = 16


@dataclass(frozen=True)
class Thresholds:
    """What a backend must reach.

    Attributes:
        embedding_relative: Most that |a - b| / |b| of an image embedding may be.
        mean_iou: Least mean IoU over all masks.
        worst_iou: Least IoU of any mask.
    """

    embedding_relative: float
    mean_iou: float
    worst_iou: float


THRESHOLDS = {
    Precision.FP32: Thresholds(embedding_relative=1e-4, mean_iou=0.9995, worst_iou=0.999),
    Precision.FP16: Thresholds(embedding_relative=2e-2, mean_iou=0.99, worst_iou=0.95),
    # 8 bits of mantissa, 3 fewer than float16: eight times its rounding.
    Precision.BF16: Thresholds(embedding_relative=1.6e-1, mean_iou=0.95, worst_iou=0.8),
}
REDUCED = Thresholds(embedding_relative=0.2, mean_iou=0.99, worst_iou=0.9)
"""For int8, whose embeddings differ visibly: the masks decide."""


def thresholds_for(candidate: Predictor) -> Thresholds:
    """Return what a predictor must reach, by what it computes in."""
    precision = candidate.precision
    return THRESHOLDS[Precision(precision)] if precision in set(Precision) else REDUCED


@dataclass(frozen=True)
class EmbeddingResult:
    """How far one image's embedding is from the checkpoint's."""

    image: str
    size: Size
    max_abs: float
    relative: float


@dataclass(frozen=True)
class PromptResult:
    """How far one prompt's masks are from the checkpoint's."""

    image: str
    prompt: str
    logits_max_abs: float
    logits_relative: float
    ious: tuple[float, ...]
    choices: int
    choices_differing: int


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

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def ious(self) -> tuple[float, ...]:
        return tuple(iou for result in self.prompts for iou in result.ious)

    def as_json(self) -> dict[str, Any]:
        summary = {
            "passed": self.passed,
            "embedding_relative": max(e.relative for e in self.embeddings),
            "mean_iou": float(np.mean(self.ious)),
            "worst_iou": min(self.ious),
            "choices": sum(p.choices for p in self.prompts),
            "choices_differing": sum(p.choices_differing for p in self.prompts),
        }
        preparation = self.preparation.model_dump(mode="json")
        return {"summary": summary, **asdict(self), "preparation": preparation}


def verify(
    reference: Predictor,
    candidate: Predictor,
    images: Mapping[str, UInt8Array],
    thresholds: Thresholds | None = None,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
) -> Report:
    """Compare a backend with the reference, image by image and prompt by prompt.

    Args:
        reference: A predictor on the `pytorch` backend.
        candidate: A predictor on the backend in question, of the same model.
        images: uint8 [H, W, 3] by name.
        thresholds: What to reach; by default those of the candidate's precision.
        seed: Of the prompts' positions.
        report: Called with a line of text for each image.

    Raises:
        VerificationError: where there is no image, or the two are not the same model.
    """
    if not images:
        raise VerificationError("nothing to verify with: give at least one image")
    theirs, ours = reference.manifest.checkpoint.sha256, candidate.manifest.checkpoint.sha256
    if theirs != ours:
        raise VerificationError("the two were made from different checkpoints: nothing to compare")
    if reference.manifest.preparation != candidate.manifest.preparation:
        raise VerificationError(
            f"the two prepare images differently: {reference.manifest.preparation}, and "
            f"{candidate.manifest.preparation}; export one of them again"
        )
    thresholds = thresholds or thresholds_for(candidate)
    embeddings: list[EmbeddingResult] = []
    results: list[PromptResult] = []
    for name, image in images.items():
        report(f"comparing on {name} ({image.shape[1]} x {image.shape[0]})")
        reference.set_image(image)
        candidate.set_image(image)
        expected, got = reference.get_image_embedding(), candidate.get_image_embedding()
        size = (image.shape[0], image.shape[1])
        embeddings.append(EmbeddingResult(name, size, *_difference(got, expected)))
        for prompt, arguments in seeded_prompts(reference, seed).items():
            results.append(_compare(reference, candidate, name, prompt, arguments))
    outcome = Report(
        model=candidate.manifest.model,
        backend=candidate.encoder.name,
        device=candidate.encoder.device,
        precision=candidate.precision,
        preparation=candidate.manifest.preparation,
        thresholds=thresholds,
        embeddings=tuple(embeddings),
        prompts=tuple(results),
    )
    return Report(**{**vars(outcome), "failures": tuple(_failures(outcome))})


def seeded_prompts(predictor: Predictor, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return arguments of `predict_batch` for every kind of prompt, for the current image."""
    height, width = predictor.original_size
    rng = np.random.default_rng(seed)

    def points(count: int) -> npt.NDArray[np.float64]:
        return rng.uniform(0.1, 0.9, (1, count, 2)) * (width, height)

    def boxes(count: int) -> npt.NDArray[np.float64]:
        near = rng.uniform(0.0, 0.6, (count, 2))
        far = near + rng.uniform(0.15, 0.4, (count, 2))
        return np.concatenate([near, far], axis=1) * (width, height, width, height)

    one = points(1)
    first = predictor.predict_batch(one, [[1]])
    best = int(first.iou_predictions[0].argmax())
    return {
        "1 point": {"point_coords": one, "point_labels": [[1]]},
        "3 points": {"point_coords": points(3), "point_labels": [[1, 1, 0]]},
        "3 points, one mask": {
            "point_coords": points(3),
            "point_labels": [[1, 0, 1]],
            "multimask_output": False,
        },
        "box": {"boxes": boxes(1), "multimask_output": False},
        "box and points": {
            "point_coords": points(2),
            "point_labels": [[1, 0]],
            "boxes": boxes(1),
            "multimask_output": False,
        },
        "mask": {"mask_input": first.low_res_logits[:, best : best + 1]},
        "point and mask": {
            "point_coords": one,
            "point_labels": [[1]],
            "mask_input": first.low_res_logits[:, best : best + 1],
            "multimask_output": False,
        },
        f"{BOXES_AT_ONCE} boxes": {"boxes": boxes(BOXES_AT_ONCE), "multimask_output": False},
    }


def _compare(
    reference: Predictor, candidate: Predictor, image: str, prompt: str, arguments: dict[str, Any]
) -> PromptResult:
    expected, got = (one.predict_batch(**arguments) for one in (reference, candidate))
    ious = tuple(
        mask_iou(got.masks[index], expected.masks[index])
        for index in np.ndindex(expected.masks.shape[:2])
    )
    chosen = got.iou_predictions.argmax(axis=1) != expected.iou_predictions.argmax(axis=1)
    return PromptResult(
        image,
        prompt,
        *_difference(got.low_res_logits, expected.low_res_logits),
        ious=ious,
        choices=chosen.size,
        choices_differing=int(chosen.sum()),
    )


def _difference(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the largest absolute difference and |got - expected| / |expected|."""
    delta = got.astype(np.float64) - expected
    if not np.isfinite(delta).all():
        return float("inf"), float("inf")
    scale = float(np.linalg.norm(expected.astype(np.float64)))
    return float(np.abs(delta).max()), float(np.linalg.norm(delta)) / max(scale, 1e-30)


def _failures(report: Report) -> list[str]:
    limits = report.thresholds
    found = []
    worst_embedding = max(report.embeddings, key=lambda e: e.relative)
    if not worst_embedding.relative <= limits.embedding_relative:
        found.append(
            f"embedding of {worst_embedding.image} is {worst_embedding.relative:.2e} off, "
            f"more than {limits.embedding_relative:.0e}"
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
    return found
