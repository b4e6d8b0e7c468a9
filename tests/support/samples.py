"""Small values that several tests start from, and how far apart results are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from samtrt.choices import EVERY_STAGE, Family, Generation, MaskChoice, Precision, Resize, Stage
from samtrt.manifest import Manifest, Source, Video
from samtrt.preparation.spec import OFFICIAL
from samtrt.sealed import check_json, sealed_json


def make_manifest(**changes: object) -> Manifest:
    """Return a manifest in the shape of vit_t, without files."""
    values: dict[str, object] = {
        "model": "vit_t",
        "image_size": 256,
        "input_size": 256,
        "maps": ({"name": "image_embeddings", "shape": (256, 16, 16)},),
        "preparation": OFFICIAL,
        "precision": Precision.FP32,
        "opset": 20,
        "simplified": True,
        "dynamic_batch": False,
        "attention": "add",
        "checkpoint": Source(name="none.pth", sha256="0" * 64),
        "files": {},
        "versions": {"samtrt": "test"},
    }
    return Manifest.model_validate({**values, **changes})


def make_video_manifest(**changes: object) -> Manifest:
    """Return a manifest of that size in the shape of a SAM 2, with graphs for videos."""
    entry = {"name": "graph.onnx", "size": 0, "sha256": "0" * 64}
    values: dict[str, object] = {
        "model": "sam2.1_hiera_t",
        "maps": (
            {"name": "image_embeddings", "shape": (256, 16, 16)},
            {"name": "high_res_features_s0", "shape": (32, 64, 64)},
            {"name": "high_res_features_s1", "shape": (64, 32, 32)},
        ),
        "generation": Generation.SAM2,
        "mask_choice": MaskChoice.STABLE,
        "object_scores": True,
        "family": Family.HIERA,
        "preparation": OFFICIAL.model_copy(update={"resize": Resize.STRETCH}),
        "video": Video(
            memory_channels=64, memories=7, pointers=16, mask_weights=(0.06,) * 16, mask_bias=0.0
        ),
        "files": dict.fromkeys(EVERY_STAGE, (entry,)),
    }
    return make_manifest(**{**values, **changes})


def edit_sealed(path: Path, without: tuple[str, ...] = (), **changes: object) -> None:
    """Change what a JSON file with a checksum says, as if it had been written so."""
    said = {**check_json(json.loads(path.read_text())), **changes}
    path.write_text(sealed_json({name: said[name] for name in said if name not in without}))


def tiny_feeds(stage: Stage) -> dict[str, np.ndarray]:
    """Return inputs of vit_t's encoder, or of its decoder with two prompts."""
    rng = np.random.default_rng(0)
    if stage is Stage.ENCODER:
        return {"images": rng.normal(size=(1, 3, 256, 256)).astype(np.float32)}
    return {
        "image_embeddings": rng.normal(size=(1, 256, 16, 16)).astype(np.float32),
        "point_coords": rng.uniform(0, 256, (2, 3, 2)).astype(np.float32),
        "point_labels": np.array([[1, 0, -1], [1, 2, 3]], dtype=np.float32),
        "mask_input": rng.normal(size=(2, 1, 64, 64)).astype(np.float32),
        "has_mask_input": np.array([0, 1], dtype=np.float32),
    }


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Return the norm of a - b over that of b."""
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b.astype(np.float64)))
