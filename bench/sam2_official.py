"""The official `sam2==1.1.0`, with the configurations of its YAML files: images, masks, videos.

The package imports hydra and iopath to read those files, and a few things of torchvision;
stand-ins take their place for as long as the import takes.
"""

from __future__ import annotations

import importlib
import types
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from official_packages import box_stand_ins, standing_in
from samtrt.registry import HieraSpec


class _Resize(torch.nn.Module):
    """As torchvision's `Resize` does for a tensor [3, H, W]: bilinear, antialiased."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(
            x[None], (self.height, self.width), mode="bilinear", align_corners=False, antialias=True
        )[0]


class _Normalize(torch.nn.Module):
    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


class _ToTensor:
    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(image).transpose(2, 0, 1)).float() / 255


class _GlobalHydra:
    @classmethod
    def instance(cls) -> _GlobalHydra:
        return cls()

    def is_initialized(self) -> bool:
        return True


_STAND_INS: dict[str, dict[str, Any]] = {
    "torchvision": {},
    "torchvision.transforms": {
        "Resize": _Resize,
        "Normalize": _Normalize,
        "ToTensor": _ToTensor,
    },
    "torchvision.ops": {},
    "torchvision.ops.boxes": box_stand_ins(),
    "hydra": {"initialize_config_module": None},
    "hydra.core": {},
    "hydra.core.global_hydra": {"GlobalHydra": _GlobalHydra},
    "iopath": {},
    "iopath.common": {},
    "iopath.common.file_io": {"g_pathmgr": None},
}
_MODULES = (
    "automatic_mask_generator",
    "sam2_image_predictor",
    "sam2_video_predictor",
    "modeling.sam2_base",
    "modeling.backbones.hieradet",
    "modeling.backbones.image_encoder",
    "modeling.memory_attention",
    "modeling.memory_encoder",
    "modeling.position_encoding",
    "modeling.sam.transformer",
)


@cache
def sam2_package() -> types.SimpleNamespace:
    """Import the package, and return its modules by the last word of their names."""
    with standing_in(_STAND_INS):
        found = {one.split(".")[-1]: importlib.import_module(f"sam2.{one}") for one in _MODULES}
    return types.SimpleNamespace(**found)


def official_sam2(spec: HieraSpec, video: bool = False, compiled: bool = False) -> Any:
    """Build the official model in the shape of `spec`, as `build_sam.py` does with its YAML.

    Args:
        spec: Of version 2.0 or 2.1.
        video: Build the `SAM2VideoPredictor`, which is a model too.
        compiled: Of videos, what `build_sam2_video_predictor(vos_optimized=True)` builds.
    """
    package = sam2_package()
    newer = spec.version == "2.1"
    settings: dict[str, Any] = {
        "image_encoder": _image_encoder(package, spec),
        "memory_attention": _memory_attention(package, spec),
        "memory_encoder": _memory_encoder(package),
        "num_maskmem": 7,
        "image_size": spec.image_size,
        "sigmoid_scale_for_mem_enc": 20.0,
        "sigmoid_bias_for_mem_enc": -10.0,
        "use_mask_input_as_output_without_sam": True,
        "directly_add_no_mem_embed": True,
        "no_obj_embed_spatial": newer,
        "use_high_res_features_in_sam": True,
        "multimask_output_in_sam": True,
        "iou_prediction_use_sigmoid": True,
        "use_obj_ptrs_in_encoder": True,
        "add_tpos_enc_to_obj_ptrs": newer,
        "proj_tpos_enc_in_obj_ptrs": newer,
        "use_signed_tpos_enc_to_obj_ptrs": newer,
        "only_obj_ptrs_in_the_past_for_eval": True,
        "pred_obj_scores": True,
        "pred_obj_scores_mlp": True,
        "fixed_no_obj_ptr": True,
        "multimask_output_for_tracking": True,
        "use_multimask_token_for_obj_ptr": True,
        "multimask_min_pt_num": 0,
        "multimask_max_pt_num": 1,
        "use_mlp_for_obj_ptr_proj": True,
        "sam_mask_decoder_extra_args": {
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": 0.05,
            "dynamic_multimask_stability_thresh": 0.98,
        },
    }
    if not video:
        return package.sam2_base.SAM2Base(**settings).eval()
    settings |= {"binarize_mask_from_pts_for_mem_enc": True, "fill_hole_area": 8}
    if compiled:
        settings["compile_image_encoder"] = True
        return package.sam2_video_predictor.SAM2VideoPredictorVOS(**settings).eval()
    return package.sam2_video_predictor.SAM2VideoPredictor(**settings).eval()


def official_sam2_predictor(model: Any) -> Any:
    """Return the official `SAM2ImagePredictor`, whose sizes are written for images of 1024."""
    predictor = sam2_package().sam2_image_predictor.SAM2ImagePredictor(model)
    fit_sizes(predictor)
    return predictor


def fit_sizes(predictor: Any) -> None:
    """Tell an official predictor the sizes of its model's maps."""
    side = predictor.model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]


def _image_encoder(package: Any, spec: HieraSpec) -> Any:
    zeros = torch.zeros(sum(spec.stages), device="cpu")  # rates of dropout, read on any device
    with mock.patch.object(torch, "linspace", return_value=zeros):
        trunk = package.hieradet.Hiera(
            embed_dim=spec.embed_dim,
            num_heads=spec.num_heads,
            stages=list(spec.stages),
            global_att_blocks=list(spec.global_attn_indexes),
            window_pos_embed_bkg_spatial_size=[spec.background] * 2,
            window_spec=list(spec.windows),
        )
    neck = package.image_encoder.FpnNeck(
        position_encoding=_sine(package, spec.prompt_embed_dim),
        d_model=spec.prompt_embed_dim,
        backbone_channel_list=[spec.embed_dim * 2**stage for stage in (3, 2, 1, 0)],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return package.image_encoder.ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _sine(package: Any, channels: int) -> Any:
    return package.position_encoding.PositionEmbeddingSine(num_pos_feats=channels)


def _memory_attention(package: Any, spec: HieraSpec) -> Any:
    rotary: dict[str, Any] = {
        "rope_theta": 10000.0,
        "feat_sizes": [spec.embedding_size] * 2,
        "embedding_dim": 256,
        "num_heads": 1,
        "downsample_rate": 1,
    }
    attention = package.transformer.RoPEAttention
    layer = package.memory_attention.MemoryAttentionLayer(
        activation="relu",
        dim_feedforward=2048,
        dropout=0.1,
        pos_enc_at_attn=False,
        self_attention=attention(**rotary),
        d_model=256,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=attention(rope_k_repeat=True, kv_in_dim=64, **rotary),
    )
    return package.memory_attention.MemoryAttention(
        d_model=256, pos_enc_at_input=True, layer=layer, num_layers=4
    )


def _memory_encoder(package: Any) -> Any:
    memory = package.memory_encoder
    return memory.MemoryEncoder(
        out_dim=64,
        position_encoding=_sine(package, 64),
        mask_downsampler=memory.MaskDownSampler(kernel_size=3, stride=2, padding=1),
        fuser=memory.Fuser(memory.CXBlock(dim=256), num_layers=2),
    )
