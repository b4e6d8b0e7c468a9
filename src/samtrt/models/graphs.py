"""Modules that take and give tensors only, with the names and dtypes of the ONNX graphs."""

from __future__ import annotations

from samtrt.models import Sam  # isort: skip  first: it says what to install where torch is missing

from typing import Any

import torch
from torch import Tensor, nn

from samtrt.choices import AnyStage, Stage, VideoStage
from samtrt.models.hq import MaskDecoderHq
from samtrt.models.sam2 import MaskDecoder2
from samtrt.models.video import MemoryAttentionGraph, MemoryEncoderGraph, VideoDecoderGraph


class EncoderGraph(nn.Module):
    """`images` float32 [B, 3, S, S] to the maps of the model's `ModelSpec`, float32."""

    def __init__(self, sam: Sam, encoder: nn.Module | None = None) -> None:
        """Take the model's encoder, or another form of it with the same methods."""
        super().__init__()
        self.encoder: Any = encoder or sam.image_encoder
        decoder = sam.mask_decoder
        self.fusion = decoder if isinstance(decoder, MaskDecoderHq | MaskDecoder2) else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        images = images.to(next(self.encoder.parameters()).dtype)
        if self.fusion is None:
            return (self.encoder(images).float(),)
        if isinstance(self.fusion, MaskDecoder2):
            fine, middle, coarse = self.encoder.forward_stages(images)
            embedding = self.encoder.without_memories(coarse)
            maps = embedding, *self.fusion.fine_maps(self.encoder.neck, fine, middle)
            return tuple(one.float() for one in maps)
        embedding, early = self.encoder.forward_early(images)
        return embedding.float(), self.fusion.features(embedding, early).float()


class DecoderGraph(nn.Module):
    """Prompt encoder and mask decoder as one graph, float32 at its borders.

    Takes `image_embeddings` [1, 256, S/16, S/16], `point_coords` [P, N, 2], `point_labels` [P, N],
    `mask_input` [P, 1, M, M], `has_mask_input` [P] and what further maps the model has; gives
    `low_res_masks` [P, 4, M, M], `iou_predictions` [P, 4] and, of SAM 2, `object_score_logits` [P].
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        *further: Tensor,
    ) -> tuple[Tensor, ...]:
        dtype = self.sam.mask_decoder.iou_token.weight.dtype
        prompts = point_coords, point_labels, mask_input, has_mask_input
        others = (one.to(dtype) for one in further)
        results = self.sam.decode(image_embeddings.to(dtype), *prompts, *others)
        return tuple(one.float() for one in results)


def graph_of(sam: Sam, stage: AnyStage, encoder: nn.Module | None = None) -> nn.Module:
    """Return a stage of a model; `encoder` is another form of its image encoder."""
    match stage:
        case Stage.ENCODER:
            return EncoderGraph(sam, encoder)
        case Stage.DECODER:
            return DecoderGraph(sam)
        case VideoStage.MEMORY_ATTENTION:
            return MemoryAttentionGraph(sam)
        case VideoStage.MEMORY_ENCODER:
            return MemoryEncoderGraph(sam)
        case VideoStage.VIDEO_DECODER:
            return VideoDecoderGraph(sam)


def example_inputs(sam: Sam, stage: AnyStage) -> dict[str, Tensor]:
    """Return inputs to trace a stage with, by name; sizes that may vary are all different."""
    spec = sam.spec
    channels, grid, mask = spec.prompt_embed_dim, spec.embedding_size, spec.mask_size
    further = {one.name: torch.zeros(1, *one.shape) for one in spec.maps[1:]}
    embedding = {"image_embeddings": torch.zeros(1, channels, grid, grid)}
    match stage:
        case Stage.ENCODER:
            return {"images": torch.zeros(2, 3, spec.encoder_size, spec.encoder_size)}
        case Stage.DECODER:
            return {**embedding, **_example_prompts(3, 5, mask), **further}
        case VideoStage.MEMORY_ATTENTION:
            objects, memories, pointers = 2, 3, 5
            return {
                **embedding,
                "memories": torch.zeros(objects, memories, *sam.memory.shape),
                "memory_times": torch.zeros(objects, memories),
                "has_memory": torch.ones(objects, memories),
                "pointers": torch.zeros(objects, pointers, channels),
                "pointer_distances": torch.zeros(objects, pointers),
                "has_pointer": torch.ones(objects, pointers),
            }
        case VideoStage.MEMORY_ENCODER:
            return {
                **embedding,
                "low_res_masks": torch.zeros(2, 1, mask, mask),
                "object_score_logits": torch.zeros(2),
                "binarize": torch.zeros(2),
            }
        case VideoStage.VIDEO_DECODER:
            return {
                "object_embeddings": torch.zeros(3, channels, grid, grid),
                **_example_prompts(3, 5, mask),
                "bare": torch.zeros(3),
                "absent": torch.zeros(3),
                **further,
            }


def _example_prompts(prompts: int, points: int, mask: int) -> dict[str, Tensor]:
    return {
        "point_coords": torch.zeros(prompts, points, 2),
        "point_labels": torch.zeros(prompts, points),
        "mask_input": torch.zeros(prompts, 1, mask, mask),
        "has_mask_input": torch.zeros(prompts),
    }
