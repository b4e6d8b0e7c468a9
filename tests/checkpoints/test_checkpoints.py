from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from samtrt.checkpoints.load import detect, load_checkpoint, load_sam
from samtrt.errors import CheckpointError
from samtrt.models import build_sam
from samtrt.registry import MODELS, ViTSpec, get_spec
from support.checkpoint_cases import PROJ, QKV, SPEC, State, equal, refusal
from support.oracle import official_sam

# What loads


def test_official_state_dict(save: Callable[[object], Path], state: State) -> None:
    path = save(state)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec == SPEC
    assert equal(checkpoint, state)
    assert checkpoint.path == path
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for tensor in checkpoint.state_dict.values():
        assert (tensor.dtype, tensor.is_contiguous()) == (torch.float32, True)
        assert tensor.device.type == "cpu"


def test_loaded_model_is_the_official_one(save: Callable[[object], Path], state: State) -> None:
    checkpoint = load_checkpoint(save(state))
    sam = load_sam(checkpoint)
    assert not sam.training
    assert not any(tensor.is_meta for tensor in [*sam.parameters(), *sam.buffers()])
    for name, tensor in sam.state_dict().items():
        assert tensor.data_ptr() == checkpoint.state_dict[name].data_ptr()
    official = official_sam(SPEC)
    official.load_state_dict(state)
    images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = sam.image_encoder(images), official.image_encoder(images)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_writing_to_the_weights_leaves_the_file_alone(
    save: Callable[[object], Path], state: State
) -> None:
    path = save(state)
    load_checkpoint(path).state_dict[QKV].zero_()
    assert equal(load_checkpoint(path), state)


WRAPPED: dict[str, Callable[[State], object]] = {
    "model": lambda s: {"model": s, "optimizer": {"state": {}}, "epoch": 3},
    "state_dict": lambda s: {"state_dict": s},
    "parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "parallel and wrapped": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    "compiled": lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    "twice": lambda s: {"state_dict": {"model": {f"sam.{k}": v for k, v in s.items()}}},
    "normalisation": lambda s: {
        **s,
        "pixel_mean": torch.tensor([123.675, 116.28, 103.53]).reshape(3, 1, 1),
        "pixel_std": torch.tensor([58.395, 57.12, 57.375]).reshape(3, 1, 1),
    },
    "parameters": lambda s: OrderedDict((k, torch.nn.Parameter(v)) for k, v in s.items()),
    "not contiguous": lambda s: {
        k: v.mT.contiguous().mT if v.ndim > 1 else v for k, v in s.items()
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_what_trainers_save(save: Callable[[object], Path], state: State, how: str) -> None:
    checkpoint = load_checkpoint(save(WRAPPED[how](state)))
    assert equal(checkpoint, state)
    assert all(tensor.is_contiguous() for tensor in checkpoint.state_dict.values())
    assert not any(tensor.requires_grad for tensor in checkpoint.state_dict.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(
    save: Callable[[object], Path], state: State, dtype: torch.dtype
) -> None:
    cast = {name: tensor.to(dtype) for name, tensor in state.items()}
    checkpoint = load_checkpoint(save(cast))
    assert equal(checkpoint, {name: tensor.float() for name, tensor in cast.items()})
    assert {tensor.dtype for tensor in checkpoint.state_dict.values()} == {torch.float32}


@st.composite
def specs(draw: st.DrawFn) -> ViTSpec:
    heads, depth = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    embed_dim, grid = heads * draw(st.sampled_from([4, 8])), draw(st.integers(2, 9))
    patch = draw(st.sampled_from([8, 16]))
    blocks = st.sets(st.integers(0, depth - 1), max_size=depth - 1)
    return ViTSpec(
        name="custom",
        embed_dim=embed_dim,
        depth=depth,
        num_heads=heads,
        global_attn_indexes=tuple(sorted(draw(blocks))),
        image_size=grid * patch,
        patch_size=patch,
        window_size=draw(st.integers(1, 14).filter(lambda window: window != grid)),
        mlp_ratio=draw(st.sampled_from([1.0, 2.5, 4.0])),
        prompt_embed_dim=draw(st.sampled_from([32, 64])),
    )


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(spec=specs())
def test_every_number_is_in_the_tensors(save: Callable[[object], Path], spec: ViTSpec) -> None:
    assert load_checkpoint(save(build_sam(spec).state_dict())).spec == spec


@pytest.mark.parametrize("windows", [(), (0, 1, 2)])
def test_a_window_as_large_as_the_grid_is_global(
    save: Callable[[object], Path], windows: tuple[int, ...]
) -> None:
    """The same tensors and the same results, however the model was described."""
    spec = replace(SPEC, window_size=8, global_attn_indexes=windows)
    checkpoint = load_checkpoint(save(build_sam(spec).state_dict()))
    assert checkpoint.spec.global_attn_indexes == (0, 1, 2)
    load_sam(checkpoint)


# SAM 2's own names are other than official ones: tests/models/test_sam2.py.
@pytest.mark.parametrize(
    "name",
    [n for n, spec in MODELS.items() if isinstance(spec, ViTSpec) and spec.embed_dim <= 384],
)
def test_known_models_are_recognised(save: Callable[[object], Path], name: str) -> None:
    path = save(build_sam(get_spec(name)).state_dict())
    assert load_checkpoint(path).spec is load_checkpoint(path, model=name).spec is MODELS[name]


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_models_are_recognised_by_shape(name: str) -> None:
    with torch.device("meta"):
        assert detect(build_sam(get_spec(name)).state_dict()) is MODELS[name]


# What does not


def test_model_mismatch_names_both(save: Callable[[object], Path], state: State) -> None:
    message = refusal(save(state), "vit_t")
    assert "custom model (width 32, 3 blocks, 2 heads, images of 128)" in message
    assert "--model says vit_t" in message
    with pytest.raises(CheckpointError, match="unknown model 'vit_x'"):
        load_checkpoint(save(state), "vit_x")


def change(name: str, value: Callable[[Tensor], object]) -> Callable[[State], object]:
    return lambda state: {**state, name: value(state[name])}


def without(*names: str) -> Callable[[State], object]:
    return lambda state: {k: v for k, v in state.items() if k not in names}


WRONG: dict[str, tuple[Callable[[State], object], str]] = {
    "missing": (without(QKV, "mask_decoder.iou_token.weight"), f"missing tensors: {QKV}, mask_dec"),
    "many missing": (
        lambda s: {k: v for k, v in s.items() if "mask_decoder" not in k},
        "mask_decoder.transformer.layers.0.self_attn.k_proj.weight and 117 more",
    ),
    "missing table": (without("image_encoder.blocks.0.attn.rel_pos_h"), "rel_pos_h is missing"),
    "extra": (
        lambda s: {**s, "mask_decoder.extra_token.weight": torch.ones(1)},
        "SAM does not have: mask_decoder.extra_token.weight",
    ),
    "shape": (change(QKV, lambda t: t[:-1]), f"wrong shapes: {QKV} is 95, expected 96"),
    "scalar": (change(QKV, lambda t: t[0]), f"{QKV} is a scalar, expected 96"),
    "flat": (change(PROJ, lambda t: t.flatten()), f"{PROJ} is 24576, expected 4 axes"),
    "no width": (change(PROJ, lambda t: t[:0]), f"{PROJ} is 0x3x16x16, expected 4 axes"),
    "heads": (change("image_encoder.blocks.0.attn.rel_pos_h", lambda t: t[:, :7]), "32 is not a"),
    "windows": (
        change("image_encoder.blocks.2.attn.rel_pos_h", lambda t: t[:5]),
        "windows of 3 and 5 patches",
    ),
    "no blocks": (lambda s: {k: v for k, v in s.items() if "blocks" not in k}, "has no blocks"),
    "nan": (change(QKV, lambda t: t.clone().fill_(torch.nan)), f"NaN or infinite values in {QKV}"),
    "inf": (change(PROJ, lambda t: t.clone().index_fill_(0, torch.tensor(3), torch.inf)), PROJ),
    "too large": (change(QKV, lambda t: t.double() * 1e300), f"infinite values in {QKV}"),
    "integers": (change(QKV, lambda t: t.to(torch.int8)), f"{QKV} is torch.int8"),
    "sparse": (change(PROJ, lambda t: t.to_sparse()), f"{PROJ} is torch.float32, torch.sparse"),
    "no data": (change(QKV, lambda t: t.to("meta")), f"{QKV} is empty of data"),
    "not a tensor": (change(QKV, lambda _: 3), f"missing tensors: {QKV}"),
    "normalisation": (
        lambda s: {**s, "pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)},
        "pixel_mean is [0.0, 0.0, 0.0] and pixel_std is [1.0, 1.0, 1.0]: say how images are",
    ),
    "half a normalisation": (lambda s: {**s, "pixel_mean": torch.ones(3)}, "pixel_mean is [1.0, "),
    "a part": (
        lambda s: {k: v for k, v in s.items() if k.startswith("mask_decoder")},
        "it holds a SAM's mask_decoder alone: a whole model is needed",
    ),
    "repeated": (
        change(PROJ, lambda _: torch.zeros(1).as_strided((1_000_000, 3, 16, 16), [0] * 4)),
        "would take 3.1 GB and the file holds",
    ),
    "other model": (lambda _: {"fc.weight": torch.ones(2)}, "not a SAM checkpoint"),
    "nothing": (lambda _: {}, "it holds nothing"),
    "other keys": (lambda _: {1: torch.ones(2)}, "not a SAM checkpoint"),
    "list": (lambda s: list(s.values()), "holds a list, not a state dict"),
    "tensor": (lambda s: s[QKV], "holds a Tensor, not a state dict"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_tensors_are_named(save: Callable[[object], Path], state: State, what: str) -> None:
    spoil, said = WRONG[what]
    assert said in refusal(save(spoil(state)))


def test_a_dict_that_holds_itself(save: Callable[[object], Path]) -> None:
    loop: dict[str, object] = {}
    loop["model"] = loop
    assert "not a SAM checkpoint" in refusal(save(loop))


def test_needs_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import samtrt.checkpoints.load"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: Loading a checkpoint needs the package 'torch'" in done.stderr
    assert "pip install 'samtrt[export]'" in done.stderr
