"""MobileSAM encoded on the CPU: samtrt, its own PyTorch and samexporter's graph, in one run.

    pip install --no-deps samexporter==0.5.0 mobilesam-mirror==1.0.0
    python bench/peers_mobile.py [--rounds 5] [--threads 2] [--work FOLDER]

One process, one set of seeded weights, one prepared image of 1024 x 1024, the same number of
threads. In every round all subjects take their turn, the first of the round changing; a first turn
of each is not counted, then medians are taken. Writes docs/results/peers-mobile-DATE.json, with the
machine's load while it ran: ratios of one run compare, seconds of a loaded machine do not.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from official_packages import official_sam, segment_anything_oracle

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PACKAGES = ["samtrt", "torch", "onnxruntime", "openvino", "samexporter", "mobilesam-mirror"]
Encode = Callable[[np.ndarray], np.ndarray]


def official() -> Any:
    """Return MobileSAM's own PyTorch with seeded weights."""
    from samtrt.models import seed_weights
    from samtrt.registry import get_spec

    model = official_sam(get_spec("mobile_sam"))
    seed_weights(model)
    return model.train().eval()  # TinyViT makes its table of biases when it is told to


def pytorch(work: Path, threads: int) -> Encode:
    import torch

    torch.set_num_threads(threads)
    model = official()
    model.load_state_dict(torch.load(work / "mobile.pth", weights_only=True))
    model.train().eval()

    def encode(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model.image_encoder(torch.from_numpy(pixels)))

    return encode


def samexporter(work: Path, threads: int) -> Encode:
    """Return its encoder graph on ONNX Runtime, exported as its export_encoder.py does."""
    import onnxruntime as ort
    import torch

    path = work / "peer-encoder.onnx"
    if not path.exists():
        segment_anything_oracle()  # which it imports
        encoder_of = importlib.import_module("samexporter.onnx_utils").ImageEncoderOnnxModel
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                encoder_of(model=official(), use_preprocess=False),
                (torch.randn(1, 3, 1024, 1024),),
                str(path),
                input_names=["input_image"],
                output_names=["image_embeddings"],
                opset_version=18,
                dynamo=False,
            )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"input_image": pixels})[0]


def ours(backend: str) -> Callable[[Path, int], Encode]:
    def opened(work: Path, threads: int) -> Encode:
        from samtrt.backends import BackendOptions, open_backend
        from samtrt.checkpoints.load import load_checkpoint
        from samtrt.choices import Stage
        from samtrt.export.onnx import export_model
        from samtrt.manifest import Manifest

        directory = work / "samtrt"
        if not directory.exists():
            export_model(load_checkpoint(work / "mobile.pth", "mobile_sam"), directory)
        manifest = Manifest.load(directory)
        options = BackendOptions(threads=threads)
        encoder = open_backend(backend, directory, manifest, Stage.ENCODER, options)
        return lambda pixels: encoder.run({"images": pixels})["image_embeddings"]

    return opened


SUBJECTS: dict[str, Callable[[Path, int], Encode]] = {
    "mobile_sam, PyTorch": pytorch,
    "samexporter 0.5, ONNX Runtime": samexporter,
    "samtrt onnxruntime": ours("onnxruntime"),
    "samtrt openvino": ours("openvino"),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "mobile.pth").exists():
        import torch

        torch.save(official().state_dict(), work / "mobile.pth")
    opened = {name: make(work, given.threads) for name, make in SUBJECTS.items()}
    pixels = np.random.default_rng(0).normal(size=(1, 3, 1024, 1024)).astype(np.float32)
    names, seconds = list(opened), {name: [] for name in opened}
    found = {name: opened[name](pixels) for name in names}
    for turn in range(given.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            opened[name](pixels)
            seconds[name].append(time.perf_counter() - start)
    reference = found["mobile_sam, PyTorch"]
    scale = np.linalg.norm(reference)
    rows = {
        name: {
            "encode_s": round(statistics.median(seconds[name]), 4),
            "least_s": round(min(seconds[name]), 4),
            "relative": float(np.linalg.norm(found[name] - reference) / scale),
        }
        for name in names
    }
    today = datetime.date.today().isoformat()
    about = {
        "date": today,
        "threads": given.threads,
        "rounds": given.rounds,
        "load_average": os.getloadavg(),
        "versions": {name: version(name) for name in PACKAGES},
        "subjects": rows,
    }
    path = RESULTS / f"peers-mobile-{today}.json"
    path.write_text(json.dumps(about, indent=2) + "\n")
    for name, row in rows.items():
        print(f"{name:32}{row['encode_s']:9.3f} s {row['least_s']:9.3f} s {row['relative']:.1e}")
    print(path)


if __name__ == "__main__":
    main()
