"""Graphs that the exports of a run share: to trace one takes most of the time of an export."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from samtrt.backends.base import stage_tensors
from samtrt.choices import AnyStage, AttentionForm, Stage, VideoStage
from samtrt.export import onnx as exporting
from samtrt.export.finish import EXPORTER_OLDEST
from samtrt.manifest import Manifest
from samtrt.models import Sam
from samtrt.preparation.spec import OFFICIAL
from support.sharing import made_once


@contextmanager
def traced_once(root: Path) -> Iterator[None]:
    """Let each graph be traced once in a run, whoever exports it; all other steps are done anew.

    What is traced here comes from the real exporter, for one module, its weights and its options.
    It is written as the exporter writes, so that a disk that fills is met in the same place.

    Args:
        root: Where the graphs of the run are kept.
    """
    import onnx_ir

    trace = exporting.trace_graph

    def traced(sam: Sam, stage: AnyStage, manifest: Manifest, path: Path) -> None:
        kept = made_once(
            root / f"traced-{stage.value}-{_key(sam, stage, manifest)}",
            lambda folder: trace(sam, stage, manifest, folder / "traced.onnx"),
        )
        model = onnx_ir.load(kept / "traced.onnx")
        onnx_ir.save(model, path, external_data=f"{path.name}.data")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "trace_graph", traced)
        yield


def _key(sam: Sam, stage: AnyStage, manifest: Manifest) -> str:
    """Hash all that tracing depends on: of a decoder's graph, nothing of the encoder."""
    spec, plugin = sam.spec, manifest.attention == AttentionForm.PLUGIN.value
    asked: tuple[object, ...] = (
        max(manifest.opset, EXPORTER_OLDEST),
        stage_tensors(manifest, stage),
    )
    if stage is Stage.ENCODER:
        whole = replace(spec, name="", preparation=OFFICIAL, download=None)
        asked += (whole, manifest.attention, manifest.dynamic_batch)
        modules: tuple[nn.Module, ...] = (sam,)
    elif isinstance(stage, VideoStage):
        asked += (spec.image_size, plugin)
        modules = (sam,)
    else:
        asked += (spec.image_size, spec.patch_size, plugin)
        modules = (sam.prompt_encoder, sam.mask_decoder)
    seen = hashlib.sha256(repr((asked, modules)).encode())
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            seen.update(name.encode())
            seen.update(tensor.contiguous().numpy().tobytes())
    return seen.hexdigest()[:16]
