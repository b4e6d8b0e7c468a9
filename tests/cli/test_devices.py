"""Runs that several devices share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from samtrt.cli import main
from samtrt.cli.devices import on_each
from samtrt.errors import BackendError, ImageError
from support import shares


def test_one_device_is_this_process() -> None:
    for device in (None, "cpu", "cuda:1"):
        assert on_each(shares.described, device, [1, 2, 3]) == [(device, [1, 2, 3], os.getpid())]


def test_each_device_has_a_process_and_a_share() -> None:
    found = on_each(shares.described, "cuda:0, cuda:1", [1, 2, 3])
    assert [one[:2] for one in found] == [("cuda:0", [1, 3]), ("cuda:1", [2])]
    assert len({os.getpid(), *(one[2] for one in found)}) == 3


@pytest.mark.parametrize(("items", "used"), [([1], [("a", [1])]), ([], [("a", [])])])
def test_more_devices_than_images(items: list[int], used: list[tuple[str, list[int]]]) -> None:
    assert [one[:2] for one in on_each(shares.described, "a,b", items)] == used


@pytest.mark.parametrize("devices", ["cuda:0,", ",cpu", "a,,b", ","])
def test_empty_names_are_refused(devices: str) -> None:
    with pytest.raises(BackendError, match="has an empty name"):
        on_each(shares.described, devices, [1])


def test_an_error_ends_the_others(tmp_path: Path) -> None:
    """At once, and as SIGTERM does it: what is half done is removed."""
    place = tmp_path / "a"
    with pytest.raises(ImageError, match="b: no such GPU"):
        on_each(shares.failing, "a,b", [place, place])
    assert not place.exists() or place.read_text() == "ended"


def test_a_process_that_dies_is_told() -> None:
    with pytest.raises(BackendError, match="the process for b was ended by signal 9"):
        on_each(shares.killed, "a,b", [1, 2])


def test_commands_do_the_same_on_two_devices(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{i}.png")
    (pictures / "bad.png").write_bytes(b"no picture")
    every = ["--points-per-side", "2", "--pred-iou-thresh", "-9", "--stability-score-thresh", "0"]
    for device in ("cpu", "cpu,cpu"):
        run = [str(tiny_model), str(pictures), "--device", device, "-o"]
        assert main(["auto", *run, str(tmp_path / device / "auto"), *every]) == 1
        assert "3 images, 3 masks" in capfd.readouterr().out
        assert main(["embed", *run, str(tmp_path / device / "embed")]) == 1
        told = capfd.readouterr()
        assert told.out.count(".safetensors\n") == 3
        assert "1 of 4 images failed" in told.err
    one, two = tmp_path / "cpu", tmp_path / "cpu,cpu"
    files = [path.relative_to(one) for path in one.rglob("*.json")]
    assert len(files) == 7  # of each image coco and labelme, and of all
    assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
    for i in range(3):
        a, b = (load_file(place / "embed" / f"{i}.safetensors") for place in (one, two))
        assert a.keys() == b.keys()
        assert all(np.array_equal(a[name], b[name]) for name in a)
    # A restart finds all of it done, however it is shared.
    assert main(["auto", *run[:3], "cpu,cpu,cpu", "-o", str(two / "auto"), *every]) == 1
    assert "0 images, 0 masks" in (said := capfd.readouterr().out)
    assert "3 done before; 1 failed" in said
