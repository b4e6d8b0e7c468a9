"""The backends that the contract's tests run on: here, on stand-ins, and on a GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samtrt.backends import BackendOptions, open_backend
from samtrt.backends.base import Backend
from samtrt.backends.fake import FakeBackend
from samtrt.choices import BackendName, Stage, Target
from samtrt.errors import MissingExtraError
from samtrt.manifest import Manifest
from samtrt.tensorrt.api import load_api
from support import fake_runtime
from support.samples import make_manifest

FAKE = "fake"
STAND_IN = "tensorrt on a stand-in"


@dataclass(frozen=True)
class Places:
    """What a case may be opened from: the model's exports, its checkpoint, an empty folder."""

    exported: Callable[..., Path]
    checkpoint: Path
    folder: Path

    @property
    def model(self) -> Path:
        return self.exported()


def cases() -> list[Any]:
    """Return a parameter for each backend; those of a GPU have the marker."""
    missing = {BackendName.TENSORRT, BackendName.TENSORRT_RTX}
    try:
        from samtrt.backends.openvino import has_bf16

        without = set() if has_bf16() else {BackendName.OPENVINO_BF16}
    except MissingExtraError:  # on a GPU's machine it need not be there
        without = {BackendName.OPENVINO, BackendName.OPENVINO_BF16}
    missing |= without
    return [
        *(
            pytest.param((name.value, "cpu"), id=name)
            for name in BackendName
            if name not in missing
        ),
        pytest.param((FAKE, "cpu"), id=FAKE),
        pytest.param((STAND_IN, "cuda"), id=STAND_IN),
        *cases_on_gpu(),
    ]


def cases_on_gpu() -> list[Any]:
    """Return a parameter for each backend that runs on a GPU."""
    return [
        pytest.param((name.value, "cuda"), id=f"{name.value} on a GPU", marks=pytest.mark.gpu)
        for name in (BackendName.PYTORCH, BackendName.ONNXRUNTIME, BackendName.TENSORRT)
    ]


@contextmanager
def opened(case: tuple[str, str], places: Places) -> Iterator[dict[Stage, Backend]]:
    """Open both stages; skip where this machine cannot."""
    name, device = case
    with ExitStack() as stack:
        if name == STAND_IN:
            pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")
            stack.enter_context(_stand_in())
            name, directory = BackendName.TENSORRT.value, _fake_engines(places.folder)
        else:
            directory = _on_gpu_or_skipped(name, places) if device == "cuda" else places.model
        manifest = Manifest.load(directory)
        options = BackendOptions(device=device, checkpoint=places.checkpoint)
        # Not entered, but closed: a test may have closed them before.
        stages = {
            stage: stack.enter_context(
                FakeBackend(manifest, stage)
                if name == FAKE
                else open_backend(name, directory, manifest, stage, options)
            )
            for stage in Stage
        }
        yield stages


@contextmanager
def _stand_in() -> Iterator[None]:
    from support import fake_tensorrt

    with pytest.MonkeyPatch.context() as patch:
        cuda = fake_tensorrt.install(patch)
        yield
        fake_tensorrt.check_left_clean(cuda)


def _fake_engines(folder: Path) -> Path:
    from support import fake_tensorrt

    directory = fake_runtime.write_directory(folder / "fake", make_manifest())
    fake_tensorrt.write_engines(directory, prompts=8, points=10)
    return directory


def _on_gpu_or_skipped(name: str, places: Places) -> Path:
    try:
        return _on_gpu(name, places)
    except MissingExtraError as error:  # of what exports, or of TensorRT
        pytest.skip(str(error))


def _on_gpu(name: str, places: Places) -> Path:
    if name == BackendName.PYTORCH.value:
        if not pytest.importorskip("torch").cuda.is_available():
            pytest.skip("this PyTorch has no CUDA")
        return places.model
    if name == BackendName.ONNXRUNTIME.value:
        providers = pytest.importorskip("onnxruntime").get_available_providers()
        if "CUDAExecutionProvider" not in providers:
            pytest.skip("this ONNX Runtime has no CUDA provider")
        return places.model
    from samtrt.build.checks import default_points
    from samtrt.build.engines import build_engines
    from samtrt.build.options import BuildOptions, Range

    api = load_api(Target.TENSORRT)
    directory = Path(shutil.copytree(for_tensorrt(places.exported), places.folder / "engines"))
    points = Range(min=default_points(api, None).min, opt=5, max=10)
    prompts = Range(min=1, opt=1, max=8)
    # What is asked is whether results are right: the library need not look for the fastest kernels.
    build_engines(
        *(directory, Target.TENSORRT),
        BuildOptions(prompts=prompts, points=points, optimization_level=0),
    )
    return directory


def for_tensorrt(exported: Callable[..., Path]) -> Path:
    """Return an export that the TensorRT at hand parses."""
    newest = load_api(Target.TENSORRT).newest_opset
    return exported(opset=newest) if newest else exported()
