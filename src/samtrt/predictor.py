"""Prompted segmentation: encode an image once, then answer prompts.

`Predictor` has the methods of the official `SamPredictor`, with its argument names, shapes and
meaning; it knows runtimes only as `backends.base.Backend`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from samtrt.backends import BackendOptions, open_backend
from samtrt.backends.base import Backend
from samtrt.choices import BackendName, Precision, Stage
from samtrt.decoding import Decoding
from samtrt.encoding import Image, encode_each, encode_together, prepare
from samtrt.errors import ImageError, PromptError, SamtrtError
from samtrt.feature_maps import IMAGE_EMBEDDINGS
from samtrt.manifest import Manifest
from samtrt.masks.prediction import Prediction
from samtrt.masks.rle import Rle
from samtrt.preparation.prompts import build_prompts, check_pixels, one_prompt
from samtrt.types import (
    Closeable,
    Embedding,
    FloatArray,
    Size,
)

if TYPE_CHECKING:
    from samtrt.preparation.jpeg import JpegReader

T = TypeVar("T")


class Predictor(Decoding, Closeable):
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
        super().__init__(decoder, manifest, prompts_per_run)
        self.encoder = encoder
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

    def jpeg_reader(self) -> JpegReader:
        """Return what reads pictures as `read_image`, but decodes JPEG on the encoder's GPU.

        For `set_image`, `encode` and `encode_many`: `set_image(read("photo.jpg"))`. What it reads
        on the host, because the GPU does not take it, is an array of NumPy. Opening takes a moment:
        keep it.

        Raises:
            BackendError: where images are not prepared on a GPU.
            MissingExtraError: where nvImageCodec is not installed.
        """
        from samtrt.preparation.jpeg import JpegReader  # which takes all readers of pictures along

        return JpegReader(self.encoder.memory)

    def encode_many(
        self, items: Iterable[T], read: Callable[[T], Image] | None = None
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
        expected = {one.name: (1, *one.shape) for one in self.manifest.maps}
        found = {name: tuple(one.shape) for name, one in embedding.maps.items()}
        if found != expected:
            raise ImageError(
                f"the embedding has {_shapes(found)} and {self.manifest.model} gives "
                f"{_shapes(expected)}: encode the image with this model"
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
            point_labels: [N], 1 for foreground, 0 for background, -1 for padding.
            box: [4], XYXY in the image's own pixels; also [1, 4], or two corners [2, 2].
            mask_input: [1, M, M], low-res logits of an earlier prediction (M = 256 at S = 1024).
            multimask_output: Return three masks (better for one ambiguous point) or one; of a
                SAM-HQ the best of the three, or one.
            return_logits: Return logits instead of boolean masks.

        Returns:
            Masks [C, H, W], IoU predictions [C] and low-res logits [C, M, M]; C is 3 or 1.

        Raises:
            PromptError: where no image is set or a prompt is not usable with it.
        """
        embedding = self.embedding
        prompt = one_prompt(point_coords, point_labels, box, mask_input)
        check_pixels(embedding.frame, prompt.get("point_coords"), prompt.get("boxes"))
        prompts = build_prompts(embedding.frame, beyond=False, **prompt)
        batch = self.form(embedding, prompts, multimask_output, return_logits)
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
        check_pixels(embedding.frame, point_coords, boxes)
        prompts = build_prompts(embedding.frame, point_coords, point_labels, boxes, mask_input)
        return self.form(embedding, prompts, multimask_output, return_logits)

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
        check_pixels(embedding.frame, point_coords, boxes)
        prompts = build_prompts(embedding.frame, point_coords, point_labels, boxes, mask_input)
        return self.form_rle(embedding, prompts, multimask_output)

    def close(self) -> None:
        """Free both engines."""
        self.reset_image()
        self.encoder.close()
        self.decoder.close()


def _shapes(maps: Mapping[str, tuple[int, ...]]) -> str:
    """Name maps and their shapes; the one that every model has by its shape alone."""
    return " and ".join(
        f"the shape {shape}" if name == IMAGE_EMBEDDINGS else f"{name} {shape}"
        for name, shape in maps.items()
    )
