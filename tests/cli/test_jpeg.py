"""`--jpeg gpu`: the results of `--jpeg host`, on stand-ins for the GPU and its decoder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.backends.base import Backend
from samtrt.embeddings import read_embedding_info
from support import fake_nvimgcodec, fake_runtime
from support.command_line import Run
from support.on_device import OnDevice, device_memory
from support.oracle import random_image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a JPEG that lies on its side, one of inks, a PNG and a truncated JPEG."""
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random_image(90, 120)).save(folder / "a.jpg", exif=exif)
    Image.fromarray(random_image(60, 80)).convert("CMYK").save(folder / "b.jpg")
    Image.fromarray(random_image(50, 70)).save(folder / "c.png")
    (folder / "d.jpg").write_bytes((folder / "a.jpg").read_bytes()[:1500])
    return folder


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_nvimgcodec.NvImgCodec]:
    """Engines that prepare images and form masks on a GPU, and the decoder there."""
    with device_memory(monkeypatch) as (memory, _):

        def on_gpu(open_backend: Callable[..., Backend]) -> Callable[..., Backend]:
            return lambda *given: OnDevice(open_backend(*given), memory)

        monkeypatch.setattr("samtrt.predictor.open_backend", on_gpu(fake_runtime.open_backend))
        yield fake_nvimgcodec.install(monkeypatch)


PROBE = 1
"""The small picture that the decoder is tried with."""


def test_embeddings(
    run: Run, fake_directory: Path, photos: Path, codec: fake_nvimgcodec.NvImgCodec
) -> None:
    out = photos.parent / "out"
    command = ("embed", fake_directory, photos, "-o")
    done = run(*command, out, "--jpeg", "gpu")
    assert done.code == 1
    assert codec.decoded == PROBE + 1
    assert "b.jpg: it is decoded on the host" in done.err
    assert "4 components" in done.err
    assert "d.jpg is damaged or truncated" in done.err
    assert "1 of 4 images failed" in done.err
    host = photos.parent / "host"
    run(*command, host)
    assert codec.decoded == PROBE + 1
    for name in ("a", "b", "c"):
        mine, other = (read_embedding_info(each / f"{name}.safetensors") for each in (out, host))
        assert mine == other
    assert read_embedding_info(out / "a.safetensors").original_size == (120, 90)
    assert run(*command, out, "--jpeg", "gpu").out.count("is up to date") == 3


@pytest.mark.parametrize("options", [(), ("--crop-n-layers", "1")], ids=str)
def test_automatic_masks(
    run: Run,
    fake_directory: Path,
    photos: Path,
    codec: fake_nvimgcodec.NvImgCodec,
    options: tuple[str, ...],
) -> None:
    (photos / "d.jpg").unlink()
    found = {}
    for where in ("host", "gpu"):
        out = photos.parent / where
        command = ("auto", fake_directory, photos, "-o", out, "--points-per-side", 3, *options)
        assert run(*command, "-f", "overlay,yolo", "--jpeg", where).code == 0
        annotations: dict[str, Any] = json.loads((out / "annotations.json").read_text())
        pictures = {
            path.name: np.asarray(Image.open(path)).tobytes()
            for path in sorted((out / "overlay").iterdir())
        }
        found[where] = annotations["annotations"], pictures
    assert found["host"] == found["gpu"]
    assert len(found["gpu"][1]) == 3
    assert codec.decoded == PROBE + 1


def test_one_picture_and_boxes_of_a_folder(
    run: Run, fake_directory: Path, photos: Path, codec: fake_nvimgcodec.NvImgCodec
) -> None:
    (photos / "d.jpg").unlink()
    boxes = photos.parent / "boxes.csv"
    boxes.write_text("image,x1,y1,x2,y2\na.jpg,10,10,50,60\nc.png,5,5,30,30\n")
    found = {}
    for where in ("host", "gpu"):
        out = photos.parent / f"{where}.json"
        made = photos.parent / f"{where}-all.json"
        drawn = photos.parent / f"{where}.png"
        command = ("predict", fake_directory, photos / "a.jpg", "-p", "40,50", "--jpeg", where)
        assert run(*command, "--json", out, "-o", drawn).code == 0
        command = ("predict", fake_directory, photos, "--boxes", boxes, "-o", made)
        assert run(*command, "--jpeg", where).code == 0
        masks = json.loads(out.read_text())["masks"], json.loads(made.read_text())["annotations"]
        found[where] = masks, np.asarray(Image.open(drawn)).tobytes()
    assert found["host"] == found["gpu"]
    assert codec.decoded == 2 * (PROBE + 1)


def test_a_backend_that_prepares_on_the_host_is_refused(
    run: Run, fake_directory: Path, photos: Path
) -> None:
    for command in (
        ("embed", fake_directory, photos / "a.jpg", "-o", photos.parent / "out"),
        ("auto", fake_directory, photos / "a.jpg", "-o", photos.parent / "out"),
        ("predict", fake_directory, photos / "a.jpg", "-p", "40,50"),
    ):
        done = run(*command, "--jpeg", "gpu")
        assert done.code == 2
        assert "without --pixels host, or leave out --jpeg gpu" in done.err
        assert done.err.count("\n") == 1
