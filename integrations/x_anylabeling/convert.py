"""Write a model directory's graphs as X-AnyLabeling's `segment_anything` models expect them.

    python integrations/x_anylabeling/convert.py MODEL OUT

X-AnyLabeling gives the encoder an image of 684 x 1024 pixels, RGB, float32 [684, 1024, 3], not
normalised; it gives the decoder prompts in pixels of that image, and takes masks of that size back
(its `services/auto_labeling/sam_onnx.py`). The graphs of a model directory begin after preparation
and end before masks are formed: this adds both.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from samtrt import Manifest
from samtrt.choices import Generation, Resize, Stage, ValueScale
from samtrt.errors import ExportError, OutputError, SamtrtError
from samtrt.export.operators.graph import inline_fallback

HEIGHT, WIDTH = 684, 1024
"""Of the image that X-AnyLabeling makes of every picture."""

LARGEST = 1_900_000_000
"""Bytes of a graph with its weights; with more they lie in a file beside it, as protobuf ends at
2 GB."""


Borders = dict[str, list[int | str]]
"""Names of inputs or outputs, and their shapes."""


class Graph:
    """A graph that nodes are added to, before or after its own."""

    def __init__(self, directory: Path, manifest: Manifest, stage: Stage, work: Path) -> None:
        inlined = work / f"{stage.value}.inlined.onnx"
        inline_fallback(manifest.path_of(directory, stage), inlined)
        self.model = onnx.load(inlined)
        self.graph = self.model.graph
        self._before: list[onnx.NodeProto] = []
        self._count = 0

    def constant(self, values: object, dtype: type[np.generic] = np.float32) -> str:
        name = f"x_anylabeling_{self._count}"
        self._count += 1
        self.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def add(
        self, kind: str, inputs: list[str], out: str = "", first: bool = False, **more: object
    ) -> str:
        """Add a node behind the graph's own, or before them; return the name of what it gives."""
        out = out or f"x_anylabeling_{self._count}"
        self._count += 1
        node = helper.make_node(kind, inputs, [out], **more)
        (self._before if first else self.graph.node).append(node)
        return out

    def finish(self, inputs: Borders, outputs: Borders) -> None:
        """Give the graph its new borders, all float32."""
        nodes = [*self._before, *self.graph.node]
        del self.graph.node[:], self.graph.input[:], self.graph.output[:]
        self.graph.node.extend(nodes)
        for field, borders in ((self.graph.input, inputs), (self.graph.output, outputs)):
            for name, shape in borders.items():
                field.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def save(self, path: Path) -> None:
        beside = self.model.ByteSize() > LARGEST
        onnx.save(self.model, path, save_as_external_data=beside, location=f"{path.name}.data")


def check(manifest: Manifest) -> None:
    """Refuse what X-AnyLabeling's type has no room for."""
    reasons = {
        "it is a SAM 2": manifest.generation is not Generation.SAM,
        "its decoder takes more than the image embedding": len(manifest.maps) > 1,
        "its images are stretched to a square": manifest.preparation.resize is not Resize.LONGEST,
        "its values are scaled by each image's own": manifest.preparation.scale
        is ValueScale.MINMAX,
        "its masks begin at another threshold than 0": manifest.mask_threshold != 0,
    }
    for reason, holds in reasons.items():
        if holds:
            raise ExportError(
                f"X-AnyLabeling's segment_anything type cannot run {manifest.model}: {reason}; "
                "samtrt auto and predict write label files that it opens (--formats labelme)"
            )


def encoder(graph: Graph, manifest: Manifest) -> None:
    """Put preparation before the encoder: `image` float32 [684, 1024, 3], RGB, 0..255."""
    side, told = manifest.input_size, manifest.preparation
    height = int(HEIGHT * side / WIDTH + 0.5)
    value = graph.add("Transpose", ["image"], first=True, perm=[2, 0, 1])
    value = graph.add("Unsqueeze", [value, graph.constant([0], np.int64)], first=True)
    if side != WIDTH:
        sizes = graph.constant([1, 3, height, side], np.int64)
        value = graph.add("Resize", [value, "", "", sizes], first=True, mode="linear")
    if told.scale is ValueScale.UNIT:
        value = graph.add("Div", [value, graph.constant(255)], first=True)
    mean, std = (np.reshape(one, (1, 3, 1, 1)) for one in (told.mean, told.std))
    value = graph.add("Sub", [value, graph.constant(mean)], first=True)
    value = graph.add("Div", [value, graph.constant(std)], first=True)
    pads = graph.constant([0, 0, 0, 0, 0, 0, side - height, 0], np.int64)
    graph.add("Pad", [value, pads], "images", first=True)
    (only,) = manifest.maps
    graph.finish({"image": [HEIGHT, WIDTH, 3]}, {only.name: [1, *only.shape]})


def decoder(graph: Graph, manifest: Manifest) -> None:
    """Put the masks' way to the image behind the decoder, and choose one.

    As the official ONNX export does with `--return-single-mask`: of up to two points, padding
    counted, the best of three masks; of more the single one. X-AnyLabeling gives no mask prompts.
    """
    side, mask = manifest.image_size, manifest.mask_size
    names = {
        "point_coords": graph.add(
            "Mul", ["point_coords", graph.constant(side / WIDTH)], "model_coords", first=True
        ),
        "mask_input": graph.constant(np.zeros((1, 1, mask, mask))),
        "has_mask_input": graph.constant([0]),
    }
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    one = graph.constant([1], np.int64)
    count = graph.add("Cast", [graph.add("Shape", ["point_labels"])], to=TensorProto.FLOAT)
    count = graph.add("Gather", [count, one])
    weight = graph.add("Sub", [count, graph.constant(2.5)])
    weight = graph.add("Mul", [weight, graph.constant([[1000, 0, 0, 0]])])
    weighed = graph.add("Add", ["iou_predictions", weight])
    best = graph.add("ArgMax", [weighed], axis=1)
    best = graph.add("Reshape", [best, graph.constant([1], np.int64)])
    low = graph.add("Gather", ["low_res_masks", best], "low_res_logits", axis=1)
    graph.add("Gather", ["iou_predictions", best], "score", axis=1)
    sizes = graph.constant([1, 1, WIDTH, WIDTH], np.int64)
    square = graph.add("Resize", [low, "", "", sizes], mode="linear")
    cut = [graph.constant([number], np.int64) for number in (0, HEIGHT, 2)]
    graph.add("Slice", [square, *cut], "masks")
    (only,) = manifest.maps
    graph.finish(
        {
            only.name: [1, *only.shape],
            "point_coords": [1, "points", 2],
            "point_labels": [1, "points"],
            "mask_input": [1, 1, 256, 256],
            "has_mask_input": [1],
            "orig_im_size": [2],
        },
        {"masks": [1, 1, HEIGHT, WIDTH], "score": [1, 1], "low_res_logits": [1, 1, mask, mask]},
    )


def convert(directory: Path, out: Path) -> None:
    """Write both graphs and `model.yaml` for X-AnyLabeling.

    It looks for the graphs in its working directory first, so they have names of their own.

    Raises:
        ExportError: where the model is none that X-AnyLabeling's type can run.
        ManifestError: where the directory is not as exported.
        OutputError: where `out` exists, or cannot be written.
    """
    manifest = Manifest.load(directory)
    check(manifest)
    name = f"samtrt_{manifest.model}"
    if out.exists():
        raise OutputError(f"{out} is there already: give another name, or remove it")
    work = Path(tempfile.mkdtemp(prefix=".x-anylabeling-", dir=out.resolve().parent))
    try:
        made = work / "made"
        made.mkdir()
        for stage, extend in ((Stage.ENCODER, encoder), (Stage.DECODER, decoder)):
            graph = Graph(directory, manifest, stage, work)
            extend(graph, manifest)
            graph.save(made / f"{name}.{stage.value}.onnx")
        (made / "model.yaml").write_text(
            "type: segment_anything\n"
            f"name: {name}\n"
            "provider: samtrt\n"
            f"display_name: {manifest.model} (samtrt)\n"
            f"encoder_model_path: {name}.encoder.onnx\n"
            f"decoder_model_path: {name}.decoder.onnx\n"
            f"input_size: {WIDTH}\nmax_width: {WIDTH}\nmax_height: {HEIGHT}\n",
            encoding="utf-8",
        )
        made.rename(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model directory, of samtrt export")
    parser.add_argument("out", type=Path, help="the folder to make")
    arguments = parser.parse_args()
    try:
        convert(arguments.model, arguments.out)
    except SamtrtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Next: in X-AnyLabeling, load the custom model {arguments.out / 'model.yaml'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
