"""Label Studio's backend: its regions in, strokes out that its own converter reads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from samtrt.errors import PromptError
from samtrt.interactive import Segment
from samtrt.predictor import Predictor
from support.plugins import INTEGRATIONS, load
from support.server_cases import image_bytes, make_picture

FOLDER = INTEGRATIONS / "label_studio"
LOCAL_FILES = "label_studio_sdk._extensions.label_studio_tools.core.utils.io"
SIZE = (120, 200)
regions = load(FOLDER / "regions.py")


def region(kind: str, x: float, y: float, label: str = "cat", **more: Any) -> dict[str, Any]:
    """Describe a region as Label Studio does, from pixels."""
    value = {"x": x / 2, "y": y / 1.2, kind: [label], **more.pop("value", {})}
    size = {"original_width": 200, "original_height": 120, "image_rotation": 0}
    names = {"from_name": kind, "to_name": "image", "id": "r"}
    return {**names, **size, "type": kind, "value": value, **more}


def point(x: float, y: float, **more: Any) -> dict[str, Any]:
    return region("keypointlabels", x, y, **{"value": {"width": 0.3}, **more})


def box(x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    value = {"width": width / 2, "height": height / 1.2, "rotation": more.pop("rotation", 0)}
    return region("rectanglelabels", x, y, value=value, **more)


def test_points_are_one_prompt_and_rectangles_one_each() -> None:
    clicks = [point(60, 48, is_positive=True), point(90, 60, is_positive=False), point(20, 24)]
    (only,) = regions.prompts_of(clicks, SIZE)
    np.testing.assert_allclose(only.points, [[60, 48], [90, 60], [20, 24]])
    assert (only.labels, only.box, only.label) == ([1, 0, 1], None, "cat")
    drawn = [box(20, 24, 100, 60), box(10, 12, 30, 36, label="dog"), clicks[1]]
    first, second = regions.prompts_of(drawn, SIZE)
    np.testing.assert_allclose(first.box, [20, 24, 120, 84])
    np.testing.assert_allclose(second.box, [10, 12, 40, 48])
    assert (first.label, second.label) == ("cat", "dog")
    assert first.labels == second.labels == [0]
    assert regions.prompts_of([], SIZE) == []


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (region("polygonlabels", 1, 1), "polygonlabels"),
        (box(1, 1, 5, 5, rotation=30), "rotated"),
        (point(1, 1, image_rotation=90), "rotated"),
        (point(1, 1, original_width=120, original_height=200), "120 x 200"),
        ({"type": "keypointlabels"}, "as Label Studio describes"),
        (point(1, float("nan")), "as Label Studio describes"),
        (region("keypointlabels", 1, 1, value={"keypointlabels": []}), "as Label Studio describes"),
    ],
)
def test_what_is_no_prompt_is_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(PromptError, match=word):
        regions.prompts_of([wrong], SIZE)


def test_label_studios_converter_reads_the_stroke() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    mask = np.random.default_rng(0).random(SIZE) < 0.5
    told = regions.brush_region(Segment(mask, 0.75), "cat", "mask", "image")
    rgba = brush.decode_rle(told["value"]["rle"]).reshape(*SIZE, 4)
    np.testing.assert_array_equal(rgba, np.repeat(mask[..., None], 4, axis=2) * 255)
    assert (told["original_width"], told["original_height"]) == (200, 120)
    assert told["value"]["brushlabels"] == ["cat"]


def test_every_label_of_a_prompt_is_one_of_the_brush() -> None:
    view = ElementTree.parse(FOLDER / "labels.xml").getroot()
    labels = {one.tag: [label.get("value") for label in one] for one in view if one.tag != "Image"}
    assert set(labels) == {"BrushLabels", "KeyPointLabels", "RectangleLabels"}
    assert labels["KeyPointLabels"] == labels["RectangleLabels"] == labels["BrushLabels"]
    assert all(
        one.get("smart") == "true" for one in view if one.tag not in ("Image", "BrushLabels")
    )


@pytest.fixture
def backend(fake_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Label Studio's own server with our model: label-studio-ml 2, which is not on PyPI."""
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "state"))
    pytest.importorskip("label_studio_ml.response")
    monkeypatch.setenv("SAMTRT_MODEL", str(fake_directory))
    # The variable of the same name, which is read where that module is first imported.
    monkeypatch.setattr(f"{LOCAL_FILES}.LOCAL_FILES_DOCUMENT_ROOT", str(tmp_path))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "none")
    monkeypatch.syspath_prepend(str(FOLDER))
    wsgi = load(FOLDER / "_wsgi.py")
    yield wsgi.app.test_client()
    wsgi.segmenter().close()
    for name in ("model", "regions"):
        sys.modules.pop(name, None)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """A picture's address among Label Studio's local files."""
    (tmp_path / "picture.png").write_bytes(image_bytes(make_picture()))
    return "/data/local-files/?d=picture.png"


def ask(backend: Any, picture: str, *drawn: dict[str, Any]) -> Any:
    """Send what Label Studio sends when somebody has pointed at something."""
    request = {
        "tasks": [{"id": 1, "data": {"image": picture}}],
        "project": "7.1700000000",
        "label_config": (FOLDER / "labels.xml").read_text(),
        "params": {"context": {"result": list(drawn)}},
    }
    return backend.post("/predict", json=request)


def test_label_studios_server_answers_a_click_and_boxes(
    backend: Any, picture: str, fake_predictor: Predictor
) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    fake_predictor.set_image(make_picture())
    setup = {"project": "7.1700000000", "schema": (FOLDER / "labels.xml").read_text()}
    version = backend.post("/setup", json=setup).get_json()["model_version"]
    assert version.startswith("samtrt ")
    drawn = box(20, 24, 100, 60), box(10, 12, 30, 36, label="dog")
    for sent, prompts in [
        ((point(60, 48),), [{"point_coords": [[60, 48]], "point_labels": [1]}]),
        (drawn, [{"box": [20, 24, 120, 84]}, {"box": [10, 12, 40, 48]}]),
    ]:
        response = ask(backend, picture, *sent)
        assert response.status_code == 200, response.text
        (answer,) = response.get_json()["results"]
        assert answer["model_version"] == version
        for told, prompt, one in zip(answer["result"], prompts, sent, strict=True):
            alone = "box" not in prompt
            expected = fake_predictor.predict(**prompt, multimask_output=alone)  # type: ignore[arg-type]
            rgba = brush.decode_rle(told["value"]["rle"]).reshape(*SIZE, 4)
            np.testing.assert_array_equal(rgba[..., 0] > 0, expected.best)
            assert told["value"]["brushlabels"] == one["value"][one["type"]]
            assert (told["from_name"], told["to_name"]) == ("mask", "image")


def test_label_studios_server_tells_what_is_wrong_in_a_line(backend: Any, picture: str) -> None:
    assert ask(backend, picture).get_json() == {"results": []}
    for sent, word in [
        (point(60, 48, label="cow"), "'cow'"),
        (point(1, 1, image_rotation=90), "rotated"),
        (point(500, 48), "point"),
    ]:
        response = ask(backend, picture, sent)
        assert response.status_code == 400
        assert word in response.get_json()["detail"]
        assert "Traceback" not in response.text
    response = ask(backend, "http://127.0.0.1:9/gone.png", point(60, 48))
    assert response.status_code == 400
    assert "LABEL_STUDIO_URL" in response.get_json()["detail"]
