"""What `peers.py` compares: each subject encodes an image and answers prompts in its own way.

Weights, threads and pictures are the same for all. Masks come back at the picture's size.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from peer_samexporter import Samexporter, SamexporterLean
from peer_subject import Point, Subject


class Samtrt(Subject):
    own = True
    backend: ClassVar[str]
    directory: ClassVar[str] = "samtrt"

    @classmethod
    def prepare(cls, work: Path) -> None:
        if (work / cls.directory / "samtrt.json").exists():
            return
        from samtrt.checkpoints.load import load_checkpoint
        from samtrt.choices import AttentionForm
        from samtrt.export.onnx import ExportOptions, export_model

        options = ExportOptions(attention=AttentionForm.TILED)
        export_model(load_checkpoint(work / "vit.pth"), work / cls.directory, options)

    def __init__(self, work: Path, threads: int) -> None:
        from samtrt.backends import BackendOptions
        from samtrt.predictor import Predictor

        options = BackendOptions(threads=threads, checkpoint=work / "vit.pth")
        self.predictor = Predictor.load(work / self.directory, self.backend, options)

    def set_image(self, image: np.ndarray) -> None:
        self.predictor.set_image(image)

    def click(self, point: Point) -> np.ndarray:
        return self.predictor.predict([point], [1]).masks

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        return self.predictor.predict_batch(boxes=boxes, multimask_output=False).masks[:, 0]


class SamtrtOnnxRuntime(Samtrt):
    backend = "onnxruntime"


class SamtrtOpenVino(Samtrt):
    backend = "openvino"


class SamtrtOpenVinoBf16(Samtrt):
    backend = "openvino-bf16"


class SamtrtPyTorch(Samtrt):
    backend = "pytorch"

    def __init__(self, work: Path, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        super().__init__(work, threads)


class SamtrtInt8(SamtrtOnnxRuntime):
    directory = "samtrt-int8"

    @classmethod
    def prepare(cls, work: Path) -> None:
        SamtrtOnnxRuntime.prepare(work)
        if (work / cls.directory / "samtrt.json").exists():
            return
        from samtrt import assets
        from samtrt.export.quantize import QuantizeOptions, quantize_model
        from samtrt.images import read_image

        # Every layer: how much seeded weights lose says nothing, and takes long to measure.
        quantize_model(
            work / SamtrtOnnxRuntime.directory,
            work / cls.directory,
            {"photograph": read_image(assets.DEMO_PHOTOGRAPH)},
            QuantizeOptions(keep=()),
        )


class Official(Subject):
    """segment-anything 1.0 on PyTorch, as published."""

    def __init__(self, work: Path, threads: int) -> None:
        import torch

        from official_packages import official_sam, segment_anything_oracle
        from samtrt.registry import get_spec

        torch.set_num_threads(threads)
        model = official_sam(get_spec("vit_b"))
        model.load_state_dict(torch.load(work / "vit.pth", weights_only=True))
        self.predictor = segment_anything_oracle().SamPredictor(model)

    def set_image(self, image: np.ndarray) -> None:
        self.predictor.set_image(image)

    def click(self, point: Point) -> np.ndarray:
        masks, _, _ = self.predictor.predict(np.array([point]), np.array([1]))
        return masks

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        import torch

        size = self.predictor.original_size
        scaled = self.predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), size)
        masks, _, _ = self.predictor.predict_torch(None, None, scaled, multimask_output=False)
        return masks[:, 0].numpy()


class Transformers(Subject):
    """`transformers.SamModel`. Its image processor needs torchvision, which has no CPU build: in
    its place the official preprocessing and postprocessing, which compute the same."""

    attention: ClassVar[str]

    def __init__(self, work: Path, threads: int) -> None:
        import torch
        from transformers import SamConfig, SamModel

        from official_packages import official_sam, segment_anything_oracle
        from samtrt.checkpoints.layouts import HUGGING_FACE
        from samtrt.registry import get_spec

        torch.set_num_threads(threads)
        self.model = SamModel._from_config(SamConfig(), attn_implementation=self.attention).eval()
        weights = torch.load(work / "vit.pth", weights_only=True)
        names = self.model.state_dict()
        self.model.load_state_dict({name: weights[HUGGING_FACE.official(name)] for name in names})
        segment_anything_oracle()
        module = importlib.import_module("segment_anything.utils.transforms")
        self.transform = module.ResizeLongestSide(1024)
        with torch.device("meta"):
            official_model = official_sam(get_spec("vit_b"))
        self.preprocess = official_model.preprocess
        self.postprocess = official_model.postprocess_masks
        official_model.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1)
        official_model.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)

    def set_image(self, image: np.ndarray) -> None:
        import torch

        self.size = image.shape[:2]
        resized = self.transform.apply_image(image)
        self.input_size = resized.shape[:2]
        pixels = torch.from_numpy(resized).permute(2, 0, 1)[None].contiguous()
        with torch.no_grad():
            self.embedding = self.model.get_image_embeddings(self.preprocess(pixels))

    def _masks(self, **prompt: Any) -> np.ndarray:
        import torch

        with torch.no_grad():
            out = self.model(image_embeddings=self.embedding, **prompt)
            logits = out.pred_masks[0]  # [P, C, 256, 256]
            return (self.postprocess(logits, self.input_size, self.size) > 0).numpy()

    def click(self, point: Point) -> np.ndarray:
        import torch

        coords = self.transform.apply_coords(np.array([[[point]]], dtype=np.float32), self.size)
        labels = torch.ones(1, 1, 1, dtype=torch.long)
        return self._masks(input_points=torch.from_numpy(coords).float(), input_labels=labels)[0]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        import torch

        scaled = torch.from_numpy(self.transform.apply_boxes(boxes, self.size)).float()
        return self._masks(input_boxes=scaled[None], multimask_output=False)[:, 0]


class TransformersSdpa(Transformers):
    attention = "sdpa"


class TransformersEager(Transformers):
    attention = "eager"


SUBJECTS: dict[str, type[Subject]] = {
    "segment-anything 1.0": Official,
    "transformers sdpa": TransformersSdpa,
    "transformers eager": TransformersEager,
    "samexporter 0.5": Samexporter,
    "samexporter 0.5, lean": SamexporterLean,
    "samtrt onnxruntime": SamtrtOnnxRuntime,
    "samtrt openvino": SamtrtOpenVino,
    "samtrt openvino-bf16": SamtrtOpenVinoBf16,
    "samtrt pytorch": SamtrtPyTorch,
    "samtrt onnxruntime int8": SamtrtInt8,
}
