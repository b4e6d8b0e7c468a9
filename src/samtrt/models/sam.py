"""The whole model, with the attribute names of official state dicts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samtrt.choices import AttentionForm
from samtrt.models.efficientvit import EfficientViT
from samtrt.models.hiera import Hiera
from samtrt.models.hq import MaskDecoderHq
from samtrt.models.image_kernels import ImageKernels, PlainKernels
from samtrt.models.mask_decoder import MaskDecoder
from samtrt.models.memory import Memory
from samtrt.models.prompt_encoder import PromptEncoder
from samtrt.models.pyramid import PyramidEncoder
from samtrt.models.repvit import RepViT
from samtrt.models.sam2 import MaskDecoder2
from samtrt.models.tiny_vit import TinyViT
from samtrt.models.vit import ImageEncoderViT
from samtrt.registry import (
    EfficientViTSpec,
    HieraSpec,
    ModelSpec,
    RepViTSpec,
    Sam2Spec,
    TinyViTSpec,
    ViTSpec,
)


class Sam(nn.Module):
    """Image encoder, prompt encoder and mask decoder of one `ModelSpec`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.image_encoder = build_encoder(spec)
        self.prompt_encoder = PromptEncoder(spec)
        self.mask_decoder = build_decoder(spec)
        for module in self.mask_decoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = spec.decoder_epsilon
        if isinstance(spec, Sam2Spec) and spec.version is not None:
            self.memory = Memory(spec)
        self.kernels: ImageKernels = PlainKernels()

    def set_attention_form(self, form: AttentionForm) -> None:
        """Choose how a ViT adds relative positions; other encoders have one form."""
        if isinstance(self.image_encoder, ImageEncoderViT):
            self.image_encoder.set_attention_form(form)

    def decode(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        *further: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run prompt encoder and mask decoder; inputs and outputs as in `decoder.onnx`."""
        prompts = point_coords, point_labels, mask_input, has_mask_input
        placed = self._placed(image_embeddings, *prompts)
        results: tuple[Tensor, ...] = self.mask_decoder(self.kernels, *placed, *further)
        return results

    def decode_tokens(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        *further: Tensor,
    ) -> tuple[Tensor, ...]:
        """Do as `decode` of a SAM 2, and return the decoder's fixed tokens before its results.

        The embedding may be another one for each prompt, [P, 256, G, G].
        """
        prompts = point_coords, point_labels, mask_input, has_mask_input
        placed = self._placed(image_embeddings, *prompts)
        decoder = self.mask_decoder
        assert isinstance(decoder, MaskDecoder2)
        return decoder.decode(self.kernels, *placed, *further)

    def _placed(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return what the mask decoder takes of image and prompts, in its order."""
        encoder, dtype = self.prompt_encoder, image_embeddings.dtype
        sparse = encoder.sparse(point_coords, point_labels).to(dtype)
        pe, image = (
            grid.flatten(2).transpose(1, 2)
            for grid in (encoder.dense_pe().to(dtype), image_embeddings)
        )
        weights = encoder.mask_weights()
        image = self.kernels.embed_masks(image, mask_input, has_mask_input, weights)
        return image, pe, sparse, encoder.embedding_size


def build_encoder(spec: ModelSpec) -> nn.Module:
    """Build the image encoder of a model's family."""
    match spec:
        case ViTSpec():
            return ImageEncoderViT(spec)
        case TinyViTSpec():
            return TinyViT(spec)
        case EfficientViTSpec():
            return EfficientViT(spec)
        case HieraSpec():
            return PyramidEncoder(Hiera(spec), spec)
        case RepViTSpec():
            return PyramidEncoder(RepViT(spec), spec)
    raise TypeError(f"no encoder is known for a {type(spec).__name__}")


def build_decoder(spec: ModelSpec) -> MaskDecoder:
    """Build the mask decoder of a model's family."""
    width = spec.prompt_embed_dim
    if isinstance(spec, Sam2Spec):
        return MaskDecoder2(width)
    return MaskDecoderHq(width, spec.early_dim) if spec.hq else MaskDecoder(width)


def build_sam(spec: ModelSpec) -> Sam:
    """Build an untrained model in evaluation mode, its batch norms not folded."""
    return Sam(spec).eval()


# Learned vectors that are looked up or added, not multiplied with.
_TABLES = (
    "pos_embed",
    "pos_embed_window",
    "mem_embed",
    "tpos_enc",
    "pos_enc",
    "obj_ptr",
    "embed_spatial",
    "attention_biases",
    "_embed.weight",
    "token.weight",
    "tokens.weight",
    "rel_pos_h",
    "rel_pos_w",
)

# Norms at the ends of RepViT's branches: of so many sums in a row, each would double what it gets.
_BRANCHES = (
    "token_mixer.conv.bn.weight",
    "token_mixer.conv1.bn.weight",
    "channel_mixer.conv2.bn.weight",
    "ffn.conv2.bn.weight",
)


def seed_weights(model: nn.Module, seed: int = 0) -> None:
    """Fill every tensor with seeded noise of a size that keeps activations alive.

    Freshly built models have zero position tables and identity norms, which would hide errors in
    just the parts that conversions break. Used for tests, benchmarks and dry runs.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if not tensor.is_floating_point():  # counters
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:  # weights of norms near one, every bias near zero
                tensor.copy_(0.1 * noise + name.endswith(("weight", "running_var")))
                if name.endswith(_BRANCHES):
                    tensor *= 0.5
            elif name.endswith("gaussian_matrix"):
                tensor.copy_(noise)
            elif name.endswith(_TABLES):
                tensor.copy_(0.2 * noise)
            else:
                tensor.copy_(noise * tensor[0].numel() ** -0.5)
