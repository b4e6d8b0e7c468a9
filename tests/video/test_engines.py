"""Exported graphs for videos against the checkpoint, frame by frame."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from samtrt.backends import BackendOptions
from samtrt.backends.base import image_inputs
from samtrt.choices import BackendName, Precision, Stage, VideoStage
from samtrt.errors import ManifestError
from samtrt.export.precision import convert, load_graph, save_graph
from samtrt.manifest import FileEntry, Manifest
from samtrt.masks.logits import mask_iou
from samtrt.verification.report import THRESHOLDS
from samtrt.verification.video import built_in_clip, compare_video, follow_clip
from samtrt.video.predictor import VideoPredictor
from samtrt.video.state import Found
from support.videos import moving_picture

SIZE = (96, 160)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return moving_picture(12, SIZE)


@pytest.fixture(scope="module")
def expected(sam2_model: Path, sam2_checkpoint: Path, frames: list[np.ndarray]) -> list[Found]:
    options = BackendOptions(checkpoint=sam2_checkpoint)
    with VideoPredictor.load(sam2_model, "pytorch", options) as predictor:
        return [*follow(predictor, frames)]


def follow(predictor: VideoPredictor, frames: list[np.ndarray]) -> Iterator[Found]:
    """Point, box and mask, corrections of one object, both directions, an object that goes."""
    state = predictor.init_state(frames)
    yield predictor.add_new_points_or_box(state, 4, 1, points=[[100, 40]], labels=[1])
    yield predictor.add_new_points_or_box(state, 4, 2, [[90, 60], [20, 20]], [1, 0])
    yield predictor.add_new_points_or_box(state, 4, 3, box=[60, 30, 110, 80])
    mask = np.zeros(SIZE, bool)
    mask[40:70, 20:60] = True
    yield predictor.add_new_mask(state, 4, 7, mask)
    yield from predictor.propagate_in_video(state)
    yield predictor.add_new_points_or_box(state, 8, 2, points=[[70, 50]], labels=[1])
    yield from predictor.propagate_in_video(state, 8)
    yield from predictor.propagate_in_video(state, 4, reverse=True)
    yield predictor.add_new_points_or_box(state, 0, 9, points=[[30, 30]], labels=[1])  # a second
    yield predictor.add_new_points_or_box(state, 11, 9, points=[[60, 30]], labels=[1])
    predictor.remove_object(state, 1)
    yield from predictor.propagate_in_video(state, 5, max_frame_num_to_track=2)


@pytest.mark.parametrize("backend", [BackendName.ONNXRUNTIME, BackendName.OPENVINO])
def test_engines_follow_as_the_checkpoint_does(
    sam2_model: Path, frames: list[np.ndarray], expected: list[Found], backend: BackendName
) -> None:
    with VideoPredictor.load(sam2_model, backend) as predictor:
        got = [*follow(predictor, frames)]
    gone = 0
    for (frame, ids, mine), (other_frame, other_ids, theirs) in zip(got, expected, strict=True):
        assert (frame, ids) == (other_frame, other_ids)
        for ours, reference in zip(mine > 0, theirs > 0, strict=True):
            gone += not reference.any()
            assert mask_iou(ours, reference) >= 0.999
    assert gone > 0
    assert 0.01 < np.mean([(logits > 0).mean() for *_, logits in got]) < 0.99


def test_half_precision_follows_too(
    sam2_model: Path, sam2_checkpoint: Path, tmp_path: Path
) -> None:
    """What `export --precision fp16` writes, made of the graphs that are there."""
    directory = Path(shutil.copytree(sam2_model, tmp_path / "half"))
    manifest = Manifest.load(directory)
    files = dict(manifest.files)
    for stage in files:
        path = directory / f"{stage.value}.onnx"
        graph = convert(load_graph(path), Precision.FP16, image_inputs(stage, manifest))
        save_graph(graph, path)
        files[stage] = (FileEntry.of(path),)
    manifest.model_copy(update={"precision": Precision.FP16, "files": files}).save(directory)
    clip, options = built_in_clip(), BackendOptions(checkpoint=sam2_checkpoint)
    with VideoPredictor.load(sam2_model, "pytorch", options) as predictor:
        reference = follow_clip(predictor, clip)
    with VideoPredictor.load(directory) as predictor:
        report = compare_video(clip, reference, follow_clip(predictor, clip))
    assert report.failures(THRESHOLDS[Precision.FP16]) == []
    assert min(report.ious) < 1, "it is not the same"


def test_shapes_depend_on_objects_and_queues_alone(sam2_model: Path) -> None:
    manifest = Manifest.load(sam2_model)
    assert manifest.video is not None
    assert (manifest.video.memories, manifest.video.pointers) == (7, 16)
    assert [*manifest.files] == [*Stage, *VideoStage]
    graph = onnx.load(sam2_model / "memory_attention.onnx").graph
    sizes = {dim.dim_param for one in graph.input for dim in one.type.tensor_type.shape.dim}
    assert sizes == {"", "objects", "memories", "pointers"}
    # What was said of complex numbers, indexes and empty rows is not in the graph.
    kinds = {node.op_type for node in graph.node}
    assert kinds.isdisjoint({"IsNaN", "Gather", "GatherND", "ScatterND"})


def test_graphs_for_videos_are_asked_for(sam2_model: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(sam2_model, tmp_path / "images")
    manifest = Manifest.load(directory)
    images = {stage: manifest.files[stage] for stage in Stage}
    manifest.model_copy(update={"files": images}).save(directory)
    with pytest.raises(ManifestError, match="no graphs for videos: export the checkpoint again"):
        VideoPredictor.load(directory)
    assert json.loads((directory / "samtrt.json").read_text())["video"]["memories"] == 7
