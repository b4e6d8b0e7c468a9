"""samexporter as a subject of `peers.py`."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from peer_subject import Point, Subject


@contextmanager
def sessions_of(threads: int) -> Iterator[None]:
    """Give ONNX Runtime's sessions so many threads, where other code opens them without asking."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    plain, cpu = ort.InferenceSession, ["CPUExecutionProvider"]

    def with_threads(path: str, providers: Any = None) -> Any:
        del providers
        return plain(path, options, providers=cpu)

    ort.InferenceSession = with_threads
    try:
        yield
    finally:
        ort.InferenceSession = plain


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

        from official_packages import official_sam, segment_anything_oracle
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
        if Samexporter.opened is not None:  # its other subject's: each holds 4 GB
            self.model = Samexporter.opened
            return
        module = importlib.import_module("samexporter.sam_onnx")
        with sessions_of(threads):
            paths = (str(work / f"peer-{stage}.onnx") for stage in ("encoder", "decoder"))
            self.model = Samexporter.opened = module.SegmentAnythingONNX(*paths)

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
