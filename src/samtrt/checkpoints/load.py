"""From a weight file to a checked state dict with official names, and to a model.

Official files, fine-tunes of them (wrapped by a trainer, prefixed by `DataParallel`) and
`transformers.SamModel` weights all come out the same. Which model it is follows from the tensors.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from samtrt.errors import CheckpointError, MissingExtraError
from samtrt.files import sha256_of
from samtrt.preparation.spec import SAM_MEAN, SAM_STD, Preparation
from samtrt.registry import MODELS, ModelSpec, get_spec

try:
    import torch
except ImportError:
    raise MissingExtraError("Loading a checkpoint", "export", "torch") from None

from torch import Tensor

from samtrt.checkpoints.weight_files import find_weights, read_weights
from samtrt.models import Sam
from samtrt.models.vit import Attention

_WRAPPERS = ("model", "state_dict", "model_state_dict", "module")
_ANCHOR = "image_encoder.patch_embed.proj.weight"
_HF_ANCHOR = "vision_encoder.patch_embed.projection.weight"
_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_PIXELS = {"pixel_mean": SAM_MEAN, "pixel_std": SAM_STD}

# Names of transformers' `modeling_sam.py` to official ones, applied one after another.
_HF_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^shared_image_embedding\.positional_embedding$", _POSITIONS),
        (r"^prompt_encoder\.shared_embedding\.positional_embedding$", _POSITIONS),
        (r"^prompt_encoder\.mask_embed\.conv1", "prompt_encoder.mask_downscaling.0"),
        (r"^prompt_encoder\.mask_embed\.layer_norm1", "prompt_encoder.mask_downscaling.1"),
        (r"^prompt_encoder\.mask_embed\.conv2", "prompt_encoder.mask_downscaling.3"),
        (r"^prompt_encoder\.mask_embed\.layer_norm2", "prompt_encoder.mask_downscaling.4"),
        (r"^prompt_encoder\.mask_embed\.conv3", "prompt_encoder.mask_downscaling.6"),
        (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
        (r"^vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
        (r"^vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
        (r"^vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
        (r"^vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
        (r"^vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
        (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
        (r"^vision_encoder\.", "image_encoder."),
        (r"^mask_decoder\.upscale_conv1", "mask_decoder.output_upscaling.0"),
        (r"^mask_decoder\.upscale_layer_norm", "mask_decoder.output_upscaling.1"),
        (r"^mask_decoder\.upscale_conv2", "mask_decoder.output_upscaling.3"),
        # Three linear layers: proj_in, layers.0, proj_out there; layers.0, 1, 2 here.
        (r"(hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.layers.1."),
        (r"\.proj_in\.", ".layers.0."),
        (r"\.proj_out\.", ".layers.2."),
        (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
        (r"\.layer_norm(\d)\.", r".norm\1."),
    )
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights that were read, checked and recognised.

    Attributes:
        spec: The known model that has exactly these tensors, or one named "custom".
        state_dict: Official names to finite, contiguous float32 tensors on the CPU. They may be
            mapped from the file: as long as they live, it must not be cut or overwritten in place.
        path: The file or directory that was read.
        preparation: How images become the encoder's input.
        sha256: Of the file. For several shards, of their hex digests joined in order of name.
    """

    spec: ModelSpec
    state_dict: dict[str, Tensor] = field(repr=False)
    path: Path
    sha256: str
    preparation: Preparation


def load_checkpoint(path: Path, model: str | None = None) -> Checkpoint:
    """Read and check a checkpoint: a file, or a Hugging Face model directory.

    Args:
        path: A `.pth`, `.pt`, `.bin` or `.safetensors` file (told from its content), or a directory
            with `model.safetensors`, `pytorch_model.bin`, or shards of one of them.
        model: Name of the model that it must be; None takes what it is.

    Raises:
        CheckpointError: where it cannot be read safely, is not a whole SAM, holds NaN or Inf, or
            is not the model called `model`.
    """
    wanted = get_spec(model) if model is not None else None
    try:
        files = find_weights(path)
        loaded: dict[object, object] = {}
        for file in files:
            loaded.update(read_weights(file))
        state = _official_names(_unwrap(loaded))
        _drop_normalisation(state)
        spec = _detect(state)
        if wanted is not None and _shapes(wanted) != _shapes(spec):
            raise CheckpointError(
                f"the checkpoint is {_describe(spec)}, --model says {wanted.name}; name the "
                "checkpoint's own model, or leave --model out"
            )
        _check_names_and_shapes(state, spec)
        state = _to_float32(state)
        digests = [sha256_of(file) for file in files]
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    spec = wanted or spec
    sha256 = digests[0] if len(digests) == 1 else joined
    return Checkpoint(spec, state, path, sha256, spec.preparation)


def load_sam(checkpoint: Checkpoint) -> Sam:
    """Build the checkpoint's model in evaluation mode.

    The model's parameters are the checkpoint's tensors, not copies of them.
    """
    with torch.device("meta"):  # neither memory nor time for weights that are replaced at once
        sam = Sam(checkpoint.spec)
    for module in sam.modules():
        if isinstance(module, Attention):  # its index table is in no state dict
            module.distance = Attention(1, 1, module.window, module.grid).distance
    sam.load_state_dict(checkpoint.state_dict, strict=True, assign=True)
    return sam.eval()


def _unwrap(loaded: Mapping[object, object]) -> Mapping[object, object]:
    """Return the state dict inside what trainers save: {"model": ...}, {"state_dict": ...}."""
    for _ in range(3):  # a pickle may hold itself
        inner = next((loaded[k] for k in _WRAPPERS if isinstance(loaded.get(k), Mapping)), None)
        if not isinstance(inner, Mapping):
            break
        loaded = inner
    return loaded


def _official_names(loaded: Mapping[object, object]) -> dict[str, Tensor]:
    """Strip what `DataParallel` and the like put in front, and rename Hugging Face's tensors."""
    names = [name for name in loaded if isinstance(name, str)]
    prefixes = [
        (name.removesuffix(anchor), anchor)
        for name in names
        for anchor in (_ANCHOR, _HF_ANCHOR)
        if name == anchor or name.endswith("." + anchor)
    ]
    if not prefixes:
        raise CheckpointError(
            f"not a SAM checkpoint: no tensor {_ANCHOR} (nor Hugging Face's {_HF_ANCHOR}); "
            f"it holds {_some(map(str, loaded)) or 'nothing'}"
        )
    prefix, anchor = min(prefixes, key=lambda found: len(found[0]))
    state: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{key} is a {type(value).__name__}, not a tensor")
        name = str(key).removeprefix(prefix)
        if anchor == _HF_ANCHOR:
            for pattern, replacement in _HF_RENAMES:
                name = pattern.sub(replacement, name)
        # Hugging Face may store one position matrix under two names.
        if name in state and not torch.equal(state[name], value):
            raise CheckpointError(f"two tensors disagree about {name}; the second is {key}")
        state[name] = value
    return state


def _drop_normalisation(state: dict[str, Tensor]) -> None:
    """Remove `pixel_mean` and `pixel_std`, which must be those that images are prepared with."""
    for name, expected in _PIXELS.items():
        tensor = state.pop(name, None)
        if tensor is None:
            continue
        found = tensor.flatten().tolist()
        close = len(found) == 3 and all(
            abs(a - b) < 0.1 for a, b in zip(found, expected, strict=True)
        )
        if not close:
            raise CheckpointError(
                f"{name} is {found[:3]}, and images are prepared with {list(expected)}; fold the "
                "difference into the weights of patch_embed first"
            )


def _detect(state: Mapping[str, Tensor]) -> ModelSpec:
    """Return the known spec with the tensors' shape, or a custom one; every number is in them."""
    encoder = "image_encoder."
    embed_dim, _, patch_size, _ = _shape_of(state, _ANCHOR, 4)
    grid = _shape_of(state, encoder + "pos_embed", 4)[1]
    depth = len(
        {m[1] for name in state if (m := re.match(r"image_encoder\.blocks\.(\d+)\.", name))}
    )
    tables = [_shape_of(state, f"{encoder}blocks.{i}.attn.rel_pos_h", 2) for i in range(depth)]
    if not tables:
        raise CheckpointError("the image encoder has no blocks")
    head_dim = tables[0][1]
    if embed_dim % head_dim:
        raise CheckpointError(f"width {embed_dim} is not a multiple of the head width {head_dim}")
    # A block is global where its table of relative positions spans the whole grid.
    windows = {(rows + 1) // 2 for rows, _ in tables if rows != 2 * grid - 1}
    if len(windows) > 1:
        raise CheckpointError(
            f"blocks have windows of {' and '.join(map(str, sorted(windows)))} patches; "
            "all windowed blocks of a SAM have the same"
        )
    spec = ModelSpec(
        name="custom",
        embed_dim=embed_dim,
        depth=depth,
        num_heads=embed_dim // head_dim,
        global_attn_indexes=tuple(i for i in range(depth) if tables[i][0] == 2 * grid - 1),
        image_size=grid * patch_size,
        patch_size=patch_size,
        window_size=windows.pop() if windows else ModelSpec.window_size,
        mlp_ratio=_shape_of(state, encoder + "blocks.0.mlp.lin1.weight", 2)[0] / embed_dim,
        prompt_embed_dim=_shape_of(state, encoder + "neck.0.weight", 4)[0],
    )
    return next((known for known in MODELS.values() if _shapes(known) == _shapes(spec)), spec)


def _shape_of(state: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(f"the tensor {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != ndim or 0 in shape:
        raise CheckpointError(f"{name} is {_dims(shape)}, expected {ndim} axes, none empty")
    return shape


@cache
def _shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Sam(spec).state_dict().items()}


def _check_names_and_shapes(state: Mapping[str, Tensor], spec: ModelSpec) -> None:
    expected = _shapes(spec)
    wrong = [
        f"{name} is {_dims(state[name].shape)}, expected {_dims(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (
            ("missing tensors", [name for name in expected if name not in state]),
            ("tensors that SAM does not have", [name for name in state if name not in expected]),
            ("wrong shapes", wrong),
        )
        if names
    ]
    if problems:
        raise CheckpointError(f"it does not fit {_describe(spec)}; {'; '.join(problems)}")


def _to_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted = {}
    broken = []
    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            kind = "empty of data" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}"
            raise CheckpointError(f"{name} is {kind}; dense floating-point weights are needed")
        converted[name] = tensor.detach().to(torch.float32).contiguous()
        if not converted[name].isfinite().all():
            broken.append(name)
    if broken:
        raise CheckpointError(f"NaN or infinite values in {_some(broken)}; the file is of no use")
    return converted


def _describe(spec: ModelSpec) -> str:
    if spec.name in MODELS:
        return spec.name
    return (
        f"a custom model (width {spec.embed_dim}, {spec.depth} blocks, {spec.num_heads} heads, "
        f"images of {spec.image_size})"
    )


def _dims(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _some(names: Iterable[str], limit: int = 3) -> str:
    """List the first few names and say how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
