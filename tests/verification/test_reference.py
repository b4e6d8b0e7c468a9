"""Stored references: verify without the checkpoint gives the same report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from samtrt.backends import BackendOptions
from samtrt.errors import VerificationError
from samtrt.manifest import Manifest, Source
from samtrt.predictor import Predictor
from samtrt.verification.compare import verify
from samtrt.verification.reference import FORMAT, load_reference, record
from support.oracle import random_image

IMAGES = {"wide": random_image(100, 170), "tall": random_image(90, 40, seed=1)}


@pytest.fixture(scope="module")
def computing(tiny_model: Path, tiny_checkpoint: Path) -> Iterator[Predictor]:
    options = BackendOptions(checkpoint=tiny_checkpoint)
    with Predictor.load(tiny_model, "pytorch", options) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def stored(computing: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "reference.safetensors"
    record(path, computing, IMAGES, seed=3)
    return path


def test_gives_the_report_of_the_checkpoint_itself(
    stored: Path, computing: Predictor, tiny_model: Path
) -> None:
    with Predictor.load(tiny_model) as candidate:
        reference = load_reference(stored, candidate.manifest, IMAGES)
        assert reference.seed == 3
        report = verify(reference.predictor, candidate, IMAGES, seed=reference.seed)
        direct = verify(computing, candidate, IMAGES, seed=3)
    assert report.passed, report.failures
    for ours, theirs in zip(report.embeddings, direct.embeddings, strict=True):
        assert (ours.image, ours.size) == (theirs.image, theirs.size)
        assert ours.relative == pytest.approx(theirs.relative, rel=0.1)
    for ours, theirs in zip(report.prompts, direct.prompts, strict=True):
        assert (ours.image, ours.prompt, ours.choices) == (
            theirs.image,
            theirs.prompt,
            theirs.choices,
        )
        assert ours.ious == pytest.approx(theirs.ious, abs=1e-3)


def test_notices_engines_that_are_wrong(stored: Path, tiny_model: Path) -> None:
    with Predictor.load(tiny_model) as candidate:
        reference = load_reference(stored, candidate.manifest, IMAGES)
        right = candidate.decoder.run
        candidate.decoder.run = lambda feeds: {  # type: ignore[method-assign]
            name: -array for name, array in right(feeds).items()
        }
        assert not verify(reference.predictor, candidate, IMAGES, seed=3).passed


def test_refuses_what_it_is_not_of(stored: Path, computing: Predictor, tmp_path: Path) -> None:
    manifest = computing.manifest
    other = manifest.model_copy(update={"checkpoint": Source(name="x.pth", sha256="1" * 64)})
    with pytest.raises(VerificationError, match=r"with the checkpoint .* are of vit_t with 1111"):
        load_reference(stored, other, IMAGES)
    with pytest.raises(VerificationError, match=r"other images \(wide, tall\)"):
        load_reference(stored, manifest, {**IMAGES, "tall": random_image(90, 40, seed=2)})
    with pytest.raises(VerificationError, match="cannot read"):
        load_reference(tmp_path / "none", manifest, IMAGES)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(stored.read_bytes()[:1000])
    with pytest.raises(VerificationError, match="is damaged"):
        load_reference(damaged, manifest, IMAGES)
    save_file({"x": np.zeros(1)}, damaged)
    with pytest.raises(VerificationError, match="is not a stored reference of this"):
        load_reference(damaged, manifest, IMAGES)


def test_refuses_other_prompts(stored: Path, tiny_model: Path) -> None:
    with Predictor.load(tiny_model) as candidate:
        reference = load_reference(stored, candidate.manifest, IMAGES)
        with pytest.raises(VerificationError, match="is of other prompts"):
            verify(reference.predictor, candidate, IMAGES, seed=4)
    assert any(key.endswith("low_res_masks") for key in load_file(stored))


def broken(about: object) -> dict[str, str]:
    return {"format": FORMAT, "about": json.dumps(about) if not isinstance(about, str) else about}


ABOUT = {"checkpoint_sha256": "CHECKPOINT", "preparation": "PREPARATION", "images": {}, "seed": 0}


@pytest.mark.parametrize(
    "about",
    [
        "[" * 100_000,
        "9" * 5000,
        "{}",
        "[]",
        "null",
        "no json",
        {"checkpoint_sha256": 3, "model": "x"},
        {**ABOUT, "runs": {}},
        {**ABOUT, "runs": {"encoder": 10**400, "decoder": 0}},
        {**ABOUT, "runs": {"encoder": -1, "decoder": 0}},
        {**ABOUT, "runs": {"encoder": "x", "decoder": 0}},
        {**ABOUT, "runs": {"encoder": 0, "decoder": 0}},
        {**ABOUT, "runs": {"encoder": 1, "decoder": 1}, "seed": "x"},
        {**ABOUT, "runs": {"encoder": 1, "decoder": 1}, "seed": -1},
    ],
    ids=lambda about: str(about)[:40],
)
def test_broken_files_are_told_in_a_line(about: object, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    known = broken(about)
    known["about"] = (
        known["about"]
        .replace("CHECKPOINT", manifest.checkpoint.sha256)
        .replace('"PREPARATION"', json.dumps(str(manifest.preparation)))
    )
    save_file({"encoder.1.x": np.zeros(2, np.float32), "one": np.zeros(1)}, path, known)
    with pytest.raises(VerificationError) as caught:
        load_reference(path, manifest, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", bytes(8)])
def test_other_files_are_told_in_a_line(data: bytes, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    path.write_bytes(data)
    with pytest.raises(VerificationError, match="is damaged or no stored reference"):
        load_reference(path, manifest, {})
