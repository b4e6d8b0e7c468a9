"""SAM 2's graphs for video: what `graphs.py` has for images, with memories, and objects as a batch.

The image encoder is that of images. Its embedding has `no_mem_embed` in it, which stands for the
memories that an image lacks: where there are memories, the graphs here take it away again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samtrt.models.memory import MEMORY_CHANNELS, Memory
from samtrt.models.rotary import Tokens, sine_times
from samtrt.models.sam import Sam
from samtrt.models.sam2 import MaskDecoder2

MASK_SCALE, MASK_BIAS = 20.0, -10.0
"""From a mask's probabilities to what the memory encoder takes (`sigmoid_scale_for_mem_enc` and
`sigmoid_bias_for_mem_enc` of the published models)."""
_POSITION_SHARE = 0.1
"""Of the image's positional encoding, in what attends to memories (`pos_enc_at_input`)."""

_MASKED = -30000.0
"""Added to the scores of empty places: their share is 0, and half precision holds it."""


class MemoryAttentionGraph(nn.Module):
    """An image's embedding in the light of each object's memories.

    Takes `image_embeddings` [1, 256, G, G]; `memories` [N, K, 64, G, G], or [N, K, T, 64] where a
    memory is made of T tokens, `memory_times` [N, K], which row of the table of times each has, and
    `has_memory` [N, K]; `pointers` [N, P, 256], `pointer_distances` [N, P], in time, as shares of
    the longest, and `has_pointer` [N, P]. Gives `object_embeddings` [N, 256, G, G]. Places that
    hold nothing may hold any finite numbers.
    """

    image_pe: Tensor
    memory_pe: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.memory: Memory = sam.memory
        self.no_mem_embed: nn.Parameter = sam.image_encoder.get_parameter("no_mem_embed")
        image = Tokens(sam.spec.embedding_size).places(sam.spec.prompt_embed_dim)
        self.register_buffer("image_pe", image, persistent=False)
        places = self.memory.tokens.places(MEMORY_CHANNELS)
        self.register_buffer("memory_pe", places, persistent=False)

    def forward(
        self,
        image_embeddings: Tensor,
        memories: Tensor,
        memory_times: Tensor,
        has_memory: Tensor,
        pointers: Tensor,
        pointer_distances: Tensor,
        has_pointer: Tensor,
    ) -> Tensor:
        memory = self.memory
        objects, side, channels = memories.shape[0], image_embeddings.shape[3], MEMORY_CHANNELS
        values = memories
        if memories.ndim == 5:  # a token a cell
            values = memories.flatten(3).transpose(2, 3)
        image = image_embeddings.flatten(2).transpose(1, 2) - self.no_mem_embed
        x = (image + _POSITION_SHARE * self.image_pe).expand(objects, -1, -1)
        table = memory.maskmem_tpos_enc.reshape(-1, channels)
        # Rows are chosen by a product: to look them up takes integers at the graph's border.
        rows = torch.arange(table.shape[0], device=table.device)
        times = (memory_times.unsqueeze(2) == rows).to(table.dtype) @ table
        keys = (values + self.memory_pe + times.unsqueeze(2)).flatten(1, 2)
        tokens, token_keys = self._tokens(pointers, pointer_distances)
        each = pointers.shape[2] // channels
        held = torch.cat(
            [
                has_memory.unsqueeze(2).expand(-1, -1, values.shape[2]).flatten(1),
                has_pointer.unsqueeze(2).expand(-1, -1, each).flatten(1),
            ],
            dim=1,
        )
        mask = torch.where(held > 0, 0.0, _MASKED).to(x.dtype)
        attended = memory.memory_attention(
            x,
            torch.cat([keys, token_keys], dim=1),
            torch.cat([values.flatten(1, 2), tokens], dim=1),
            mask,
            tokens.shape[1],
        )
        return attended.transpose(1, 2).reshape(objects, -1, side, side).float()

    def _tokens(self, pointers: Tensor, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Split each pointer into tokens as wide as a memory: values and keys [N, P * 4, 64]."""
        objects, count, dim = pointers.shape
        each = dim // MEMORY_CHANNELS
        values = pointers.reshape(objects, count * each, MEMORY_CHANNELS)
        if self.memory.obj_ptr_tpos_proj is None:  # SAM 2.0's pointers have no time
            return values, values
        times = self.memory.obj_ptr_tpos_proj(sine_times(distances, dim))
        spread = times.unsqueeze(2).expand(-1, -1, each, -1).flatten(1, 2)
        return values, values + spread


class MemoryEncoderGraph(nn.Module):
    """What is to be remembered of a frame, for each object.

    Takes `image_embeddings` [1, 256, G, G], `low_res_masks` [N, 1, M, M] logits,
    `object_score_logits` [N], and `binarize` [N], 1 where the mask is a user's; gives `memories`
    [N, 64, G, G], or [N, T, 64] where a memory is made of T tokens.
    """

    places: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.memory: Memory = sam.memory
        self.no_mem_embed: nn.Parameter = sam.image_encoder.get_parameter("no_mem_embed")
        self.factor = sam.spec.image_size // sam.spec.mask_size
        if self.memory.spatial_perceiver is not None:
            places = Tokens(sam.spec.embedding_size).places(MEMORY_CHANNELS)
            self.register_buffer("places", places, persistent=False)

    def forward(
        self,
        image_embeddings: Tensor,
        low_res_masks: Tensor,
        object_score_logits: Tensor,
        binarize: Tensor,
    ) -> Tensor:
        image = image_embeddings - self.no_mem_embed.reshape(1, -1, 1, 1)
        # By a factor and not to a size, which would be made of shapes in the graph.
        logits = F.interpolate(
            low_res_masks, scale_factor=self.factor, mode="bilinear", align_corners=False
        )
        masks = torch.where(
            binarize.reshape(-1, 1, 1, 1) > 0, (logits > 0).to(logits.dtype), logits.sigmoid()
        )
        memories = self.memory.memory_encoder(image, masks * MASK_SCALE + MASK_BIAS)
        if self.memory.no_obj_embed_spatial is not None:
            gone = (object_score_logits <= 0).to(memories.dtype).reshape(-1, 1, 1, 1)
            memories = memories + gone * self.memory.no_obj_embed_spatial[..., None, None]
        if self.memory.spatial_perceiver is not None:
            memories = self.memory.spatial_perceiver(memories, self.places)
        return memories.float()


class VideoDecoderGraph(nn.Module):
    """The mask decoder for N objects, each with an embedding of the frame of its own.

    Takes `object_embeddings` [N, 256, G, G], `point_coords` [N, Q, 2], `point_labels` [N, Q],
    `mask_input` [N, 1, M, M], `has_mask_input` [N], `bare` [N], 1 where `no_mem_embed` is to be
    taken away, `absent` [N], 1 where the user says that there is no object, and the finer maps of
    the frame, [1, ...]; gives `low_res_masks` [N, 4, M, M], `iou_predictions` [N, 4],
    `object_score_logits` [N], and `pointers` [N, 4, 256], what to remember of the object if it is
    that mask's.
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        self.no_mem_embed: nn.Parameter = sam.image_encoder.get_parameter("no_mem_embed")

    def forward(
        self,
        object_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        bare: Tensor,
        absent: Tensor,
        *further: Tensor,
    ) -> tuple[Tensor, ...]:
        sam = self.sam
        decoder, memory = sam.mask_decoder, sam.memory
        assert isinstance(decoder, MaskDecoder2)
        taken = bare.reshape(-1, 1, 1, 1) * self.no_mem_embed.reshape(1, -1, 1, 1)
        prompts = point_coords, point_labels, mask_input, has_mask_input
        tokens, *results = sam.decode_tokens(object_embeddings - taken, *prompts, *further)
        found = (results[2] > 0) & (absent <= 0)
        pointers = memory.obj_ptr_proj(tokens[:, 1:5])
        pointers = torch.where(found.reshape(-1, 1, 1), pointers, memory.no_obj_ptr)
        return (*(one.float() for one in results), pointers.float())
