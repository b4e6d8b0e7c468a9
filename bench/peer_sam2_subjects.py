"""What `peers_sam2.py` compares: each subject encodes a picture and answers a click in its own way.

Weights, threads and the picture are the same for all. A click gives three masks at the picture's
size, bool [3, H, W].
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from peer_samexporter import sessions_of

MODEL = "sam2.1_hiera_tiny"
CHECKPOINT = "tiny.pt"
Point = tuple[float, float]


class Subject(ABC):
    """One implementation, opened in `__init__` from the files that `prepare` left in `work`."""

    @classmethod
    def prepare(cls, work: Path) -> None:
        """Make from the checkpoint what opening needs; not timed. Here nothing."""
        del work

    @abstractmethod
    def __init__(self, work: Path, threads: int) -> None: ...

    @abstractmethod
    def set_image(self, image: np.ndarray) -> None:
        """Encode uint8 [H, W, 3], RGB."""

    @abstractmethod
    def click(self, point: Point) -> np.ndarray:
        """Answer a point in pixels with three masks, bool [3, H, W]."""


def official_model(work: Path) -> Any:
    """Return the official model with the checkpoint's weights."""
    import torch

    from sam2_official import official_sam2
    from samtrt.registry import HieraSpec, get_spec

    spec = get_spec(MODEL)
    assert isinstance(spec, HieraSpec)
    model = official_sam2(spec)
    weights = torch.load(work / CHECKPOINT, weights_only=True)["model"]
    model.load_state_dict(weights)
    return model


class Official(Subject):
    """`SAM2ImagePredictor` of sam2 1.1.0 on PyTorch, as published."""

    def __init__(self, work: Path, threads: int) -> None:
        import torch

        from sam2_official import official_sam2_predictor

        torch.set_num_threads(threads)
        self.predictor = official_sam2_predictor(official_model(work))

    def set_image(self, image: np.ndarray) -> None:
        self.predictor.set_image(image)

    def click(self, point: Point) -> np.ndarray:
        masks, _, _ = self.predictor.predict(np.array([point]), np.array([1]))
        return np.asarray(masks > 0)


class Transformers(Subject):
    """`transformers.Sam2Model` with sdpa. Its image processor needs torchvision, which has no CPU
    build: in its place the official preparation and bringing to size, which compute the same."""

    def __init__(self, work: Path, threads: int) -> None:
        import torch
        from transformers import Sam2Config, Sam2Model

        from sam2_official import official_sam2_predictor
        from samtrt.checkpoints.layouts import HUGGING_FACE_SAM2
        from samtrt.checkpoints.load import load_checkpoint

        torch.set_num_threads(threads)
        self.model = Sam2Model._from_config(Sam2Config(), attn_implementation="sdpa").eval()
        state, theirs = load_checkpoint(work / CHECKPOINT).state_dict, {}
        for name in self.model.state_dict():
            official = HUGGING_FACE_SAM2.official(name)
            row = HUGGING_FACE_SAM2.splits.get(official)
            theirs[name] = (
                torch.cat([state[row.format(i)] for i in range(4)]) if row else state[official]
            )
        self.model.load_state_dict(theirs)
        self.transforms = official_sam2_predictor(official_model(work))._transforms

    def set_image(self, image: np.ndarray) -> None:
        import torch

        self.size = image.shape[:2]
        with torch.inference_mode():
            self.maps = self.model.get_image_embeddings(self.transforms(image)[None])

    def click(self, point: Point) -> np.ndarray:
        import torch

        with torch.inference_mode():
            coords = self.transforms.transform_coords(
                torch.tensor([[[point]]]), normalize=True, orig_hw=self.size
            )
            labels = torch.ones(1, 1, 1, dtype=torch.int32)
            found = self.model(image_embeddings=self.maps, input_points=coords, input_labels=labels)
            masks = self.transforms.postprocess_masks(found.pred_masks[0], self.size)
        return np.asarray(masks[0] > 0)


class Samexporter(Subject):
    """samexporter's SAM 2 graphs on ONNX Runtime, driven by its own classes.

    Its `SegmentAnything2ONNX` brings the best of the three masks to the picture's size and drops
    the others: here all three, with the same resize. It shrinks pictures without antialiasing.
    """

    @classmethod
    def prepare(cls, work: Path) -> None:
        paths = [work / f"peer-{stage}.onnx" for stage in ("encoder", "decoder")]
        if all(path.exists() for path in paths):
            return
        import torch

        exporter = _samexporter_exporter()
        model = official_model(work)
        image = torch.randn(1, 3, 1024, 1024)
        encoder = exporter.SAM2ImageEncoder(model)
        decoder = exporter.SAM2ImageDecoder(model, multimask_output=True)
        # As its export_sam2.py does at its end, whose `torch.onnx.utils.export` is this call.
        common: dict[str, Any] = {"opset_version": 18, "dynamo": False}
        maps = ["high_res_feats_0", "high_res_feats_1", "image_embed"]
        prompt = {
            "point_coords": torch.randint(0, 1024, (1, 5, 2)).float(),
            "point_labels": torch.zeros(1, 5),
            "mask_input": torch.randn(1, 1, 256, 256),
            "has_mask_input": torch.ones(1),
        }
        many = {0: "num_labels"}
        points = {**many, 1: "num_points"}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second, embedding = encoder(image)
            torch.onnx.export(
                encoder,
                (image,),
                str(paths[0]),
                input_names=["image"],
                output_names=maps,
                **common,
            )
            torch.onnx.export(
                decoder,
                (embedding, first, second, *prompt.values()),
                str(paths[1]),
                input_names=["image_embed", *maps[:2], *prompt],
                output_names=["masks", "iou_predictions"],
                dynamic_axes={
                    "point_coords": points,
                    "point_labels": points,
                    "mask_input": many,
                    "has_mask_input": many,
                },
                **common,
            )

    def __init__(self, work: Path, threads: int) -> None:
        import cv2

        cv2.setNumThreads(threads)
        with sessions_of(threads):
            module = importlib.import_module("samexporter.sam2_onnx")
            paths = (str(work / f"peer-{stage}.onnx") for stage in ("encoder", "decoder"))
            self.model = module.SegmentAnything2ONNX(*paths)

    def set_image(self, image: np.ndarray) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its own times
            self.maps = self.model.encode(np.ascontiguousarray(image[..., ::-1]))

    def click(self, point: Point) -> np.ndarray:
        import cv2

        decoder, size = self.model.decoder, self.maps["original_size"]
        decoder.set_image_size(size)
        names = ("image_embedding", "high_res_feats_0", "high_res_feats_1")
        marks = np.array([point], np.float32), np.ones(1, np.float32)
        with contextlib.redirect_stdout(io.StringIO()):
            logits, _ = decoder.infer(
                decoder.prepare_inputs(*(self.maps[name] for name in names), *marks)
            )
        return np.stack([cv2.resize(one, size[::-1]) > 0 for one in logits[0]])


def _samexporter_exporter() -> Any:
    """Import its exporter, without what `sam2.build_sam` reads its YAML files with."""
    from official_packages import standing_in
    from sam2_official import sam2_package

    sam2_package()
    with standing_in({"sam2.build_sam": {"build_sam2": None}}):
        return importlib.import_module("samexporter.export_sam2")


class Samtrt(Subject):
    backend: ClassVar[str] = "onnxruntime"
    form: ClassVar[str] = "fp32"

    @classmethod
    def prepare(cls, work: Path) -> None:
        directory = work / f"samtrt-{cls.form}"
        if (directory / "samtrt.json").exists():
            return
        from samtrt.checkpoints.load import load_checkpoint
        from samtrt.choices import Precision
        from samtrt.export.onnx import ExportOptions, default_opset, export_model

        precision = Precision(cls.form)
        options = ExportOptions(precision, default_opset(precision))
        export_model(load_checkpoint(work / CHECKPOINT), directory, options)

    def __init__(self, work: Path, threads: int) -> None:
        from samtrt.backends import BackendOptions
        from samtrt.predictor import Predictor

        options = BackendOptions(threads=threads)
        self.predictor = Predictor.load(work / f"samtrt-{self.form}", self.backend, options)

    def set_image(self, image: np.ndarray) -> None:
        self.predictor.set_image(image)

    def click(self, point: Point) -> np.ndarray:
        return np.asarray(self.predictor.predict([point], [1]).masks)


class SamtrtInt8(Samtrt):
    form = "int8"

    @classmethod
    def prepare(cls, work: Path) -> None:
        Samtrt.prepare(work)
        if (work / "samtrt-int8" / "samtrt.json").exists():
            return
        from samtrt import assets
        from samtrt.export.quantize import QuantizeOptions, quantize_model
        from samtrt.images import read_image

        # Every layer: how much seeded weights lose says nothing, and takes long to measure.
        quantize_model(
            work / "samtrt-fp32",
            work / "samtrt-int8",
            {"photograph": np.asarray(read_image(assets.DEMO_PHOTOGRAPH))},
            QuantizeOptions(keep=()),
        )


class SamtrtOpenVino(Samtrt):
    backend = "openvino"


class SamtrtOpenVinoBf16(SamtrtOpenVino):
    form = "bf16"


SUBJECTS: dict[str, type[Subject]] = {
    "sam2 1.1, PyTorch": Official,
    "transformers sdpa": Transformers,
    "samexporter, ONNX Runtime": Samexporter,
    "samtrt onnxruntime": Samtrt,
    "samtrt openvino": SamtrtOpenVino,
    "samtrt openvino, bf16": SamtrtOpenVinoBf16,
    "samtrt onnxruntime, int8": SamtrtInt8,
}
