"""SAM-HQ's decoder in its two forms; beside the official code it is in `test_families.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from samtrt.checkpoints.load import load_checkpoint
from samtrt.export.onnx import ExportOptions, export_model
from samtrt.models import Sam, build_sam, seed_weights
from samtrt.models.hq import MaskDecoderHq
from samtrt.registry import get_spec

HQ = replace(get_spec("vit_t"), name="custom", hq=True)


@pytest.fixture(scope="module")
def sam() -> Sam:
    sam = build_sam(HQ)
    seed_weights(sam)
    return sam


@pytest.mark.parametrize("hq_token_only", [False, True])
@pytest.mark.parametrize("prompts", [1, 3])
def test_taps_that_are_weighed_first_give_the_same_masks(
    sam: Sam, prompts: int, hq_token_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = sam.mask_decoder
    assert isinstance(decoder, MaskDecoderHq)
    monkeypatch.setattr(decoder, "hq_token_only", hq_token_only)
    torch.manual_seed(0)
    grid, side = HQ.embedding_size, HQ.mask_size
    given = (
        *(torch.randn(1, 256, grid, grid), torch.rand(prompts, 2, 2) * HQ.image_size),
        *(torch.ones(prompts, 2), torch.zeros(prompts, 1, side, side), torch.zeros(prompts)),
        torch.randn(1, 32, side, side),
    )
    with torch.inference_mode():
        expected, scores = sam.decode(*given)
        monkeypatch.setattr(decoder, "weighs_first", True)
        masks, same_scores = sam.decode(*given)
    assert torch.equal(scores, same_scores)
    assert (masks - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("opset", "convolutions"), [(17, 2), (20, 1)])
def test_the_convolution_stays_where_tensorrt_8_reads_the_graph(
    sam: Sam, tmp_path: Path, opset: int, convolutions: int
) -> None:
    torch.save(sam.state_dict(), tmp_path / "hq.pth")
    checkpoint = load_checkpoint(tmp_path / "hq.pth")
    export_model(checkpoint, tmp_path / "out", ExportOptions(opset=opset))
    graph = onnx.load(tmp_path / "out" / "decoder.onnx", load_external_data=False).graph
    sizes = {one.name: [*one.dims] for one in graph.initializer}
    wide = [n for n in graph.node if n.op_type == "Conv" and sizes[n.input[1]][2:] == [3, 3]]
    assert len(wide) == convolutions
