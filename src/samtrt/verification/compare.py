"""Proof that engines still give the checkpoint's masks.

The same images and the same seeded prompts go through PyTorch and through a backend, each with the
whole predictor around it, and every stage's results are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.choices import Precision
from samtrt.errors import VerificationError
from samtrt.masks.logits import mask_iou
from samtrt.predictor import Predictor
from samtrt.sealed import Tensors
from samtrt.types import UInt8Array
from samtrt.verification.report import (
    REDUCED,
    THRESHOLDS,
    EmbeddingResult,
    PromptResult,
    Report,
    Thresholds,
    failures_of,
)
from samtrt.verification.tap import Tap, tapped

BOXES_AT_ONCE = 16


def thresholds_for(candidate: Predictor) -> Thresholds:
    """Return what a predictor must reach, by what it computes in."""
    precision = candidate.precision
    return THRESHOLDS[Precision(precision)] if precision in set(Precision) else REDUCED


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
        VerificationError: where there is no image, the two are not the same model, or they have
            outputs of other names or shapes.
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
    _check_outputs(reference, candidate)
    thresholds = thresholds or thresholds_for(candidate)
    pair = [tapped(one) for one in (reference, candidate)]
    embeddings: list[EmbeddingResult] = []
    results: list[PromptResult] = []
    for name, image in images.items():
        report(f"comparing on {name} ({image.shape[1]} x {image.shape[0]})")
        for predictor, _, _ in pair:
            predictor.set_image(image)
        expected, got = (encoder.take_outputs() for _, encoder, _ in pair)
        _check_shapes(got, expected)
        size = (image.shape[0], image.shape[1])
        for one in reference.manifest.maps:
            difference = _difference(got[one.name], expected[one.name])
            embeddings.append(EmbeddingResult(name, size, *difference, one.name))
        for prompt, arguments in seeded_prompts(pair[0][0], seed).items():
            results.append(_compare(pair, name, prompt, arguments))
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
    return Report(**{**vars(outcome), "failures": tuple(failures_of(outcome))})


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
    pair: Sequence[tuple[Predictor, Tap, Tap]], image: str, prompt: str, arguments: dict[str, Any]
) -> PromptResult:
    for _, _, decoder in pair:
        decoder.take()  # what the prompts were made with
    expected, got = (predictor.predict_batch(**arguments) for predictor, _, _ in pair)
    raw, raw_got = (decoder.take_outputs() for _, _, decoder in pair)
    _check_shapes(raw_got, raw)
    ious = tuple(
        mask_iou(got.masks[index], expected.masks[index])
        for index in np.ndindex(expected.masks.shape[:2])
    )
    scores, scores_got = raw["iou_predictions"], raw_got["iou_predictions"]
    # Of four masks, the first is not among the three that are chosen from.
    chosen = scores_got[:, 1:].argmax(axis=1) != scores[:, 1:].argmax(axis=1)
    pairs = _signs(scores)
    return PromptResult(
        image,
        prompt,
        *_difference(raw_got["low_res_masks"], raw["low_res_masks"]),
        scores_max_abs=_difference(scores_got, scores)[0],
        ious=ious,
        pairs=pairs.size,
        pairs_differing=int(np.count_nonzero(_signs(scores_got) != pairs)),
        choices=chosen.size,
        choices_differing=int(chosen.sum()),
    )


def _signs(scores: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return which of each pair of values is larger: 1, 0 or -1; NaN is neither."""
    flat = scores.astype(np.float64).ravel()
    first, second = np.triu_indices(flat.size, 1)
    with np.errstate(invalid="ignore"):
        return np.sign(flat[first] - flat[second])


def _check_outputs(reference: Predictor, candidate: Predictor) -> None:
    """Raise `VerificationError` where the stages do not declare outputs of the same names."""
    for ours, theirs in (
        (candidate.encoder, reference.encoder),
        (candidate.decoder, reference.decoder),
    ):
        if ours.outputs.keys() != theirs.outputs.keys():
            raise VerificationError(
                f"{ours.name} has the outputs {', '.join(ours.outputs)}, and the checkpoint "
                f"{', '.join(theirs.outputs)}: nothing to compare"
            )


def _check_shapes(got: Tensors, expected: Tensors) -> None:
    for name, array in expected.items():
        if got[name].shape != array.shape:
            raise VerificationError(
                f"{name} has the shape {got[name].shape}, and {array.shape} from the checkpoint"
            )


def _difference(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the largest absolute difference and |got - expected| / |expected|."""
    with np.errstate(invalid="ignore"):
        delta = got.astype(np.float64) - expected
    if not np.isfinite(delta).all():
        return float("inf"), float("inf")
    scale = float(np.linalg.norm(expected.astype(np.float64)))
    return float(np.abs(delta).max()), float(np.linalg.norm(delta)) / max(scale, 1e-30)
