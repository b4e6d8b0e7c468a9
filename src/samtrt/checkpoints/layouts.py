"""The names that code bases give to a SAM's tensors. Another one is one more row of `LAYOUTS`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


@dataclass(frozen=True)
class Layout:
    """One way to name tensors.

    Attributes:
        name: What messages call it.
        anchor: A tensor of the encoder that every such model has; its first word is a part.
        parts: The first words of all names.
        renames: From its names to official ones: patterns and replacements, one after another.
        splits: Tensors whose rows are tensors of their own in the official names: by the name that
            `renames` give them, what each row is called, with {} for its number.
    """

    name: str
    anchor: str
    parts: tuple[str, ...]
    renames: tuple[tuple[re.Pattern[str], str], ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict)

    def official(self, name: str) -> str:
        """Return the official name of a tensor."""
        for pattern, replacement in self.renames:
            name = pattern.sub(replacement, name)
        return name


OFFICIAL = Layout(
    "the official names",
    "image_encoder.patch_embed.proj.weight",
    ("image_encoder", "prompt_encoder", "mask_decoder"),
)

HUGGING_FACE = Layout(
    "Hugging Face's names",
    "vision_encoder.patch_embed.projection.weight",
    ("vision_encoder", "shared_image_embedding", "prompt_encoder", "mask_decoder"),
    tuple(
        (re.compile(pattern), replacement)
        for pattern, replacement in (  # transformers' `modeling_sam.py`
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
            # SAM-HQ, transformers' `modeling_sam_hq.py`.
            (r"^mask_decoder\.hq_token\.", "mask_decoder.hf_token."),
            (r"^mask_decoder\.hq_mask_mlp\.layers\.0\.", "mask_decoder.hf_mlp.layers.1."),
            (r"^mask_decoder\.hq_mask_mlp\.", "mask_decoder.hf_mlp."),
            (r"^mask_decoder\.compress_vit_conv1\.", "mask_decoder.compress_vit_feat.0."),
            (r"^mask_decoder\.compress_vit_norm\.", "mask_decoder.compress_vit_feat.1."),
            (r"^mask_decoder\.compress_vit_conv2\.", "mask_decoder.compress_vit_feat.3."),
            (r"^mask_decoder\.encoder_conv1\.", "mask_decoder.embedding_encoder.0."),
            (r"^mask_decoder\.encoder_norm\.", "mask_decoder.embedding_encoder.1."),
            (r"^mask_decoder\.encoder_conv2\.", "mask_decoder.embedding_encoder.3."),
            (r"^mask_decoder\.mask_conv1\.", "mask_decoder.embedding_maskfeature.0."),
            (r"^mask_decoder\.mask_norm\.", "mask_decoder.embedding_maskfeature.1."),
            (r"^mask_decoder\.mask_conv2\.", "mask_decoder.embedding_maskfeature.3."),
            # Three linear layers: proj_in, layers.0, proj_out there; layers.0, 1, 2 here.
            (r"(hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.layers.1."),
            (r"\.proj_in\.", ".layers.0."),
            (r"\.proj_out\.", ".layers.2."),
            (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
            (r"\.layer_norm(\d)\.", r".norm\1."),
        )
    ),
)

TINY_VIT = Layout("MobileSAM's names", "image_encoder.patch_embed.seq.0.c.weight", OFFICIAL.parts)

EFFICIENTVIT = Layout(
    "EfficientViT-SAM's names",
    "image_encoder.backbone.stages.0.op_list.0.conv.weight",
    OFFICIAL.parts,
)


def _patterns(*renames: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in renames)


SAM2 = Layout(
    "SAM 2's names",
    "image_encoder.trunk.patch_embed.proj.weight",
    (
        "image_encoder",
        "sam_prompt_encoder",
        "sam_mask_decoder",
        "no_mem_embed",
        "no_mem_pos_enc",
        "memory_attention",
        "memory_encoder",
        "maskmem_tpos_enc",
        "mask_downsample",
        "obj_ptr_proj",
        "obj_ptr_tpos_proj",
        "no_obj_ptr",
        "no_obj_embed_spatial",
        "spatial_perceiver",
    ),
    _patterns(
        (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
        (r"^no_mem_embed$", "image_encoder.no_mem_embed"),
        (r"^((no_mem_pos_enc|memory|mask|obj_ptr|no_obj|spatial)(?!_decoder)\w*)", r"memory.\1"),
        (r"(trunk\.blocks|transformer\.layers)\.(\d+)\.mlp\.layers\.0\.", r"\1.\2.mlp.lin1."),
        (r"(trunk\.blocks|transformer\.layers)\.(\d+)\.mlp\.layers\.1\.", r"\1.\2.mlp.lin2."),
    ),
)

_PERCEIVER = r"^(spatial_perceiver\.layers\.\d+)"

HUGGING_FACE_SAM2 = Layout(
    "Hugging Face's names of SAM 2",
    "vision_encoder.backbone.patch_embed.projection.weight",
    (
        *HUGGING_FACE.parts,
        "no_memory_embedding",
        "no_memory_positional_encoding",
        "memory_temporal_positional_encoding",
        "no_object_pointer",
        "occlusion_spatial_embedding_parameter",
        "memory_attention",
        "memory_encoder",
        "mask_downsample",
        "object_pointer_proj",
        "temporal_positional_encoding_projection_layer",
        "spatial_perceiver",
    ),
    (
        *_patterns(  # transformers' `modeling_sam2.py` and `modeling_sam2_video.py`
            (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
            (r"trunk\.timm_model\.", "trunk.body."),
            (r"trunk\.patch_embed\.projection", "trunk.patch_embed.proj"),
            (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
            (r"(trunk\.blocks|transformer\.layers)\.(\d+)\.mlp\.proj_in\.", r"\1.\2.mlp.lin1."),
            (r"(trunk\.blocks|transformer\.layers)\.(\d+)\.mlp\.proj_out\.", r"\1.\2.mlp.lin2."),
            (r"\.o_proj\.", ".out_proj."),
            (r"(pred_obj_score_head|object_pointer_proj)\.layers\.0\.", r"\1.layers.1."),
            (r"^no_memory_embedding$", "image_encoder.no_mem_embed"),
            (r"^no_memory_positional_encoding$", "memory.no_mem_pos_enc"),
            (r"^memory_temporal_positional_encoding$", "memory.maskmem_tpos_enc"),
            (r"^no_object_pointer$", "memory.no_obj_ptr"),
            (r"^occlusion_spatial_embedding_parameter$", "memory.no_obj_embed_spatial"),
            (r"^object_pointer_proj", "memory.obj_ptr_proj"),
            (r"^temporal_positional_encoding_projection_layer", "memory.obj_ptr_tpos_proj"),
            (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
            (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
            (r"^memory_encoder\.memory_fuser", "memory_encoder.fuser"),
            *(
                (rf"mask_downsampler\.layers\.{i}\.{name}", f"mask_downsampler.encoder.{3 * i + j}")
                for i in range(4)
                for j, name in enumerate(("conv", "layer_norm"))
            ),
            (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
            (r"(fuser\.layers\.\d+)\.scale$", r"\1.gamma"),
            (r"(fuser\.layers\.\d+)\.depthwise_conv", r"\1.dwconv"),
            (r"(fuser\.layers\.\d+)\.pointwise_conv", r"\1.pwconv"),
            # EdgeTAM, `modeling_edgetam_video.py`.
            (r"^(memory_attention\.layers\.\d+)\.mlp\.up_proj\.", r"\1.linear1."),
            (r"^(memory_attention\.layers\.\d+)\.mlp\.down_proj\.", r"\1.linear2."),
            (r"^spatial_perceiver\.latents_1d$", "spatial_perceiver.latents"),
            (rf"{_PERCEIVER}\.layer_norm_input\.", r"\1.attn.norm_x."),
            (rf"{_PERCEIVER}\.layer_norm_latents\.", r"\1.attn.norm_latents."),
            (rf"{_PERCEIVER}\.layer_norm_self\.", r"\1.self_attn.norm."),
            (rf"{_PERCEIVER}\.cross_attention\.", r"\1.attn."),
            (rf"{_PERCEIVER}\.self_attention\.", r"\1.self_attn."),
            (rf"{_PERCEIVER}\.(\w*attn)\.([qkv])_proj\.", r"\1.\2.to_\3."),
            (rf"{_PERCEIVER}\.(\w*attn)\.out_proj\.", r"\1.\2.to_out."),
            (rf"{_PERCEIVER}\.(self_)?mlp\.layer_norm\.", r"\1.\2ff.0."),
            (rf"{_PERCEIVER}\.(self_)?mlp\.up_proj\.", r"\1.\2ff.1."),
            (rf"{_PERCEIVER}\.(self_)?mlp\.down_proj\.", r"\1.\2ff.3."),
            (r"^(memory_attention|memory_encoder.*|spatial_perceiver)\.layer_norm\.", r"\1.norm."),
            (
                r"^(memory_attention|memory_encoder|mask_downsample|spatial_perceiver)\b",
                r"memory.\1",
            ),
        ),
        *HUGGING_FACE.renames,
    ),
    {"prompt_encoder.point_embeddings.weight": "prompt_encoder.point_embeddings.{}.weight"},
)

# EdgeTAM is SAM 2 but for its encoder's trunk and the perceiver of its memories.
EDGETAM = replace(
    SAM2, name="EdgeTAM's names", anchor="image_encoder.trunk.body.stem.conv1.c.weight"
)

HUGGING_FACE_EDGETAM = replace(
    HUGGING_FACE_SAM2,
    name="Hugging Face's names of EdgeTAM",
    anchor="vision_encoder.backbone.timm_model.stem.conv1.c.weight",
)

LAYOUTS = (
    *(OFFICIAL, HUGGING_FACE, TINY_VIT, EFFICIENTVIT),
    *(SAM2, HUGGING_FACE_SAM2, EDGETAM, HUGGING_FACE_EDGETAM),
)
