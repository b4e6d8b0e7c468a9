"""What a Hugging Face model directory says beside its weights, in JSON: obeyed, or refused.

`preprocessor_config.json` (in newer versions part of `processor_config.json`) says how images are
prepared, `config.json` how layers compute. What it leaves out has the defaults of `transformers`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from samtrt.checkpoints.computed import COMPUTED, expected, hiera_shape, repvit_shape, sam2_settings
from samtrt.choices import Resize, ResizeFilter, ValueScale
from samtrt.errors import CheckpointError
from samtrt.files import read_whole
from samtrt.preparation.spec import RGB, Preparation
from samtrt.registry import HieraSpec, ModelSpec, RepViTSpec, ViTSpec

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_ADAPTER = "adapter_config.json"

# PIL.Image.Resampling by number.
_FILTERS = (
    ResizeFilter.NEAREST,
    ResizeFilter.LANCZOS,
    ResizeFilter.BILINEAR,
    ResizeFilter.BICUBIC,
    ResizeFilter.BOX,
    ResizeFilter.HAMMING,
)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_BYTE = 1 / 255
NO_INDEX = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What `shard_names` raises where a file is no index."""


def refuse_adapter(directory: Path) -> None:
    """Raise `CheckpointError` where a directory holds an adapter alone, as PEFT saves it."""
    about = _read(directory / _ADAPTER)
    if about is not None:
        kind, base = about.get("peft_type", "PEFT"), about.get("base_model_name_or_path")
        raise CheckpointError(
            f"this is a {kind} adapter of {base or 'another model'}, not a whole model: merge it "
            "with PEFT's merge_and_unload() and save the result with save_pretrained()"
        )


def index_of(weights: str) -> str:
    """Return the name of the index of a weight file's shards."""
    return f"{weights}.index.json"


def shard_names(index: Path) -> list[str]:
    """Return the files that an index names, sorted; raises `OSError`, and what `NO_INDEX` holds."""
    return sorted(set(json.loads(read_whole(index))["weight_map"].values()))


def check_config(directory: Path, spec: ModelSpec) -> None:
    """Refuse a `config.json` that asks for another computation than a SAM's.

    Raises:
        CheckpointError: which names the setting.
    """
    config = _read(directory / CONFIG) or {}
    kinds, computed = expected(spec)
    kind = config.get("model_type", kinds[0])
    if kind not in kinds:
        raise CheckpointError(f"{CONFIG} says that this is a '{kind}' model, not a '{kinds[0]}'")
    sections = {name: _section(config, name) for name in COMPUTED}
    sections["backbone_config"] = _section(sections["vision_config"], "backbone_config")
    sections["rope_parameters"] = _section(config, "rope_parameters")
    sections[""] = config
    for section, settings in computed.items():
        found = sections[section]
        for name, known in settings.items():
            if name in found and not any(_is(found[name], value) for value in known):
                raise CheckpointError(
                    f"{CONFIG}: {f'{section}.{name}'.lstrip('.')} is {found[name]!r}, and samtrt "
                    f"computes {' or '.join(repr(value) for value in known)}"
                )
    if isinstance(spec, HieraSpec):
        _check_shape(sections, "backbone_config", hiera_shape(spec))
        _check_shape(sections, "", sam2_settings(spec))
    if isinstance(spec, RepViTSpec):
        _check_shape(sections, "", repvit_shape(spec))
    if isinstance(spec, HieraSpec | RepViTSpec):
        _check_shape(sections, "prompt_encoder_config", {"image_size": [spec.image_size] * 2})
        return
    size = {"image_size": spec.image_size, "patch_size": spec.patch_size}
    vision: dict[str, Any] = dict(size)
    if isinstance(spec, ViTSpec):
        vision["num_attention_heads"] = spec.num_heads
    if isinstance(spec, ViTSpec) and spec.hq:  # its decoder takes features of the first
        vision["global_attn_indexes"] = list(spec.global_attn_indexes)
    # The prompts' sizes say what points are divided by.
    for section, sizes in (("vision_config", vision), ("prompt_encoder_config", size)):
        for name, value in sizes.items():
            found = sections[section].get(name, value)
            if found != value:
                raise CheckpointError(
                    f"{CONFIG}: {section}.{name} is {found!r}, and the tensors say {value}"
                )


def _check_shape(sections: dict[str, dict[str, Any]], section: str, shape: dict[str, Any]) -> None:
    """Refuse sizes that no tensor tells, where they are not those of the known model."""
    for name, value in shape.items():
        found = sections[section].get(name, value)
        if found != value and [found] * 2 != value:
            raise CheckpointError(
                f"{CONFIG}: {f'{section}.{name}'.lstrip('.')} is {found!r}, and of the published "
                f"model with these tensors it is {value}"
            )


def read_preparation(directory: Path, image_size: int) -> Preparation | None:
    """Return how the directory says that images are prepared; None where it says nothing.

    Raises:
        CheckpointError: where it asks for what cannot be done, or contradicts the model's size.
    """
    name, about = PREPROCESSOR, _read(directory / PREPROCESSOR)
    if about is None:
        name, about = PROCESSOR, (_read(directory / PROCESSOR) or {}).get("image_processor")
    return preparation_of(about, image_size, name) if isinstance(about, dict) else None


def preparation_of(about: dict[str, Any], image_size: int, name: str) -> Preparation:
    """Return what a processor's settings, read from the file `name`, say."""
    try:
        return _preparation(about, image_size)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        reason = " ".join(str(error).split())
    raise CheckpointError(
        f"{name}: {reason}; say how images are prepared with --scale, --mean, --std, --resize"
    )


def _preparation(about: dict[str, Any], image_size: int) -> Preparation:
    if not about.get("do_resize", True):
        raise ValueError("do_resize is false, and the model takes one size alone")
    resize = _resize(about, image_size)
    resample = about.get("resample", 2)
    if type(resample) is not int or not 0 <= resample < len(_FILTERS):
        raise ValueError(f"resample is {resample!r}, not 0 to {len(_FILTERS) - 1}")
    mean: RGB = (0.0, 0.0, 0.0)
    std: RGB = (1.0, 1.0, 1.0)
    if about.get("do_normalize", True):
        mean = _three(about.get("image_mean", _IMAGENET_MEAN))
        std = _three(about.get("image_std", _IMAGENET_STD))
    factor = float(about.get("rescale_factor", _BYTE)) if about.get("do_rescale", True) else 1.0
    if not math.isfinite(factor) or factor <= 0:
        raise ValueError(f"rescale_factor is {factor:g}")
    scale = ValueScale.UNIT if math.isclose(factor, _BYTE, rel_tol=1e-6) else ValueScale.BYTE
    if scale is ValueScale.BYTE:  # (x f - mean) / std = (x - mean / f) / (std / f)
        mean = _three([value / factor for value in mean])
        std = _three([value / factor for value in std])
    return Preparation(scale=scale, mean=mean, std=std, resize=resize, filter=_FILTERS[resample])


def _resize(about: dict[str, Any], image_size: int) -> Resize:
    size = about.get("size", {"longest_edge": image_size})
    if isinstance(size, int):
        size = {"height": size, "width": size}
    if not isinstance(size, dict):
        raise TypeError(f"size is {size!r}")
    sides = {side: size[side] for side in ("longest_edge", "height", "width") if size.get(side)}
    wrong = {side: value for side, value in sides.items() if value != image_size}
    if wrong or not sides:
        raise ValueError(f"size is {size!r}, and the model takes {image_size} x {image_size}")
    if sides.keys() == {"height", "width"}:
        return Resize.STRETCH
    if sides.keys() != {"longest_edge"}:
        raise ValueError(f"size is {size!r}")
    pad = about.get("pad_size", {"height": image_size, "width": image_size})
    if not about.get("do_pad", True) or pad != {"height": image_size, "width": image_size}:
        raise ValueError(f"images are not padded to {image_size} x {image_size}")
    return Resize.LONGEST


def _three(values: Any) -> RGB:
    if isinstance(values, int | float):
        values = (values,) * 3
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _is(found: object, known: object) -> bool:
    if isinstance(known, float) and isinstance(found, int | float):
        return math.isclose(found, known, rel_tol=1e-3)
    return found == known


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(read_whole(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.name} is not a JSON object; get it again")
    return data
