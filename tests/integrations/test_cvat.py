"""CVAT's function: called as nuclio calls it, its answers read by CVAT's own code."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import yaml

from samtrt.predictor import Predictor
from support.plugins import INTEGRATIONS, load
from support.server_cases import image_bytes, make_picture

FOLDER = INTEGRATIONS / "cvat"
nuclio = pytest.importorskip("nuclio_sdk")
IMAGE = base64.b64encode(image_bytes(make_picture())).decode()


@pytest.fixture(scope="module")
def function() -> ModuleType:
    return load(FOLDER / "main.py")


@pytest.fixture
def context(
    function: ModuleType, fake_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    monkeypatch.setenv("SAMTRT_MODEL", str(fake_directory))
    context = nuclio.Context(logger=MagicMock())
    function.init_context(context)
    yield context
    context.user_data.segmenter.close()


def ask(function: ModuleType, context: Any, **changes: Any) -> tuple[int, dict[str, Any]]:
    """Send what CVAT's server sends; return status and body."""
    request = {"image": IMAGE, "pos_points": [], "neg_points": [], "obj_bbox": None, **changes}
    body = json.dumps(request).encode()
    event = nuclio.Event(body=json.loads(body), content_type="application/json")
    response = function.handler(context, event)
    assert response.content_type == "application/json"
    return response.status_code, json.loads(response.body)


CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"pos_points": [[60, 50]]}, {"point_coords": [[60, 50]], "point_labels": [1]}),
    (
        {"pos_points": [[60, 50]], "neg_points": [[90, 60]]},
        {"point_coords": [[60, 50], [90, 60]], "point_labels": [1, 0]},
    ),
    ({"obj_bbox": [[20, 30], [120, 100]]}, {"box": [20, 30, 120, 100]}),
    ({"obj_bbox": [[120, 30], [20, 100]]}, {"box": [20, 30, 120, 100]}),
    ({"obj_bbox": [20, 30, 120, 100]}, {"box": [20, 30, 120, 100]}),
    (
        {"obj_bbox": [[20, 30], [120, 100]], "neg_points": [[60, 50]]},
        {"box": [20, 30, 120, 100], "point_coords": [[60, 50]], "point_labels": [0]},
    ),
]


@pytest.mark.parametrize(("sent", "prompt"), CASES)
def test_the_mask_lies_where_the_predictors_does(
    function: ModuleType,
    context: Any,
    fake_predictor: Predictor,
    sent: dict[str, Any],
    prompt: dict[str, Any],
) -> None:
    fake_predictor.set_image(make_picture())
    alone = len(prompt.get("point_labels", ())) == 1 and "box" not in prompt
    expected = fake_predictor.predict(**prompt, multimask_output=alone).best
    status, answer = ask(function, context, **sent)
    assert status == 200
    left, top, right, bottom = answer["bounds"]
    got = np.zeros_like(expected)
    got[top : bottom + 1, left : right + 1] = np.array(answer["mask"], bool)
    np.testing.assert_array_equal(got, expected)
    assert {value for row in answer["mask"] for value in row} <= {0, 1}


def test_cvats_own_decoder_reads_it(function: ModuleType) -> None:
    """CVAT's page makes run lengths of `mask`, row by row, and appends `bounds`: its points."""
    try:
        files = distribution("cvat-sdk").files or []
    except PackageNotFoundError:
        pytest.skip("cvat-sdk is not installed")
    (path,) = [one for one in files if str(one) == "cvat_sdk/masks.py"]
    masks = load(Path(str(path.locate())))
    rng = np.random.default_rng(0)
    for _ in range(50):
        whole = np.zeros(rng.integers(1, 30, 2), bool)
        y, x = (rng.integers(0, length) for length in whole.shape)
        whole[y:, x:] = rng.random((whole.shape[0] - y, whole.shape[1] - x)) < 0.5
        whole[y, x] = True
        told = function.describe(whole)
        flat = np.array(told["mask"]).ravel()
        edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
        points = np.diff([0, *edges, flat.size]).tolist() + told["bounds"]
        assert points == masks.encode_mask(whole)
        height, width = whole.shape
        back = masks.decode_mask(points, image_width=width, image_height=height)
        np.testing.assert_array_equal(back, whole)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"image": "!"}, "request"),
        ({"image": base64.b64encode(b"text").decode()}, "image"),
        ({}, "prompt"),
        ({"obj_bbox": [[1, 2]]}, "two corners"),
        ({"pos_points": [["a", 1]]}, "point"),
        ({"pos_points": 3}, "request"),
        ({"pos_points": [[60, 50]], "neg_points": [[60, 50]]}, "nothing"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    function: ModuleType, context: Any, changes: dict[str, Any], word: str
) -> None:
    status, answer = ask(function, context, **changes)
    assert status == 400
    assert word in answer["error"]
    assert "\n" not in answer["error"]


def test_the_functions_file_is_what_cvat_and_nuclio_read(function: ModuleType) -> None:
    told = yaml.safe_load((FOLDER / "function.yaml").read_text())
    notes = told["metadata"]["annotations"]
    assert notes["type"] == "interactor"
    assert json.loads(notes["spec"] or "[]") == []
    assert notes["startswith_box_optional"] is True
    assert told["metadata"]["namespace"] == "cvat"
    # CVAT's page takes over functions of this name and decodes by itself.
    assert told["metadata"]["name"] != "pth-facebookresearch-sam-vit-h"
    module, _, name = told["spec"]["handler"].partition(":")
    assert (module, callable(getattr(function, name))) == ("main", True)
    assert "SAMTRT_MODEL" in {one["name"] for one in told["spec"]["env"]}
