"""What the layers of each family compute, as `config.json` of Hugging Face's directories words it.

Only what no tensor tells is here: anything else in a configuration would be another model.
"""

from __future__ import annotations

import math
from typing import Any

from samtrt.registry import HieraSpec, ModelSpec, RepViTSpec

Sections = dict[str, dict[str, tuple[Any, ...]]]
"""By section and name of a setting, the values that are computed."""

COMPUTED: Sections = {
    "vision_config": {
        "hidden_act": ("gelu",),
        "layer_norm_eps": (1e-6,),
        "qkv_bias": (True,),
        "use_abs_pos": (True,),
        "use_rel_pos": (True,),
        "num_channels": (3,),
    },
    "prompt_encoder_config": {
        "hidden_act": ("gelu",),
        "layer_norm_eps": (1e-6,),
        "mask_input_channels": (16,),
        "num_point_embeddings": (4,),
    },
    "mask_decoder_config": {
        "hidden_act": ("relu",),
        # The official decoder has 1e-5 where Hugging Face's, of the same weights, has 1e-6.
        "layer_norm_eps": (1e-6, 1e-5),
        "num_attention_heads": (8,),
        "attention_downsample_rate": (2,),
        "num_multimask_outputs": (3,),
        "num_hidden_layers": (2,),
        "iou_head_depth": (3,),
    },
}
"""What a SAM's layers compute, where the tensors do not tell."""

_VIDEO: dict[str, tuple[Any, ...]] = {
    "memory_attention_num_attention_heads": (1,),
    "memory_attention_feed_forward_hidden_act": ("relu",),
    "mask_downsampler_hidden_act": ("gelu",),
    "mask_downsampler_stride": (2,),
    "mask_downsampler_padding": (1,),
    "memory_fuser_hidden_act": ("gelu",),
    "memory_fuser_padding": (3,),
    "sigmoid_scale_for_mem_enc": (20.0,),
    "sigmoid_bias_for_mem_enc": (-10.0,),
    "max_object_pointers_in_encoder": (16,),
    "multimask_output_in_sam": (True,),
    "multimask_output_for_tracking": (True,),
    "multimask_min_pt_num": (0,),
    "multimask_max_pt_num": (1,),
}
"""What follows objects, in the configuration itself."""

COMPUTED_SAM2: Sections = {
    "": _VIDEO,
    "rope_parameters": {"rope_theta": (10_000.0,)},
    "vision_config": {
        "hidden_act": ("gelu",),
        "layer_norm_eps": (1e-6,),
        "fpn_kernel_size": (1,),
        "fpn_top_down_levels": ([2, 3],),
        "num_feature_levels": (3,),
    },
    "backbone_config": {
        "hidden_act": ("gelu",),
        "layer_norm_eps": (1e-6,),
        "num_channels": (3,),
        "mlp_ratio": (4.0,),
        "patch_stride": ([4, 4],),
        "patch_padding": ([3, 3],),
        "query_stride": ([2, 2],),
        "num_query_pool_stages": (3,),
    },
    "prompt_encoder_config": COMPUTED["prompt_encoder_config"],
    "mask_decoder_config": {
        **COMPUTED["mask_decoder_config"],
        "hidden_act": ("gelu",),
        "dynamic_multimask_via_stability": (True,),
        "dynamic_multimask_stability_delta": (0.05,),
        "dynamic_multimask_stability_thresh": (0.98,),
    },
}
"""As `COMPUTED`, of a SAM 2."""

COMPUTED_EDGETAM: Sections = {
    "": {
        **_VIDEO,
        "memory_attention_mlp_hidden_act": ("relu",),
        "perceiver_resampler_num_attention_heads": (1,),
    },
    "rope_parameters": COMPUTED_SAM2["rope_parameters"],
    "vision_config": {
        name: COMPUTED_SAM2["vision_config"][name]
        for name in ("fpn_kernel_size", "fpn_top_down_levels", "num_feature_levels")
    },
    "prompt_encoder_config": COMPUTED["prompt_encoder_config"],
    "mask_decoder_config": COMPUTED_SAM2["mask_decoder_config"],
}
"""As `COMPUTED`, of an EdgeTAM."""


def expected(spec: ModelSpec) -> tuple[tuple[str, ...], Sections]:
    """Return what a model of this family is called, and what its layers compute."""
    if isinstance(spec, HieraSpec):
        return ("sam2", "sam2_video"), COMPUTED_SAM2
    if isinstance(spec, RepViTSpec):
        return ("edgetam", "edgetam_video"), COMPUTED_EDGETAM
    return ("sam_hq",) if spec.hq else ("sam",), COMPUTED


def hiera_shape(spec: HieraSpec) -> dict[str, Any]:
    """Return what `backbone_config` says of a published SAM 2's shape."""
    return {
        "image_size": [spec.image_size] * 2,
        "num_attention_heads_per_stage": [spec.num_heads * 2**stage for stage in range(4)],
        "blocks_per_stage": list(spec.stages),
        "window_size_per_stage": list(spec.windows),
        "global_attention_blocks": list(spec.global_attn_indexes),
    }


def sam2_settings(spec: HieraSpec) -> dict[str, Any]:
    """Return what the configuration says of a SAM 2 as a whole."""
    settings: dict[str, Any] = {"image_size": [spec.image_size] * 2}
    if spec.version is not None:
        newer = spec.version == "2.1"
        settings["enable_occlusion_spatial_embedding"] = newer
        settings["enable_temporal_pos_encoding_for_object_pointers"] = newer
    return settings


def repvit_shape(spec: RepViTSpec) -> dict[str, Any]:
    """Return what the configuration says of an EdgeTAM's shape."""
    return {
        "image_size": [spec.image_size] * 2,
        "memory_attention_rope_feat_sizes": [spec.embedding_size] * 2,
        "memory_attention_rope_k_sizes": [math.isqrt(spec.latents_2d)] * 2,
    }
