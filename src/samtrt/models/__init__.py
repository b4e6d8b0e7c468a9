"""PyTorch definitions of SAM. Needs the `export` extra; nothing that only runs engines does."""

from samtrt.models.attention import AttentionForm
from samtrt.models.sam import Sam, build_sam, seed_weights

__all__ = ["AttentionForm", "Sam", "build_sam", "seed_weights"]
