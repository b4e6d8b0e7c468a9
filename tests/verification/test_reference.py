"""Stored references: verify without the checkpoint gives the same report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from samtrt.backends import BackendOptions
from samtrt.errors import OutputError, VerificationError
from samtrt.manifest import Manifest, Source
from samtrt.predictor import Predictor
from samtrt.sealed import read_tensors, write_sealed
from samtrt.verification.compare import verify
from samtrt.verification.reference import FORMAT, load_reference, record
from support.fake_runtime import fake_predictor
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
        candidate.decoder.run = lambda feeds, on_host=True: {  # type: ignore[method-assign]
            name: -array for name, array in right(feeds, on_host).items()
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
    with pytest.raises(VerificationError, match="is damaged or no stored reference"):
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


@pytest.fixture
def quick(manifest: Manifest) -> Predictor:
    """A predictor on engines that take no time."""
    return fake_predictor(manifest)


@pytest.fixture
def small(quick: Predictor, tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    record(path, quick, {"tall": IMAGES["tall"]})
    return path


SMALL = {"tall": IMAGES["tall"]}
LAST = "decoder.0.iou_predictions"


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ("[" * 100_000, {}),
        ("9" * 5000, {}),
        ("{}", {}),
        ("null", {}),
        ("no json", {}),
        ({"checkpoint_sha256": 3}, {}),
        ({"seed": -1}, {}),
        ({"seed": "x"}, {}),
        ({"images": {}}, {}),
        ({"images": [["x"]]}, {}),
        ({"more": 1}, {}),
        ({}, {"one": np.zeros(1, np.float32)}),
        ({}, {"decoder.x.low_res_masks": np.zeros(1, np.float32)}),
        ({}, {f"decoder.{10**8}.low_res_masks": np.zeros(1, np.float32)}),
        ({}, {"decoder.0.more": np.zeros(1, np.float32)}),
        ({}, {LAST: None}),
        ({}, {LAST: np.zeros(4, np.float32)}),
        ({}, {LAST: np.zeros((2, 4), np.float32)}),
        ({}, {LAST: np.zeros((1, 4), np.float64)}),
        ({}, {LAST: np.zeros((1, 4), np.complex64)}),
        ({}, {LAST: np.full((1, 4), np.nan, np.float32)}),
        ({}, {"encoder.0.image_embeddings": None}),
    ],
    ids=lambda one: str(one)[:40],
)
def test_broken_files_are_told_in_a_line(
    changes: object, tensors: dict[str, np.ndarray | None], small: Path, manifest: Manifest
) -> None:
    """Also those whose checksum is right."""
    stored, metadata = read_tensors(small)
    about = json.loads(metadata["about"])
    text = changes if isinstance(changes, str) else json.dumps({**about, **changes})
    kept = {name: array for name, array in {**stored, **tensors}.items() if array is not None}
    write_sealed(small, kept, {"format": FORMAT, "about": text})
    with pytest.raises(VerificationError) as caught:
        load_reference(small, manifest, SMALL)
    assert "\n" not in str(caught.value)
    assert "write it again with: samtrt verify --save-reference" in str(caught.value)


def test_no_change_of_a_byte_goes_unseen(small: Path, manifest: Manifest) -> None:
    """Every byte of the header, and every 997th of the arrays; and cuts."""
    whole = small.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert load_reference(small, manifest, SMALL).seed == 0
    for place in (*range(0, header, 3), *range(header, len(whole), len(whole) // 40)):
        changed = bytearray(whole)
        changed[place] ^= 1 + place % 7
        small.write_bytes(changed)
        with pytest.raises(VerificationError):
            load_reference(small, manifest, SMALL)
    for length in (0, 7, 8, 100, header - 1, header, len(whole) - 1):
        small.write_bytes(whole[:length])
        with pytest.raises(VerificationError, match="is damaged or no stored reference"):
            load_reference(small, manifest, SMALL)
    small.write_bytes(whole + b"x")
    with pytest.raises(VerificationError, match="is damaged or no stored reference"):
        load_reference(small, manifest, SMALL)


def test_images_are_known_by_their_order(quick: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    record(path, quick, IMAGES)
    renamed = {f"elsewhere/{name}": image for name, image in IMAGES.items()}
    load_reference(path, quick.manifest, renamed)
    other_order = dict(reversed(IMAGES.items()))
    with pytest.raises(VerificationError, match="in the same order"):
        load_reference(path, quick.manifest, other_order)


def test_a_reference_that_is_no_number_is_not_written(quick: Predictor, tmp_path: Path) -> None:
    right = quick.decoder.run
    quick.decoder.run = lambda *given: {  # type: ignore[method-assign]
        name: array * np.float32(np.nan if name == "iou_predictions" else 1)
        for name, array in right(*given).items()
    }
    with pytest.raises(VerificationError, match="hold NaN or infinities"):
        record(tmp_path / "reference.safetensors", quick, SMALL)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, b"\x02" + bytes(7) + b"[]", bytes(8)])
def test_other_files_are_told_in_a_line(data: bytes, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    path.write_bytes(data)
    with pytest.raises(VerificationError, match="is damaged or no stored reference"):
        load_reference(path, manifest, {})


def test_it_is_read_whatever_an_engine_takes_at_once(quick: Predictor, tmp_path: Path) -> None:
    """The computer that recorded it gave the decoder other numbers of prompts at once."""
    path = tmp_path / "reference.safetensors"
    for limit in (3, 64):
        few = Predictor(quick.encoder, quick.decoder, quick.manifest, limit)
        record(path, few, SMALL)
        reference = load_reference(path, quick.manifest, SMALL)
        assert verify(reference.predictor, quick, SMALL).passed


def test_a_full_disk_is_told_and_leaves_nothing(
    quick: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reference.safetensors"

    def fill(*given: Any) -> None:
        given[1].write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", fill)
    with pytest.raises(OutputError, match=r"cannot write .*: .*No space left on device"):
        record(path, quick, SMALL)
    assert not list(tmp_path.iterdir())
