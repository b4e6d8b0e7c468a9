from __future__ import annotations

import hashlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tests.oracle import official_sam
from torch import Tensor

from samtrt.checkpoints import Checkpoint, load_checkpoint, load_sam
from samtrt.errors import CheckpointError
from samtrt.models import build_sam, seed_weights
from samtrt.registry import MODELS, ModelSpec, get_spec
from samtrt.weight_files import read_weights

State = dict[str, Tensor]

SPEC = ModelSpec(
    name="custom",
    embed_dim=32,
    depth=3,
    num_heads=2,
    global_attn_indexes=(1,),
    image_size=128,
    window_size=5,
    prompt_embed_dim=64,
)
PROJ = "image_encoder.patch_embed.proj.weight"
QKV = "image_encoder.blocks.1.attn.qkv.bias"


@pytest.fixture(scope="module")
def seeded() -> State:
    model = official_sam(SPEC)
    seed_weights(model)
    return dict(model.state_dict())


@pytest.fixture
def state(seeded: State) -> State:
    """Official weights of `SPEC`; a test may change the dict, not the tensors."""
    return dict(seeded)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    def torch_save(content: object, **options: Any) -> Path:
        torch.save(content, tmp_path / "sam.pth", **options)
        return tmp_path / "sam.pth"

    return torch_save


def equal(checkpoint: Checkpoint, state: State) -> bool:
    found = checkpoint.state_dict
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def refusal(path: Path, model: str | None = None) -> str:
    """Return the message of the `CheckpointError`: one line that names the path."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, model)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


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


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors", ""])
@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
def test_the_content_tells_the_format(tmp_path: Path, state: State, kind: str, suffix: str) -> None:
    path = tmp_path / f"sam{suffix}"
    if kind == "safetensors":
        save_file(state, path)
    else:
        with path.open("wb") as file:
            torch.save(state, file, _use_new_zipfile_serialization=kind == "archive")
    assert equal(load_checkpoint(path), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_become_float32(
    save: Callable[[object], Path], state: State, dtype: torch.dtype
) -> None:
    cast = {name: tensor.to(dtype) for name, tensor in state.items()}
    checkpoint = load_checkpoint(save(cast))
    assert equal(checkpoint, {name: tensor.float() for name, tensor in cast.items()})
    assert {tensor.dtype for tensor in checkpoint.state_dict.values()} == {torch.float32}


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    heads, depth = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    embed_dim, grid = heads * draw(st.sampled_from([4, 8])), draw(st.integers(2, 9))
    patch = draw(st.sampled_from([8, 16]))
    blocks = st.sets(st.integers(0, depth - 1), max_size=depth - 1)
    return ModelSpec(
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
def test_every_number_is_in_the_tensors(save: Callable[[object], Path], spec: ModelSpec) -> None:
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


@pytest.mark.parametrize("name", [n for n, spec in MODELS.items() if spec.embed_dim <= 384])
def test_known_models_are_recognised(save: Callable[[object], Path], name: str) -> None:
    path = save(build_sam(get_spec(name)).state_dict())
    assert load_checkpoint(path).spec is load_checkpoint(path, model=name).spec is MODELS[name]


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_models_are_recognised_by_shape(
    save: Callable[[object], Path], name: str
) -> None:
    """Every tensor is one zero that repeats, so that the file stays small."""
    with torch.device("meta"):
        model = build_sam(get_spec(name))
    zero = torch.zeros(1)
    path = save({k: zero.as_strided(v.shape, [0] * v.ndim) for k, v in model.state_dict().items()})
    if name != "vit_h":  # reading would make 2.5 GB of zeros
        assert load_checkpoint(path, model=name).spec is MODELS[name]
    other = "vit_l" if name == "vit_b" else "vit_b"
    assert f"the checkpoint is {name}, --model says {other}" in refusal(path, other)


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
    "extra": (lambda s: {**s, "lora.a": torch.ones(1)}, "SAM does not have: lora.a"),
    "one prefixed": (lambda s: {**s, f"ema.{PROJ}": s[PROJ]}, f"does not have: ema.{PROJ}"),
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
    "not a tensor": (change(QKV, lambda _: 3), f"{QKV} is a int, not a tensor"),
    "normalisation": (lambda s: {**s, "pixel_mean": torch.zeros(3, 1, 1)}, "pixel_mean is [0.0, "),
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


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("kind", ["archive", "legacy", "pickle"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, state: State, kind: str, suffix: str
) -> None:
    path, marker = tmp_path / f"sam{suffix}", tmp_path / "it ran"
    content = {**state, "x": Exploit(marker)}
    with path.open("wb") as file:
        if kind == "pickle":
            pickle.dump(content, file)
        else:
            torch.save(content, file, _use_new_zipfile_serialization=kind == "archive")
    message = refusal(path)
    assert "refused: the file is a pickle that would run code" in message
    assert "torch.save(model.state_dict(), ...)" in message
    assert not marker.exists()
    if kind == "archive":
        assert "pathlib.Path" in message
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
        assert marker.exists()  # so it would have run


def test_a_pickled_module_is_refused(save: Callable[[object], Path]) -> None:
    assert "(samtrt.models." in refusal(save(build_sam(SPEC)))


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_a_truncated_file(tmp_path: Path, state: State, kind: str, share: float) -> None:
    path = tmp_path / "sam"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "archive")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "damaged" in refusal(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "sam.pth"
    assert "no such file" in refusal(path)
    path.touch()
    assert "is empty" in refusal(path)
    for content in (b"x", b"<!DOCTYPE html><html></html>", b"version https://git-lfs.github.com"):
        path.write_bytes(content)
        assert "neither a PyTorch file" in refusal(path)
    for name, said in (("a/constants.pkl", "TorchScript"), ("a.txt", "not one that torch.save")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
        assert said in refusal(path)


def test_an_archive_that_was_compressed_again(save: Callable[[object], Path], state: State) -> None:
    path = save(state)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in entries.items():
            new.writestr(name, content)
    assert "compressed" in refusal(path)


@pytest.mark.parametrize("kind", ["archive", "legacy", "safetensors"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_bytes_never_escape_as_another_error(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    path = tmp_path / "damaged"
    small = {"a": torch.ones(2, 3), "b.c": torch.zeros(4, dtype=torch.float16)}
    if kind == "safetensors":
        save_file(small, path)
    else:
        torch.save(small, path, _use_new_zipfile_serialization=kind == "archive")
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(CheckpointError):
        read_weights(path)


def test_needs_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import samtrt.checkpoints"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: Loading a checkpoint needs the package 'torch'" in done.stderr
    assert "pip install 'samtrt[export]'" in done.stderr


# Hugging Face


@pytest.fixture(scope="module")
def hf_model() -> Any:
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=SPEC.embed_dim,
            num_hidden_layers=SPEC.depth,
            num_attention_heads=SPEC.num_heads,
            image_size=SPEC.image_size,
            window_size=SPEC.window_size,
            global_attn_indexes=list(SPEC.global_attn_indexes),
            output_channels=SPEC.prompt_embed_dim,
            num_pos_feats=SPEC.prompt_embed_dim // 2,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=SPEC.prompt_embed_dim, image_size=SPEC.image_size
        ),
        mask_decoder_config=SamMaskDecoderConfig(hidden_size=SPEC.prompt_embed_dim),
    )
    model = SamModel(config).eval()
    seed_weights(model)
    return model


def save_hf(model: Any, directory: Path, how: str) -> Path:
    if how == "state dict":
        torch.save(model.state_dict(), directory / "hf.pth")
        return directory / "hf.pth"
    if how == "bin":
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
        return directory
    model.save_pretrained(directory, max_shard_size="500KB" if how == "sharded" else "1GB")
    return directory / "model.safetensors" if how == "file" else directory


@pytest.mark.parametrize("how", ["directory", "file", "sharded", "bin", "state dict"])
def test_hugging_face_layouts(hf_model: Any, tmp_path: Path, how: str) -> None:
    path = save_hf(hf_model, tmp_path, how)
    checkpoint = load_checkpoint(path)
    assert checkpoint.spec == SPEC
    assert checkpoint.state_dict.keys() == official_sam(SPEC).state_dict().keys()
    assert (len(list(tmp_path.glob("model-*.safetensors"))) > 1) == (how == "sharded")


def test_hugging_face_weights_give_its_results(hf_model: Any, tmp_path: Path) -> None:
    sam = load_sam(load_checkpoint(save_hf(hf_model, tmp_path, "directory")))
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, 128, 128, generator=noise)
    points = 128 * torch.rand(5, 2, 2, generator=noise)
    labels = torch.tensor([[1, 0]]).expand(5, 2)
    corners = torch.tensor([[[10.0, 20.0], [90.0, 100.0]]]).expand(5, 2, 2)
    mask = 5 * torch.randn(1, 1, 32, 32, generator=noise)
    with torch.inference_mode():
        embeddings = sam.image_encoder(images)
        expected = hf_model.get_image_embeddings(images)
        torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=0)
        for boxes, masks in ((False, False), (True, False), (True, True)):
            # Without a box the official code pads the points with one of label -1.
            tail = corners if boxes else torch.zeros(5, 1, 2)
            tail_labels = torch.tensor([[2, 3] if boxes else [-1]]).expand(5, -1)
            found = sam.decode(
                embeddings,
                torch.cat([points, tail], dim=1),
                torch.cat([labels, tail_labels], dim=1),
                (mask if masks else torch.zeros_like(mask)).expand(5, -1, -1, -1),
                torch.full((5,), float(masks)),
            )
            answers = [
                hf_model(
                    image_embeddings=expected,
                    input_points=points[None],
                    input_labels=labels[None],
                    input_boxes=corners.flatten(1)[None] if boxes else None,
                    input_masks=mask if masks else None,
                    multimask_output=multimask,
                )
                for multimask in (False, True)
            ]
            for mine, name in zip(found, ("pred_masks", "iou_scores"), strict=True):
                theirs = torch.cat([answer[name][0] for answer in answers], dim=1)
                torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_tied_positions_that_disagree(hf_model: Any, save: Callable[[object], Path]) -> None:
    name = "prompt_encoder.shared_embedding.positional_embedding"
    state = hf_model.state_dict()
    assert "two tensors disagree" in refusal(save({**state, name: state[name] + 1}))


def test_directories_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "neither model.safetensors nor pytorch_model.bin" in refusal(tmp_path)


def test_sharded_weights_change_the_hash_when_one_shard_does(hf_model: Any, tmp_path: Path) -> None:
    path = save_hf(hf_model, tmp_path, "sharded")
    before = load_checkpoint(path).sha256
    assert load_checkpoint(path).sha256 == before
    shard = max(path.glob("model-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    assert load_checkpoint(path).sha256 != before


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "not an index"),
        ("[]", "not an index"),
        ('{"weight_map": {"a": 3}}', "not an index"),
        ('{"weight_map": {}}', "does not name files"),
        (json.dumps({"weight_map": {"a": "../secret.safetensors"}}), "its own directory"),
        (
            json.dumps({"weight_map": {"a": "model-1.safetensors"}}),
            "names model-1.safetensors, mis",
        ),
    ],
)
def test_indexes_that_cannot_be_followed(tmp_path: Path, index: str, said: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert said in refusal(tmp_path)
