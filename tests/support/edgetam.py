"""EdgeTAM as `transformers` and timm have it: code to check ours against, with weights of ours.

timm imports a few things of torchvision, which has no CPU build beside ours; stand-ins take their
place for as long as the import takes.
"""

from __future__ import annotations

import enum
import importlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import torch

from samtrt.checkpoints.layouts import HUGGING_FACE_EDGETAM
from samtrt.registry import RepViTSpec
from support.oracle import standing_in

_Interpolation = enum.Enum("_Interpolation", "NEAREST BOX BILINEAR HAMMING BICUBIC LANCZOS")
_DATASETS = ("CIFAR100", "CIFAR10", "MNIST", "KMNIST", "FashionMNIST", "ImageFolder")
_STAND_INS: dict[str, dict[str, Any]] = {
    "torchvision": {},
    "torchvision.datasets": dict.fromkeys(_DATASETS),
    "torchvision.ops": {},
    "torchvision.ops.misc": {"FrozenBatchNorm2d": type("FrozenBatchNorm2d", (), {})},
    "torchvision.transforms": {
        "InterpolationMode": _Interpolation,
        **{name: type(name, (), {}) for name in ("ToTensor", "CenterCrop")},
    },
    "torchvision.transforms.functional": {"InterpolationMode": _Interpolation},
}

_SPLIT = re.compile(r"^(memory\.spatial_perceiver\..*)\.to_([kv])\.weight$")


@contextmanager
def _timm_at_hand() -> Iterator[None]:
    """Let `transformers` use timm, which it does not where torchvision is missing."""
    import transformers.utils

    with (
        mock.patch.object(transformers.utils, "is_timm_available", return_value=True),
        mock.patch.dict(transformers.utils.import_utils.BACKENDS_MAPPING, timm=(lambda: True, "")),
    ):
        _import_timm()
        yield


@cache
def _import_timm() -> None:
    with standing_in(_STAND_INS):
        importlib.import_module("timm")
    importlib.import_module("transformers.models.timm_wrapper.modeling_timm_wrapper")


def hugging_face_edgetam(spec: RepViTSpec, state: Mapping[str, torch.Tensor] | None) -> Any:
    """Return an `EdgeTamModel` in the shape of `spec`, its `video` an `EdgeTamVideoModel`.

    Args:
        spec: The published one, or one like it.
        state: Weights by our names; None for none, as on the meta device.
    """
    with _timm_at_hand():
        images = _models(spec)
    video = images.video
    for model in (images, video) if state is not None else ():
        theirs = {name: _tensor(name, state) for name in _weights(model)}
        found = model.load_state_dict(theirs, strict=False)
        assert not found.unexpected_keys
        assert all(name.endswith("num_batches_tracked") for name in found.missing_keys)
    return images


def _models(spec: RepViTSpec) -> Any:
    from transformers import EdgeTamConfig, EdgeTamModel, EdgeTamVideoConfig, EdgeTamVideoModel

    side = spec.embedding_size
    timm = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    parts: dict[str, Any] = {
        "vision_config": {
            "model_type": "edgetam_vision_model",
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1.dist_in1k",
                "num_classes": 1,  # asked for, and not made
                "model_args": {
                    **timm,
                    "embed_dim": list(spec.widths),
                    "depth": list(spec.depths),
                },
            },
            "backbone_channel_list": list(spec.widths[::-1]),
            "backbone_feature_sizes": [[times * side] * 2 for times in (4, 2, 1)],
        },
        "prompt_encoder_config": {"image_size": spec.image_size},
    }
    images = EdgeTamModel(EdgeTamConfig(**parts)).eval()
    video = EdgeTamVideoModel(
        EdgeTamVideoConfig(
            **parts,
            image_size=spec.image_size,
            # As of the published model: pointers have no time, and memories no absent objects.
            enable_temporal_pos_encoding_for_object_pointers=False,
            enable_occlusion_spatial_embedding=False,
            memory_attention_num_layers=spec.memory_layers,
            memory_attention_rope_feat_sizes=[side] * 2,
            memory_attention_rope_k_sizes=[round(spec.latents_2d**0.5)] * 2,
            perceiver_resampler_num_latents=spec.latents,
            perceiver_resampler_num_latents_2d=spec.latents_2d,
        )
    ).eval()
    object.__setattr__(images, "video", video)
    return images


def _weights(model: Any) -> list[str]:
    return [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]


def _tensor(name: str, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the tensor that their model has under a name."""
    ours = HUGGING_FACE_EDGETAM.official(name)
    if row := HUGGING_FACE_EDGETAM.splits.get(ours):
        return torch.cat([state[row.format(i)] for i in range(4)])
    if match := _SPLIT.match(ours):
        return state[f"{match[1]}.to_kv.weight"].chunk(2)["kv".index(match[2])]
    return state[ours]


def our_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Return shapes of their model's tensors by our names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name in _weights(model):
        ours, shape = HUGGING_FACE_EDGETAM.official(name), tuple(model.state_dict()[name].shape)
        if row := HUGGING_FACE_EDGETAM.splits.get(ours):
            shapes |= {row.format(i): (1, *shape[1:]) for i in range(4)}
        elif match := _SPLIT.match(ours):
            shapes[f"{match[1]}.to_kv.weight"] = (2 * shape[0], *shape[1:])
        else:
            shapes[ours] = shape
    return shapes
