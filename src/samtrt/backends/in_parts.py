"""A decoder on a CPU in parts, of which a click runs only what depends on its points."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samtrt.backends.base import Arrays, Backend, HostBackend, image_inputs, stage_tensors
from samtrt.backends.parts import Part, parts_of
from samtrt.choices import AnyStage, Stage
from samtrt.manifest import Manifest

MASKS = ("mask_input", "has_mask_input")
POINTS = ("point_coords", "point_labels")

KEPT_IMAGES = 2
"""Images whose parts are kept: a SAM 2's take 29 MB beside 17 MB of maps, which are kept too."""

Open = Callable[[Part | None], Backend]
"""Opens a part of a graph, or all of it."""


def open_in_parts(
    path: Path,
    manifest: Manifest,
    stage: AnyStage,
    open_part: Open,
    open_for_one: Open | None = None,
) -> Backend:
    """Open a decoder in parts, where it has them, and any other stage whole.

    Args:
        path: Of the graph.
        manifest: Of the model.
        stage: Which one it is.
        open_part: Opens a part, or the whole graph.
        open_for_one: Opens the last part for one prompt alone, for runtimes that are faster so.
    """
    # Weights in a file of their own are found by the path of the graph alone.
    if stage is not Stage.DECODER or len(manifest.files[stage]) > 1:
        return open_part(None)
    parts = parts_of(path.read_bytes(), [image_inputs(stage, manifest), MASKS, POINTS])
    if parts is None:
        return open_part(None)
    with ExitStack() as opened:
        backends = [opened.enter_context(open_part(part)) for part in parts]
        if open_for_one:
            backends.append(opened.enter_context(open_for_one(parts[-1])))
        opened.pop_all()
    return DecoderInParts(backends, manifest)


@dataclass
class _Kept:
    """What was made of an image.

    Attributes:
        maps: Of the image; held, so that no other array is taken for one of them.
        values: What depends on the maps alone.
        bare: What depends on prompts' masks too, where there are none; for one prompt.
    """

    maps: list[npt.NDArray[Any]]
    values: Arrays
    bare: Arrays | None = None


class DecoderInParts(HostBackend):
    """A decoder whose parts run one after the other; a fourth is the last one for one prompt.

    What depends on the image alone is kept from call to call where its maps are the same arrays and
    cannot be written to, as those of an `Embedding`; so is what stands for masks that are not
    there.
    """

    def __init__(self, parts: Sequence[Backend], manifest: Manifest) -> None:
        inputs, outputs = stage_tensors(manifest, Stage.DECODER)
        self._parts = parts
        self._of_image, self._of_masks, self._of_points = parts[:3]
        self._of_one_prompt = parts[-1]
        self._maps = sorted(image_inputs(Stage.DECODER, manifest))
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()
        self.name, self.device = parts[-1].name, parts[-1].device
        self.precision = parts[-1].precision
        self.inputs = {info.name: info for info in inputs}
        self.outputs = {info.name: info for info in outputs}

    def _compute(self, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
        last = self._of_points if len(feeds["point_coords"]) > 1 else self._of_one_prompt
        made = _run(last, {**feeds, **self._prepared(feeds)})
        return {name: made[name] for name in self.outputs}

    def _prepared(self, feeds: Arrays) -> Arrays:
        """Return what points are decoded against."""
        kept = self._of(feeds)
        if feeds["has_mask_input"].any():
            return {**kept.values, **_run(self._of_masks, {**feeds, **kept.values})}
        if kept.bare is None:
            none = {name: np.zeros_like(feeds[name][:1]) for name in MASKS}
            kept.bare = _run(self._of_masks, {**feeds, **none, **kept.values})
        return {**kept.values, **kept.bare}

    def _of(self, feeds: Arrays) -> _Kept:
        """Return what was made of the image before, or make it."""
        maps = [feeds[name] for name in self._maps]
        with self._lock:
            for index, kept in enumerate(self._kept):
                if all(one is other for one, other in zip(maps, kept.maps, strict=True)):
                    self._kept.insert(0, self._kept.pop(index))
                    return kept
        kept = _Kept(maps, _run(self._of_image, feeds))
        if not any(one.flags.writeable for one in maps):
            with self._lock:
                self._kept = [kept, *self._kept[: KEPT_IMAGES - 1]]
        return kept

    def close(self) -> None:
        for part in self._parts:
            part.close()
        with self._lock:
            self._kept = []


def _run(part: Backend, values: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    return part.run({name: values[name] for name in part.inputs})
