"""What `peers.py` compares: each subject encodes an image and answers prompts in its own way.

Weights, threads and pictures are the same for all. Masks come back at the picture's size.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

Point = tuple[float, float]


class Subject(ABC):
    """One implementation, opened in `__init__` from the files that `prepare` left in `work`."""

    own: ClassVar[bool] = False
    batches: ClassVar[bool] = True
    """Whether many boxes are one call; else `boxes` is a loop of calls."""

    @classmethod
    def prepare(cls, work: Path) -> None:
        """Make from `work/vit.pth` what opening needs; not timed. Here nothing."""
        del work

    @abstractmethod
    def __init__(self, work: Path, threads: int) -> None: ...

    @abstractmethod
    def set_image(self, image: np.ndarray) -> None:
        """Encode uint8 [H, W, 3]."""

    @abstractmethod
    def click(self, point: Point) -> np.ndarray:
        """Answer one point with three masks, bool [3, H, W]."""

    @abstractmethod
    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Answer boxes [P, 4] with a mask each, bool [P, H, W]."""


class Samtrt(Subject):
    own = True
    backend: ClassVar[str]
    directory: ClassVar[str] = "samtrt"

    @classmethod
    def prepare(cls, work: Path) -> None:
        if (work / cls.directory / "samtrt.json").exists():
            return
        from samtrt.checkpoints import load_checkpoint
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

        from oracle import official_sam, segment_anything_oracle
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

        from oracle import official_sam, segment_anything_oracle
        from samtrt.checkpoints import _HF_RENAMES
        from samtrt.registry import get_spec

        torch.set_num_threads(threads)
        self.model = SamModel._from_config(SamConfig(), attn_implementation=self.attention).eval()
        weights = torch.load(work / "vit.pth", weights_only=True)
        state = {}
        for name in self.model.state_dict():
            official = name
            for pattern, replacement in _HF_RENAMES:
                official = pattern.sub(replacement, official)
            state[name] = weights[official]
        self.model.load_state_dict(state)
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


class Samexporter(Subject):
    """samexporter's ONNX files and its own runtime class on ONNX Runtime."""

    batches = False
    opened: ClassVar[Any] = None

    @classmethod
    def prepare(cls, work: Path) -> None:
        paths = work / "peer-encoder.onnx", work / "peer-decoder.onnx"
        if all(path.exists() for path in paths):
            return
        import torch

        from oracle import official_sam, segment_anything_oracle
        from samtrt.registry import get_spec

        segment_anything_oracle()
        encoder_of = importlib.import_module("samexporter.onnx_utils").ImageEncoderOnnxModel
        decoder_of = importlib.import_module("segment_anything.utils.onnx").SamOnnxModel
        sam = official_sam(get_spec("vit_b"))
        sam.load_state_dict(torch.load(work / "vit.pth", weights_only=True))
        # As in its export_encoder.py and export_decoder.py.
        common: dict[str, Any] = {"opset_version": 18, "dynamo": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                encoder_of(model=sam, use_preprocess=False),
                (torch.randn(1, 3, 1024, 1024),),
                str(paths[0]),
                input_names=["input_image"],
                output_names=["image_embeddings"],
                **common,
            )
            example = {
                "image_embeddings": torch.randn(1, 256, 64, 64),
                "point_coords": torch.randint(0, 1024, (1, 5, 2)).float(),
                "point_labels": torch.randint(0, 4, (1, 5)).float(),
                "mask_input": torch.randn(1, 1, 256, 256),
                "has_mask_input": torch.ones(1),
                "orig_im_size": torch.tensor([1500.0, 2250.0]),
            }
            points = {1: "num_points"}
            torch.onnx.export(
                decoder_of(model=sam, return_single_mask=False),
                tuple(example.values()),
                str(paths[1]),
                input_names=list(example),
                output_names=["masks", "iou_predictions", "low_res_masks"],
                dynamic_axes={"point_coords": points, "point_labels": points},
                **common,
            )

    def __init__(self, work: Path, threads: int) -> None:
        import onnxruntime as ort

        if Samexporter.opened is not None:  # its other subject's: each holds 4 GB
            self.model = Samexporter.opened
            return
        module = importlib.import_module("samexporter.sam_onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        plain, cpu = ort.InferenceSession, ["CPUExecutionProvider"]

        def with_threads(path: str, providers: Any = None) -> Any:
            del providers
            return plain(path, options, providers=cpu)

        ort.InferenceSession = with_threads
        try:
            paths = (str(work / f"peer-{stage}.onnx") for stage in ("encoder", "decoder"))
            self.model = Samexporter.opened = module.SegmentAnythingONNX(*paths)
        finally:
            ort.InferenceSession = plain

    def set_image(self, image: np.ndarray) -> None:
        self.embedding = self.model.encode(np.ascontiguousarray(image[..., ::-1]))

    def _masks(self, kind: str, data: Any) -> np.ndarray:
        mark = {"type": kind, "data": [float(x) for x in data], "label": 1}
        return self.model.predict_masks(self.embedding, [mark])[0] > 0

    def click(self, point: Point) -> np.ndarray:
        return self._masks("point", point)[1:]

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        return np.stack([self._masks("rectangle", box)[0] for box in boxes])


class SamexporterLean(Samexporter):
    """The same ONNX files as well as they can be used: only the low-res output is computed, the
    masks that are wanted are selected before they are brought to size, with one resize."""

    def _masks(self, kind: str, data: Any) -> np.ndarray:
        import cv2

        prompts = importlib.import_module("samexporter.prompts")
        coords, labels = prompts.geometric_prompt_arrays(
            [{"type": kind, "data": list(map(float, data)), "label": 1}]
        )
        size, resized = self.embedding["original_size"], self.embedding["resized_size"]
        if kind == "point":
            coords = np.concatenate([coords, np.zeros((1, 2), np.float32)])
            labels = np.concatenate([labels, -np.ones(1, np.float32)])
        feeds = {
            "image_embeddings": self.embedding["image_embedding"],
            "point_coords": self.model.apply_coords(coords[None], size, 1024).astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(size, np.float32),
        }
        (low,) = self.model.decoder_session.run(["low_res_masks"], feeds)
        wanted = low[0, 1:] if kind == "point" else low[0, :1]
        masks = []
        for logits in wanted:
            padded = cv2.resize(logits, (1024, 1024), interpolation=cv2.INTER_LINEAR)
            cropped = padded[: resized[0], : resized[1]]
            masks.append(cv2.resize(cropped, size[::-1], interpolation=cv2.INTER_LINEAR) > 0)
        return np.stack(masks)

    def click(self, point: Point) -> np.ndarray:
        return self._masks("point", list(point))


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
