"""The four engines that follow objects, behind the few calls that tracking is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions, open_backend
from samtrt.backends.base import OBJECT_SCORES, Backend
from samtrt.choices import BackendName, MaskChoice, ResizeFilter, Stage, VideoStage
from samtrt.cuda.memory import all_to_host
from samtrt.decoding import check_results, choose_masks, planes_of
from samtrt.encoding import encode_together, prepare
from samtrt.errors import ManifestError
from samtrt.manifest import Manifest
from samtrt.masks.forming import device_former
from samtrt.preparation.prompts import LABEL_PADDING
from samtrt.types import Closeable, Embedding, Size, Tensor, UInt8Array, to_host
from samtrt.video.masks import at_size
from samtrt.video.memories import Floats, kept
from samtrt.video.tracks import Output, Points, Queues

NO_OBJECT = np.float32(-1024)
"""The logits of an object that is not there (official `NO_OBJ_SCORE`)."""
_PADDING = Points(np.zeros((2, 2), np.float32), np.full(2, LABEL_PADDING, np.float32))


class VideoEngines(Closeable):
    """A model's image encoder and its three engines for video."""

    def __init__(
        self, manifest: Manifest, encoder: Backend, engines: dict[VideoStage, Backend]
    ) -> None:
        if manifest.video is None:
            raise ManifestError(
                f"{manifest.model} follows no objects through videos: take a whole SAM 2 or EdgeTAM"
            )
        self.manifest, self.video = manifest, manifest.video
        self.encoder, self._engines = encoder, engines
        # The official code resizes frames of videos by another filter than images, and to bytes.
        preparation = manifest.preparation.model_copy(
            update={"filter": ResizeFilter.BICUBIC, "rounded": True}
        )
        self._frames = manifest.model_copy(update={"preparation": preparation})

    @classmethod
    def load(
        cls,
        directory: Path,
        backend: BackendName | str = BackendName.ONNXRUNTIME,
        options: BackendOptions | None = None,
        encoder: Backend | None = None,
    ) -> VideoEngines:
        """Open a model directory of a SAM 2 or EdgeTAM, exported with its graphs for video.

        The backend `pytorch` runs the checkpoint, and needs none of these graphs.

        Args:
            directory: Of the model.
            backend: Which runs all four.
            options: How.
            encoder: The image encoder where it is open already, which is then shared. It is closed
                with the others all the same.

        Raises:
            ManifestError: where it is of another model, a file is not as exported, or the backend
                needs graphs that are not there.
            BackendError, MissingExtraError: where the backend cannot run here.
        """
        manifest = Manifest.load(directory)
        if manifest.video is None:
            raise ManifestError(f"{directory} is of no model that follows objects through videos")
        if BackendName(backend) is not BackendName.PYTORCH and not {*VideoStage} <= {
            *manifest.files
        }:
            raise ManifestError(
                f"{directory} has no graphs for videos: export the checkpoint again with --video, "
                f"or follow objects with --backend {BackendName.PYTORCH.value} and --checkpoint"
            )
        opened: list[Backend] = []
        stages = VideoStage if encoder else (Stage.ENCODER, *VideoStage)
        try:
            for stage in stages:
                opened.append(open_backend(backend, directory, manifest, stage, options))
        except BaseException:
            for one in opened:
                one.close()
            raise
        first = encoder or opened.pop(0)
        return cls(manifest, first, dict(zip(VideoStage, opened, strict=True)))

    @property
    def identity(self) -> dict[str, str]:
        """What masks depend on beside the video and what is said of it."""
        return {
            "model": self.manifest.model,
            "checkpoint_sha256": self.manifest.checkpoint.sha256,
            "backend": self.encoder.name,
            "precision": self.encoder.precision or self.manifest.precision.value,
        }

    def encode(self, frame: UInt8Array) -> Embedding:
        """Encode a frame, uint8 [H, W, 3], RGB; on a GPU its maps stay there."""
        prepared = prepare(frame, self._frames, memory=self.encoder.memory)
        return encode_together(self.encoder, [prepared])[0]

    def attend(self, embedding: Embedding, queues: Queues) -> Tensor:
        """Return the frame as each of N objects sees it, where it was made: [N, 256, G, G]."""
        engine = self._engines[VideoStage.MEMORY_ATTENTION]
        feeds = {"image_embeddings": embedding.features, **vars(queues)}
        return engine.run(feeds, on_host=False)["object_embeddings"]

    def find(
        self,
        embedding: Embedding,
        objects: Tensor,
        points: Points | None = None,
        previous: Floats | None = None,
    ) -> list[Output]:
        """Find N objects on a frame.

        Args:
            embedding: Of the frame.
            objects: [N, 256, G, G], as `attend` returns it, or the frame's own features.
            points: What the user points at, of one object.
            previous: Low-res logits [M, M] of one object that the user corrects.
        """
        count = len(objects)
        given = points or Points(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
        several = len(given.labels) <= 1
        if len(given.labels):
            given = Points(
                np.concatenate([given.coords, np.zeros((1, 2), np.float32)]),
                np.append(given.labels, np.float32(LABEL_PADDING)),
            )
        else:
            given = _PADDING  # the official code stands in for a missing point, and pads that
        masks = None if previous is None else np.clip(previous, -32, 32)[None, None]
        logits, ious, scores, pointers = self._decode(embedding, objects, given, masks)
        if several:
            tokens = chosen = ious[:, 1:].argmax(axis=1) + 1
        else:
            chosen = choose_masks(logits, ious, False, MaskChoice.STABLE)[:, 0]
            tokens = np.zeros(count, np.intp)
        planes = logits.reshape(-1, *logits.shape[2:])
        found = to_host(planes[planes_of(chosen[:, None])])
        return [
            Output(
                found[i] if scores[i] > 0 else np.full_like(found[i], NO_OBJECT),
                float(scores[i]),
                pointers[i, tokens[i]].copy(),  # of all, the one that stays
                is_users=points is not None,
            )
            for i in range(count)
        ]

    def take_mask(self, embedding: Embedding, mask: npt.NDArray[np.bool_]) -> Output:
        """Take a user's mask, bool [S, S], for what is found on a frame."""
        size, video = self.manifest.mask_size, self.video
        cells = mask.reshape(size, 4, size, 4).astype(np.float32)
        weights = np.array(video.mask_weights, np.float32).reshape(4, 4)
        prompt = np.einsum("yaxb,ab->yx", cells, weights) + np.float32(video.mask_bias)
        is_there = bool(mask.any())
        *_, pointers = self._decode(
            *(embedding, embedding.features, _PADDING, prompt[None, None]),
            bare=True,
            absent=not is_there,
        )
        return Output(
            small_logits(mask, size), 10.0 if is_there else -10.0, pointers[0, 0], is_users=True
        )

    def _decode(
        self,
        embedding: Embedding,
        objects: Tensor,
        points: Points,
        masks: Floats | None,
        bare: bool = False,
        absent: bool = False,
    ) -> tuple[Tensor, Floats, Floats, Floats]:
        """Return low-res logits, where they were made, and IoU predictions, scores and pointers."""
        count, size = len(objects), self.manifest.mask_size
        ones = np.ones(count, np.float32)
        none = np.broadcast_to(np.float32(0), (count, 1, size, size))
        out = self._engines[VideoStage.VIDEO_DECODER].run(
            {
                "object_embeddings": objects,
                "point_coords": np.repeat(points.coords[None], count, axis=0),
                "point_labels": np.repeat(points.labels[None], count, axis=0),
                "mask_input": none if masks is None else masks.astype(np.float32),
                "has_mask_input": ones * (masks is not None),
                "bare": ones * bare,
                "absent": ones * absent,
                **embedding.further,
            },
            on_host=False,
        )
        ious, scores, pointers = all_to_host(
            [out[name] for name in ("iou_predictions", OBJECT_SCORES, "pointers")]
        )
        check_results(ious, scores, pointers)
        return out["low_res_masks"], ious, scores, pointers

    def remember(self, embedding: Embedding, outputs: Sequence[Output]) -> None:
        """Make what is to be remembered of N objects on a frame."""
        out = self._engines[VideoStage.MEMORY_ENCODER].run(
            {
                "image_embeddings": embedding.features,
                "low_res_masks": np.stack([one.masks for one in outputs])[:, None],
                OBJECT_SCORES: np.array([one.score for one in outputs], np.float32),
                "binarize": np.array([one.is_users for one in outputs], np.float32),
            },
            on_host=False,
        )
        memories = out["memories"]
        if isinstance(memories, np.ndarray):  # those of a GPU are told by what is made of them
            check_results(memories)
        for one, memory in zip(outputs, kept(memories), strict=True):
            one.memory = memory

    def at_size(self, masks: Sequence[Floats], size: Size) -> Floats:
        """Bring low-res logits to the video's size: [N, 1, H, W]."""
        memory = self.encoder.memory
        if memory is None or not masks:
            return at_size(masks, size)
        former = device_former(memory, self.manifest.frame(size))
        planes = memory.upload(np.stack(masks))
        return former.logits(planes, np.arange(len(masks))).numpy()[:, None]

    @property
    def most_prompted(self) -> int | None:
        """How many prompted frames of an object the engines have room for; None for any number."""
        inputs = self._engines[VideoStage.MEMORY_ATTENTION].inputs
        needed = {"has_memory": self.video.memories, "has_pointer": self.video.pointers}
        room = [
            sizes[1] - least + 1
            for name, least in needed.items()
            if (sizes := inputs[name].max_shape)
        ]
        return min(room, default=None)

    @property
    def most_objects(self) -> int | None:
        """How many objects go through the engines at once; None for any number."""
        limits = [
            info.max_shape[0]
            for engine in self._engines.values()
            for info in engine.inputs.values()
            if info.max_shape and info.shape[0] == "objects"
        ]
        return min(limits, default=None)

    def close(self) -> None:
        self.encoder.close()
        for engine in self._engines.values():
            engine.close()


def small_logits(mask: npt.NDArray[np.bool_], size: int) -> Floats:
    """Bring a mask, bool [S, S], to low-res logits of -10 to 10, antialiased: [size, size]."""
    from PIL import Image

    logits = np.where(mask, np.float32(10), np.float32(-10))
    small = Image.fromarray(logits).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32)
