"""The names that code bases give to a SAM's tensors. Another one is one more row of `LAYOUTS`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


@dataclass(frozen=True)
class Layout:
    """One way to name tensors.

    Attributes:
        name: What messages call it.
        anchor: A tensor of the encoder that every such model has; its first word is a part.
        parts: The first words of all names. The last two are the prompt encoder and mask decoder.
        renames: From its names to official ones: patterns and replacements, one after another.
    """

    name: str
    anchor: str
    parts: tuple[str, ...]
    renames: tuple[tuple[re.Pattern[str], str], ...] = ()

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

LAYOUTS = (OFFICIAL, HUGGING_FACE, TINY_VIT, EFFICIENTVIT)
