"""Which forms of attention with a learnt bias a TensorRT builds, on one GPU.

    python bench/trt_forms.py --json forms.json

Windows of 14 x 14 tokens in heads of 32, as TinyViT's third stage has them; each form is a graph of
its own, built in fp16 in a process of its own, since what TensorRT 8.6 cannot do kills the process.
Says whether it builds, in how many seconds, and of which layers the engine is; what it computes is
for `samtrt verify` to say of a whole model. Needs `onnx` and TensorRT, not PyTorch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trt_network import parse_fp16

WINDOWS, HEADS, TOKENS, WIDTH = 25, 5, 196, 32
SCORES = [WINDOWS, HEADS, TOKENS, TOKENS]
Lines = list[tuple[str, list[str], str]]

WHOLE: Lines = [("MatMul", ["q", "k"], "s"), ("Add", ["s", "bias"], "a")]
"""A constant of three dimensions, as TinyViT is written."""

FORMS: dict[str, Lines] = {
    "no bias": [("MatMul", ["q", "k"], "a")],
    "bias of three dimensions": WHOLE,
    "bias as a row": [
        ("MatMul", ["q", "k"], "s"),
        ("Reshape", ["s", "row_shape"], "r"),
        ("Add", ["r", "row"], "b"),
        ("Reshape", ["b", "scores_shape"], "a"),
    ],
    "bias of the input": [  # a constant for us, and not for the compiler
        ("MatMul", ["q", "k"], "s"),
        ("ReduceMin", ["x"], "least"),
        ("Mul", ["least", "zero"], "nothing"),
        ("Add", ["bias", "nothing"], "given"),
        ("Add", ["s", "given"], "a"),
    ],
    "bias folded into longer q and k": [
        ("Expand", ["eye", "many"], "places"),
        ("Concat", ["q", "places"], "long_q"),
        ("Expand", ["bias", "many_k"], "columns"),
        ("Concat", ["k", "columns"], "long_k"),
        ("MatMul", ["long_q", "long_k"], "a"),
    ],
}


def graph(form: str) -> onnx.ModelProto:
    """Return x [W, T, 3 C] to mixed values [W, H, T, C / H], the bias added in one form."""
    rng, inner = np.random.default_rng(0), HEADS * WIDTH
    bias = rng.normal(size=(HEADS, TOKENS, TOKENS)).astype(np.float32)
    constants: dict[str, Any] = {
        "bias": bias,
        "row": bias.ravel(),
        "zero": np.zeros((), np.float32),
        "eye": np.eye(TOKENS, dtype=np.float32),
        "weight": (rng.normal(size=(inner, 3 * inner)) * inner**-0.5).astype(np.float32),
        "row_shape": np.array([-1, bias.size]),
        "scores_shape": np.array(SCORES),
        "many": np.array(SCORES),
        "many_k": np.array(SCORES),
        "cut": np.array([WINDOWS, TOKENS, 3, HEADS, WIDTH]),
        **{name: np.array(i) for i, name in enumerate(("first", "second", "third"))},
    }
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "weight"], ["qkv"]),
        make("Reshape", ["qkv", "cut"], ["heads"]),
        make("Transpose", ["heads"], ["split"], perm=[2, 0, 3, 1, 4]),
        make("Gather", ["split", "first"], ["q"], axis=0),
        make("Gather", ["split", "second"], ["rows"], axis=0),
        make("Gather", ["split", "third"], ["v"], axis=0),
        make("Transpose", ["rows"], ["k"], perm=[0, 1, 3, 2]),
    ]
    for operator, inputs, output in FORMS[form]:
        extra: dict[str, Any] = {"ReduceMin": {"keepdims": 0}}.get(operator, {})
        if operator == "Concat":
            extra = {"axis": -1 if output == "long_q" else -2}
        nodes.append(make(operator, inputs, [output], **extra))
    nodes += [make("Softmax", ["a"], ["p"], axis=-1), make("MatMul", ["p", "v"], ["y"])]
    used = {name for node in nodes for name in node.input}
    floats = TensorProto.FLOAT
    return helper.make_model(
        helper.make_graph(
            nodes,
            "attention",
            [helper.make_tensor_value_info("x", floats, [WINDOWS, TOKENS, inner])],
            [helper.make_tensor_value_info("y", floats, [WINDOWS, HEADS, TOKENS, WIDTH])],
            [numpy_helper.from_array(v, n) for n, v in constants.items() if n in used],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def build(path: Path) -> None:
    """Build one graph, and print which layers the engine has."""
    parsed = parse_fp16(path)
    engine = parsed.trt.Runtime(parsed.logger).deserialize_cuda_engine(parsed.build())
    inspector = engine.create_engine_inspector()
    line = parsed.trt.LayerInformationFormat.ONELINE
    for layer in range(engine.num_layers):
        print(inspector.get_layer_information(layer, line).strip())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build(given.build)
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attention.onnx"
        for form in FORMS:
            onnx.save(graph(form), path)
            start = time.perf_counter()
            command = [sys.executable, __file__, "--build", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds = round(time.perf_counter() - start, 1)
            said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
            found[form] = {"exit_code": done.returncode, "seconds": seconds, "said": said[-12:]}
            print(
                f"{form}: exit code {done.returncode}, {seconds} s; {len(said)} lines, {said[-1:]}"
            )
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
