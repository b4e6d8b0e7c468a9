"""What users give and what is already there: folders, odd names, one bad image, other's files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samtrt.cli
from samtrt.errors import BackendError
from support.command_line import Run
from support.oracle import random_image
from support.pictures import pillow_file, tiff_file

GRID = ("--points-per-side", "2", "--pred-iou-thresh", "0.5", "-f", "none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    return path


def put(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = Image.registered_extensions()[path.suffix.lower()]
        path.write_bytes(pillow_file(Image.fromarray(random_image(40, 60, seed)), kind))


def images_of(out: Path) -> list[str]:
    return [i["file_name"] for i in json.loads((out / "annotations.json").read_text())["images"]]


SUFFIXES = ["a.jfif", "b.jpe", "c.gif", "d.jp2", "e.avif", "f.ppm", "g.TIFF", "h.webp", "i.tga"]


def test_every_suffix_that_is_read_is_found(run: Run, fake_directory: Path, folder: Path) -> None:
    put(folder, *SUFFIXES)
    (folder / "notes.txt").write_text("")
    (folder / "x.heic").write_text("")
    out = folder.parent / "out"
    done = run("auto", fake_directory, folder, "-o", out, *GRID)
    assert done.code == 0, done.err
    assert images_of(out) == SUFFIXES
    assert "skipped 2 files" in done.err
    assert "notes.txt, x.heic" in done.err


def test_folders_in_folders(run: Run, fake_directory: Path, folder: Path) -> None:
    put(folder, "a.png", "one/a.png", "one/two/b.png", ".hidden/c.png")
    out = folder / "out"
    flat = run("auto", fake_directory, folder, "-o", out, *GRID)
    assert "1 folder in it (search them with --recursive)" in flat.err
    assert images_of(out) == ["a.png"]
    for _ in range(2):  # results in the folder are no images of the next run
        deep = run("auto", fake_directory, folder, "-o", out, "-r", *GRID, "-f", "overlay")
        assert deep.code == 0, deep.err
        assert images_of(out) == ["a.png", "one/a.png", "one/two/b.png"]
    assert (out / "overlay/one/two/b.png").is_file()
    stored = run("embed", fake_directory, folder, "-o", out / "e", "--recursive")
    assert stored.code == 1 or stored.code == 0
    assert (out / "e/one/two/b.safetensors").is_file()


def test_a_range_is_told_and_can_be_given(run: Run, fake_directory: Path, folder: Path) -> None:
    path = folder / "a.tif"
    path.write_bytes(tiff_file(random_image(40, 60)[..., 0].astype("u2") * 16, compression=None))
    out = folder.parent / "out"
    command = ("auto", fake_directory, folder, "-o", out, *GRID)
    told = run(*command)
    assert f"note: {path}: its uint16 values" in told.err
    assert run(*command).out.startswith("0 images")
    given = run(*command, "--value-range", "0:4095")
    assert "note" not in given.err
    assert given.out.startswith("1 image")
    wrong = run(*command, "--value-range", "9")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "a value range is LOW:HIGH" in wrong.err
    assert "is no colour" in run(*command, "--background", "nix").err


BAD_NAMES = ["[red]a[nothing].png", "[bold].png", "b\nc.png", "\x1b[31md.png", "é" * 100 + ".png"]
BAD_NAMES += ["f" * 250 + ".png", os.fsdecode(b"g\xff.png")]


def test_bad_images_never_end_a_run(run: Run, fake_directory: Path, folder: Path) -> None:
    put(folder, "z.png", *BAD_NAMES)
    for number, data in enumerate([b"", b"\xff\xd8\xff", b"II*\0\x08\0\0\0", b"text"]):
        (folder / f"broken{number}.png").write_bytes(data)
    os.mkfifo(folder / "fifo.png")
    out, stored = folder.parent / "out", folder.parent / "stored"
    done = run("auto", fake_directory, folder, "-o", out, *GRID)
    assert done.code == 1
    assert done.err.count("failed: ") == 5
    for name in ("broken0", "broken1", "broken2", "broken3", "fifo"):
        assert f"{name}.png" in done.err
    assert len(images_of(out)) == 8
    assert "\x1b" not in done.err
    done = run("embed", fake_directory, folder, "-o", stored)
    assert done.code == 1
    assert len(list(stored.iterdir())) == 7  # NAME.safetensors of the longest is too long
    assert "z.safetensors" in done.out


def test_an_image_that_cannot_be_encoded_or_written_is_named(
    run: Run, fake_directory: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.png", "b.png", "c.png")
    real = samtrt.encoding.prepare

    def fail(image: np.ndarray, *rest: object, **named: object) -> object:
        if np.array_equal(image, random_image(40, 60, 1)):
            raise BackendError("no memory left on the device")
        return real(image, *rest, **named)

    for place in ("samtrt.encoding.prepare", "samtrt.predictor.prepare"):
        monkeypatch.setattr(place, fail)
    for command, out in (("auto", "out"), ("embed", "stored")):
        options = GRID if command == "auto" else ()
        done = run(command, fake_directory, folder, "-o", folder.parent / out, *options)
        assert done.code == 1
        assert f"failed: {folder / 'b.png'}: no memory left on the device" in done.err
    assert images_of(folder.parent / "out") == ["a.png", "c.png"]
    blocked = folder.parent / "stored" / "a.safetensors"
    blocked.unlink()
    blocked.mkdir()
    monkeypatch.undo()
    done = run("embed", fake_directory, folder, "-o", folder.parent / "stored")
    assert done.code == 1
    assert "it is a folder; give the name of a file" in done.err


def test_embed_does_not_replace_a_checkpoint(
    run: Run, fake_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "sam.jpg")
    Path("sam.safetensors").write_bytes(b"a checkpoint")
    done = run("embed", fake_directory, "sam.jpg", "-o", ".")
    assert done.code == 2
    assert "sam.safetensors is there already and was not written by samtrt" in done.err
    assert Path("sam.safetensors").read_bytes() == b"a checkpoint"
    assert run("embed", fake_directory, "sam.jpg", "-o", ".", "--force").code == 0


def test_auto_keeps_labels_made_by_hand(run: Run, fake_directory: Path, folder: Path) -> None:
    put(folder, "a.png")
    by_hand = folder / "labelme" / "a.json"
    by_hand.parent.mkdir()
    by_hand.write_text("{}")
    command = ("auto", fake_directory, folder, *GRID, "-f", "labelme", "-o")
    done = run(*command, folder)
    assert done.code == 2
    assert "was not written by samtrt" in done.err
    out = folder.parent / "out"
    assert run(*command, out).code == 0
    (out / "labelme" / "a.json").write_text("corrected")
    again = run(*command, out)
    assert again.code == 1
    assert "was changed since samtrt wrote it" in again.err
    assert (out / "labelme" / "a.json").read_text() == "corrected"
    assert run(*command, out, "--force").code == 0
    assert (out / "labelme" / "a.json").read_text() != "corrected"
    (out / "labelme" / "a.json").write_text("")  # as a full disk leaves it
    assert run(*command, out).out.startswith("1 image")


@pytest.mark.parametrize("option", ["-o", "--save-mask", "--json"])
def test_predict_replaces_its_own_files_alone(
    run: Run, fake_directory: Path, photo: Path, option: str
) -> None:
    suffix = ".json" if option == "--json" else ".png"
    path = photo.parent / f"result{suffix}"
    command = ("predict", fake_directory, photo, "-p", "60,60", option)
    assert run(*command, path).code == 0
    assert run(*command, path).code == 0, "ours"
    path.write_bytes(photo.read_bytes())
    done = run(*command, path)
    assert done.code == 2
    assert "was not written by samtrt" in done.err
    assert path.read_bytes() == photo.read_bytes()
    path.chmod(0o600)
    assert run(*command, path, "--force").code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "is what is read" in run(*command, photo, "--force").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--points-per-side", "100000"),
        ("--crop-n-layers", "12"),
        ("--points-per-side", "1000", "--crop-n-layers", "3"),
        ("--points-per-batch", "100000"),
        ("--pred-iou-thresh", "nan"),
        ("--stability-score-offset", "inf"),
        ("--box-nms-thresh", "nan"),
        ("--threads", "100000"),
    ],
)
def test_absurd_settings_are_refused(
    run: Run, fake_directory: Path, folder: Path, arguments: tuple[str, ...]
) -> None:
    put(folder, "a.png")
    done = run("auto", fake_directory, folder, "-o", folder.parent / "out", *arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("box", ["0,0,1e39,9", "0,0,9,1e308", "-1e35,0,9,9"])
def test_numbers_that_float32_cannot_hold_are_refused(
    run: Run, fake_directory: Path, photo: Path, box: str
) -> None:
    done = run("predict", fake_directory, photo, "--box", box)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "must be finite numbers of at most 1e+30" in done.err


def test_scores_that_are_no_numbers_are_not_written(
    run: Run, fake_directory: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samtrt.backends.fake import FakeBackend

    real = FakeBackend._run

    def broken(self: FakeBackend, feeds: object, *rest: object) -> object:
        out = dict(real(self, feeds, *rest))
        if "iou_predictions" in out:
            out["iou_predictions"] = np.full_like(out["iou_predictions"], np.nan)
        return out

    monkeypatch.setattr(FakeBackend, "_run", broken)
    out = photo.parent / "m.json"
    done = run("predict", fake_directory, photo, "-p", "60,60", "--json", out)
    assert done.code == 2
    assert "NaN or infinite" in done.err
    assert not out.exists()
    done = run("auto", fake_directory, photo, "-o", photo.parent / "out")
    assert (done.code, "NaN or infinite" in done.err) == (2, True)


def test_a_mistake_of_ours_is_one_line_and_a_file(
    run: Run, fake_directory: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("so [/] it\nis")

    monkeypatch.setattr("samtrt.cli.results.segment", fail)
    done = run("predict", fake_directory, photo, "-p", "60,60")
    assert (done.code, done.err.count("\n")) == (70, 1)
    (report,) = tmp_path.glob("samtrt-error-*.txt")
    assert str(report) in done.err
    assert "Traceback" in report.read_text()
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/locked/a.png"),
        OSError(28, "No space left on device", "/full/a.png"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(
    run: Run, fake_directory: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("samtrt.cli.results.segment", fail)
    done = run("predict", fake_directory, photo, "-p", "60,60")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"cannot use {error.filename}: {error.strerror}" in done.err
