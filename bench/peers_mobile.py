"""MobileSAM on the CPU: samtrt, its own PyTorch and samexporter's graphs, in one run.

    pip install --no-deps samexporter==0.5.0 mobilesam-mirror==1.0.0
    python bench/peers_mobile.py [--rounds 5] [--threads 1] [--work FOLDER]

One process, one set of seeded weights, one prepared image of 1024 x 1024 and one point, the same
number of threads. In every round all subjects encode the image and decode the point, the first of
the round changing; a first turn of each is not counted. Medians and least of each, in seconds of
the clock and of the processor (of all threads): on a busy machine only the latter can be compared,
and with one thread, which waits for no other. Decoding ends at the low-res logits. Writes
docs/results/peers-mobile-DATE.json, with the machine's load.

`samtrt openvino bf16` is what `samtrt export --precision bf16` writes, for processors with AVX-512
BF16 or AMX; whether its masks are the checkpoint's: `samtrt verify WORK/samtrt-bf16 --checkpoint
WORK/mobile.pth --backend openvino`.
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
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from official_packages import official_sam, segment_anything_oracle
from peers import machine

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PACKAGES = ["samtrt", "torch", "onnxruntime", "openvino", "samexporter", "mobilesam-mirror"]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """One implementation.

    Attributes:
        encode: From pixels [1, 3, 1024, 1024] to an embedding [1, 256, 64, 64].
        decode: From that and a point's inputs, as of `decoder.onnx`, to logits [1, 4, 256, 256].
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray, Arrays], np.ndarray]


def point() -> Arrays:
    """Return one point and its padding, without a mask."""
    return {
        "point_coords": np.array([[[500, 375], [0, 0]]], np.float32),
        "point_labels": np.array([[1, -1]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }


def official() -> Any:
    """Return MobileSAM's own PyTorch with seeded weights."""
    from samtrt.models import seed_weights
    from samtrt.registry import get_spec

    model = official_sam(get_spec("mobile_sam"))
    seed_weights(model)
    return model.train().eval()  # TinyViT makes its table of biases when it is told to


def pytorch(work: Path, threads: int) -> Subject:
    import torch

    torch.set_num_threads(threads)
    model = official()
    model.load_state_dict(torch.load(work / "mobile.pth", weights_only=True))
    model.train().eval()

    def encode(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model.image_encoder(torch.from_numpy(pixels)))

    def decode(embedding: np.ndarray, prompt: Arrays) -> np.ndarray:
        # The official predictor adds the padding point itself.
        points = tuple(
            torch.from_numpy(prompt[name][:, :1]) for name in ("point_coords", "point_labels")
        )
        with torch.inference_mode():
            sparse, dense = model.prompt_encoder(points=points, boxes=None, masks=None)
            logits, _ = model.mask_decoder.predict_masks(
                image_embeddings=torch.from_numpy(embedding),
                image_pe=model.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
            )
        return np.asarray(logits)

    return Subject(encode, decode)


def samexporter(work: Path, threads: int) -> Subject:
    """Open its graphs on ONNX Runtime, exported as its export_encoder.py and _decoder.py do."""
    import onnxruntime as ort

    encoder, decoder = work / "peer-encoder.onnx", work / "peer-decoder.onnx"
    if not decoder.exists():
        _export_samexporter(encoder, decoder)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    cpu = ["CPUExecutionProvider"]
    first, second = (
        ort.InferenceSession(str(p), options, providers=cpu) for p in (encoder, decoder)
    )
    size = {"orig_im_size": np.array([1024, 1024], np.float32)}
    return Subject(
        lambda pixels: first.run(None, {"input_image": pixels})[0],
        lambda embedding, prompt: second.run(
            ["low_res_masks"], {"image_embeddings": embedding, **prompt, **size}
        )[0],
    )


def _export_samexporter(encoder: Path, decoder: Path) -> None:
    import torch

    segment_anything_oracle()  # which it imports
    encoder_of = importlib.import_module("samexporter.onnx_utils").ImageEncoderOnnxModel
    decoder_of = importlib.import_module("segment_anything.utils.onnx").SamOnnxModel
    model = official()
    named: dict[str, Any] = {"opset_version": 18, "dynamo": False}
    example = {
        "image_embeddings": torch.randn(1, 256, 64, 64),
        "point_coords": torch.randint(0, 1024, (1, 5, 2)).float(),
        "point_labels": torch.randint(0, 4, (1, 5)).float(),
        "mask_input": torch.randn(1, 1, 256, 256),
        "has_mask_input": torch.ones(1),
        "orig_im_size": torch.tensor([1500.0, 2250.0]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder_of(model=model, use_preprocess=False),
            (torch.randn(1, 3, 1024, 1024),),
            str(encoder),
            input_names=["input_image"],
            output_names=["image_embeddings"],
            **named,
        )
        torch.onnx.export(
            decoder_of(model=model, return_single_mask=False),
            tuple(example.values()),
            str(decoder),
            input_names=list(example),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
            **named,
        )


def ours(backend: str, form: str = "fp32") -> Callable[[Path, int], Subject]:
    """Return what opens our graphs in one of three forms: fp32, bf16 or int8."""

    def opened(work: Path, threads: int) -> Subject:
        from samtrt import assets
        from samtrt.backends import BackendOptions, open_backend
        from samtrt.checkpoints.load import load_checkpoint
        from samtrt.choices import Precision, Stage
        from samtrt.export.onnx import ExportOptions, default_opset, export_model
        from samtrt.export.quantize import QuantizeOptions, quantize_model
        from samtrt.images import read_image
        from samtrt.manifest import Manifest

        directory, float32 = work / f"samtrt-{form}", work / "samtrt-fp32"
        for exported in {float32, directory} if form != "int8" else {float32}:
            if not exported.exists():
                precision = Precision(exported.name.removeprefix("samtrt-"))
                options = ExportOptions(precision, default_opset(precision))
                export_model(load_checkpoint(work / "mobile.pth", "mobile_sam"), exported, options)
        if form == "int8" and not directory.exists():
            images = {"photograph": np.asarray(read_image(assets.DEMO_PHOTOGRAPH))}
            quantize_model(float32, directory, images, QuantizeOptions(keep=()))
        manifest = Manifest.load(directory)
        given = BackendOptions(threads=threads)
        encoder, decoder = (
            open_backend(backend, directory, manifest, stage, given)
            for stage in (Stage.ENCODER, Stage.DECODER)
        )
        return Subject(
            lambda pixels: encoder.run({"images": pixels})["image_embeddings"],
            lambda embedding, prompt: decoder.run({"image_embeddings": embedding, **prompt})[
                "low_res_masks"
            ],
        )

    return opened


SUBJECTS: dict[str, Callable[[Path, int], Subject]] = {
    "mobile_sam, PyTorch": pytorch,
    "samexporter 0.5, ONNX Runtime": samexporter,
    "samtrt onnxruntime": ours("onnxruntime"),
    "samtrt openvino": ours("openvino"),
    "samtrt openvino bf16": ours("openvino", "bf16"),
    "samtrt onnxruntime int8": ours("onnxruntime", "int8"),
}


def apart(found: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def measure(opened: dict[str, Subject], rounds: int) -> dict[str, dict[str, Any]]:
    """Let all subjects take their turns; return seconds and differences by subject."""
    pixels = np.random.default_rng(0).normal(size=(1, 3, 1024, 1024)).astype(np.float32)
    names, prompt = list(opened), point()
    seconds: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}

    def timed(name: str, task: str, call: Callable[[], np.ndarray]) -> np.ndarray:
        wall, processor = time.perf_counter(), time.process_time()
        result = call()
        seconds[name][f"{task}_s"].append(time.perf_counter() - wall)
        seconds[name][f"{task}_processor_s"].append(time.process_time() - processor)
        return result

    embeddings = {name: opened[name].encode(pixels) for name in names}
    reference = embeddings[names[0]]
    logits = {name: opened[name].decode(reference, prompt) for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            one = opened[name]
            timed(name, "encode", lambda one=one: one.encode(pixels))
            for _ in range(5):
                timed(name, "decode", lambda one=one: one.decode(reference, prompt))
        print(f"round {turn + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    return {
        name: {
            **{task: round(statistics.median(all_), 4) for task, all_ in seconds[name].items()},
            **{f"{task}_least": round(min(all_), 4) for task, all_ in seconds[name].items()},
            "embedding_apart": apart(embeddings[name], reference),
            "logits_apart": apart(logits[name], logits[names[0]]),
        }
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep exported models here, and use them again")
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "mobile.pth").exists():
        import torch

        torch.save(official().state_dict(), work / "mobile.pth")
    opened = {name: make(work, given.threads) for name, make in SUBJECTS.items()}
    before = os.getloadavg()
    rows = measure(opened, given.rounds)
    today = datetime.date.today().isoformat()
    about = {
        "date": today,
        "machine": machine(given.threads) | {"versions": {one: version(one) for one in PACKAGES}},
        "rounds": given.rounds,
        "load": {"before": before, "after": os.getloadavg()},
        "subjects": rows,
    }
    path = RESULTS / f"peers-mobile-{today}.json"
    path.write_text(json.dumps(about, indent=2) + "\n")
    for name, row in rows.items():
        print(
            f"{name:32}encode {row['encode_s']:7.3f} s, processor "
            f"{row['encode_processor_s']:7.3f} (least {row['encode_processor_s_least']:.3f}); "
            f"decode {row['decode_s']:7.4f} s, processor {row['decode_processor_s']:7.4f}; apart "
            f"{row['embedding_apart']:.1e}, {row['logits_apart']:.1e}"
        )
    print(path)


if __name__ == "__main__":
    main()
