"""A video on a server, with the methods of `VideoPredictor`; masks come instead of logits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samtrt.client.answers import expecting, json_of
from samtrt.client.held import Held, decode_mask
from samtrt.client.remote_image import listed
from samtrt.errors import ImageError, PromptError, RemoteError, SamtrtError
from samtrt.masks import rle
from samtrt.masks.given import given_mask
from samtrt.types import BoolArray, Size

if TYPE_CHECKING:
    from samtrt.client.connection import Client

Seen = tuple[int, list[int], BoolArray]
"""A frame's number, the objects' ids, and their masks, [N, H, W]."""


class RemoteVideo(Held):
    """A video that a server holds open.

    Attributes:
        id: Its id.
        size: Height and width.
        times: When each frame is shown, in seconds, from 0.
        notices: What the server assumed of the file.
    """

    def __init__(self, client: Client, answer: dict[str, Any]) -> None:
        self._client = client
        with expecting("a video's id, size and times"):
            self.id = str(answer["id"])
            self.size: Size = (int(answer["height"]), int(answer["width"]))
            self.times = [float(time) for time in answer["times"]]
            self.notices = [str(notice) for notice in answer["notices"]]

    def __len__(self) -> int:
        return len(self.times)

    def frame(self, frame_idx: int, longest_side: int | None = None) -> bytes:
        """Fetch a frame as JPEG, no larger than `longest_side` along its longer side."""
        options = {} if longest_side is None else {"params": {"longest_side": longest_side}}
        path = f"{self._path}/frames/{frame_idx}"
        return self._client.request("GET", path, **options).content

    def add_new_points_or_box(
        self,
        frame_idx: int,
        obj_id: int,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
    ) -> Seen:
        """Say all that is said of an object on a frame; returns all objects there.

        Args:
            frame_idx: The frame, from 0.
            obj_id: Which object, 1..255; a new id is a new object.
            points: [N, 2], XY in the video's pixels.
            labels: [N], 1 for the object and 0 for what is not of it.
            box: XYXY.

        Raises:
            PromptError: where they make no sense, or the frame does not decode.
            RemoteError: where the video is being tracked (409), or gone (404, 410).
        """
        said: dict[str, Any] = {"points": listed(points, "points"), "box": listed(box, "box")}
        if labels is not None:
            kinds = np.ravel(listed(labels, "labels"))
            if not np.isin(kinds, (0, 1)).all():
                raise PromptError(
                    "labels are one a point, 1 for the object and 0 for what is not of it"
                )
            said["labels"] = [int(one) for one in kinds]
        return self._point(frame_idx, obj_id, said)

    def add_new_mask(self, frame_idx: int, obj_id: int, mask: npt.ArrayLike) -> Seen:
        """Say by a mask, bool [H, W], what an object is on a frame; as for points."""
        encoded = rle.compress(rle.encode(given_mask(mask)))
        return self._point(frame_idx, obj_id, {"mask": encoded})

    def propagate_in_video(
        self,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[Seen]:
        """Follow all objects from frame to frame, as the server does so.

        Who stops iterating ends it; what was found stays on the server, see `masks`.

        Args:
            start_frame_idx: Where to begin; None for the first prompted frame, or the last one.
            max_frame_num_to_track: How many frames after it; None for all.
            reverse: Whether time runs backwards.

        Raises:
            ImageError: where a frame does not decode.
            PromptError: where there is no object.
            RemoteError: for any other failure, also in the middle.
        """
        most = max_frame_num_to_track
        asked: dict[str, Any] = {"direction": "backward" if reverse else "forward"}
        if start_frame_idx is not None:
            asked["start"] = start_frame_idx
        if most is not None:
            asked["frames"] = most + 1
        try:
            with self._client.stream(f"{self._path}/track", json=asked) as lines:
                for name, data in _events(lines):
                    if name == "masks":
                        yield self._seen(data)
                    elif name == "done":
                        return
                    elif name == "error":
                        raise _failure(data)
        except GeneratorExit:  # the server need not have noticed that nobody listens any more
            with suppress(RemoteError):
                self._client.request("DELETE", f"{self._path}/track")
            raise
        raise RemoteError("the server's answer ended before tracking did")

    def masks(self) -> Iterator[Seen]:
        """Fetch what was found so far, in the order of frames."""
        first: int | None = 0
        while first is not None:
            answer = json_of(
                self._client.request("GET", f"{self._path}/masks", params={"first": first})
            )
            with expecting("masks of a video"):
                frames, later = list(answer["frames"]), answer.get("next")
                if later is not None and not first < int(later):
                    raise ValueError("the next part lies before this one")
            for one in frames:
                yield self._seen(one)
            first = later

    def clear_all_prompts_in_frame(self, frame_idx: int, obj_id: int) -> Seen:
        """Forget what was said of an object on a frame; without anything said it is removed."""
        path = f"{self._path}/prompts/{frame_idx}/{obj_id}"
        return self._seen(json_of(self._client.request("DELETE", path)))

    def remove_object(self, obj_id: int) -> list[int]:
        """Forget an object, also while it is tracked, and return the ids that are left.

        Raises:
            RemoteError: 404 where there is no such object.
        """
        answer = json_of(self._client.request("DELETE", f"{self._path}/objects/{obj_id}"))
        with expecting("ids of objects"):
            return [int(one) for one in answer["objects"]]

    def delete(self) -> None:
        """Free what the server holds of the video; fine where it does not any more."""
        try:
            self._client.request("DELETE", self._path)
        except RemoteError as error:
            if error.status not in (404, 410):
                raise

    @property
    def _path(self) -> str:
        return f"/v1/videos/{self.id}"

    def _point(self, frame_idx: int, obj_id: int, said: dict[str, Any]) -> Seen:
        if frame_idx not in range(len(self)):
            raise PromptError(f"there is no frame {frame_idx}: the video has 0..{len(self) - 1}")
        try:
            body: dict[str, Any] = {"frame": int(frame_idx), "object": index(obj_id)}
        except TypeError:
            raise PromptError(f"an object's id is a whole number, not {obj_id!r}") from None
        body |= {name: value for name, value in said.items() if value is not None}
        answer = self._client.request("POST", f"{self._path}/prompts", json=body)
        return self._seen(json_of(answer))

    def _seen(self, answer: dict[str, Any]) -> Seen:
        with expecting("masks of a frame"):
            ids = [int(one["object"]) for one in answer["masks"]]
            masks = np.zeros((len(ids), *self.size), np.bool_)
            for mask, one in zip(masks, answer["masks"], strict=True):
                mask[:] = decode_mask(one["rle"], self.size)
            return int(answer["frame"]), ids, masks


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Yield names and data of server-sent events."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            with expecting("events of tracking"):
                data = json.loads(line.removeprefix("data: "))
            yield name, data


def _failure(data: Any) -> SamtrtError:
    with expecting("events of tracking"):
        code, message = str(data["error"]["code"]), str(data["error"]["message"])
    return ImageError(message) if code == "invalid" else RemoteError(message, 500, code)
