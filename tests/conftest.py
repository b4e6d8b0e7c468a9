"""Fixtures that many tests share: a tiny seeded model, its checkpoint, and its exports."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Helpers that tests share (oracle, samples and the like) are plain modules beside this file.
sys.path.insert(0, str(Path(__file__).parent))

from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from support import fake_runtime
from support.samples import make_manifest
from support.sharing import Make, made_once, name_of, root_of_run, share_cores

# Before a library starts its threads, which is when it is imported; what tests start inherits it.
share_cores()

settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")


FIVE_GRAPHS = ("sam2.1_hiera_t", "edgetam_t")
"""Models that follow objects, whose export takes a minute and more."""


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where CUDA sees none: `pytest -m gpu` runs all of it elsewhere.

    Slow tests come first, so that no process of the run has one left when the others are done. What
    needs the export of five graphs is long.
    """
    for item in items:
        call = getattr(item, "callspec", None)
        exports = item.path.name in (
            "test_families.py",
            "test_models.py",
            "test_browser_decoding.py",
            "test_track.py",
            "test_video.py",
        )
        given = exports and call is not None and {*FIVE_GRAPHS} & {*map(str, call.params.values())}
        if given or {"sam2_model", "edgetam_model"} & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = _why_no_gpu() if marked else None
    for item in marked:
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Leave what is imported out of the collector's work, which takes 0.3 s with it.

    Many tests collect garbage hundreds of times, to see that nothing is left.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


def _why_no_gpu() -> str | None:
    from samtrt.errors import SamtrtError
    from samtrt.tensorrt.gpu import find_gpu

    try:
        find_gpu()
    except (SamtrtError, RuntimeError) as error:  # cuda-bindings raise for a missing driver
        return f"needs an NVIDIA GPU: {error}"
    return None


@pytest.fixture
def manifest() -> Manifest:
    return make_manifest()


@pytest.fixture
def fake_predictor(manifest: Manifest) -> Iterator[Predictor]:
    """A predictor with no weights: discs around points, boxes as masks."""
    with fake_runtime.fake_predictor(manifest) as predictor:
        yield predictor


@pytest.fixture
def fake_directory(tmp_path: Path, manifest: Manifest) -> Iterator[Path]:
    """A model directory that the fake backend runs, in ONNX Runtime's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samtrt.predictor.open_backend", fake_runtime.open_backend)
        yield fake_runtime.write_directory(tmp_path / "fake-model", manifest)


@pytest.fixture
def picture() -> np.ndarray:
    """A non-square image, uint8 [120, 200, 3]."""
    from support.oracle import random_image

    return random_image(120, 200)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """Make a directory once for all processes of the run: `shared(name, fill)` returns it."""
    root = root_of_run(tmp_path_factory.getbasetemp())
    return lambda name, make: made_once(root / name, make)


@pytest.fixture(scope="session")
def tiny_checkpoint(shared: Callable[[str, Make], Path]) -> Path:
    """A seeded vit_t as an official-style .pth."""

    def make(directory: Path) -> None:
        import torch

        from samtrt.models import build_sam, seed_weights
        from samtrt.registry import get_spec

        sam = build_sam(get_spec("vit_t"))
        seed_weights(sam)
        torch.save(sam.state_dict(), directory / "tiny.pth")

    return shared("checkpoint", make) / "tiny.pth"


AT_TIMES_GONE = 0.95
"""What makes a seeded SAM 2 sure that objects are there, on some frames of a video."""
EDGETAM_AT_TIMES_GONE = -0.517
"""The same of a seeded EdgeTAM."""


@pytest.fixture(scope="session")
def family_checkpoint(
    shared: Callable[[str, Make], Path], tiny_checkpoint: Path
) -> Callable[[str], Path]:
    """Return a seeded checkpoint of a small model in the registry, with SAM-HQ's decoder where its
    name ends in `, hq`: two maps reach that. All others have the decoder of `tiny_checkpoint`,
    whose graph need not be traced again."""

    def path_of(name: str) -> Path:
        def make(directory: Path) -> None:
            import torch

            from samtrt.checkpoints.layouts import SAM2
            from samtrt.models import build_sam, seed_weights
            from samtrt.registry import HieraSpec, RepViTSpec, get_spec
            from support.oracle import official_names, official_sam2

            model, _, hq = name.partition(", ")
            spec = replace(get_spec(model), hq=bool(hq))
            sam = build_sam(spec)
            seed_weights(sam)
            weights = sam.state_dict()
            gone = "mask_decoder.pred_obj_score_head.layers.2.bias"
            if isinstance(spec, RepViTSpec):  # whose official names are others than ours
                weights[gone] += EDGETAM_AT_TIMES_GONE
                weights = {"model": official_names(weights)}
            elif isinstance(spec, HieraSpec):  # as are these
                names = official_sam2(spec).state_dict()
                weights[gone] += AT_TIMES_GONE
                weights = {"model": {name: weights[SAM2.official(name)] for name in names}}
            elif not hq:
                tiny = torch.load(tiny_checkpoint)
                weights |= {n: t for n, t in tiny.items() if not n.startswith("image_encoder.")}
            torch.save(weights, directory / "model.pth")

        return shared(f"{name}-checkpoint", make) / "model.pth"

    return path_of


@pytest.fixture(scope="session")
def family_model(
    shared: Callable[[str, Make], Path],
    family_checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """Return the model directory exported with defaults from a `family_checkpoint`; that of a SAM 2
    has the graphs for video too."""

    def directory_of(name: str) -> Path:
        def make(directory: Path) -> None:
            from samtrt.checkpoints.load import load_checkpoint
            from samtrt.export.onnx import ExportOptions, export_model
            from samtrt.registry import Sam2Spec
            from support.traces import traced_once

            checkpoint = load_checkpoint(family_checkpoint(name))
            options = ExportOptions(video=isinstance(checkpoint.spec, Sam2Spec))
            with traced_once(root_of_run(tmp_path_factory.getbasetemp())):
                export_model(checkpoint, directory, options)

        return shared(name, make)

    return directory_of


@pytest.fixture(scope="session")
def hq_checkpoint(family_checkpoint: Callable[[str], Path]) -> Path:
    """A small SAM-HQ."""
    return family_checkpoint("vit_t, hq")


@pytest.fixture(scope="session")
def hq_model(family_model: Callable[[str], Path]) -> Path:
    """The model directory exported from `hq_checkpoint` with defaults."""
    return family_model("vit_t, hq")


@pytest.fixture(scope="session")
def sam2_checkpoint(family_checkpoint: Callable[[str], Path]) -> Path:
    """A small SAM 2.1, under the official names."""
    return family_checkpoint("sam2.1_hiera_t")


@pytest.fixture(scope="session")
def sam2_model(family_model: Callable[[str], Path]) -> Path:
    """The model directory exported from `sam2_checkpoint`, with the graphs for video."""
    return family_model("sam2.1_hiera_t")


@pytest.fixture(scope="session")
def edgetam_checkpoint(family_checkpoint: Callable[[str], Path]) -> Path:
    """A small EdgeTAM, under the official names."""
    return family_checkpoint("edgetam_t")


@pytest.fixture(scope="session")
def edgetam_model(family_model: Callable[[str], Path]) -> Path:
    """The model directory exported from `edgetam_checkpoint`, with the graphs for video."""
    return family_model("edgetam_t")


@pytest.fixture(scope="session")
def exported(
    shared: Callable[[str, Make], Path],
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Export `tiny_checkpoint` with options of `ExportOptions`, each choice once in a run."""

    def export(**options: object) -> Path:
        def make(directory: Path) -> None:
            from samtrt.checkpoints.load import load_checkpoint
            from samtrt.export.onnx import ExportOptions, export_model
            from support.traces import traced_once

            with traced_once(root_of_run(tmp_path_factory.getbasetemp())):
                export_model(load_checkpoint(tiny_checkpoint), directory, ExportOptions(**options))

        return shared(name_of(options), make)

    return export


@pytest.fixture
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For a test that exports: graphs that the run has traced before are not traced again."""
    from support import traces

    with traces.traced_once(root_of_run(tmp_path_factory.getbasetemp())):
        yield


@pytest.fixture(scope="session")
def tiny_model(exported: Callable[..., Path]) -> Path:
    """The model directory exported from `tiny_checkpoint` with defaults; see also `model`."""
    return exported()


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return shutil.copytree(tiny_model, tmp_path / "model")
