"""What is remembered of objects, in a file: tracking goes on from it as if it had never stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.files import write_tensors
from samtrt.types import to_host
from samtrt.video.tracks import Output, Track

_KEY = "samtrt.tracks"
_ARRAYS = ("masks", "pointer", "memory")


def save_tracks(path: Path, tracks: Mapping[int, Track], about: dict[str, Any]) -> None:
    """Write settled tracks, and what is said about them, whole or not at all.

    Raises:
        OutputError: where the file cannot be written.
    """
    tensors: dict[str, npt.NDArray[Any]] = {}
    objects = []
    for obj_id, track in tracks.items():
        outputs = []
        for is_prompted, kept in ((True, track.prompted), (False, track.others)):
            for frame, output in kept.items():
                outputs.append([frame, is_prompted, output.score, output.is_users])
                for name in _ARRAYS:
                    array = to_host(getattr(output, name))
                    tensors[f"{obj_id}/{frame}/{name}"] = np.ascontiguousarray(array)
        objects.append({"id": obj_id, "outputs": outputs, "tracked": [*track.tracked.items()]})
    text = json.dumps({"about": about, "objects": objects}, allow_nan=False)
    write_tensors(path, tensors, {_KEY: text})


Saved = tuple[dict[int, Track], dict[str, Any]]


def load_tracks(path: Path, about: dict[str, Any]) -> Saved | None:
    """Read what `save_tracks` wrote.

    Args:
        path: The file.
        about: What must have been said about the tracks, beside anything else.

    Returns:
        The tracks and all that was said about them; None where there is no such file, it is
        damaged, or it is about something else.
    """
    from safetensors import SafetensorError, safe_open

    tracks = {}
    try:
        with safe_open(path, framework="numpy") as file:
            said = json.loads((file.metadata() or {})[_KEY])
            if {**said["about"], **about} != said["about"]:
                return None
            for one in said["objects"]:
                track = tracks[int(one["id"])] = Track()
                for frame, is_prompted, score, is_users in one["outputs"]:
                    arrays = {n: file.get_tensor(f"{one['id']}/{frame}/{n}") for n in _ARRAYS}
                    output = Output(**arrays, score=float(score), is_users=bool(is_users))
                    (track.prompted if is_prompted else track.others)[int(frame)] = output
                track.tracked = {int(frame): bool(back) for frame, back in one["tracked"]}
    except (OSError, SafetensorError, ValueError, LookupError, TypeError):
        return None
    return tracks, said["about"]
