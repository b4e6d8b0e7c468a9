"""EdgeTAM against `transformers` and timm, same seeded weights: images, and what memories are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from samtrt.backends.pytorch import manifest_of
from samtrt.checkpoints.layouts import EDGETAM
from samtrt.checkpoints.load import load_checkpoint, load_sam
from samtrt.choices import AnyStage, Family, Generation, MaskChoice, Stage, VideoStage
from samtrt.decoding import choose_masks
from samtrt.errors import CheckpointError, ExportError
from samtrt.export.finish import check_borders
from samtrt.export.onnx import ExportOptions, _export_stage, _manifest, export_model
from samtrt.models import Sam, build_sam
from samtrt.models.graphs import DecoderGraph, EncoderGraph, example_inputs, graph_of
from samtrt.models.layers import Norm2d
from samtrt.models.repvit import TokenMixer
from samtrt.models.video import MemoryAttentionGraph, MemoryEncoderGraph
from samtrt.preparation.spec import SAM2
from samtrt.registry import RepViTSpec, get_spec
from support.edgetam import hugging_face_edgetam, our_shapes
from support.oracle import official_sam2

SMALL = get_spec("edgetam_t")
assert isinstance(SMALL, RepViTSpec)
G = SMALL.embedding_size


@pytest.fixture(scope="module")
def ours(edgetam_checkpoint: Path) -> Sam:
    """Its norms are folded, and its branches summed."""
    sam = load_sam(load_checkpoint(edgetam_checkpoint))
    assert not any(isinstance(module, Norm2d) for module in sam.modules())
    assert all(one.conv1 is None for one in sam.modules() if isinstance(one, TokenMixer))
    return sam


@pytest.fixture(scope="module")
def theirs(edgetam_checkpoint: Path) -> Any:
    return hugging_face_edgetam(SMALL, load_checkpoint(edgetam_checkpoint).state_dict)


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.shape == expected.shape
    assert expected.std() > 0.01 * expected.abs().max() > 0, "nothing would show"
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_embeddings(ours: Sam, theirs: Any) -> None:
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        embedding, fine, middle = EncoderGraph(ours)(images)
        expected = theirs.get_image_embeddings(images)
    for got, other in zip((fine, middle, embedding), expected, strict=True):
        assert_close(got, other)


@pytest.mark.parametrize("points", [2, 3])
def test_masks(ours: Sam, theirs: Any, points: int) -> None:
    """The three masks, and the single one where it is stable and where it is not."""
    noise = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 128, 128, generator=noise)
    coords = 128 * torch.rand(24, points, 2, generator=noise)
    labels = (torch.rand(24, points, generator=noise) > 0.3).long()
    with torch.inference_mode():
        maps = theirs.get_image_embeddings(images)
        asked = {"input_points": coords[None], "input_labels": labels[None]}
        several, single = (
            theirs(image_embeddings=maps, multimask_output=multimask, **asked)
            for multimask in (True, False)
        )
        embedding, *further = EncoderGraph(ours)(images)
        padded = torch.cat([coords, torch.zeros(24, 1, 2)], dim=1)
        given = torch.cat([labels, -torch.ones(24, 1)], dim=1)
        none = torch.zeros(24, 1, 4 * G, 4 * G)
        masks, ious, scores = DecoderGraph(ours)(
            embedding, padded, given, none, torch.zeros(24), *further
        )
    assert_close(masks[:, 1:], several.pred_masks[0])
    assert_close(ious[:, 1:], several.iou_scores[0])
    assert_close(scores, several.object_score_logits[0, :, 0])
    chosen = choose_masks(masks.numpy(), ious.numpy(), False, SMALL.mask_choice)[:, 0]
    assert 0 < (chosen == 0).sum() < 24
    assert_close(masks[range(24), chosen], single.pred_masks[0, :, 0])


@pytest.mark.parametrize("objects", [1, 3])
def test_memory_encoder(ours: Sam, theirs: Any, objects: int) -> None:
    """Tokens of memories, and where they are; as of a user's mask and of a found one."""
    noise = torch.Generator().manual_seed(2)
    raw = torch.randn(1, 256, G, G, generator=noise)
    masks = 5 * torch.randn(objects, 1, 4 * G, 4 * G, generator=noise)
    size = (SMALL.image_size,) * 2
    large = torch.nn.functional.interpolate(masks, size, mode="bilinear", align_corners=False)
    image = raw + ours.image_encoder.no_mem_embed.reshape(1, -1, 1, 1)
    for is_users in (False, True):
        with torch.inference_mode():
            got = MemoryEncoderGraph(ours)(
                image, masks, torch.ones(objects), torch.full((objects,), float(is_users))
            )
            for row in range(objects):
                expected, places = theirs.video._encode_new_memory(
                    raw.flatten(2).permute(2, 0, 1), large[row : row + 1], torch.ones(1), is_users
                )
                assert_close(got[row : row + 1], expected)
    assert (MemoryAttentionGraph(ours).memory_pe - places).abs().max() < 1e-6


@pytest.mark.parametrize("held", [(1, 1), (7, 16), (3, 5)], ids=str)
def test_memory_attention_with_empty_places(ours: Sam, theirs: Any, held: tuple[int, int]) -> None:
    noise = torch.Generator().manual_seed(3)
    memories, pointers = held
    video, tokens = theirs.video, SMALL.latents + SMALL.latents_2d
    image = torch.randn(1, 256, G, G, generator=noise)
    stored = torch.randn(2, 7, tokens, 64, generator=noise)
    pointed = torch.randn(2, 16, 256, generator=noise)
    times = torch.arange(7.0)
    has = (torch.arange(7) < memories).float(), (torch.arange(16) < pointers).float()
    with torch.inference_mode():
        got = MemoryAttentionGraph(ours)(
            *(image, stored, times.expand(2, -1), has[0].expand(2, -1)),
            *(pointed, torch.zeros(2, 16), has[1].expand(2, -1)),
        )
        encoder = video.memory_encoder
        empty = torch.zeros(1, 1, SMALL.image_size, SMALL.image_size)
        _, grid = encoder(torch.zeros(1, 256, G, G), empty)
        _, places = video.spatial_perceiver(torch.zeros(1, 64, G, G), grid)
        rows = video.memory_temporal_positional_encoding
        where = [places[0] + rows[i, 0] for i in range(memories)]
        neck = video.vision_encoder.neck.position_encoding
        at = neck(image.shape, image.device, image.dtype).flatten(2).permute(2, 0, 1)
        raw = image.flatten(2).permute(2, 0, 1) - video.no_memory_embedding
        for row in range(2):
            small = pointed[row, :pointers].reshape(-1, 64)
            expected = video.memory_attention(
                current_vision_features=raw,
                current_vision_position_embeddings=at,
                memory=torch.cat([*stored[row, :memories], small])[:, None],
                memory_posision_embeddings=torch.cat([*where, torch.zeros_like(small)])[:, None],
                num_object_pointer_tokens=len(small),
                num_spatial_memory_tokens=memories,
            )
            flat = expected.reshape(G * G, 256).T.reshape(256, G, G)
            assert_close(got[row], flat)


def test_the_published_models_tensors() -> None:
    """Names and shapes: those of both code bases."""
    spec = get_spec("edgetam")
    assert isinstance(spec, RepViTSpec)
    with torch.device("meta"):
        ours = {name: tuple(one.shape) for name, one in build_sam(spec).state_dict().items()}
        assert our_shapes(hugging_face_edgetam(spec, None).video) == ours
        sam2 = official_sam2(_as_sam2()).state_dict()
    # The official code is SAM 2's, but for the trunk, fewer layers of attention and the perceiver.
    more = ("memory_attention.layers.2.", "memory_attention.layers.3.")
    more = ("memory_attention.layers.2.", "memory_attention.layers.3.")
    official = {
        EDGETAM.official(name): tuple(one.shape)
        for name, one in sam2.items()
        if not name.startswith(more)
    }
    theirs = ("image_encoder.trunk.", "image_encoder.neck.", "memory.spatial_perceiver.")
    rest = {name: shape for name, shape in ours.items() if not name.startswith(theirs)}
    assert rest == {name: shape for name, shape in official.items() if not name.startswith(theirs)}
    perceiver = {name for name in ours if name.startswith("memory.spatial_perceiver.")}
    attention = ("to_q.weight", "to_kv.weight", "to_out.weight")
    norms = ("weight", "bias")
    layer = {f"{part}.{name}" for part in ("attn", "self_attn") for name in attention}
    layer |= {f"attn.{norm}.{name}" for norm in ("norm_x", "norm_latents") for name in norms}
    layer |= {f"self_attn.norm.{name}" for name in norms}
    layer |= {f"{part}.0.{name}" for part in ("ff", "self_ff") for name in norms}
    layer |= {f"{part}.{i}.weight" for part in ("ff", "self_ff") for i in (1, 3)}
    expected = {"latents", "latents_2d", "norm.weight", "norm.bias"}
    expected |= {f"layers.{i}.{name}" for i in range(2) for name in layer}
    assert perceiver == {f"memory.spatial_perceiver.{name}" for name in expected}


def _as_sam2() -> Any:
    from samtrt.registry import HieraSpec

    spec = get_spec("sam2_hiera_tiny")
    assert isinstance(spec, HieraSpec)
    return spec


def test_official_files_are_recognised(edgetam_checkpoint: Path, tmp_path: Path) -> None:
    found = load_checkpoint(edgetam_checkpoint)
    assert (found.spec, found.notices, found.preparation) == (SMALL, (), SAM2)
    manifest = manifest_of(found)
    assert (manifest.family, manifest.generation) == (Family.REPVIT, Generation.SAM2)
    assert manifest.mask_choice is MaskChoice.STABLE
    assert manifest.video is not None
    assert manifest.video.memory_shape(G) == (28, 64)
    # What timm counts is no weight, and one that is not there is named.
    state = torch.load(edgetam_checkpoint, weights_only=True)["model"]
    state["image_encoder.trunk.body.stem.conv1.bn.num_batches_tracked"] = torch.tensor(7)
    torch.save({"model": state}, tmp_path / "counted.pt")
    assert load_checkpoint(tmp_path / "counted.pt").spec == SMALL
    for name in ("spatial_perceiver.latents", "image_encoder.trunk.body.stem.conv2.c.weight"):
        torch.save({n: one for n, one in state.items() if n != name}, tmp_path / "less.pt")
        with pytest.raises(CheckpointError, match=name.rpartition("body.")[2]):
            load_checkpoint(tmp_path / "less.pt")


@pytest.mark.parametrize("rows", [15, 9])
def test_latents_that_cut_no_squares(edgetam_checkpoint: Path, tmp_path: Path, rows: int) -> None:
    state = torch.load(edgetam_checkpoint, weights_only=True)["model"]
    state["spatial_perceiver.latents_2d"] = torch.zeros(rows, 64)
    torch.save({"model": state}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=f"has {rows} rows, which do not cut the image's 8 x"):
        load_checkpoint(tmp_path / "other.pt")


def test_hugging_faces_layout(theirs: Any, edgetam_checkpoint: Path, tmp_path: Path) -> None:
    """With and without the modules for video, and a configuration that asks for something else."""
    expected = load_checkpoint(edgetam_checkpoint).state_dict
    for model in (theirs, theirs.video):
        folder = tmp_path / type(model).__name__
        folder.mkdir()
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
        found = load_checkpoint(folder)
        assert found.notices == ()
        is_video = model is theirs.video
        assert found.spec.name == (SMALL.name if is_video else "custom")
        assert found.spec.family is Family.REPVIT
        for name, tensor in expected.items():
            if is_video or not name.startswith("memory."):
                assert torch.equal(found.state_dict[name], tensor), name
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"perceiver_resampler_num_attention_heads": 2}, "perceiver_resampler_num_attention_heads"),
        ({"memory_attention_rope_k_sizes": [8, 8]}, "memory_attention_rope_k_sizes"),
        ({"model_type": "sam2_video"}, "'sam2_video' model, not a 'edgetam'"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(folder)


def test_images_alone_follow_nothing(theirs: Any, tmp_path: Path) -> None:
    """Of an `EdgeTamModel`, which has no modules for video, masks are to be had."""
    torch.save(theirs.state_dict(), tmp_path / "images.pth")
    checkpoint = load_checkpoint(tmp_path / "images.pth")
    manifest = manifest_of(checkpoint)
    assert manifest.video is None
    with pytest.raises(ExportError, match="no modules for videos"):
        export_model(checkpoint, tmp_path / "out", ExportOptions(video=True))


@pytest.mark.parametrize(
    ("stage", "opset"), [(Stage.ENCODER, 20), (Stage.ENCODER, 17), (VideoStage.MEMORY_ENCODER, 20)]
)
def test_graphs_of_its_own(
    ours: Sam, edgetam_checkpoint: Path, tmp_path: Path, stage: AnyStage, opset: int
) -> None:
    """Exported, and run by ONNX Runtime; the other graphs are SAM 2's but for sizes."""
    options = ExportOptions(opset=opset, video=True)
    manifest = _manifest(load_checkpoint(edgetam_checkpoint), options)
    path = _export_stage(ours, stage, manifest, tmp_path, options, lambda _: None)
    assert [one.version for one in onnx.load(path).opset_import if not one.domain] == [opset]
    check_borders(path, stage, manifest)
    noise = torch.Generator().manual_seed(4)
    inputs = {
        name: torch.randn(one.shape, generator=noise)[: 1 if stage is Stage.ENCODER else None]
        for name, one in example_inputs(ours, stage).items()
    }
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {name: one.numpy() for name, one in inputs.items()})
    with torch.inference_mode():
        expected = graph_of(ours, stage)(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    for mine, other in zip(got, expected, strict=True):
        assert_close(torch.from_numpy(mine), other)
