"""What is said of a video on the command line and to the server, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.errors import PromptError
from samtrt.video.prompts import Prompt, check_prompts, read_prompts
from samtrt.video.tracks import Points

SIZE, FRAMES = (96, 160), 7


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"points": [[100, 40]], "labels": [2]}, "labels are one a point"),
        ({"points": [[100, 40]], "labels": [0.5]}, "labels are one a point"),
        ({"points": [[100, 40], [3, 3]], "labels": [1]}, "labels are one a point"),
        ({"box": [1, 1, 9, 9], "labels": [1]}, "go together"),
        ({"box": [100, 40, 20, 10]}, r"the box \(100, 40, 20, 10\) is empty"),
        ({"box": [20, 10, 20, 40]}, "is empty"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(said: dict[str, Any], part: str) -> None:
    with pytest.raises(PromptError, match=f"object 1 on frame 0: .*{part}"):
        check_prompts([Prompt(0, 1, **said)], SIZE, FRAMES)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ({"points": "here", "labels": [1]}, "points must be numbers"),
        ({"points": [[1, 2], [3]], "labels": [1, 1]}, "points must be numbers"),
        ({"points": [[1, 2, 1], [3, 4, 1]], "labels": [1, 1, 1]}, "x, y each"),
        ({"points": np.zeros((0, 2)), "labels": []}, "points or a box"),
        ({"box": [8, 8, 2, 2]}, "is empty"),
    ],
)
def test_arrays_that_are_no_prompts_are_told(said: dict[str, Any], part: str) -> None:
    with pytest.raises(PromptError, match=part):
        Points.of(**said)


def test_one_object_has_one_prompt_on_a_frame(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    said = [{"frame": f, "object": o, "points": [[1, 2]]} for f, o in ((0, 1), (0, 2), (3, 1))]
    file.write_text(json.dumps(said))
    assert [(one.frame, one.obj_id) for one in read_prompts(file)] == [(0, 1), (0, 2), (3, 1)]
    file.write_text(json.dumps([*said, said[0]]))
    with pytest.raises(PromptError, match="object 1 has two prompts on frame 0: make them one"):
        read_prompts(file)
