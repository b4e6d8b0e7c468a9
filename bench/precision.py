"""What reduced precision costs in masks and gains in time, on the bundled checkpoint.

    python bench/precision.py [--checkpoint FILE] [--calib FOLDER] [--images FOLDER] [--rounds 5]

Every variant is exported (and quantized, on the calibration images), then compared with PyTorch in
float32 by `samtrt verify` on other images; encoding takes turns, medians. Prints a table and writes
docs/results/precision-DATE.json.
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

from samtrt import assets
from samtrt.backends import BackendOptions
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import AttentionForm, BackendName, Quantization
from samtrt.errors import SamtrtError
from samtrt.export.onnx import ExportOptions, export_model
from samtrt.export.quantize import QuantizeOptions, quantize_model
from samtrt.images import read_image
from samtrt.predictor import Predictor
from samtrt.sources import find_sources
from samtrt.verification.compare import verify

ROOT = Path(__file__).parent.parent
SCENES = ROOT / "tests" / "assets" / "heldout"
CALIBRATION = 4
Row = dict[str, Any]


def variants(checkpoint: Path, folder: Path, images: dict[str, Any]) -> dict[str, tuple[Path, str]]:
    """Make every model directory; return it and its backend by a name."""
    fp32 = folder / "fp32"
    export_model(load_checkpoint(checkpoint), fp32, ExportOptions(attention=AttentionForm.TILED))
    ort, ov = BackendName.ONNXRUNTIME.value, BackendName.OPENVINO.value
    found = {"fp32, onnxruntime": (fp32, ort), "fp32, openvino": (fp32, ov)}
    found["bf16, openvino-bf16"] = (fp32, BackendName.OPENVINO_BF16.value)
    for method in Quantization:
        for label, keep in (("every layer", ()), ("measured", None)):
            out = folder / f"{method.value}-{label}"
            try:
                manifest = quantize_model(fp32, out, images, QuantizeOptions(method, keep=keep))
            except SamtrtError as error:
                print(f"int8 {method.value}, {label}: {error}")
                continue
            assert manifest.quantized is not None
            left = len(manifest.quantized.float32_layers)
            found[f"int8 {method.value}, {label} ({left} in fp32), onnxruntime"] = out, ort
            print(f"int8 {method.value}: {manifest.quantized.float32_layers}", flush=True)
    return found


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
    arguments = parser.parse_args()
    files = find_sources([arguments.images]).paths
    calibration = find_sources([arguments.calib]).paths if arguments.calib else files[:CALIBRATION]
    others = [path for path in files if path not in calibration]
    tested = {path.name: read_image(path) for path in others[: arguments.most]}
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = {path.name: read_image(path) for path in calibration}
        options = BackendOptions(threads=arguments.threads, checkpoint=arguments.checkpoint)
        opened = {}
        for name, (directory, backend) in variants(
            arguments.checkpoint, Path(folder), images
        ).items():
            try:
                opened[name] = Predictor.load(directory, backend, options)
            except SamtrtError as error:
                print(f"{name}: {error}")
        reference = Predictor.load(Path(folder) / "fp32", BackendName.PYTORCH, options)
        for name, predictor in opened.items():
            summary = verify(reference, predictor, tested).as_json()["summary"]
            rows[name] = {**summary, "encode_s": []}
            print(f"{name}: {summary}", flush=True)
        image = next(iter(tested.values()))
        for _ in range(arguments.rounds):
            for name, predictor in opened.items():
                start = time.perf_counter()
                predictor.set_image(image)
                rows[name]["encode_s"].append(round(time.perf_counter() - start, 4))
    print("| | embedding off | mean IoU | worst IoU | encode, s | verified |")
    print("|---|---:|---:|---:|---:|---|")
    for name, row in rows.items():
        row["median_encode_s"] = statistics.median(row["encode_s"])
        cells = [f"{row[key]:.4f}" for key in ("embedding_relative", "mean_iou", "worst_iou")]
        cells += [f"{row['median_encode_s']:.3f}", "yes" if row["passed"] else "**no**"]
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
