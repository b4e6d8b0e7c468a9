"""The files of a tracked video, written as it goes on, so that a restart begins where it ended.

OUT/annotations.json             all masks in the form of YouTube-VIS, as COCO RLE
OUT/Annotations/NAME/00000.png   the objects' ids, a PNG with a palette a frame, as DAVIS has them;
                                 of a folder's pictures by their names
OUT/overlay.mp4                  the video with its objects drawn
OUT/frames.jsonl                 a line a frame, from which the others are made
OUT/tracks.safetensors           what is remembered of the objects, until all frames are done
OUT/.samtrt                      says that the directory is ours
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from samtrt._version import __version__
from samtrt.errors import OutputError
from samtrt.files import OUTPUT_NOTE, write_atomic
from samtrt.masks import rle
from samtrt.masks.drawing import colour_of
from samtrt.types import Size
from samtrt.video.memories import Floats
from samtrt.video.saved import load_tracks, save_tracks
from samtrt.video.tracks import Track

MOST_OBJECTS = 255
"""The greatest id: pixels of a DAVIS picture have 8 bits, and 0 is no object."""
_CATEGORY = {"id": 1, "name": "object", "supercategory": ""}


class Recording:
    """Results of one video under one directory.

    Attributes:
        masks: Compressed COCO RLE by frame and object, of all that was found so far.
        steps: Frames done, in the order in which they are tracked.
        before: How many of them an earlier run has done.
        pictures: Where the pictures of ids go.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        settings: dict[str, Any],
        force: bool,
        names: Sequence[str] = (),
    ) -> None:
        """Claim a directory.

        Args:
            directory: OUT.
            name: Of the video.
            settings: All that masks depend on. What was found with others does not count.
            force: Whether files are replaced that samtrt did not write.
            names: Of its frames, as files are called; empty for numbers. Pictures have the same,
                as DAVIS pairs them with frames by it.

        Raises:
            OutputError: where it cannot be written, or has such files of another tool.
        """
        self.directory, self.name, self.settings = directory, name, settings
        self.masks: dict[int, dict[int, rle.Rle]] = {}
        self.steps = self.before = 0
        self._lines = directory / "frames.jsonl"
        self._state = directory / "tracks.safetensors"
        self.pictures = directory / "Annotations" / name
        self._stems = [PurePath(name).stem for name in names]
        self._file: TextIO | None = None
        self._claim(force)

    def _claim(self, force: bool) -> None:
        note = self.directory / OUTPUT_NOTE
        places = [self._lines, self.pictures, *map(self.path, ("annotations.json", "overlay.mp4"))]
        taken = [place for place in places if place.exists()]
        if taken and not note.is_file() and not force:
            raise OutputError(
                f"{taken[0]} is there already and was not written by samtrt: choose another "
                "directory, or replace what has the same name with --force"
            )
        try:
            self.pictures.mkdir(parents=True, exist_ok=True)
            if not note.is_file():
                with write_atomic(note) as temporary:
                    temporary.write_text("Results of samtrt.\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write into {self.directory}: {error.strerror}") from None

    def path(self, name: str) -> Path:
        return self.directory / name

    def resume(self) -> dict[int, Track] | None:
        """Take up what an earlier run with the same settings has done.

        Returns:
            What it remembered of the objects; None where all is to `begin` anew.
        """
        found = load_tracks(self._state, {"settings": self.settings})
        lines = self._read_lines() if found else []
        steps = int(found[1].get("steps", 0)) if found else 0
        if found is None or len(lines) < steps:
            return None
        self.steps = self.before = steps
        for line in lines[:steps]:
            self._take(line)
        self.begin(lines[:steps])
        return found[0]

    def is_complete(self) -> bool:
        """Tell whether an earlier run with the same settings has done all; its masks are read."""
        lines = self._read_lines()
        if not lines or not lines[-1].get("is_last"):
            return False
        for line in lines[:-1]:
            self._take(line)
        self.steps = self.before = len(lines) - 1
        return True

    def _read_lines(self) -> list[dict[str, Any]]:
        """Return the lines behind the first, up to one that was not finished."""
        found = []
        try:
            with self._lines.open(encoding="utf-8") as file:
                if json.loads(file.readline()) != {"settings": self.settings}:
                    return []
                for text in file:
                    found.append(json.loads(text))
        except (OSError, ValueError):
            pass
        return found

    def begin(self, lines: Sequence[dict[str, Any]] = ()) -> None:
        """Begin anew, or with the lines of an earlier run."""
        self.path("overlay.mp4").unlink(missing_ok=True)  # of what was done by then
        if not lines:
            for path in (self._state, self.path("annotations.json")):
                path.unlink(missing_ok=True)
            known = {*self._stems}
            for path in self.pictures.glob("*.png"):
                if path.stem.isdigit() or path.stem in known:
                    path.unlink()
        with write_atomic(self._lines) as temporary:
            texts = [_json(line) for line in ({"settings": self.settings}, *lines)]
            temporary.write_text("".join(texts), encoding="utf-8")
        self._file = self._lines.open("a", encoding="utf-8")

    def add(self, frame: int, ids: Sequence[int], logits: Floats) -> None:
        """Record what was found on a frame: logits [N, 1, H, W] of the objects `ids`.

        Raises:
            OutputError: where there is no room, or the place is gone.
        """
        masks = {
            one: rle.compress(rle.encode(part[0] > 0))
            for one, part in zip(ids, logits, strict=True)
        }
        line = {"frame": frame, "masks": {str(one): mask for one, mask in masks.items()}}
        try:
            self._save_picture(frame, ids, logits)
            self._append(line)
        except OSError as error:
            raise OutputError(
                f"cannot write into {self.directory}: {error.strerror or error}; run the same "
                "command again to go on"
            ) from None
        self.masks[frame] = masks
        self.steps += 1

    def _take(self, line: dict[str, Any]) -> None:
        self.masks[line["frame"]] = {int(one): mask for one, mask in line["masks"].items()}

    def _append(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(_json(line))
        self._file.flush()

    def _save_picture(self, frame: int, ids: Sequence[int], logits: Floats) -> None:
        picture = Image.fromarray(label_picture(ids, logits))
        picture.putpalette([*(0, 0, 0), *(v for i in range(255) for v in colour_of(i))])
        name = self._stems[frame] if self._stems else f"{frame:05d}"
        with write_atomic(self.pictures / f"{name}.png") as temporary:
            picture.save(temporary, format="PNG")

    def save(self, tracks: Mapping[int, Track]) -> None:
        """Save what is remembered of the objects after the frames that are done."""
        about = {"settings": self.settings, "steps": self.steps}
        save_tracks(self._state, tracks, about)

    def finish(self, size: Size, names: Sequence[str], is_last: bool) -> Path:
        """Write `annotations.json`, and return where it is.

        Args:
            size: Height and width of the video.
            names: Of its frames, as files are called.
            is_last: Whether all frames are done, and no restart is to come.
        """
        path = self.path("annotations.json")
        with write_atomic(path) as temporary:
            document = youtube_vis(self.name, size, names, self.masks, self.settings)
            temporary.write_text(_json(document), encoding="utf-8")
        if is_last and self._file is not None:
            self._append({"is_last": True})
            self._state.unlink(missing_ok=True)
        return path

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a full disk was told when the line was written
                file.close()


def label_picture(ids: Sequence[int], logits: Floats) -> npt.NDArray[np.uint8]:
    """Give each pixel the id of its object, the one with the highest logit, or 0: uint8 [H, W]."""
    labels = np.zeros(logits.shape[2:], np.uint8)
    if len(ids):
        best = logits[:, 0].argmax(axis=0)
        chosen = np.asarray(ids, np.uint8)[best]
        labels = np.where(logits[:, 0].max(axis=0) > 0, chosen, labels)
    return labels


def youtube_vis(
    name: str,
    size: Size,
    names: Sequence[str],
    masks: Mapping[int, Mapping[int, rle.Rle]],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Return a data set of one video in the form of YouTube-VIS: None where there is no mask."""
    height, width = size
    ids = sorted({one for found in masks.values() for one in found})
    annotations = []
    for number, obj_id in enumerate(ids, start=1):
        segmentations: list[rle.Rle | None] = [None] * len(names)
        boxes: list[list[int] | None] = [None] * len(names)
        areas: list[int | None] = [None] * len(names)
        for frame, found in masks.items():
            if obj_id not in found:
                continue
            runs = rle.runs_of(found[obj_id])
            if not runs.area:
                continue
            x1, y1, x2, y2 = runs.box
            segmentations[frame], areas[frame] = found[obj_id], runs.area
            boxes[frame] = [x1, y1, x2 - x1 + 1, y2 - y1 + 1]
        annotations.append(
            {
                "id": number,
                "video_id": 1,
                "category_id": _CATEGORY["id"],
                "object": obj_id,
                "iscrowd": 0,
                "height": height,
                "width": width,
                "length": len(names),
                "segmentations": segmentations,
                "bboxes": boxes,
                "areas": areas,
            }
        )
    video = {"id": 1, "name": name, "height": height, "width": width, "length": len(names)}
    return {
        "info": {"description": f"samtrt {__version__}", **about},
        "videos": [{**video, "file_names": list(names)}],
        "categories": [_CATEGORY],
        "annotations": annotations,
    }


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False) + "\n"
