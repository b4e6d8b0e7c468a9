"""napari's plugin: its own manifest reader, layers and widgets, without a window."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samtrt.errors import ImageError
from support.plugins import INTEGRATIONS

FOLDER = INTEGRATIONS / "napari"
MANIFEST = FOLDER / "samtrt_napari" / "napari.yaml"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def decoded(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_planes_are_pictures_as_they_are_shown() -> None:
    from samtrt_napari.prompts import plane_of, png_of

    stack = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    stack[1, 0, 0] = np.nan
    shown = decoded(png_of(plane_of(stack, False, (1,)), (13, 23)))
    assert shown.shape == (3, 4, 3)
    assert shown[..., 0].tolist()[0] == [0, 0, 26, 51]
    assert shown[2, 3].tolist() == [255] * 3
    rgba = np.full((3, 4, 4), 0.5, np.float32)
    assert np.unique(decoded(png_of(plane_of(rgba, True, ()), (0, 1)))).tolist() == [128]
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png_of(colours, (0, 1))), colours)
    with pytest.raises(ImageError, match="3 axes"):
        plane_of(stack, False, ())


def test_prompts_are_what_lies_in_the_plane() -> None:
    from samtrt_napari.prompts import prompt_of

    points = [[1, 10, 20], [0, 10, 20], [1, -0.4, 59.4], [1, 70, 3], [1, 5, 6]]
    kinds = ["object", "object", "background", "object", "background"]
    tall = [[1, 0, 0], [1, 0, 9], [1, 30, 9], [1, 30, 0]]
    beyond = [[1, -9, 20], [1, -9, 99], [1, 20, 99], [1, 20, 20]]
    begun = [[1, 3, 3], [1, 3, 3.5], [1, 3.5, 3.5], [1, 3.5, 3]]
    elsewhere = [[0, 1, 1], [0, 1, 5], [0, 5, 5], [0, 5, 1]]
    prompt = prompt_of(points, kinds, [tall, beyond, begun, elsewhere], (1,), (40, 60))
    assert prompt.points == [(20, 10), (59, 0), (6, 5)]
    assert prompt.labels == [1, 0, 0]
    assert prompt.box == (20, 0, 59, 20)
    assert prompt
    assert not prompt_of(np.empty((0, 3)), [], [elsewhere], (1,), (40, 60))


@pytest.fixture
def _napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    pytest.importorskip("napari")
    pytest.importorskip("qtpy.QtWidgets", exc_type=Exception)


@pytest.mark.long
@pytest.mark.usefixtures("_napari")
def test_naparis_reader_takes_the_manifest() -> None:
    import npe2

    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    manager = npe2.PluginManager()
    manager.register(manifest)
    manager.activate(manifest.name)
    (widget,) = manifest.contributions.widgets
    from samtrt_napari.widget import Segment

    assert manager.commands.get(widget.command) is Segment
    if sys.version_info >= (3, 11):
        import tomllib

        project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
        assert project["name"] == manifest.name
        assert project["entry-points"]["napari.manifest"] == {
            manifest.name: f"samtrt_napari:{MANIFEST.name}"
        }


class Dock:
    """The plugin on a viewer without a window, and what it has warned of."""

    def __init__(self, warned: list[str]) -> None:
        from napari._qt.qt_main_window import _instantiate_dock_widget
        from napari.components import ViewerModel
        from napari.qt import get_qapp
        from samtrt_napari.widget import Segment

        self.app = get_qapp()
        self.viewer = ViewerModel()
        # As napari's window does, which gives it a viewer with public names alone.
        self.widget = _instantiate_dock_widget(Segment, self.viewer)
        self.warned = warned

    def start(self, model: object) -> tuple[Any, Any, Any]:
        """Return points, boxes and labels."""
        self.widget._model.value = str(model)
        self.widget.start()
        return tuple(self.viewer.layers[name] for name in ("points", "boxes", "picture objects"))

    def wait(self, done: Callable[[], object]) -> None:
        until = time.monotonic() + 15
        while not done() or self.widget._worker is not None:
            self.app.processEvents()
            assert time.monotonic() < until, self.warned
            time.sleep(0.005)


@pytest.fixture
def dock(_napari: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dock]:
    from samtrt_napari import widget

    warned: list[str] = []
    monkeypatch.setattr(widget, "show_warning", warned.append)
    dock = Dock(warned)
    yield dock
    dock.wait(lambda: True)
    dock.widget.close_model()


@pytest.mark.long
def test_objects_are_segmented_one_after_the_other(
    dock: Dock, fake_directory: Path, picture: np.ndarray
) -> None:
    dock.viewer.add_image(picture, name="picture", scale=(2, 2), translate=(5, 7))
    points, boxes, labels = dock.start(fake_directory)
    assert labels.data.shape == (120, 200)
    assert labels.scale.tolist() == points.scale.tolist() == boxes.scale.tolist() == [2, 2]
    points.add([60, 50])
    dock.wait(lambda: labels.data.any())
    first = labels.data.copy()
    assert first[60, 50] == 1
    assert set(np.unique(first)) == {0, 1}

    dock.widget._kind.value = "background"
    points.add([60, 51])
    dock.wait(lambda: (labels.data != first).any())
    assert points.features["kind"].tolist() == ["object", "background"]
    points.data = points.data[:1]
    dock.wait(lambda: (labels.data == first).all())

    dock.widget.next_object()
    assert (len(points.data), labels.selected_label) == (0, 2)
    np.testing.assert_array_equal(labels.data, first)
    boxes.add_rectangles([[40, 30], [100, 150]])
    dock.wait(lambda: (labels.data == 2).any())
    np.testing.assert_array_equal(labels.data == 1, first == 1)  # nothing is taken from it
    ys, xs = np.nonzero(labels.data == 2)
    assert abs(ys.max() - 100) <= 2
    assert abs(xs.max() - 150) <= 2
    boxes.data = []
    dock.wait(lambda: not (labels.data == 2).any())
    assert dock.warned == []


@pytest.mark.long
def test_a_box_is_asked_about_when_it_is_finished(
    dock: Dock, fake_directory: Path, picture: np.ndarray
) -> None:
    dock.viewer.add_image(picture, name="picture")
    _, boxes, labels = dock.start(fake_directory)
    from napari.utils import interactions
    from napari.utils._proxies import ReadOnlyWrapper

    boxes.mode = "add_rectangle"
    moments = [
        (interactions.mouse_press_callbacks, "mouse_press", (40, 30)),
        (interactions.mouse_move_callbacks, "mouse_move", (70, 90)),
        (interactions.mouse_move_callbacks, "mouse_move", (100, 150)),
        (interactions.mouse_release_callbacks, "mouse_release", (100, 150)),
    ]
    for happen, kind, at in moments:
        assert dock.widget._worker is None, kind  # half a box is not asked about
        position = np.array(at, float)
        more = {"button": 1, "modifiers": [], "dims_displayed": [0, 1], "dims_point": [0, 0]}
        more |= {"pos": position, "view_direction": None, "up_direction": None}
        dragging = kind == "mouse_move"
        given = SimpleNamespace(type=kind, is_dragging=dragging, position=position, **more)
        happen(boxes, ReadOnlyWrapper(given))
    dock.wait(lambda: labels.data.any())
    ys, xs = np.nonzero(labels.data)
    near = np.abs(np.subtract([ys.min(), xs.min(), ys.max(), xs.max()], [40, 30, 100, 150]))
    assert near.max() <= 2


@pytest.mark.long
def test_the_plane_that_is_shown_is_segmented(dock: Dock, fake_directory: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 4000, (3, 60, 80), dtype=np.uint16)
    dock.viewer.add_image(stack, name="picture", scale=(4, 1, 1))
    points, _, labels = dock.start(fake_directory)
    dock.viewer.dims.set_current_step(0, 2)
    points.add([2, 30, 40])
    dock.wait(lambda: labels.data.any())
    assert labels.data[2, 30, 40] == 1
    assert not labels.data[:2].any()
    dock.viewer.dims.order = (1, 0, 2)
    points.add([2, 31, 40])
    assert "last two axes" in dock.warned[-1]


@pytest.mark.long
def test_what_cannot_be_segmented_is_told_in_a_line(
    dock: Dock, fake_directory: Path, picture: np.ndarray, tmp_path: Path
) -> None:
    dock.widget.start()
    dock.viewer.add_image(picture, name="picture")
    dock.widget._model.value = ""
    dock.widget.start()
    dock.widget._model.value = str(tmp_path / "none")
    dock.widget.start()
    assert [one[:20] for one in dock.warned] == [
        "there is no image la",
        "name a model directo",
        "no model directory a",
    ]
    assert list(dock.viewer.layers) == [dock.viewer.layers["picture"]]
    points, _, labels = dock.start(fake_directory)
    dock.widget._segmenter.close()
    points.add([60, 50])
    dock.wait(lambda: len(dock.warned) == 4)
    assert "is closed" in dock.warned[3]
    assert not labels.data.any()
