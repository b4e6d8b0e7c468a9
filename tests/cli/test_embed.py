"""`samtrt embed`: files that `predict` takes, restarts, and images that cannot be read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from samtrt.embeddings import read_embedding_info
from support.command_line import Run
from support.oracle import random_image


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        Image.fromarray(random_image(90, 120, seed)).save(path)
    return paths


def test_embeddings_answer_prompts_as_their_images(
    run: Run, tiny_model: Path, photos: list[Path]
) -> None:
    out = photos[0].parent / "embeddings"
    done = run("embed", tiny_model, *photos, "-o", out, "--precision", "fp32")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [str(out / "a.safetensors"), str(out / "b.safetensors")]
    assert read_embedding_info(out / "a.safetensors").image_name == "a.png"
    for source in (photos[0], out / "a.safetensors"):
        path = out / f"{source.suffix[1:]}.json"
        assert run("predict", tiny_model, source, "-p", "60,40", "--json", path).code == 0
    by_image, by_embedding = (json.loads(path.read_text()) for path in sorted(out.glob("*.json")))
    assert by_image["masks"] == by_embedding["masks"]


def test_a_restart_skips_what_is_up_to_date(
    run: Run, fake_directory: Path, photos: list[Path]
) -> None:
    out = photos[0].parent / "embeddings"
    command = ("embed", fake_directory, *photos, "-o", out)
    run(*command)
    assert run(*command).out.count("is up to date") == 2
    assert "up to date" not in run(*command, "--precision", "fp32").out
    Image.fromarray(random_image(90, 120, 7)).save(photos[1])
    whole = (out / "a.safetensors").read_bytes()
    (out / "a.safetensors").write_bytes(whole[:-9])  # damaged, but ours by its header
    assert "up to date" not in run(*command, "--precision", "fp32").out
    assert read_embedding_info(out / "a.safetensors").stored_as == "fp32"


@pytest.mark.usefixtures("replaced_while_read")
def test_an_image_replaced_during_a_run_is_not_up_to_date(
    run: Run, fake_directory: Path, photos: list[Path]
) -> None:
    out = photos[0].parent / "embeddings"
    was = hashlib.sha256(photos[0].read_bytes()).hexdigest()
    command = ("embed", fake_directory, photos[0], "-o", out)
    assert run(*command).code == 0
    stored = read_embedding_info(out / "a.safetensors")
    assert (stored.image_sha256, stored.original_size) == (was, (90, 120))
    assert "up to date" not in run(*command).out
    assert read_embedding_info(out / "a.safetensors").original_size == (17, 31)


def test_an_unreadable_image_is_reported_and_the_rest_done(
    run: Run, fake_directory: Path, photos: list[Path]
) -> None:
    photos[0].write_bytes(b"no image")
    out = photos[0].parent / "embeddings"
    done = run("embed", fake_directory, *photos, "-o", out)
    assert done.code == 1
    assert "a.png" in done.err
    assert [path.name for path in out.iterdir()] == ["b.safetensors"]
    alone = run("embed", fake_directory, photos[0], "-o", out)
    assert alone.code == 2
    assert alone.err.startswith("samtrt: error: ")


def test_a_precision_that_no_file_holds_is_refused_at_once(
    run: Run, tmp_path: Path, photos: list[Path]
) -> None:
    """Before the model is opened: there is none here."""
    done = run("embed", tmp_path / "none", *photos, "-o", tmp_path / "out", "--precision", "bf16")
    assert done.code == 2
    assert done.err == ("samtrt: error: an embedding cannot be stored in bf16: use fp16 or fp32\n")
    assert not (tmp_path / "out").exists()
