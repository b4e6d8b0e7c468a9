"""EdgeTAM through videos, frame by frame beside `transformers`' `EdgeTamVideoModel`.

What a user's correction of a frame and a user's mask do is the official predictor's code, which
EdgeTAM shares with SAM 2 (`test_predictor.py`) and `transformers` has otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samtrt.backends.pytorch import PyTorchBackend, manifest_of
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import BackendName, ResizeFilter, Stage, VideoStage
from samtrt.manifest import Manifest
from samtrt.masks.logits import mask_iou
from samtrt.preparation import host
from samtrt.registry import RepViTSpec, get_spec
from samtrt.video.engines import VideoEngines
from samtrt.video.masks import at_size
from samtrt.video.predictor import VideoPredictor
from samtrt.video.session import StreamingSession
from support.edgetam import hugging_face_edgetam
from support.videos import moving_picture

FRAMES, SIZE = 24, (96, 160)
SMALL = get_spec("edgetam_t")
assert isinstance(SMALL, RepViTSpec)

PROMPTS: list[tuple[int, int, dict[str, Any]]] = [
    (8, 1, {"points": [[100, 40]], "labels": [1]}),
    (8, 2, {"points": [[90, 60], [20, 20]], "labels": [1, 0]}),
    (8, 5, {"box": [60, 30, 110, 80]}),
    (16, 2, {"points": [[60, 50]], "labels": [1]}),
]


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return moving_picture(FRAMES, SIZE)


@pytest.fixture(scope="module")
def ours(edgetam_checkpoint: Path) -> Iterator[VideoPredictor]:
    checkpoint = load_checkpoint(edgetam_checkpoint)
    manifest, sam = manifest_of(checkpoint), load_sam(checkpoint)
    stages = {stage: PyTorchBackend(sam, manifest, stage) for stage in (Stage.ENCODER, *VideoStage)}
    engines = VideoEngines(manifest, stages.pop(Stage.ENCODER), stages)
    with VideoPredictor(engines, fill_hole_area=0) as predictor:
        yield predictor


class Theirs:
    """Their model on a video, with frames as the official code prepares them."""

    def __init__(self, checkpoint: Path, frames: list[np.ndarray]) -> None:
        from transformers.models.edgetam_video.modeling_edgetam_video import (
            EdgeTamVideoInferenceSession,
        )

        loaded = load_checkpoint(checkpoint)
        self.model = hugging_face_edgetam(SMALL, loaded.state_dict).video
        encode = self.model._encode_new_memory

        def as_stored(**given: Any) -> Any:
            # The official code keeps memories in bfloat16.
            memory, places = encode(**given)
            return memory.bfloat16().float(), places

        self.model._encode_new_memory = as_stored
        changes = {"filter": ResizeFilter.BICUBIC, "rounded": True}
        preparation = loaded.preparation.model_copy(update=changes)
        manifest = manifest_of(loaded)
        pixels = [host.preprocess(one, manifest.frame(SIZE), preparation)[0] for one in frames]
        video = torch.from_numpy(np.stack(pixels))
        self.session = EdgeTamVideoInferenceSession(video, *SIZE, dtype=torch.float32)

    def prompt(
        self, frame: int, obj_id: int, points: Any = (), labels: Any = (), box: Any = ()
    ) -> None:
        coords = np.concatenate([np.reshape(box, (-1, 2)), np.reshape(points, (-1, 2))])
        scaled = coords / SIZE[::-1] * SMALL.image_size
        kinds = [*((2, 3) if len(box) else ()), *labels]
        self.session.add_point_inputs(
            self.session.obj_id_to_idx(obj_id),
            frame,
            {
                "point_coords": torch.tensor(scaled, dtype=torch.float32)[None, None],
                "point_labels": torch.tensor(kinds)[None, None],
            },
        )

    def say(self, frame: int) -> None:
        """Find the objects that are prompted on a frame, on this frame."""
        at = {one for f, one, _ in PROMPTS if f == frame}
        ids = [one for one in self.session.obj_ids if one in at]
        # Objects that are not prompted there are no business of this frame yet.
        for obj_id in ids:
            index = self.session.obj_id_to_idx(obj_id)
            self.session.obj_with_new_inputs = [obj_id]
            out = self.model._run_single_frame_inference(
                inference_session=self.session, obj_idx=index, frame_idx=frame, batch_size=1,
                is_init_cond_frame=True, mask_inputs=None, reverse=False, run_mem_encoder=True,
                point_inputs=self.session.point_inputs_per_obj[index][frame],
            )  # fmt: skip
            self.session.store_output(index, frame, output_value=out, is_conditioning_frame=True)
        self.session.obj_with_new_inputs = []

    def follow(self, start: int, reverse: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        with torch.inference_mode():
            for out in self.model.propagate_in_video_iterator(self.session, start, reverse=reverse):
                yield out.frame_idx, out.pred_masks[:, 0].numpy()


def test_three_objects_forward_and_backward(
    ours: VideoPredictor, edgetam_checkpoint: Path, frames: list[np.ndarray]
) -> None:
    theirs, state = Theirs(edgetam_checkpoint, frames), ours.init_state(frames)
    for frame, obj_id, prompt in PROMPTS:
        ours.add_new_points_or_box(state, frame, obj_id, **prompt)
        theirs.prompt(frame, obj_id, **prompt)
    with torch.inference_mode():
        for frame in (8, 16):
            theirs.say(frame)
    masks, gone, seen = [], 0, 0
    for reverse in (False, True):
        found = ours.propagate_in_video(state, 8, reverse=reverse)
        for (frame, ids, logits), (at, low) in zip(found, theirs.follow(8, reverse), strict=True):
            assert (frame, ids) == (at, [1, 2, 5])
            expected = at_size([*low], SIZE)
            for mine, other in zip(logits, expected, strict=True):
                assert mask_iou(mine > 0, other > 0) >= 0.999
                gone += not (other > 0).any()
            assert np.abs(logits - expected).max() <= 2e-2 * np.abs(expected).max()
            masks.append(logits > 0)
            seen += 1
    assert seen == FRAMES + 1
    assert 3 < gone < seen * 3 - 3
    assert 0.01 < np.mean(masks) < 0.99


@pytest.mark.parametrize("backend", [BackendName.ONNXRUNTIME, BackendName.OPENVINO])
def test_engines_follow_as_the_checkpoint_does(
    ours: VideoPredictor, edgetam_model: Path, frames: list[np.ndarray], backend: BackendName
) -> None:
    """Its directory says by itself of what shape memories are."""
    mask = np.zeros(SIZE, bool)
    mask[40:70, 20:60] = True
    with VideoPredictor.load(edgetam_model, backend) as predictor:
        predictor.fill_hole_area = 0
        both = (predictor, ours)
        states = [one.init_state(frames[:12]) for one in both]
        for one, state in zip(both, states, strict=True):
            one.add_new_points_or_box(state, 4, 1, points=[[100, 40]], labels=[1])
            one.add_new_mask(state, 4, 7, mask)
        found = [
            found
            for reverse in (False, True)
            for found in zip(
                *(
                    one.propagate_in_video(state, 4, reverse=reverse)
                    for one, state in zip(both, states, strict=True)
                ),
                strict=True,
            )
        ]
        memory = states[0].tracks[1].prompted[4].memory
    assert memory is not None
    assert memory.shape == Manifest.load(edgetam_model).video.memory_shape(8) == (28, 64)
    assert len(found) == 13
    for (frame, ids, mine), (at, known, theirs) in found:
        assert (frame, ids) == (at, known)
        for one, other in zip(mine > 0, theirs > 0, strict=True):
            assert mask_iou(one, other) >= 0.999


def test_a_camera_is_followed_as_a_video_is(ours: VideoPredictor, frames: list[np.ndarray]) -> None:
    state, session = ours.init_state(frames[:10]), StreamingSession(ours)
    session.track(frames[0])
    prompt: dict[str, Any] = {"points": [[100, 40]], "labels": [1]}
    ours.add_new_points_or_box(state, 0, 1, **prompt)
    session.add_new_points_or_box(1, **prompt)
    for number, ids, expected in ours.propagate_in_video(state):
        if number:
            got = session.track(frames[number])
            assert got[:2] == (number, ids)
            np.testing.assert_allclose(got[2], expected, atol=1e-3)
