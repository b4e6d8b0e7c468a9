"""`samtrt auto`: a folder to every format, restarts, damage, and embeddings for images."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.backends.fake import FakeBackend
from samtrt.choices import Stage
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from support import fake_runtime
from support.command_line import Run
from support.oracle import random_image
from support.samples import make_video_manifest

OPTIONS = ("--points-per-side", "3", "--box-nms-thresh", "0.5")
OPTIONS += ("--pred-iou-thresh", "0.84")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    for seed, name in enumerate(["a.png", "b.jpg", "c.png"]):
        Image.fromarray(random_image(90, 120 + 10 * seed, seed)).save(path / name)
    (path / "notes.txt").write_text("not an image")
    return path


def names(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


def test_a_folder_becomes_every_format(run: Run, fake_directory: Path, folder: Path) -> None:
    out = folder.parent / "out"
    done = run("auto", fake_directory, folder, "-o", out, *OPTIONS)
    assert done.code == 0, done.err
    assert done.out.startswith("3 images, ")
    assert done.out.splitlines()[-1] == str(out / "annotations.json")
    assert names(out) == sorted(
        [".samtrt", "annotations.json", "yolo/data.yaml", "yolo/facts.csv"]
        + ["yolo/images/a.png", "yolo/images/b.jpg", "yolo/images/c.png"]
        + [
            f"{kind}/{stem}{suffix}"
            for stem in "abc"
            for kind, suffix in (
                ("coco", ".json"),
                ("labelmap", ".png"),
                ("labelme", ".json"),
                ("overlay", ".png"),
                ("yolo/labels", ".txt"),
            )
        ]
    )
    coco = COCO(str(out / "annotations.json"))
    assert [i["file_name"] for i in coco.loadImgs([1, 2, 3])] == ["a.png", "b.jpg", "c.png"]
    for number, stem in ((1, "a"), (2, "b"), (3, "c")):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=number))
        assert len(annotations) >= 5
        labels = np.asarray(Image.open(out / "labelmap" / f"{stem}.png"))
        covered = np.any([coco.annToMask(a) for a in annotations], axis=0)
        np.testing.assert_array_equal(labels > 0, covered)
        assert len((out / "yolo" / "labels" / f"{stem}.txt").read_text().splitlines()) == len(
            annotations
        )
        overlay = np.asarray(Image.open(out / "overlay" / f"{stem}.png"))
        assert overlay.shape[:2] == labels.shape
    labelme = json.loads((out / "labelme" / "b.json").read_text())
    assert (out / "labelme" / labelme["imagePath"]).resolve() == (folder / "b.jpg").resolve()


def test_a_restart_does_only_what_is_missing(run: Run, fake_directory: Path, folder: Path) -> None:
    out = folder.parent / "out"
    assert run("auto", fake_directory, folder, "-o", out, *OPTIONS).code == 0
    whole = (out / "annotations.json").read_bytes()
    before = {name: (out / name).stat().st_mtime_ns for name in names(out)}
    (out / "coco" / "b.json").write_text('{"images": [')  # as a crash might leave it
    (out / "yolo" / "labels" / "c.txt").unlink()
    (out / "annotations.json").unlink()
    again = run("auto", fake_directory, folder, "-o", out, *OPTIONS)
    assert again.code == 0
    assert again.out.startswith("2 images")
    assert "1 done before" in again.out
    assert (out / "annotations.json").read_bytes() == whole
    for name in names(out):
        if "/a." in name:
            assert (out / name).stat().st_mtime_ns == before[name]


def test_other_settings_or_another_image_are_not_taken_as_done(
    run: Run, fake_directory: Path, folder: Path
) -> None:
    out = folder.parent / "out"
    run("auto", fake_directory, folder, "-o", out, *OPTIONS)
    shutil.copy(folder / "a.png", folder / "c.png")
    assert run("auto", fake_directory, folder, "-o", out, *OPTIONS).out.startswith("1 image")
    changed = run("auto", fake_directory, folder, "-o", out, *OPTIONS, "--crop-n-layers", "1")
    assert changed.out.startswith("3 images")


SAM2_WAYS: tuple[tuple[str, ...], ...] = (
    (),
    ("--use-m2m",),
    ("--no-multimask-output",),
    ("--use-m2m", "--no-multimask-output"),
)


@pytest.mark.usefixtures("fake_directory")
def test_sam2s_ways_give_the_generators_masks_and_are_not_mixed(run: Run, folder: Path) -> None:
    """Each is done anew in the same directory, and the same again is done already."""
    model = fake_runtime.write_directory(folder.parent / "sam2", make_video_manifest())
    out, one = folder.parent / "out", folder / "a.png"
    some = ("--points-per-side", "3", "--box-nms-thresh", "1", "--pred-iou-thresh", "0.1")
    seen = []
    for way in SAM2_WAYS:
        command = ("auto", model, one, "-o", out, "--specks", "0", "-f", "none", *some, *way)
        done = run(*command)
        assert done.code == 0, done.err
        assert done.out.startswith("1 image")
        assert "1 done before" in run(*command).out
        options: dict[str, Any] = {
            "use_m2m": "--use-m2m" in way,
            "multimask_output": "--no-multimask-output" not in way,
        }
        with Predictor.load(model) as predictor:
            wanted = AutomaticMaskGenerator(
                predictor,
                points_per_side=3,
                box_nms_thresh=1,
                pred_iou_thresh=0.1,
                output_mode="coco_rle",
                **options,
            ).generate(np.asarray(Image.open(one)))
        dataset = json.loads((out / "annotations.json").read_text())
        assert {name: dataset["info"][name] for name in options} == options
        seen.append([found["segmentation"] for found in dataset["annotations"]])
        assert seen[-1] == [record["segmentation"] for record in wanted]
    assert len(seen[0]) > len(seen[2]) > 3
    assert seen[0] != seen[1]


@pytest.mark.parametrize("way", SAM2_WAYS[1:], ids="".join)
def test_sam2s_ways_are_refused_for_a_sam(
    run: Run, fake_directory: Path, folder: Path, way: tuple[str, ...]
) -> None:
    out = folder.parent / "out"
    done = run("auto", fake_directory, folder / "a.png", "-o", out, *OPTIONS, *way)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "is for models of SAM 2's kind" in done.err
    assert not list(out.glob("coco/*"))


def test_a_changed_dataset_is_neither_done_nor_lost(
    run: Run, fake_directory: Path, folder: Path
) -> None:
    """One annotation of a COCO JSON was changed by hand."""
    out = folder.parent / "out"
    command = ("auto", fake_directory, folder, "-o", out, *OPTIONS)
    assert run(*command).code == 0
    path = out / "coco" / "b.json"
    whole = path.read_bytes()
    dataset = json.loads(whole)
    dataset["annotations"][0]["area"] += 1
    path.write_text(changed := json.dumps(dataset))
    again = run(*command)
    assert again.code == 1
    assert f"{path} was changed since samtrt wrote it" in again.err
    assert path.read_text() == changed
    assert len(json.loads((out / "annotations.json").read_text())["images"]) == 2
    assert run(*command, "--force").out.startswith("1 image")
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "name", ["overlay/a.png", "labelmap/a.png", "yolo/labels/a.txt", "coco/a.json"]
)
def test_an_empty_file_is_made_anew(
    run: Run, fake_directory: Path, folder: Path, name: str
) -> None:
    out = folder.parent / "out"
    command = ("auto", fake_directory, folder / "a.png", "-o", out, *OPTIONS)
    assert run(*command).code == 0
    whole = (out / name).read_bytes()
    (out / name).write_bytes(b"")
    assert run(*command).out.startswith("1 image")
    assert (out / name).read_bytes() == whole


@pytest.mark.usefixtures("replaced_while_read")
def test_an_image_replaced_during_a_run_is_not_done(
    run: Run, fake_directory: Path, folder: Path
) -> None:
    out, path = folder.parent / "out", folder / "a.png"
    was = hashlib.sha256(path.read_bytes()).hexdigest()
    command = ("auto", fake_directory, path, "-o", out, *OPTIONS)
    assert run(*command).code == 0
    for name in ("coco/a.json", "annotations.json"):
        dataset = json.loads((out / name).read_text())
        assert (dataset["images"][0]["width"], dataset["images"][0]["height"]) == (120, 90)
    assert json.loads((out / "coco" / "a.json").read_text())["info"]["source_sha256"] == was
    assert run(*command).out.startswith("1 image")  # of the picture that is there now
    dataset = json.loads((out / "annotations.json").read_text())
    assert (dataset["images"][0]["width"], dataset["images"][0]["height"]) == (31, 17)


def test_a_decoder_of_another_precision_is_another_run(
    run: Run, fake_directory: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines of both stages may be built in different ones."""
    out = folder.parent / "out"
    command = ("auto", fake_directory, folder / "a.png", "-o", out, *OPTIONS)
    assert run(*command).code == 0
    assert "1 done before" in run(*command).out
    begin = FakeBackend.__init__

    def in_half(self: FakeBackend, manifest: Manifest, stage: Stage) -> None:
        begin(self, manifest, stage)
        self.precision = "fp16" if stage is Stage.DECODER else None

    monkeypatch.setattr(FakeBackend, "__init__", in_half)
    assert run(*command).out.startswith("1 image")


def test_an_unreadable_image_is_reported_and_the_rest_done(
    run: Run, fake_directory: Path, folder: Path
) -> None:
    (folder / "b.jpg").write_bytes(b"\xff\xd8 broken")
    out = folder.parent / "out"
    done = run("auto", fake_directory, folder, "-o", out, "-f", "none", *OPTIONS)
    assert done.code == 1
    assert "b.jpg" in done.err
    assert done.err.count("\n") == 2
    assert "skipped 1 file that no image reader has a suffix for (.txt: 1): notes.txt" in done.err
    assert "2 images" in done.out
    assert "1 failed" in done.out
    assert names(out) == [".samtrt", "annotations.json", "coco/a.json", "coco/c.json"]
    assert len(json.loads((out / "annotations.json").read_text())["images"]) == 2
    alone = run("auto", fake_directory, folder / "b.jpg", "-o", out, *OPTIONS)
    assert alone.code == 2
    assert alone.err.startswith("samtrt: error: ")


def test_an_embedding_gives_the_masks_of_its_image(
    run: Run, fake_directory: Path, folder: Path
) -> None:
    embeddings, out = folder.parent / "embeddings", folder.parent / "out"
    stored = run(
        *("embed", fake_directory, folder, "-o", embeddings),
        *("--precision", "fp32"),
    )
    assert stored.code == 0, stored.err
    run("auto", fake_directory, folder, "-o", out / "images", *OPTIONS)
    done = run("auto", fake_directory, embeddings, "-o", out / "embeddings", *OPTIONS)
    assert done.code == 0, done.err
    by_image, by_embedding = (
        json.loads((out / kind / "annotations.json").read_text())
        for kind in ("images", "embeddings")
    )
    assert by_image == by_embedding
    assert not (out / "embeddings" / "overlay").exists()
    crops = run(
        *("auto", fake_directory, embeddings / "a.safetensors", "-o", out, *OPTIONS),
        *("--crop-n-layers", "1"),
    )
    assert crops.code == 2
    assert "need the image, not its embedding" in crops.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.png", "-o", "out"), "no image at none.png"),
        (("EMPTY", "-o", "out"), "EMPTY holds no image"),
        (("none.png", "-o", "out", "-f", "gif"), "unknown format 'gif'"),
        (("none.png", "-o", "FILE"), "cannot write into"),
        (("none.png", "-o", "out", "--crop-overlap-ratio", "2"), "crop_overlap_ratio"),
    ],
)
def test_bad_arguments_are_told_in_one_line(
    run: Run,
    fake_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("")
    done = run("auto", fake_directory, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_two_files_of_one_stem_are_refused(run: Run, fake_directory: Path, folder: Path) -> None:
    shutil.copy(folder / "b.jpg", folder / "a.jpg")
    done = run("auto", fake_directory, folder, "-o", folder.parent / "out")
    assert done.code == 2
    assert "would write results of the same name" in done.err


def test_real_engines_end_to_end(run: Run, tiny_model: Path, photo: Path) -> None:
    out = photo.parent / "out"
    done = run(
        *("auto", tiny_model, photo, "-o", out, "--points-per-side", "3"),
        *("--pred-iou-thresh", "-1", "--stability-score-thresh", "0.5"),
        *("--stability-score-offset", "0.05"),
    )
    assert done.code == 0, done.err
    assert json.loads((out / "annotations.json").read_text())["annotations"]


def test_no_mask_says_why(run: Run, fake_directory: Path, folder: Path) -> None:
    out = folder.parent / "out"
    options = ("--points-per-side", "2", "--pred-iou-thresh", "1", "--formats", "none")
    done = run("auto", fake_directory, folder / "a.png", "-o", out, *options)
    assert done.code == 0
    assert "0 masks" in done.out
    assert "no mask has a predicted IoU above 1" in done.err
    assert "lower --pred-iou-thresh" in " ".join(done.err.split())
