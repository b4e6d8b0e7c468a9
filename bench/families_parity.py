"""Every published family at full size against its official code, with the same seeded weights.

    pip install segment-anything-hq==0.3 mobilesam-mirror==1.0.0 efficientsam==1.0.0 sam2==1.1.0
    python bench/families_parity.py [--only NAME ...] [--backend onnxruntime] [--no-automatic]

For each model of the registry but SAM itself: the official model gets seeded weights and writes
them as its checkpoint; samtrt reads that file, and both work on the bundled photograph. It
compares the maps that flow to the decoder, logits, scores and masks of five kinds of prompt (with
and without `multimask_output`), and automatic masks from a grid of 2 x 2 points. Each model has a
process of its own, as ViT-H takes 10 GB. Without `--backend` samtrt computes with PyTorch; else the
checkpoint is exported first. Writes docs/results/families-parity-DATE.json anew after each model.
"""

from __future__ import annotations

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent.parent / "docs" / "results"
PACKAGES = ("torch", "segment-anything-hq", "mobilesam-mirror", "efficientsam", "sam2")
AUTOMATIC = {"points_per_side": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
Row = dict[str, Any]


def photograph() -> np.ndarray:
    from samtrt import assets
    from samtrt.images import read_image

    return np.asarray(read_image(assets.DEMO_PHOTOGRAPH))


def prompts(height: int, width: int) -> dict[str, dict[str, Any]]:
    """Return arguments of `predict`, in pixels of the image."""
    size = np.array([width, height])
    point = {"point_coords": np.array([[0.45, 0.5]]) * size, "point_labels": np.array([1])}
    box = {"box": (np.array([[0.1, 0.1], [0.75, 0.8]]) * size).ravel()}
    several = np.array([[0.45, 0.5], [0.1, 0.25], [0.8, 0.7]]) * size
    return {
        "point": point,
        "points": {"point_coords": several, "point_labels": np.array([1, 0, 1])},
        "box": box,
        "box and point": {**box, **point},
        "small box": {"box": (np.array([[0.4, 0.4], [0.45, 0.47]]) * size).ravel()},
    }


class Official:
    """The official model of a spec, behind one set of calls."""

    def __init__(self, spec: Any, path: Path) -> None:
        import torch

        from official_packages import official_predictor, official_sam
        from sam2_official import official_sam2, official_sam2_predictor
        from samtrt.models import seed_weights
        from samtrt.registry import HieraSpec

        self.spec, self.is_second = spec, isinstance(spec, HieraSpec)
        self.model = official_sam2(spec) if self.is_second else official_sam(spec)
        seed_weights(self.model)
        self.model.train().eval()  # TinyViT makes its table of biases when it is told to
        weights = self.model.state_dict()
        torch.save({"model": weights} if self.is_second else weights, path)
        make = official_sam2_predictor if self.is_second else None
        self.predictor = make(self.model) if make else official_predictor(spec, self.model)

    def maps(self) -> list[np.ndarray]:
        """Return the maps of the image that was set, in the manifest's order."""
        import torch

        predictor, decoder = self.predictor, getattr(self.model, "mask_decoder", None)
        if self.is_second:
            found = predictor._features
            return [found["image_embed"].numpy(), *(one.numpy() for one in found["high_res_feats"])]
        maps = [predictor.features]
        if self.spec.hq:
            early = predictor.interm_features[0].permute(0, 3, 1, 2)
            with torch.inference_mode():
                both = decoder.embedding_encoder(maps[0]) + decoder.compress_vit_feat(early)
            maps.append(both)
        return [one.detach().numpy() for one in maps]

    def automatic(self, image: np.ndarray) -> list[Row]:
        from official_packages import official_generator
        from sam2_official import fit_sizes, sam2_package

        if not self.is_second:
            found: list[Row] = official_generator(self.spec, self.model, **AUTOMATIC).generate(
                image
            )
            return found
        package = sam2_package().automatic_mask_generator
        generator = package.SAM2AutomaticMaskGenerator(self.model, **AUTOMATIC)
        fit_sizes(generator.predictor)
        masks: list[Row] = generator.generate(image)
        return masks


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the largest difference by the largest value."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def compare(predictor: Any, official: Official, image: np.ndarray, automatic: bool) -> Row:
    from samtrt.automatic.generator import AutomaticMaskGenerator
    from samtrt.masks.logits import mask_iou
    from samtrt.types import to_host

    start = time.perf_counter()
    official.predictor.set_image(image)
    middle = time.perf_counter()
    predictor.set_image(image)
    row: Row = {"official_encode_s": round(middle - start, 2)}
    row["encode_s"] = round(time.perf_counter() - middle, 2)
    row["maps"] = {
        name: {"apart": apart(to_host(one), theirs), "deviation": round(float(theirs.std()), 4)}
        for (name, one), theirs in zip(
            predictor.embedding.maps.items(), official.maps(), strict=True
        )
    }
    row["prompts"] = {}
    for name, prompt in prompts(*image.shape[:2]).items():
        for several in (True, False):
            arguments = {**prompt, "multimask_output": several}
            masks, scores, low = official.predictor.predict(**arguments)
            got = predictor.predict(**arguments)
            row["prompts"][f"{name}, {'several' if several else 'single'}"] = {
                "logits_apart": apart(got.low_res_logits, low),
                "scores_off": float(np.abs(got.iou_predictions - scores).max()),
                "pixels_differing": int((got.masks != masks.astype(bool)).sum()),
                "pixels": int(masks.size),
                "worst_iou": min(
                    mask_iou(a, b.astype(bool)) for a, b in zip(got.masks, masks, strict=True)
                ),
            }
    if not automatic:
        return row
    theirs = official.automatic(image)
    mine = AutomaticMaskGenerator(predictor, **AUTOMATIC).generate(image)
    ious = [
        mask_iou(a["segmentation"], b["segmentation"]) for a, b in zip(mine, theirs, strict=False)
    ]
    row["automatic"] = {
        "official": len(theirs),
        "samtrt": len(mine),
        "worst_iou": min(ious, default=None),
    }
    return row


def one_model(name: str, backend: str, automatic: bool) -> Row:
    """Compare one model; meant for a process of its own."""
    from samtrt.backends import BackendOptions
    from samtrt.backends.pytorch import manifest_of, open_checkpoint
    from samtrt.checkpoints.load import load_checkpoint
    from samtrt.choices import Stage
    from samtrt.export.onnx import export_model
    from samtrt.predictor import Predictor
    from samtrt.registry import get_spec

    spec = get_spec(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "official.pth"
        official = Official(spec, path)
        checkpoint = load_checkpoint(path)
        assert checkpoint.spec == spec, f"{name} was taken for {checkpoint.spec.name}"
        if backend == "pytorch":
            manifest = manifest_of(checkpoint)
            stages = open_checkpoint(checkpoint, manifest, "cpu")
            predictor = Predictor(stages[Stage.ENCODER], stages[Stage.DECODER], manifest)
        else:
            export_model(checkpoint, Path(folder) / "model")
            predictor = Predictor.load(Path(folder) / "model", backend, BackendOptions())
        with predictor:
            row = compare(predictor, official, photograph(), automatic)
    row["parameters"] = sum(one.numel() for one in official.model.parameters())
    row["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return row


def worst(row: Row) -> str:
    """Return a row as a line of text."""
    asked, found = row["prompts"].values(), row.get("automatic")
    text = "left out"
    if found:
        text = f"{found['samtrt']} of {found['official']}, IoU {found['worst_iou']:.6f}"
    return (
        f"maps {max(one['apart'] for one in row['maps'].values()):.1e}, "
        f"logits {max(one['logits_apart'] for one in asked):.1e}, "
        f"scores {max(one['scores_off'] for one in asked):.1e}, "
        f"IoU {min(one['worst_iou'] for one in asked):.6f}, "
        f"pixels {sum(one['pixels_differing'] for one in asked)} of "
        f"{sum(one['pixels'] for one in asked)}, "
        f"automatic {text}, {row['peak_mib']} MiB"
    )


def main() -> None:
    from samtrt.registry import MODELS

    names = [
        spec.name
        for spec in MODELS.values()
        if spec.download and spec.name not in ("vit_b", "vit_l", "vit_h")  # bench/peers.py
    ]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--backend", default="pytorch")
    parser.add_argument("--automatic", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--one", choices=names, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one_model(given.one, given.backend, given.automatic)))
        return
    today = datetime.date.today().isoformat()
    path = RESULTS / f"families-parity-{today}.json"
    result = json.loads(path.read_text()) if path.exists() else {"date": today, "rows": {}}
    result["versions"] = {name: version(name) for name in PACKAGES}
    for name in given.only:
        command = [sys.executable, __file__, "--one", name, "--backend", given.backend]
        command += [] if given.automatic else ["--no-automatic"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"{name}: failed", flush=True)
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        result["rows"][f"{name}, {given.backend}"] = row
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{name}: {worst(row)}", flush=True)
    print(path)


if __name__ == "__main__":
    main()
