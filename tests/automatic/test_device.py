"""Automatic masks on a GPU, emulated or real: those of the host, which are the official ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.automatic import device
from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends.base import Backend
from samtrt.errors import BackendError
from samtrt.masks import rle
from support.blobs import blob_predictor
from support.on_device import on_device
from support.oracle import random_image
from support.places import PLACES
from support.samples import make_manifest, make_video_manifest

on_places = pytest.mark.parametrize("place", PLACES)


@on_places
@pytest.mark.parametrize("size", [(150, 200), (60, 40)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"crop_n_layers": 1},
        {"min_mask_region_area": 25, "points_per_batch": 7},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.9},
        {"stability_score_offset": 3.0, "stability_score_thresh": 0.7, "crop_nms_thresh": 0.4},
        {"pred_iou_thresh": 9.0},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
def test_every_setting_gives_the_masks_of_the_host(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], settings: dict[str, Any], place: str
) -> None:
    host, image = blob_predictor(make_manifest()), random_image(*size)
    options: dict[str, Any] = {"points_per_side": 4, "output_mode": "uncompressed_rle", **settings}
    wanted = AutomaticMaskGenerator(host, **options).generate(image)
    with on_device(monkeypatch, host, place) as (predictor, _):
        got = AutomaticMaskGenerator(predictor, **options).generate(image)
    check(got, wanted)


@on_places
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"crop_n_layers": 1, "points_per_batch": 7},
        {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.9},
    ],
    ids=lambda settings: "-".join(settings) or "default",
)
@pytest.mark.parametrize(
    "way",
    [
        {"use_m2m": True},
        {"multimask_output": False},
        {"use_m2m": True, "multimask_output": False},
    ],
    ids="-".join,
)
def test_sam2s_ways_give_the_masks_of_the_host(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], way: dict[str, Any], place: str
) -> None:
    """Refined masks and single ones, which the host finds as the official generator does."""
    host, image = blob_predictor(make_video_manifest()), random_image(150, 200)
    some = {"pred_iou_thresh": 0.8, "stability_score_thresh": 0.85}
    options: dict[str, Any] = {"points_per_side": 5, "output_mode": "uncompressed_rle"}
    options |= {**some, **settings, **way}
    wanted = AutomaticMaskGenerator(host, **options).generate(image)
    with on_device(monkeypatch, host, place) as (predictor, _):
        got = AutomaticMaskGenerator(predictor, **options).generate(image)
    assert got
    check(got, wanted)


def test_no_masks_come_to_the_host_to_be_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stand-in, which counts what is copied: less than a twentieth of the masks."""
    host, image = blob_predictor(make_video_manifest()), random_image(150, 200)
    masks = 8 * 8 * 3 * host.manifest.mask_size**2 * 4

    def copied(**options: Any) -> int:
        with monkeypatch.context() as patch, on_device(patch, host) as (predictor, cuda):
            embedding = predictor.encode(image)
            predictor.decoder = Counted(predictor.decoder, cuda)
            before = cuda.copied_to_host
            AutomaticMaskGenerator(
                predictor, points_per_side=8, output_mode="uncompressed_rle", **options
            ).generate(embedding)
            return int(cuda.copied_to_host - before - predictor.decoder.copied)

    assert copied() < masks / 20
    assert copied(use_m2m=True) < masks / 20


class Counted(Backend):
    """A backend of the stand-in, whose engine computes on the host: knows what that copied."""

    def __init__(self, backend: Backend, cuda: Any) -> None:
        self._backend, self._cuda, self.copied = backend, cuda, 0
        vars(self).update({**vars(backend), **vars(self)})

    def _run(self, feeds: Any, on_host: bool) -> Any:
        before = self._cuda.copied_to_host
        outputs = self._backend._run(feeds, on_host)
        self.copied += self._cuda.copied_to_host - before
        return outputs

    def close(self) -> None:
        self._backend.close()


def test_only_what_is_kept_leaves_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the stand-in, which counts what is copied."""
    host, image = blob_predictor(make_manifest()), random_image(150, 200)
    with on_device(monkeypatch, host) as (predictor, cuda):
        embedding = predictor.encode(image)
        before = cuda.copied_to_host
        found = AutomaticMaskGenerator(
            predictor, points_per_side=8, output_mode="uncompressed_rle"
        ).generate(embedding)
        embedding_bytes = embedding.features.nbytes  # the stand-in computes on the host
        facts = 8 * 8 * (3 * 7 + 4) * 4
        edges = sum(len(record["segmentation"]["counts"]) for record in found) * 4
        runs = 64 // predictor.prompts_per_run + 1
        assert cuda.copied_to_host - before < runs * embedding_bytes + facts + edges + 4096
        del embedding


@on_places
def test_masks_are_formed_early_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    host, image = blob_predictor(make_manifest()), random_image(90, 120)
    options: dict[str, Any] = {"points_per_side": 4, "points_per_batch": 5}
    wanted = AutomaticMaskGenerator(host, **options).generate(image)
    monkeypatch.setattr(device, "MOST_HELD", 5 * 64 * 64 * 4)
    with on_device(monkeypatch, host, place) as (predictor, _):
        check(AutomaticMaskGenerator(predictor, **options).generate(image), wanted)


@on_places
def test_an_engine_that_gives_no_numbers_is_told(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    host, image = blob_predictor(make_manifest()), random_image(90, 120)
    compute = host.decoder._compute

    def broken(feeds: Any) -> Any:
        out = compute(feeds)
        return {**out, "iou_predictions": np.full_like(out["iou_predictions"], np.nan)}

    monkeypatch.setattr(host.decoder, "_compute", broken)
    with (
        on_device(monkeypatch, host, place) as (predictor, _),
        pytest.raises(BackendError, match="not numbers"),
    ):
        AutomaticMaskGenerator(predictor, points_per_side=4).generate(image)


def check(got: list[Any], wanted: list[Any]) -> None:
    assert len(got) == len(wanted)
    for mine, other in zip(got, wanted, strict=True):
        masks = [rle.decode(rle.of(record["segmentation"])) for record in (mine, other)]
        # One pixel may have a logit that is zero to rounding.
        assert np.count_nonzero(masks[0] != masks[1]) <= 1
        assert abs(mine["area"] - other["area"]) <= 1
        np.testing.assert_allclose(mine["bbox"], other["bbox"], atol=1)
        for name in ("point_coords", "crop_box", "predicted_iou"):
            assert mine[name] == other[name]
        assert mine["stability_score"] == pytest.approx(other["stability_score"], abs=1e-3)
