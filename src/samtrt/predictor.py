"""Prompted segmentation: encode an image once, then answer prompts.

`Predictor` has the methods of the official `SamPredictor`, with its argument names, shapes and
meaning; it knows runtimes only as `backends.base.Backend`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions, open_backend
from samtrt.backends.base import Backend
from samtrt.choices import BackendName, Precision, Stage
from samtrt.encoding import Image, encode_each, encode_together, prepare
from samtrt.errors import BackendError, ImageError, PromptError, SamtrtError
from samtrt.manifest import Manifest
from samtrt.masks.forming import former_of
from samtrt.masks.rle import Rle
from samtrt.preparation.prompts import DecoderPrompts, build_prompts
from samtrt.types import (
    BoolArray,
    Closeable,
    Embedding,
    FloatArray,
    Prediction,
    Size,
    Tensor,
    UInt8Array,
    to_host,
)

T = TypeVar("T")
Wanted = Callable[[npt.NDArray[np.float32]], BoolArray]

PROMPTS_PER_RUN = 16
"""Prompts in one decoder call, where the engine has no limit: each costs about 30 MB of working
memory at 1024 input."""


class Predictor(Closeable):
    """Segment what prompts point at, on any backend.

    `set_image` and `reset_image` change the predictor's state and are for one thread at a time;
    `encode`, `decode` and `bind` do not.
    """

    def __init__(
        self,
        encoder: Backend,
        decoder: Backend,
        manifest: Manifest,
        prompts_per_run: int | None = None,
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.manifest = manifest
        most = decoder.inputs["point_coords"].max_shape
        # An engine has memory for as many as its profile allows, and is fastest with all of them.
        limit = most[0] if most else None
        asked = prompts_per_run or limit or PROMPTS_PER_RUN
        self.prompts_per_run = min(asked, limit) if limit else asked
        self._embedding: Embedding | None = None

    @classmethod
    def load(
        cls,
        directory: str | Path,
        backend: BackendName | str = BackendName.ONNXRUNTIME,
        options: BackendOptions | None = None,
    ) -> Predictor:
        """Open both engines of a model directory.

        Raises:
            ManifestError: where the directory or a file of it is not as exported.
            BackendError, MissingExtraError: where the backend cannot run here.
        """
        directory = Path(directory)
        manifest = Manifest.load(directory)
        encoder = open_backend(backend, directory, manifest, Stage.ENCODER, options)
        try:
            decoder = open_backend(backend, directory, manifest, Stage.DECODER, options)
        except BaseException:
            encoder.close()
            raise
        return cls(encoder, decoder, manifest)

    @property
    def precision(self) -> str:
        """What the encoder computes in: "fp32", "fp16", "bf16", "int8 dynamic" and the like."""
        own = self.encoder.precision
        if self.manifest.quantized and own != Precision.FP32.value:
            int8 = f"int8 {self.manifest.quantized.method.value}"
            return f"{int8}, {own}" if own else int8
        return own or self.manifest.precision.value

    @property
    def identity(self) -> dict[str, str]:
        """What an embedding depends on beside its image, and so tells whose it is.

        Two int8 encoders may differ in the layers left in float32 and in their scales: they are
        told apart by their file.
        """
        precision = self.precision
        if precision.startswith("int8"):
            precision += f", {self.manifest.files[Stage.ENCODER][0].sha256[:12]}"
        return {
            "model": self.manifest.model,
            "checkpoint_sha256": self.manifest.checkpoint.sha256,
            "precision": precision,
            "preparation": str(self.manifest.preparation),
        }

    def encode(self, image: Image, image_format: Literal["RGB", "BGR"] = "RGB") -> Embedding:
        """Encode an image, uint8 [H, W, 3] with values 0..255, without setting it.

        On a GPU it may be there already: an array of CuPy, PyTorch or another library that shares
        its memory by `__cuda_array_interface__` or `__dlpack__`.

        Raises:
            ImageError: where it is not such an array.
        """
        prepared = prepare(image, self.manifest, image_format, self.encoder.memory)
        return encode_together(self.encoder, [prepared])[0]

    def encode_many(
        self, items: Iterable[T], read: Callable[[T], UInt8Array] | None = None
    ) -> Iterator[tuple[T, Embedding | SamtrtError]]:
        """Encode images one after the other, while threads read and prepare those that follow.

        On a GPU this takes as long as the encoder does; an encoder that takes several images at
        once gets as many. A GPU's embeddings are then copied to the host.

        Args:
            items: Images, uint8 [H, W, 3], or what `read` makes images of, such as paths. Taken a
                few ahead of what is yielded.
            read: Called in threads, with each item; None where items are images.

        Yields:
            Each item, in order, with its embedding, or with the error of reading
            (`ImageError`) or of encoding it.
        """
        return encode_each(self.encoder, self.manifest, items, read)

    def decode(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Decode prompts, a bounded number at a time.

        Returns:
            All four low-res logits [P, 4, M, M] and IoU predictions [P, 4], as the decoder gives
            them; `select_masks` picks those that the official predictor returns.
        """
        logits, scores = [], []
        for _, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds)
            logits.append(out["low_res_masks"])
            scores.append(out["iou_predictions"])
        return _joined(logits), _joined(scores)

    def decode_wanted(
        self, embedding: Embedding, prompts: DecoderPrompts, wanted: Wanted
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Decode prompts and bring back only the masks that their scores ask for.

        Args:
            embedding: As `encode` returns it.
            prompts: P of them.
            wanted: Given IoU predictions [p, 3] of some prompts' three masks, as `select_masks`
                picks them for `multimask_output`, tells which are wanted, [p, 3].

        Returns:
            Low-res logits [K, M, M] of the wanted masks, which they are [K, 2] (prompt and mask),
            and all IoU predictions [P, 3].
        """
        logits, places, scores = [], [], []
        for start, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds, on_host=False)
            masks, score = out["low_res_masks"], to_host(out["iou_predictions"])[:, 1:]
            check_results(score)
            place = np.argwhere(wanted(score))
            # Of four masks, the first is not among the three.
            rows = place @ (masks.shape[1], 1) + 1
            logits.append(to_host(masks.reshape(-1, *masks.shape[2:])[rows]))
            places.append(place + np.array([start, 0]))
            scores.append(score)
        return _joined(logits), np.concatenate(places), np.concatenate(scores)

    def decoded(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode prompts, and yield what each run of the decoder gives, where masks are formed.

        Yields:
            All four low-res logits [p, 4, M, M] and IoU predictions [p, 4] of some prompts: in the
            memory of a GPU where the decoder has one, else on the host.
        """
        for _, feeds in self._runs(embedding, prompts):
            out = self.decoder.run(feeds, on_host=self.decoder.memory is None)
            yield out["low_res_masks"], out["iou_predictions"]

    def _runs(
        self, embedding: Embedding, prompts: DecoderPrompts
    ) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Yield what each run of the decoder takes, after the number of its first prompt."""
        for start in range(0, len(prompts), self.prompts_per_run):
            part = prompts.part(start, start + self.prompts_per_run)
            yield start, {"image_embeddings": embedding.features, **part}

    def bind(self, embedding: Embedding) -> Predictor:
        """Return a predictor on the same engines with this embedding set: cheap, for threads."""
        bound = copy.copy(self)
        bound.set_embedding(embedding)
        return bound

    def set_image(self, image: Image, image_format: Literal["RGB", "BGR"] = "RGB") -> None:
        """Encode an image, uint8 [H, W, 3], for the prompts that follow."""
        self.reset_image()
        self._embedding = self.encode(image, image_format)

    def set_embedding(self, embedding: Embedding) -> None:
        """Use an image that was encoded before, by this model."""
        grid = self.manifest.embedding_size
        expected = (1, self.manifest.embed_channels, grid, grid)
        if embedding.features.shape != expected:
            raise ImageError(
                f"the embedding has the shape {embedding.features.shape} and {self.manifest.model} "
                f"gives {expected}: encode the image with this model"
            )
        if embedding.frame != self.manifest.frame(embedding.original_size):
            raise ImageError(
                "the embedding's image was resized in another way than this model's images are: "
                "encode the image with this model"
            )
        self._embedding = embedding

    def get_image_embedding(self) -> FloatArray:
        """Return the current image embedding, [1, 256, S/16, S/16]."""
        return self.embedding.host_features()

    @property
    def embedding(self) -> Embedding:
        """The current image; raises `PromptError` where none is set."""
        if self._embedding is None:
            raise PromptError("no image is set: call set_image(image) before predicting")
        return self._embedding

    @property
    def original_size(self) -> Size:
        """Height and width of the current image."""
        return self.embedding.original_size

    def reset_image(self) -> None:
        """Forget the current image."""
        self._embedding = None

    reset = reset_image

    def predict(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Segment what one prompt points at in the current image.

        Args:
            point_coords: [N, 2], XY in the image's own pixels.
            point_labels: [N], 1 for foreground and 0 for background.
            box: [4], XYXY in the image's own pixels.
            mask_input: [1, M, M], low-res logits of an earlier prediction (M = 256 at S = 1024).
            multimask_output: Return three masks (better for one ambiguous point) or one.
            return_logits: Return logits instead of boolean masks.

        Returns:
            Masks [C, H, W], IoU predictions [C] and low-res logits [C, M, M]; C is 3 or 1.

        Raises:
            PromptError: where no image is set or a prompt is not usable with it.
        """
        batch = self.predict_batch(
            point_coords=_lead(point_coords),
            point_labels=_lead(point_labels),
            boxes=_lead(box),
            mask_input=_lead(mask_input),
            multimask_output=multimask_output,
            return_logits=return_logits,
        )
        return Prediction(*(array[0] for array in batch))

    def predict_batch(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        boxes: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> Prediction:
        """Segment what P prompts point at: as `predict`, every argument with a leading axis P.

        Args:
            point_coords: [P, N, 2].
            point_labels: [P, N].
            boxes: [P, 4].
            mask_input: [P, 1, M, M].
            multimask_output: Three masks for each prompt, or one.
            return_logits: Return logits instead of boolean masks.

        Returns:
            Masks [P, C, H, W], IoU predictions [P, C] and low-res logits [P, C, M, M].
        """
        embedding = self.embedding
        prompts = build_prompts(embedding.frame, point_coords, point_labels, boxes, mask_input)
        threshold = self.manifest.mask_threshold
        masks, scores, low_res = [], [], []
        for logits, ious in self.decoded(embedding, prompts):
            planes = planes_of(logits, multimask_output)
            former = former_of(logits, embedding.frame)
            flat = logits.reshape(-1, *logits.shape[2:])
            formed = (
                former.logits(flat, planes)
                if return_logits
                else former.masks(flat, planes, threshold)
            )
            masks.append(to_host(formed).reshape(len(logits), -1, *formed.shape[1:]))
            chosen, score = select_masks(to_host(logits), to_host(ious), multimask_output)
            low_res.append(chosen)
            scores.append(score)
        return Prediction(_joined(masks), _joined(scores), _joined(low_res))

    def predict_rle(
        self,
        point_coords: npt.ArrayLike | None = None,
        point_labels: npt.ArrayLike | None = None,
        boxes: npt.ArrayLike | None = None,
        mask_input: npt.ArrayLike | None = None,
        multimask_output: bool = True,
    ) -> tuple[list[list[Rle]], npt.NDArray[np.float32]]:
        """As `predict_batch`, but masks are uncompressed RLE: on a GPU, all that leaves it.

        Returns:
            C masks of each of P prompts, their counts int32 arrays, and IoU predictions [P, C].
        """
        embedding = self.embedding
        prompts = build_prompts(embedding.frame, point_coords, point_labels, boxes, mask_input)
        masks: list[list[Rle]] = []
        scores = []
        for logits, ious in self.decoded(embedding, prompts):
            planes = planes_of(logits, multimask_output)
            flat = logits.reshape(-1, *logits.shape[2:])
            former = former_of(logits, embedding.frame)
            found = former.encode(flat, planes, self.manifest.mask_threshold)
            each = len(planes) // len(logits)
            masks += [found[i : i + each] for i in range(0, len(found), each)]
            scores.append(select_masks(to_host(ious), to_host(ious), multimask_output)[1])
        return masks, _joined(scores)

    def close(self) -> None:
        """Free both engines."""
        self.reset_image()
        self.encoder.close()
        self.decoder.close()


def check_results(*arrays: npt.NDArray[np.float32]) -> None:
    """Raise `BackendError` where an engine gave NaN or infinities: no mask can be told from it."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise BackendError(
            "the engine's results are not numbers (NaN or infinite): compare it with its "
            "checkpoint by: samtrt verify"
        )


def select_masks(
    logits: npt.NDArray[Any], scores: npt.NDArray[Any], multimask_output: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Pick masks 1..3, or mask 0 alone, of [P, 4, ...]: official `MaskDecoder.forward`."""
    chosen = slice(1, None) if multimask_output else slice(0, 1)
    return logits[:, chosen], scores[:, chosen]


def planes_of(logits: Tensor, multimask_output: bool) -> npt.NDArray[np.intp]:
    """Number what `select_masks` picks of [P, 4, ...], where the first two axes are one."""
    planes = np.arange(len(logits) * logits.shape[1]).reshape(len(logits), -1)
    return select_masks(planes, planes, multimask_output)[0].ravel()


def _joined(arrays: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Concatenate, but not where that would copy one array."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _lead(value: npt.ArrayLike | None) -> npt.NDArray[Any] | None:
    """Add the prompt axis to one prompt's argument."""
    if value is None:
        return None
    try:
        return np.asarray(value)[None]
    except ValueError:  # ragged lists
        raise PromptError("a prompt must be an array of numbers, the same count in each") from None
