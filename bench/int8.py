"""What int8 would cost the encoder of a TensorRT engine in masks: simulated, no GPU needed.

    python bench/int8.py [--checkpoint FILE] [--json FILE]

Rounds inputs and weights of the linear layers, 1x1 convolutions in the plugin form, as explicit
int8 does: weights per output channel, inputs by one scale from the calibration images, both
symmetric; sums stay exact. Masks are compared with float32's on other images. "Smoothed" moves
half of each channel's range from inputs to weights first (Xiao et al., "SmoothQuant", 2023), which
changes nothing in float32. At last the layers that move the embedding least for their work are
taken, as many as keep a mean IoU of 0.99.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from samtrt import assets
from samtrt.backends import BackendOptions
from samtrt.backends.ort import OnnxRuntimeBackend
from samtrt.checkpoints.load import load_checkpoint
from samtrt.choices import AttentionForm
from samtrt.encoding import prepare
from samtrt.export.nodes import rewrite
from samtrt.export.onnx import ExportOptions, export_model
from samtrt.export.operators.graph import inline_fallback
from samtrt.export.operators.linear_gelu import LINEAR_GELU
from samtrt.images import read_image
from samtrt.predictor import Predictor
from samtrt.sources import find_sources
from samtrt.verification.compare import verify
from samtrt.verification.report import REDUCED

SCENES = Path(__file__).parent.parent / "tests" / "assets" / "heldout"
KINDS = ("qkv", "proj", "lin1", "lin2")
PREFIX = "encoder."
"""Of the weights' names in a graph."""
LIMIT = 127.0
Row = dict[str, Any]


class Encoder:
    """An encoder's graph in the plugin form, and versions of it with rounded linear layers.

    Attributes:
        layers: The convolution of each linear layer by name, such as "blocks.0.qkv".
        work: Each layer's share of all linear layers' operations.
    """

    def __init__(self, path: Path, images: list[np.ndarray]) -> None:
        self._path = path.with_name("rounded.onnx")
        inline_fallback(path, self._path, {LINEAR_GELU.name})  # whose layer is a convolution then
        self._model = onnx.load(self._path)
        self._weights = {t.name: numpy_helper.to_array(t) for t in self._model.graph.initializer}
        self.layers = {
            layer_name(node): node
            for node in self._model.graph.node
            if layer_name(node).startswith("blocks.")
        }
        sizes = {name: self._weights[node.input[1]].size for name, node in self.layers.items()}
        self.work = {name: size / sum(sizes.values()) for name, size in sizes.items()}
        self._ranges = self._measure(images)

    def _measure(self, images: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the largest magnitude of each channel of every layer's input."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        names = [node.input[0] for node in self.layers.values()]
        model.graph.output.extend(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
        )
        onnx.save(model, self._path)
        backend = OnnxRuntimeBackend(self._path, BackendOptions())
        runs = [backend.run({"images": image}) for image in images]
        return {
            layer: np.max([np.abs(run[name]).max((0, 2, 3)) for run in runs], axis=0)
            for layer, name in zip(self.layers, names, strict=True)
        }

    def rounded(self, layers: list[str], smoothed: bool) -> OnnxRuntimeBackend:
        """Return the encoder with these layers in simulated int8."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)

        def change(node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
            name = layer_name(node)
            if name not in layers:
                return None
            return [*self._round(model.graph, node, name, smoothed), node]

        rewrite(model.graph, change)
        onnx.save(model, self._path)
        return OnnxRuntimeBackend(self._path, BackendOptions())

    def _round(self, graph: Any, node: Any, name: str, smoothed: bool) -> list[Any]:
        """Round a layer's weights, and return the nodes that round its input."""
        weight, ranges = self._weights[node.input[1]], self._ranges[name]
        move = np.ones_like(ranges)
        if smoothed:
            move = np.sqrt(np.maximum(ranges, 1e-6) / np.abs(weight).max((0, 2, 3)))
        weight = weight * move[:, None, None]
        steps = np.abs(weight).max((1, 2, 3), keepdims=True) / LIMIT
        step = (ranges / move).max() / LIMIT
        constants = {
            f"{name}.rounded": np.round(weight / steps) * steps,
            f"{name}.up": (1 / (move * step))[:, None, None],
            f"{name}.low": np.array(-LIMIT),
            f"{name}.high": np.array(LIMIT),
            f"{name}.down": np.array(step),
        }
        for key, value in constants.items():
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), key))
        chain = [("Mul", "up"), ("Round", None), ("Clip", "low"), ("Mul", "down")]
        made, source = [], node.input[0]
        for number, (kind, constant) in enumerate(chain):
            inputs = [source] + ([f"{name}.{constant}"] if constant else [])
            inputs += [f"{name}.high"] if kind == "Clip" else []
            made.append(helper.make_node(kind, inputs, [f"{name}.{number}"]))
            source = f"{name}.{number}"
        node.input[0], node.input[1] = source, f"{name}.rounded"
        return made


def layer_name(node: onnx.NodeProto) -> str:
    """Return the name of a convolution's layer, such as "blocks.0.qkv"; "" of other nodes."""
    if node.op_type != "Conv":
        return ""
    return node.input[1].removeprefix(PREFIX).removesuffix(".weight")


class Judge:
    """Compares encoders with the float32 one, on images that did not calibrate them."""

    def __init__(self, float32: Predictor, images: dict[str, Any]) -> None:
        self._float32, self._images = float32, images
        self._pixels = [prepare(image, float32.manifest).pixels for image in images.values()]
        self._wanted = [self._embed(float32.encoder, pixels) for pixels in self._pixels]

    @staticmethod
    def _embed(encoder: Any, pixels: np.ndarray) -> np.ndarray:
        embedding: np.ndarray = encoder.run({"images": pixels})["image_embeddings"]
        return embedding

    def embedding(self, encoder: Any) -> float:
        """Return |a - b| / |b| of the embedding, mean over the images."""
        pairs = zip((self._embed(encoder, p) for p in self._pixels), self._wanted, strict=True)
        return float(np.mean([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs]))

    def __call__(self, label: str, encoder: Any, share: float) -> Row:
        candidate = Predictor(encoder, self._float32.decoder, self._float32.manifest)
        ious = verify(self._float32, candidate, self._images, REDUCED).ious
        return {
            "layers": label,
            "share_of_linear_work": round(share, 3),
            "embedding_off": round(self.embedding(encoder), 4),
            "mean_iou": round(float(np.mean(ious)), 4),
            "worst_iou": round(float(np.min(ious)), 4),
            "prompts": len(ious),
        }


def measure(encoder: Encoder, judge: Judge) -> list[Row]:
    """Measure kinds of layers, all of them, and the most that keep the masks."""
    every = list(encoder.layers)
    groups = {kind: [name for name in every if name.endswith(kind)] for kind in KINDS}
    groups["every layer"] = every
    rows = []
    for smoothed in (False, True):
        for label, layers in groups.items():
            share = sum(encoder.work[name] for name in layers)
            title = f"{label}, smoothed" if smoothed else label
            rows.append(judge(title, encoder.rounded(layers, smoothed), share))
            print(rows[-1], flush=True)
    # Errors of layers add up like independent ones, in squares.
    losses = {name: judge.embedding(encoder.rounded([name], True)) for name in every}
    order = sorted(every, key=lambda name: losses[name] ** 2 / encoder.work[name])
    low, high = 0, len(order)  # the most that pass lie in low .. high
    while high - low > 1:
        count = (low + high) // 2
        chosen = order[:count]
        share = sum(encoder.work[name] for name in chosen)
        rows.append(judge(f"best {count}, smoothed", encoder.rounded(chosen, True), share))
        print(rows[-1], flush=True)
        low, high = (count, high) if rows[-1]["mean_iou"] >= REDUCED.mean_iou else (low, count)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=assets.SMALL_CHECKPOINT)
    parser.add_argument("--calib", type=int, default=8, help="scenes to calibrate on, of 16")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    images = {path.name: read_image(path) for path in find_sources([SCENES]).paths}
    names = list(images)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        options = ExportOptions(attention=AttentionForm.PLUGIN)
        export_model(load_checkpoint(arguments.checkpoint), directory, options)
        with Predictor.load(directory) as float32:
            calibration = [
                prepare(images[name], float32.manifest).pixels for name in names[: arguments.calib]
            ]
            encoder = Encoder(directory / "encoder.onnx", calibration)
            rest = {name: images[name] for name in names[arguments.calib :]}
            rows = measure(encoder, Judge(float32, rest))
    table = Table(*rows[0], title="the encoder's linear layers in simulated int8")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
