"""The dock: a model, an image layer, and the object that is being pointed at."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import napari
import numpy as np
from magicgui.widgets import ComboBox, Container, Label, LineEdit, PushButton, RadioButtons
from napari.layers import Image, Labels, Layer, Points, Shapes
from napari.qt.threading import create_worker
from napari.utils.notifications import show_warning

from samtrt.errors import PromptError, SamtrtError
from samtrt.interactive import Segment as Found
from samtrt.interactive import Segmenter
from samtrt_napari.prompts import BACKGROUND, OBJECT, Place, Prompt, plane_of, png_of, prompt_of

PLACING = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""Where a layer lies in the world; prompts and labels lie where their image does."""

Plane = tuple[Place, tuple[float, float], int]
"""What a picture was made of: a plane, the values shown as black and white, the data's identity."""


class Segment(Container):
    """Points and boxes of one object at a time; each change of them is asked about anew.

    Args:
        napari_viewer: The one whose layers are used. napari gives it to this name.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self._viewer = viewer = napari_viewer
        self._model = LineEdit(
            label="model",
            value=os.environ.get("SAMTRT_MODEL", ""),
            tooltip="A model directory (samtrt export), or the address of a server (samtrt serve)",
        )
        self._image = ComboBox(label="image", choices=self._images)
        self._kind = RadioButtons(label="points are", choices=[OBJECT, BACKGROUND], value=OBJECT)
        start, following = PushButton(text="Start"), PushButton(text="Next object")
        self._said = Label(value="")
        super().__init__(
            widgets=[self._model, self._image, start, self._kind, following, self._said]
        )
        start.changed.connect(self.start)
        following.changed.connect(self.next_object)
        self._kind.changed.connect(self._set_kind)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._image.reset_choices)
        self._segmenter: Segmenter | None = None
        self._opened = ""
        self._layers: tuple[Image, Points, Shapes, Labels] | None = None
        self._pngs: dict[Plane, bytes] = {}
        self._worker: Any = None
        self._again = False
        self._drawing = False

    def _images(self, _: object = None) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def start(self) -> None:
        """Open the model, and add layers for prompts and labels over the chosen image."""
        try:
            image = self._chosen()
            self._open()
        except SamtrtError as error:
            show_warning(str(error))
            return
        shape = image.data.shape[:-1] if image.rgb else image.data.shape
        place = {name: getattr(image, name) for name in PLACING if hasattr(image, name)}
        add, dims = self._viewer, len(shape)
        labels = add.add_labels(np.zeros(shape, np.uint16), name=f"{image.name} objects", **place)
        boxes = add.add_shapes(ndim=dims, name="boxes", face_color="transparent", **place)
        points = add.add_points(
            ndim=dims,
            name="points",
            features={"kind": np.array([], dtype=object)},
            feature_defaults={"kind": self._kind.value},
            face_color="kind",
            face_color_cycle={OBJECT: "lime", BACKGROUND: "red"},
            size=max(shape[-2:]) / 100,
            **place,
        )
        self._layers = image, points, boxes, labels
        self._pngs = {}
        self._said.value = "click on an object, or draw a box in the layer of boxes"
        points.events.data.connect(self._changed)
        boxes.events.data.connect(self._changed)
        boxes.mouse_drag_callbacks.append(self._drawn)
        boxes.mode, points.mode = "add_rectangle", "add"

    def _chosen(self) -> Image:
        image = self._image.value
        if image is None:
            raise PromptError("there is no image layer: open a picture first")
        if image.multiscale:
            raise PromptError("a multiscale image cannot be segmented: open one of its levels")
        return image

    def _open(self) -> None:
        model = self._model.value.strip()
        if self._segmenter and model == self._opened:
            return
        if not model:
            raise PromptError("name a model directory (samtrt export) or a server (samtrt serve)")
        self.close_model()
        environment = {**os.environ, "SAMTRT_MODEL": model}
        self._segmenter, self._opened = Segmenter.from_environment(environment), model

    def next_object(self) -> None:
        """Keep the mask, and begin with another object."""
        if self._layers is None:
            return
        _, points, boxes, labels = self._layers
        labels.selected_label = int(np.max(labels.data)) + 1
        with points.events.data.blocker(), boxes.events.data.blocker():
            points.data, boxes.data = np.empty((0, points.ndim)), []
        self._said.value = f"object {labels.selected_label}"

    def _set_kind(self, kind: str) -> None:
        if self._layers is not None:
            points = self._layers[1]
            points.selected_data = set()  # whose kind would change
            points.feature_defaults = {"kind": kind}

    def _drawn(self, _: Layer, event: Any) -> Generator[None, None, None]:
        """Ask when a box is finished: that it has grown is no event of the layer's."""
        self._drawing = True
        yield
        while event.type == "mouse_move":
            yield
        self._drawing = False
        self._ask()

    def _changed(self, event: Any) -> None:
        action = str(event.action).rsplit(".", 1)[-1].lower()
        if not self._drawing and action not in ("adding", "removing", "changing"):
            self._ask()

    def _ask(self) -> None:
        """Ask about the prompts in the plane that is shown; of several meanwhile, the last."""
        if self._layers is None or self._segmenter is None:
            return
        if self._worker is not None:
            self._again = True
            return
        image, points, boxes, labels = self._layers
        dims = self._viewer.dims
        if tuple(dims.displayed) != (dims.ndim - 2, dims.ndim - 1):
            show_warning("only the image's own planes can be segmented: show its last two axes")
            return
        at = np.round(labels.world_to_data(dims.point)[:-2]).astype(int)
        place = tuple(np.clip(at, 0, np.subtract(labels.data.shape[:-2], 1)).tolist())
        kinds = points.features["kind"].tolist()
        prompt = prompt_of(points.data, kinds, boxes.data, place, labels.data.shape[-2:])
        if not prompt:
            self._show(place, None)
            return
        limits = (float(image.contrast_limits[0]), float(image.contrast_limits[1]))
        self._said.value = "…"
        self._worker = create_worker(self._answer, image, place, limits, prompt)
        self._worker.returned.connect(lambda found: self._show(place, found))
        self._worker.finished.connect(self._finished)
        self._worker.start()

    def _answer(
        self, image: Image, place: Place, limits: tuple[float, float], prompt: Prompt
    ) -> Found | str:
        """Segment, in a thread; return what is wrong where that fails."""
        assert self._segmenter is not None
        try:
            plane = place, limits, id(image.data)
            if plane not in self._pngs:
                self._pngs = {plane: png_of(plane_of(image.data, image.rgb, place), limits)}
            return self._segmenter.segment(
                self._pngs[plane], prompt.points or None, prompt.labels or None, prompt.box
            )
        except SamtrtError as error:
            return str(error)

    def _finished(self) -> None:
        self._worker = None
        if self._again:
            self._again = False
            self._ask()

    def _show(self, place: Place, found: Found | str | None) -> None:
        """Draw the mask as the label that is selected; where other objects are, they stay."""
        if isinstance(found, str):
            self._said.value = ""
            show_warning(found)
            return
        assert self._layers is not None
        labels = self._layers[3]
        number = labels.selected_label
        plane = np.array(labels.data[place])
        plane[plane == number] = 0
        if found is not None:
            plane[found.mask & (plane == 0)] = number
            self._said.value = f"object {number}: score {found.score:.2f}"
        labels.data[place] = plane
        labels.refresh()

    def close_model(self) -> None:
        """Free the engines, or the connections."""
        segmenter, self._segmenter = self._segmenter, None
        if segmenter is not None:
            segmenter.close()
