"""One image's COCO JSON as the mark that the image is done: what it says of its making."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from samtrt.formats.coco import read_coco_dataset

FILES, OWN, SEGMENTS = "files", "coco", "segments"
"""Where a COCO JSON has the hashes of its image's files, and among them its own; and what the
panoptic picture holds."""


def is_as_written(dataset: dict[str, Any] | None, info: dict[str, Any]) -> bool:
    """Tell whether a COCO JSON is unchanged and of this image with these settings."""
    if dataset is None or not is_whole(dataset):
        return False
    noted = (FILES, SEGMENTS)
    return {name: value for name, value in dataset["info"].items() if name not in noted} == info


def is_whole(dataset: dict[str, Any]) -> bool:
    """Tell whether a COCO JSON is as it was written."""
    noted = hashes_in(dataset).get(OWN)
    return noted is not None and noted == own_hash(dataset)


def hashes_in(dataset: dict[str, Any] | None) -> dict[str, Any]:
    """Return the hashes that a COCO JSON has; none of a damaged one."""
    info = (dataset or {}).get("info")
    hashes = info.get(FILES) if isinstance(info, dict) else None
    return hashes if isinstance(hashes, dict) else {}


def own_hash(dataset: dict[str, Any]) -> str:
    """Hash a COCO JSON by what it says, but for this hash."""
    hashes = {kind: value for kind, value in hashes_in(dataset).items() if kind != OWN}
    info = {**dataset["info"], FILES: hashes}
    text = json.dumps({**dataset, "info": info}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_marker(path: Path) -> dict[str, Any] | None:
    """Read one image's COCO JSON; None where it is missing or damaged, and must be made again."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        read_coco_dataset(data)
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return dict(data)
