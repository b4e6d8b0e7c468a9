"""Files of every family that are damaged, mixed or not what they seem, and how each is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from samtrt.checkpoints.load import load_checkpoint
from support.checkpoint_cases import refusal

State = dict[str, Tensor]

FAMILIES = {
    "vit_t, hq": "custom",
    "mobile_sam_t": "mobile_sam_t",
    "efficientvit_sam_t": "efficientvit_sam_t",
    "sam2.1_hiera_t": "sam2.1_hiera_t",
}


@dataclass
class Seeded:
    """A family's weights by official name, and a place for files made of them."""

    name: str
    model: str
    state: State
    path: Path

    def save(self, content: object) -> Path:
        torch.save(content, self.path)
        return self.path

    @property
    def attention(self) -> str:
        """A tensor in the middle of the encoder."""
        return next(name for name in self.state if "qkv" in name and name.endswith("weight"))


@pytest.fixture(params=FAMILIES)
def seeded(
    request: pytest.FixtureRequest, family_checkpoint: Callable[[str], Path], tmp_path: Path
) -> Seeded:
    found = torch.load(family_checkpoint(request.param))
    state = found.get("model", found)
    return Seeded(request.param, FAMILIES[request.param], state, tmp_path / "weights.pth")


WRAPPED: dict[str, Callable[[State], object]] = {
    "float16": lambda s: {name: tensor.half() for name, tensor in s.items()},
    "Lightning": lambda s: {"state_dict": {f"model.{name}": tensor for name, tensor in s.items()}},
    "averaged alone": lambda s: {"ema": {"module": s}, "updates": 7},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_files_are_read(seeded: Seeded, kind: str) -> None:
    loaded = load_checkpoint(seeded.save(WRAPPED[kind](seeded.state)))
    assert loaded.spec.name == seeded.model
    assert loaded.spec.hq is seeded.name.endswith("hq")


REFUSED: dict[str, tuple[Callable[[State, str], object], str]] = {
    "averaged beside": (
        lambda s, _: {"model": s, "model_ema": {name: tensor * 1.1 for name, tensor in s.items()}},
        "2 different SAMs, 'model' and 'model_ema': choose one with --tensors",
    ),
    "one renamed": (
        lambda s, name: {(f"{n}_old" if n == name else n): tensor for n, tensor in s.items()},
        r"missing|its stages are not",
    ),
    "one missing": (
        lambda s, name: {n: tensor for n, tensor in s.items() if n != name},
        r"missing|its stages are not",
    ),
    "one cut": (
        lambda s, name: {**s, name: s[name][:-1]},
        r"wrong shapes: .*qkv.* is \d",
    ),
    "not a number": (
        lambda s, name: {**s, name: s[name] * float("nan")},
        "NaN or infinite values in .*qkv",
    ),
    "integers": (
        lambda s, _: {name: tensor.to(torch.int8) for name, tensor in s.items()},
        "torch.int8.*dense floating-point weights are needed",
    ),
    "encoder alone": (
        lambda s, _: {n: tensor for n, tensor in s.items() if n.startswith("image_encoder")},
        "missing tensors: .* and [0-9]+ more",
    ),
    "decoder alone": (
        lambda s, _: {n: tensor for n, tensor in s.items() if "mask_decoder" in n},
        "it holds a SAM's mask_decoder alone: a whole model is needed",
    ),
    "LoRA alone": (
        lambda _, name: _lora(name, 8),
        "it holds a LoRA .* and not the model that it changes",
    ),
    "LoRA of unknown strength": (
        lambda s, name: {**s, **_lora(name, len(s[name]))},
        "whose strength or place the file does not say: merge it",
    ),
}


def _lora(name: str, rows: int) -> State:
    base = name.removesuffix(".weight")
    return {f"{base}.lora_A.weight": torch.ones(4, 8), f"{base}.lora_B.weight": torch.ones(rows, 4)}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(seeded: Seeded, kind: str) -> None:
    make, reason = REFUSED[kind]
    assert re.search(reason, refusal(seeded.save(make(seeded.state, seeded.attention))))


IMPOSSIBLE = {
    "vit_t, hq": "image_encoder.neck.0.weight",
    "mobile_sam_t": "image_encoder.neck.0.weight",
    "efficientvit_sam_t": "image_encoder.backbone.stages.4.op_list.0.main.point_conv.conv.weight",
}


def test_sizes_that_no_layer_has(seeded: Seeded) -> None:
    if seeded.name not in IMPOSSIBLE:
        pytest.skip("its sizes are the published ones alone")
    name = IMPOSSIBLE[seeded.name]
    turned = seeded.state[name].transpose(0, -1).contiguous()
    told = refusal(seeded.save({**seeded.state, name: turned}))
    assert re.search(r"shapes are not those of a \w+ \(.*\); get the file again", told)


def test_half_a_file(seeded: Seeded) -> None:
    content = seeded.save(seeded.state).read_bytes()
    seeded.path.write_bytes(content[: len(content) // 2])
    assert "truncated or damaged; get it again" in refusal(seeded.path)


def test_another_model_was_expected(seeded: Seeded) -> None:
    path = seeded.save(seeded.state)
    message = refusal(path, model="vit_l")
    assert "--model says vit_l; name the checkpoint's own model" in message
    assert ("SAM-HQ" in message) is seeded.name.endswith("hq")


def test_two_families_in_a_file(seeded: Seeded, tiny_checkpoint: Path) -> None:
    other = torch.load(tiny_checkpoint)
    beside = seeded.save({"one": seeded.state, "two": other})
    assert "2 different SAMs, 'one' and 'two': choose one with --tensors one" in refusal(beside)
    assert load_checkpoint(beside, tensors="one").spec.name == seeded.model
    if seeded.name.endswith("hq"):  # whose names are all of the other's, and more
        return
    told = refusal(seeded.save({"model": {**other, **seeded.state}}))
    assert re.search("in one place, with .* and .*: save each|tensors that SAM does not have", told)


def test_variances_are_not_negative(seeded: Seeded) -> None:
    name = next((name for name in seeded.state if name.endswith("running_var")), None)
    if name is None:
        pytest.skip("it has no batch norms")
    told = refusal(seeded.save({**seeded.state, name: -seeded.state[name]}))
    assert f"negative variances in {name}: no batch norm has those" in told
