"""`samtrt export`: how images are prepared goes from the command into the model directory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samtrt.choices import Resize, ValueScale
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.preparation.spec import Preparation
from support.command_line import Run
from support.oracle import random_image

MEDSAM = ("--scale", "0..1", "--mean", "0,0,0", "--std", "1,1,1", "--resize", "stretch")
SAID = "stretched to a square (bilinear); values 0..1, mean 0, 0, 0, std 1, 1, 1"


@pytest.fixture(scope="module")
def squashed(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of images in 0..1 that are squashed to a square, chosen out of two."""
    folder = tmp_path_factory.mktemp("squashed")
    state = torch.load(tiny_checkpoint)
    ema = {name: tensor + 0.001 for name, tensor in state.items()}
    torch.save({"model": state, "ema": ema, "metric": np.float64(0.5)}, folder / "two.pth")
    return folder


def one_line(text: str) -> str:
    return "".join(text.split("\n"))


@pytest.mark.usefixtures("traced_once")
def test_a_fine_tune_on_squashed_images(run: Run, squashed: Path, tmp_path: Path) -> None:
    checkpoint, model = squashed / "two.pth", tmp_path / "model"
    assert "choose one with --tensors" in run("export", checkpoint, "-o", model).err
    done = run("export", checkpoint, "-o", model, "--tensors", "model", *MEDSAM)
    assert done.code == 0, done.err
    assert f"images: {SAID}" in done.out
    assert "left out" in done.out
    manifest = Manifest.load(model)
    assert manifest.preparation == Preparation(
        scale=ValueScale.UNIT, mean=(0, 0, 0), std=(1, 1, 1), resize=Resize.STRETCH
    )
    assert manifest.checkpoint.tensors == "model"
    assert SAID in " ".join(run("info", model).out.replace("│", " ").split())
    described = json.loads(run("info", model, "--json", "-").out)["preparation"]
    assert (described["scale"], described["resize"]) == ("0..1", "stretch")

    photo, report = tmp_path / "photo.png", tmp_path / "report.json"
    Image.fromarray(random_image(90, 200)).save(photo)
    done = run("verify", model, "-c", checkpoint, "-i", photo, "--json", report)
    assert done.code == 0, done.err
    assert f"preparation: {SAID}" in done.out
    assert json.loads(report.read_text())["preparation"] == described
    with Predictor.load(model) as predictor:
        predictor.set_image(random_image(90, 200))
        assert predictor.embedding.frame.resized == (256, 256)
        assert predictor.predict([[150, 40]], [1]).masks.shape == (3, 90, 200)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scale", "0..1"), "scale, mean and std go together: mean, std missing"),
        (("--mean", "1,2", "--std", "1,1,1"), "--mean takes three numbers"),
        (("--mean", "0.4,0.4,0.4", "--std", "1,1,1", "--scale", "0..255"), "images in 0..1"),
        (("--std", "0,1,1", "--mean", "0,0,0", "--scale", "0..1"), "std above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    run: Run, tiny_checkpoint: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = run("export", tiny_checkpoint, "-o", tmp_path / "model", *options)
    assert done.code == 2
    assert said in " ".join(done.err.replace("│", " ").split())
    assert not (tmp_path / "model").exists()
