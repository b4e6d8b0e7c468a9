"""What `sam_model_registry` returns: a model directory, or a checkpoint, to be run.

A model directory runs on ONNX Runtime unless another backend is named. A checkpoint runs on PyTorch
in float32, as it does in the official package; it is never exported behind the user's back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from samtrt.backends import BackendOptions
from samtrt.choices import BackendName, Stage
from samtrt.errors import BackendError, CheckpointError, ManifestError
from samtrt.manifest import MANIFEST_NAME, Manifest
from samtrt.predictor import Predictor
from samtrt.registry import MODELS


@dataclass(frozen=True)
class EncoderFacts:
    """Of the encoder.

    Attributes:
        img_size: Side of its input.
    """

    img_size: int


class SamModel:
    """A model that `SamPredictor` and `SamAutomaticMaskGenerator` run.

    Attributes:
        source: The model directory or the checkpoint.
        backend: What runs it: `pytorch` for a checkpoint; else `onnxruntime`, unless named.
    """

    image_format = "RGB"

    def __init__(
        self,
        source: str | Path,
        name: str | None = None,
        backend: BackendName | str | None = None,
        device: object = None,
    ) -> None:
        """Name what is to run; engines are loaded when they are first needed.

        Args:
            source: A model directory, or a checkpoint.
            name: Name of the model that it must be, such as "vit_b"; None takes what it is.
            backend: A backend of a model directory. A checkpoint runs on `pytorch` alone.
            device: "cpu", "cuda", "cuda:N" or a `torch.device`; None is the backend's own.

        Raises:
            CheckpointError, ManifestError: where there is none, or it is another model.
            BackendError: where a checkpoint is to run on another backend than `pytorch`.
        """
        self.source = Path(source)
        self._device = None if device is None else str(device)
        is_directory = (self.source / MANIFEST_NAME).is_file()
        default = BackendName.ONNXRUNTIME if is_directory else BackendName.PYTORCH
        self.backend = BackendName(backend) if backend in list(BackendName) else backend or default
        if not is_directory:
            if self.backend != BackendName.PYTORCH:
                raise BackendError(
                    f"{source} is a checkpoint, which runs on the pytorch backend alone, not on "
                    f"'{backend}': export it with samtrt export and name the model directory"
                )
            from samtrt.backends.pytorch import manifest_of
            from samtrt.checkpoints.load import load_checkpoint

            self._checkpoint = load_checkpoint(self.source, model=name)
            self.manifest = manifest_of(self._checkpoint)
            return
        if self.backend == BackendName.PYTORCH:
            raise BackendError(
                f"{source} is a model directory; the pytorch backend runs its checkpoint: name that"
            )
        self.manifest = Manifest.load(self.source)
        if name is not None and self.manifest.model != name:
            raise ManifestError(
                f"{source} holds {self.manifest.model}, not {name}: use "
                f"sam_model_registry['{self.manifest.model}'], or SamPredictor('{source}')"
            )

    @cached_property
    def predictor(self) -> Predictor:
        """The engines."""
        if self.backend == BackendName.PYTORCH:
            from samtrt.backends.pytorch import open_checkpoint

            device = self._device or "cpu"
            stages = open_checkpoint(self._checkpoint, self.manifest, device)
            return Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], self.manifest)
        options = BackendOptions() if self._device is None else BackendOptions(device=self._device)
        return Predictor.load(self.source, self.backend, options)

    @property
    def device(self) -> str:
        """Where it runs: "cpu", or "cuda:N"."""
        return self.predictor.encoder.device

    @property
    def image_encoder(self) -> EncoderFacts:
        """What code for the official package asks of its encoder."""
        return EncoderFacts(self.manifest.image_size)

    @property
    def mask_threshold(self) -> float:
        """Logits above it are mask."""
        return self.manifest.mask_threshold

    def __call__(
        self, batched_input: Sequence[Mapping[str, Any]], multimask_output: bool
    ) -> list[dict[str, Any]]:
        """Segment prompts in several images: official `Sam.forward`; needs PyTorch.

        Args:
            batched_input: For each image `image`, a tensor [3, h, w], 0..255, as
                `ResizeLongestSide` makes it; `original_size`, (H, W); and its prompts in the
                model's frame: `point_coords` [P, N, 2] with `point_labels` [P, N], `boxes` [P, 4],
                `mask_inputs` [P, 1, M, M].
            multimask_output: Three masks for each prompt, or one.

        Returns:
            For each image `masks`, bool [P, C, H, W], `iou_predictions` [P, C] and
            `low_res_logits` [P, C, M, M], tensors on the device of its image.

        Raises:
            ImageError, PromptError: as `SamPredictor` does.
        """
        from samtrt.official.predictor import SamPredictor

        answers = []
        for record in batched_input:
            predictor = SamPredictor(self)
            predictor.set_torch_image(record["image"][None], record["original_size"])
            masks, scores, low_res = predictor.predict_torch(
                record.get("point_coords"),
                record.get("point_labels"),
                record.get("boxes"),
                record.get("mask_inputs"),
                multimask_output,
            )
            found = {"masks": masks, "iou_predictions": scores, "low_res_logits": low_res}
            device = getattr(record["image"], "device", "cpu")
            answers.append({name: one.to(device) for name, one in found.items()})
        return answers

    def to(self, device: object) -> SamModel:
        """Run it there from now on."""
        if str(device) != self._device:
            self.close()
            self._device = str(device)
        return self

    def cuda(self) -> SamModel:
        """Run it on the first GPU."""
        return self.to("cuda")

    def cpu(self) -> SamModel:
        """Run it on the CPU."""
        return self.to("cpu")

    def eval(self) -> SamModel:
        """Return it: it never trains."""
        return self

    def close(self) -> None:
        """Free the engines; they are loaded again where they are needed."""
        predictor = self.__dict__.pop("predictor", None)
        if predictor is not None:
            predictor.close()

    def __repr__(self) -> str:
        return f"<{self.manifest.model} of {self.source} on {getattr(self.backend, 'value', '?')}>"


def as_model(model: SamModel | str | Path) -> SamModel:
    """Return a model itself, or the model of a directory or checkpoint.

    Raises:
        CheckpointError: where it is neither.
    """
    if isinstance(model, SamModel):
        return model
    if isinstance(model, str | Path):
        return SamModel(model)
    raise CheckpointError(
        f"a model is what sam_model_registry gives, a model directory or a checkpoint, not "
        f"{type(model).__name__}"
    )


def _build(name: str, checkpoint: str | Path | None = None, **options: Any) -> SamModel:
    if checkpoint is None:
        raise CheckpointError(
            f"{name} needs weights: sam_model_registry['{name}'](checkpoint='a checkpoint or a "
            "model directory')"
        )
    return SamModel(checkpoint, name, **options)


sam_model_registry: dict[str, Callable[..., SamModel]] = {
    name: partial(_build, name) for name in MODELS
}
"""By model name, what takes `checkpoint` (a file, or a model directory), `backend` and `device`.
"default" is vit_h, as in the official package."""
sam_model_registry["default"] = sam_model_registry["vit_h"]
