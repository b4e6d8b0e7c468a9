"""What reduced precision costs in masks and gains in time, on the bundled checkpoint.

    python bench/precision.py [--checkpoint FILE] [--calib FOLDER] [--images FOLDER] [--rounds 5]

Every variant is exported (and quantized, on the calibration images), then compared with PyTorch in
float32 by `samtrt verify` on other images. `set_image` takes turns, that of segment-anything 1.0 in
PyTorch among them: medians, in seconds of the clock and of the processor (of all threads), which
alone can be compared on a busy machine. Prints a table and writes docs/results/precision-DATE.json.

bf16 takes a processor with AVX-512 BF16 or AMX. `openvino-bf16` computes a float32 export in
bfloat16 throughout, `bf16 export` is what `samtrt export --precision bf16` writes, whose decoder is
in float32.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from official_packages import official_predictor, official_sam
from samtrt import assets
from samtrt.backends import BackendOptions, open_backend
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import AttentionForm, BackendName, Precision, Quantization, Stage
from samtrt.errors import SamtrtError
from samtrt.export.onnx import ExportOptions, default_opset, export_model
from samtrt.export.quantize import QuantizeOptions, quantize_model
from samtrt.images import read_image
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.sources import find_sources
from samtrt.verification.compare import verify

ROOT = Path(__file__).parent.parent
SCENES = ROOT / "tests" / "assets" / "heldout"
CALIBRATION = 4
OFFICIAL = "segment-anything 1.0, PyTorch"
Row = dict[str, Any]


Loaded = tuple[Path, str]  # a model directory and a backend


def variants(
    checkpoint: Path, folder: Path, images: dict[str, Any], methods: list[Quantization]
) -> dict[str, tuple[Loaded, Loaded]]:
    """Make every model directory; return what is the encoder's and the decoder's, by a name."""
    loaded = load_checkpoint(checkpoint)
    fp32, bf16 = folder / "fp32", folder / "bf16"
    for directory, precision in ((fp32, Precision.FP32), (bf16, Precision.BF16)):
        opset, attention = default_opset(precision), AttentionForm.TILED
        export_model(loaded, directory, ExportOptions(precision, opset, attention=attention))
    ort, ov = BackendName.ONNXRUNTIME.value, BackendName.OPENVINO.value
    hint = BackendName.OPENVINO_BF16.value
    found = {
        "fp32, onnxruntime": ((fp32, ort), (fp32, ort)),
        "fp32, openvino": ((fp32, ov), (fp32, ov)),
        "openvino-bf16": ((fp32, hint), (fp32, hint)),
        "openvino-bf16, decoder fp32": ((fp32, hint), (fp32, ov)),
        "bf16 export, openvino": ((bf16, ov), (bf16, ov)),
    }
    for method in methods:
        for label, keep in (("every layer", ()), ("measured", None)):
            out = folder / f"{method.value}-{label}"
            try:
                manifest = quantize_model(fp32, out, images, QuantizeOptions(method, keep=keep))
            except SamtrtError as error:
                print(f"int8 {method.value}, {label}: {error}")
                continue
            assert manifest.quantized is not None
            left = len(manifest.quantized.float32_layers)
            name = f"int8 {method.value}, {label} ({left} in fp32), onnxruntime"
            found[name] = (out, ort), (out, ort)
            print(f"int8 {method.value}: {manifest.quantized.float32_layers}", flush=True)
    return found


def opened(encoder: Loaded, decoder: Loaded, options: BackendOptions) -> Predictor:
    """Return a predictor whose encoder and decoder may be of two directories of one model."""
    stages = [
        open_backend(backend, directory, Manifest.load(directory), stage, options)
        for stage, (directory, backend) in zip(Stage, (encoder, decoder), strict=True)
    ]
    return Predictor(*stages, Manifest.load(encoder[0]))


def official(checkpoint: Path, threads: int) -> Any:
    """Return the predictor of segment-anything 1.0 on this checkpoint."""
    import torch

    torch.set_num_threads(threads)
    loaded = load_checkpoint(checkpoint)
    model = official_sam(loaded.spec)
    model.load_state_dict(loaded.state_dict)
    return official_predictor(loaded.spec, model.eval())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=assets.SMALL_CHECKPOINT)
    parser.add_argument("--images", type=Path, default=SCENES)
    parser.add_argument("--calib", type=Path, help=f"default: the first {CALIBRATION} of --images")
    parser.add_argument("--most", type=int, default=4, help="compare on so many images")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--int8", nargs="*", default=[method.value for method in Quantization], help="methods"
    )
    arguments = parser.parse_args()
    files = find_sources([arguments.images]).paths
    calibration = find_sources([arguments.calib]).paths if arguments.calib else files[:CALIBRATION]
    others = [path for path in files if path not in calibration]
    tested = {path.name: read_image(path) for path in others[: arguments.most]}
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = {path.name: read_image(path) for path in calibration}
        options = BackendOptions(threads=arguments.threads, checkpoint=arguments.checkpoint)
        methods = [Quantization(name) for name in arguments.int8]
        takers: dict[str, Any] = {}
        reference = None
        for name, (encoder, decoder) in variants(
            arguments.checkpoint, Path(folder), images, methods
        ).items():
            try:
                takers[name] = candidate = opened(encoder, decoder, options)
            except SamtrtError as error:
                print(f"{name}: {error}")
                continue
            reference = reference or Predictor.load(encoder[0], BackendName.PYTORCH, options)
            summary = verify(reference, candidate, tested).as_json()["summary"]
            rows[name] = {**summary, "encode_s": [], "encode_processor_s": []}
            print(f"{name}: {summary}", flush=True)
        takers[OFFICIAL] = official(arguments.checkpoint, arguments.threads)
        rows[OFFICIAL] = {"encode_s": [], "encode_processor_s": []}
        image = np.asarray(next(iter(tested.values())))
        for turn in range(arguments.rounds + 1):
            for name, taker in takers.items():
                wall, processor = time.perf_counter(), time.process_time()
                taker.set_image(image)
                if turn:  # the first allocates and compiles
                    rows[name]["encode_s"].append(round(time.perf_counter() - wall, 4))
                    spent = round(time.process_time() - processor, 4)
                    rows[name]["encode_processor_s"].append(spent)
    print("| | embedding off | mean IoU | worst IoU | encode, s | processor, s | verified |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, row in rows.items():
        measures = ("embedding_relative", "mean_iou", "worst_iou")
        cells = [f"{row[key]:.4f}" if key in row else "" for key in measures]
        for key in ("encode_s", "encode_processor_s"):
            row[f"median_{key}"] = statistics.median(row[key])
            cells.append(f"{row[f'median_{key}']:.3f}")
        cells.append({True: "yes", False: "**no**", None: ""}[row.get("passed")])
        print(f"| {name} | {' | '.join(cells)} |")
    result = {
        "date": datetime.date.today().isoformat(),
        "checkpoint": arguments.checkpoint.name,
        "calibration": [path.name for path in calibration],
        "images": list(tested),
        "threads": arguments.threads,
        "load_after": os.getloadavg(),
        "rows": rows,
    }
    out = ROOT / "docs" / "results" / f"precision-{result['date']}.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
