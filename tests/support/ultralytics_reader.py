"""Write as JSON what Ultralytics' own loader reads: `ultralytics_reader.py DATA_YAML OUT`.

A process of its own: the import changes `torch.save`, OpenCV's threads, print options and the
environment. YOLO_CONFIG_DIR says where it puts its settings, YOLO_OFFLINE=true keeps it off the
network.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def load_ultralytics() -> tuple[Any, Any]:
    """Import `ultralytics.data`'s `dataset` and `utils` without torchvision and matplotlib."""
    version = metadata.version
    # It asks for the version where it is imported, and for the package only to train.
    metadata.version = lambda name: "0.28.0" if name == "torchvision" else version(name)
    from ultralytics.data import dataset, utils

    utils.check_font = lambda _: None  # a font to plot with, else downloaded
    return dataset, utils


def read(described: str) -> dict[str, Any]:
    """Return the names of the classes and, for each split and picture, what each line gives."""
    dataset, utils = load_ultralytics()
    data = utils.check_det_dataset(described, autodownload=False)
    found: dict[str, Any] = {"names": list(data["names"].items())}
    for split in ("train", "val"):
        loaded = dataset.YOLODataset(data[split], data=data, task="segment", augment=False)
        found[split] = [
            {
                "file": label["im_file"],
                "size": label["shape"],
                "classes": label["cls"].ravel().tolist(),
                "segments": [segment.tolist() for segment in label["segments"]],
                "masks": utils.polygons2masks(
                    label["shape"],
                    [segment * np.float32(label["shape"][::-1]) for segment in label["segments"]],
                    color=1,
                ).tolist(),
            }
            for label in loaded.labels
        ]
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(read(sys.argv[1])))
