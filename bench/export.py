"""Time and peak memory of exporting each published model size, with seeded weights.

    python bench/export.py [--models vit_b vit_l vit_h] [--precision fp32] [--verify]

Each export runs in a process of its own, so that its peak memory is its own. Writes a dated JSON to
docs/results/ and prints a table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "docs" / "results"

SEED = """
import sys
from safetensors.torch import save_file
from samtrt.models import build_sam, seed_weights
from samtrt.registry import get_spec
model = build_sam(get_spec(sys.argv[1]))
seed_weights(model)
save_file(model.state_dict(), sys.argv[2])
"""

LOAD = """
import sys
from samtrt.predictor import Predictor
import numpy as np
with Predictor.load(sys.argv[1]) as predictor:
    predictor.set_image(np.full((400, 600, 3), 128, dtype=np.uint8))
    masks = predictor.predict([[300, 200]], [1]).masks
assert masks.shape == (3, 400, 600)
"""


def measured(command: list[str]) -> dict[str, float]:
    """Run a command; return its wall time in seconds and peak resident memory in GB."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 1), "peak_gb": round(usage.ru_maxrss / 1e6, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "fp16"])
    parser.add_argument("--verify", action="store_true", help="also run samtrt verify (slow)")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, model = f"{folder}/{name}.safetensors", f"{folder}/{name}"
            subprocess.run([sys.executable, "-c", SEED, name, checkpoint], check=True)
            export = [sys.executable, "-m", "samtrt", "export", checkpoint, "-o", model]
            row: dict[str, object] = {"model": name, "precision": arguments.precision}
            row["export"] = measured([*export, "--precision", arguments.precision])
            row["files"] = {p.name: p.stat().st_size for p in sorted(Path(model).iterdir())}
            row["load_and_predict"] = measured([sys.executable, "-c", LOAD, model])
            if arguments.verify:
                report = Path(folder) / "verify.json"
                verify = [sys.executable, "-m", "samtrt", "verify", model, "-c", checkpoint]
                row["verify"] = measured([*verify, "--json", str(report)])
                row["verify_summary"] = json.loads(report.read_text())["summary"]
            rows.append(row)
            print(json.dumps(row), flush=True)
    today = datetime.date.today().isoformat()
    machine = {
        "cpu_count": os.cpu_count(),
        "processor": platform.processor(),
        "load": os.getloadavg(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    names = "-".join(arguments.models)
    out = RESULTS / f"export-{arguments.precision}-{names}-{today}.json"
    out.write_text(json.dumps({"date": today, "machine": machine, "rows": rows}, indent=2) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
