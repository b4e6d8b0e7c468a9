"""`samtrt predict`: every output, every kind of prompt, and the wording of errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from support.command_line import Run


def test_point_to_overlay_mask_and_json(run: Run, tiny_model: Path, photo: Path) -> None:
    out = photo.parent / "out"
    done = run(
        *("predict", tiny_model, photo, "--point", "100,60"),
        *("-o", out / "overlay.png", "--save-mask", out / "mask.png", "--json", out / "m.json"),
    )
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == ["m.json", "mask.png", "overlay.png"]
    mask = np.asarray(Image.open(out / "mask.png"))
    overlay = np.asarray(Image.open(out / "overlay.png"))
    assert mask.shape == (120, 200)
    assert set(np.unique(mask)) <= {0, 255}
    assert overlay.shape == (120, 200, 3)
    assert not np.array_equal(overlay, np.asarray(Image.open(photo)))
    document = json.loads((out / "m.json").read_text())
    assert document["image"] == {"file_name": "photo.png", "width": 200, "height": 120}
    assert document["prompts"] == {
        "point_coords": [[[100, 60]]],
        "point_labels": [[1]],
        "mask": False,
    }
    (entry,) = document["masks"]
    assert np.array_equal(coco.decode(entry["segmentation"]) * 255, mask)
    assert entry["area"] == coco.area(entry["segmentation"]) == (mask > 0).sum()
    assert entry["bbox"] == coco.toBbox(entry["segmentation"]).tolist()
    assert str(out / "overlay.png") in done.out


def scores(path: Path) -> list[float]:
    return [entry["predicted_iou"] for entry in json.loads(path.read_text())["masks"]]


def test_all_gives_three_masks_best_first(run: Run, tiny_model: Path, photo: Path) -> None:
    one, every = photo.parent / "one.json", photo.parent / "all.json"
    assert run("predict", tiny_model, photo, "-p", "50,50", "--json", one).code == 0
    mask = photo.parent / "m.png"
    assert (
        run(
            *("predict", tiny_model, photo, "-p", "50,50", "--all"),
            *("--json", every, "--save-mask", mask),
        ).code
        == 0
    )
    assert len(scores(every)) == 3
    assert scores(every) == sorted(scores(every), reverse=True)
    assert scores(one) == scores(every)[:1]
    assert sorted(p.name for p in photo.parent.glob("m-*.png")) == ["m-0.png", "m-1.png", "m-2.png"]


def test_several_boxes_are_prompts_of_their_own(
    run: Run, fake_directory: Path, photo: Path
) -> None:
    out = photo.parent / "out.json"
    done = run(
        *("predict", fake_directory, photo, "--json", out),
        *("--box", "10,10,60,60", "--box", "100,20,180,100"),
    )
    assert done.code == 0, done.err
    document = json.loads(out.read_text())
    assert [entry["prompt"] for entry in document["masks"]] == [0, 1]
    assert [entry["bbox"] for entry in document["masks"]] == [
        pytest.approx([10, 10, 50, 50], abs=4),
        pytest.approx([100, 20, 80, 80], abs=4),
    ]


def test_boxes_from_a_file(run: Run, fake_directory: Path, photo: Path) -> None:
    boxes, out = photo.parent / "boxes.csv", photo.parent / "out.json"
    boxes.write_text("x1,y1,x2,y2\n10,10,60,60\n100,20,180,100\n")
    done = run("predict", fake_directory, photo, "--boxes", boxes, "--json", out)
    assert done.code == 0, done.err
    assert len(scores(out)) == 2


def test_what_a_file_says_of_its_boxes_comes_out_again(
    run: Run, fake_directory: Path, photo: Path
) -> None:
    boxes, out, drawn = (photo.parent / name for name in ("boxes.json", "out.json", "drawn.png"))
    kind = {"image_id": 1, "category_id": 5, "score": 0.75}
    boxes.write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": photo.name, "width": 400, "height": 240}],
                "categories": [{"id": 5, "name": "cat"}],
                "annotations": [
                    {"id": 9, "bbox": [20, 20, 100, 100], **kind},
                    {"id": 8, "bbox": [200, 40, 160, 160], **kind},
                ],
            }
        )
    )
    command = ("predict", fake_directory, photo, "--boxes", boxes)
    done = run(*command, "--json", out, "-o", drawn)
    assert done.code == 0, done.err
    assert "scaled to 200 x 120" in done.err
    masks = json.loads(out.read_text())["masks"]
    wanted = {"label": "cat", "category_id": 5, "score": 0.75}
    assert [mask["id"] for mask in masks] == [9, 8]
    assert all(wanted.items() <= mask.items() for mask in masks)
    assert masks[0]["bbox"] == pytest.approx([10, 10, 50, 50], abs=4)
    assert drawn.stat().st_size > 0


def test_mask_prompt_and_points(run: Run, fake_directory: Path, photo: Path) -> None:
    rough, out = photo.parent / "rough.png", photo.parent / "out.png"
    pixels = np.zeros((120, 200), np.uint8)
    pixels[20:80, 30:90] = 255
    Image.fromarray(pixels).save(rough)
    base = ("predict", fake_directory, photo, "--mask", rough)
    assert run(*base, "--save-mask", out).code == 0
    plain = np.asarray(Image.open(out)) > 0
    assert (plain & (pixels > 0)).sum() / (plain | (pixels > 0)).sum() > 0.8
    assert run(*base, "-p", "60,50,0", "--save-mask", out).code == 0
    assert not np.asarray(Image.open(out))[50, 60], "the background point took its disc out"


def test_embedding_instead_of_the_image(run: Run, tiny_model: Path, photo: Path) -> None:
    folder, first, second = (photo.parent / name for name in ("emb", "a.json", "b.json"))
    assert run("embed", tiny_model, photo, "-o", folder).code == 0
    (embedding,) = folder.iterdir()
    prompt = ("--box", "20,20,120,90", "--json")
    assert run("predict", tiny_model, photo, *prompt, first).code == 0
    assert run("predict", tiny_model, embedding, *prompt, second).code == 0
    a, b = (json.loads(path.read_text())["masks"][0] for path in (first, second))
    assert a["area"] == pytest.approx(b["area"], rel=0.02)
    done = run("predict", tiny_model, embedding, "--box", "1,1,9,9", "-o", photo.parent / "x.png")
    assert done.code == 2
    assert "has no pixels to draw on" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no prompt: give at least one point, box or mask"),
        (["--point", "1"], "--point takes x,y or x,y,label in pixels, not '1'"),
        (["--point", "a,b"], "--point takes x,y"),
        (["--point", "1,nan"], "--point takes x,y"),
        (["--point", "500,60"], "point (500, 60) is outside the image, which is 200 x 120 pixels"),
        (["--point", "5,6,3"], "point label 3 is not known"),
        (["--box", "1,2,3"], "--box takes x1,y1,x2,y2 in pixels"),
        (["--box", "9,9,9,20"], "box (9, 9, 9, 20) is empty"),
        (["--box", "1,1,5,5", "--box", "2,2,6,6", "--point", "1,1"], "several boxes are prompts"),
        (["--boxes", "x.csv", "--point", "1,1"], "leave out --point, --box, --mask"),
        (["--mask", "missing.png"], "no image at missing.png"),
        (["--point", "1,1", "-o", "x.docx"], "use a picture's suffix, such as .png"),
        (["--point", "1,1", "-o", "/dev/null/x.png"], "cannot write /dev/null/x.png"),
    ],
)
def test_bad_input_is_one_line(
    run: Run, fake_directory: Path, photo: Path, arguments: list[str], message: str
) -> None:
    done = run("predict", fake_directory, photo, *arguments)
    assert done.code == 2
    assert done.err.startswith("samtrt: error: ")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_mask_prompt_of_another_size(run: Run, fake_directory: Path, photo: Path) -> None:
    rough = photo.parent / "rough.png"
    Image.new("L", (10, 10), 1).save(rough)
    done = run("predict", fake_directory, photo, "--mask", rough)
    assert done.code == 2
    assert "is 10 x 10 pixels and the image is 200 x 120" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no image at"), (b"", "is empty"), (b"text", "is not an image")],
)
def test_bad_images(
    run: Run, fake_directory: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    done = run("predict", fake_directory, path, "-p", "1,1")
    assert (done.code, message in done.err) == (2, True)


def test_model_directory_that_is_none(run: Run, photo: Path) -> None:
    done = run("predict", photo.parent, photo, "-p", "1,1")
    assert done.code == 2
    assert "has no samtrt.json; make it with: samtrt export" in done.err


def test_specks_go_where_asked_for(run: Run, fake_directory: Path, photo: Path) -> None:
    """A rough mask with a speck, which the fake decoder gives back as it is."""
    rough = np.zeros((120, 200), dtype=np.uint8)
    rough[40:100, 40:150] = rough[5:12, 5:12] = 255
    Image.fromarray(rough).save(photo.parent / "rough.png")
    tops = []
    for specks in ("0", "16"):
        out = photo.parent / f"{specks}.json"
        done = run(
            *("predict", fake_directory, photo, "--mask", photo.parent / "rough.png"),
            *("--specks", specks, "--json", out),
        )
        assert done.code == 0, done.err
        tops.append(json.loads(out.read_text())["masks"][0]["bbox"][1])
    assert tops[0] < 20 < tops[1]
