"""From a weight file to a checked state dict with official names, and to a model.

Official files, fine-tunes of them (wherever a trainer put them) and `transformers.SamModel`
weights all come out the same. Which model it is follows from the tensors, how images are prepared
from what is said beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from samtrt.checkpoints.hugging_face import check_config, read_preparation
from samtrt.checkpoints.wording import dims, some
from samtrt.choices import ValueScale
from samtrt.errors import CheckpointError, MissingExtraError
from samtrt.files import sha256_of
from samtrt.preparation.spec import RGB, SAM_MEAN, SAM_STD, Preparation, PreparationChanges
from samtrt.registry import MODELS, ModelSpec, ViTSpec, get_spec

try:
    import torch
except ImportError:
    raise MissingExtraError("Loading a checkpoint", "export", "torch") from None

from torch import Tensor

from samtrt.checkpoints.adapters import merge_adapters
from samtrt.checkpoints.recognise import UNUSED, detect
from samtrt.checkpoints.search import Found, find_model, same
from samtrt.checkpoints.split_qkv import join_qkv
from samtrt.checkpoints.weight_files import HF_NAMES, find_weights, read_weights
from samtrt.models import Sam
from samtrt.models.efficientvit import Upsampling, bicubic
from samtrt.models.layers import fold_norms
from samtrt.models.pyramid import PyramidEncoder
from samtrt.models.rotary import RotaryAttention
from samtrt.models.tiny_vit import WindowAttention, bias_places
from samtrt.models.vit import Attention

_PIXELS = ("pixel_mean", "pixel_std")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights that were read, checked and recognised.

    Attributes:
        spec: The known model that has exactly these tensors, or one named "custom".
        state_dict: Official names to finite, contiguous float32 tensors on the CPU. They may be
            mapped from the file: as long as they live, it must not be cut or overwritten in place.
        path: The file or directory that was read.
        sha256: Of the file. For several shards, of their hex digests joined in order of name. Of
            one of several models in a file, of the file's digest and the model's name.
        preparation: How images become the encoder's input.
        tensors: Which of several models in the file it is, where one was chosen.
        notices: What was done that a user should know of, a line each.
    """

    spec: ModelSpec
    state_dict: dict[str, Tensor] = field(repr=False)
    path: Path
    sha256: str
    preparation: Preparation
    tensors: str | None = None
    notices: tuple[str, ...] = ()


def load_checkpoint(
    path: Path,
    model: str | None = None,
    tensors: str | None = None,
    preparation: PreparationChanges | None = None,
) -> Checkpoint:
    """Read and check a checkpoint: a file, or a Hugging Face model directory.

    Args:
        path: A `.pth`, `.pt`, `.bin` or `.safetensors` file (told from its content), or a directory
            with `model.safetensors`, `pytorch_model.bin`, or shards of one of them.
        model: Name of the model that it must be; None takes what it is.
        tensors: Which of several models in the file is meant: the beginning of its tensors' names,
            "." for none. None where there is one alone.
        preparation: What the user says of it; the rest is what the checkpoint says, else the
            model's own.

    Raises:
        CheckpointError: where it cannot be read safely, is not a whole SAM, holds NaN or Inf, or
            is not the model called `model`; where it holds several models and none is chosen, has
            an adapter that cannot be merged, or does not say how images are prepared.
    """
    wanted = get_spec(model) if model is not None else None
    try:
        files = find_weights(path)
        loaded: dict[object, object] = {}
        for file in files:
            _add_shard(loaded, read_weights(file), file.name)
        found, others = find_model(loaded, tensors)
        for name in [name for name in found.state if UNUSED.search(name)]:
            del found.state[name]
        _check_dense(found.state)
        notices = join_qkv(found.state) + merge_adapters(found.state, others)
        spec = _recognise(found, wanted)
        strangers = [name for name in others if name.rpartition(".")[2] not in _PIXELS]
        if strangers:
            notices.append(
                f"left out {len(strangers)} tensors that are not its own: {some(strangers)}"
            )
        folder = _folder_of(path)
        if folder is not None:
            check_config(folder, spec)
        prepared = _preparation(found, folder, spec, preparation or PreparationChanges())
        state = _to_float32(found.state)
        digests = [sha256_of(file) for file in files]
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    sha256 = digests[0] if len(digests) == 1 else _joined(*digests)
    if tensors is not None:
        sha256 = _joined(sha256, tensors)
    return Checkpoint(spec, state, path, sha256, prepared, tensors, tuple(notices))


def _add_shard(loaded: dict[object, object], shard: Mapping[Any, object], name: str) -> None:
    """Add what a shard holds; refuse what another one has already, with other numbers."""
    for key in loaded.keys() & shard.keys():
        one, other = loaded[key], shard[key]
        if isinstance(one, Tensor) and isinstance(other, Tensor) and not same(one, other):
            raise CheckpointError(
                f"{name} and another shard disagree about {some([str(key)])}; get the files again"
            )
    loaded.update(shard)


def _joined(*digests: str) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _folder_of(path: Path) -> Path | None:
    """Return the Hugging Face directory that a checkpoint is of, for what it says beside."""
    if path.is_dir():
        return path
    return path.parent if path.name in HF_NAMES else None


def _recognise(found: Found, wanted: ModelSpec | None) -> ModelSpec:
    spec = detect(found.state)
    if wanted is not None and _shapes(wanted) != _shapes(spec):
        raise CheckpointError(
            f"the checkpoint is {_describe(spec)}, --model says {wanted.name}; name the "
            "checkpoint's own model, or leave --model out"
        )
    _check_names_and_shapes(found.state, spec)
    return wanted or spec


def load_sam(checkpoint: Checkpoint) -> Sam:
    """Build the checkpoint's model in evaluation mode, its batch norms folded.

    The model's other parameters are the checkpoint's tensors, not copies of them.
    """
    with torch.device("meta"):  # neither memory nor time for weights that are replaced at once
        sam = Sam(checkpoint.spec)
    for module in sam.modules():  # tables of indexes are in no state dict
        if isinstance(module, Attention):
            module.distance = Attention(1, 1, module.window, module.grid).distance
        elif isinstance(module, WindowAttention):
            module.places = bias_places(module.window)
        elif isinstance(module, Upsampling):
            module.matrix = bicubic(*module.sides)
        elif isinstance(module, RotaryAttention):
            module.make_tables()
    sam.load_state_dict(checkpoint.state_dict, strict=True, assign=True)
    fold_norms(sam.image_encoder)
    if isinstance(sam.image_encoder, PyramidEncoder):
        sam.image_encoder.trunk.fold()
    return sam.eval()


def _preparation(
    found: Found, folder: Path | None, spec: ModelSpec, changes: PreparationChanges
) -> Preparation:
    """Return what the user says, else the checkpoint, else the model's own."""
    base = spec.preparation
    complete = changes.says_values and changes.resize is not None
    if folder is not None and not complete:
        base = read_preparation(folder, spec.encoder_size) or base
    said = {name: found.beside[name] for name in _PIXELS if name in found.beside}
    if said and not changes.says_values:
        base = _normalisation(said, base)
    try:
        return changes.of(base)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise CheckpointError(reason) from None


def _normalisation(said: Mapping[str, Tensor], base: Preparation) -> Preparation:
    """Take mean and deviation from a checkpoint's `pixel_mean` and `pixel_std`."""
    values: dict[str, list[float]] = {}
    for name, tensor in said.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_complex():
            raise CheckpointError(f"{name} holds no plain numbers; leave it out of the file")
        values[name] = tensor.flatten()[:4].tolist()
    mean, std = (values.get(name, []) for name in _PIXELS)
    listed = " and ".join(f"{name} is {found[:3]}" for name, found in values.items())
    if len(mean) == len(std) == 3:
        official = zip((*mean, *std), (*SAM_MEAN, *SAM_STD), strict=True)
        if all(abs(one - other) < 0.1 for one, other in official):
            return base
        # Zero tells no range; everything else lies in one or in the other.
        if any(mean):
            scale = ValueScale.BYTE if max(mean) > 1 else ValueScale.UNIT
            try:
                changes = PreparationChanges(scale, _rgb(mean), _rgb(std))
                return changes.of(base)
            except ValidationError:
                pass
    raise CheckpointError(f"{listed}: say how images are prepared with --scale, --mean and --std")


def _rgb(values: list[float]) -> RGB:
    red, green, blue = values
    return red, green, blue


@cache
def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in Sam(spec).state_dict().items()}
    except (ValueError, ArithmeticError, RuntimeError) as error:  # no layer has such sizes
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"its tensors' shapes are not those of a {spec.family.value} ({reason}); get the file "
            "again"
        ) from None


def _check_names_and_shapes(state: Mapping[str, Tensor], spec: ModelSpec) -> None:
    expected = _shapes(spec)
    wrong = [
        f"{name} is {dims(state[name].shape)}, expected {dims(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    problems = [
        f"{what}: {some(names)}"
        for what, names in (
            ("missing tensors", [name for name in expected if name not in state]),
            ("tensors that SAM does not have", [name for name in state if name not in expected]),
            ("wrong shapes", wrong),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"it does not fit {_describe(spec)}; {'; '.join(problems)}")


def _check_dense(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            kind = "empty of data" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
            raise CheckpointError(f"{name} is {kind}; dense floating-point weights are needed")


def _to_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted = {}
    broken = []
    for name, tensor in state.items():
        converted[name] = tensor.detach().to(torch.float32).contiguous()
        if not converted[name].isfinite().all():
            broken.append(name)
    if broken:
        raise CheckpointError(f"NaN or infinite values in {some(broken)}; the file is of no use")
    negative = [
        name for name, one in converted.items() if name.endswith("running_var") and (one < 0).any()
    ]
    if negative:
        raise CheckpointError(
            f"negative variances in {some(negative)}: no batch norm has those; get the file again"
        )
    return converted


def _describe(spec: ModelSpec) -> str:
    if spec.name in MODELS:
        return spec.name
    if isinstance(spec, ViTSpec):
        sizes = f"width {spec.embed_dim}, {spec.depth} blocks, {spec.num_heads} heads"
    else:
        sizes = spec.family.value
    if spec.hq:
        sizes = f"SAM-HQ, {sizes}"
    return f"a custom model ({sizes}, images of {spec.image_size})"
