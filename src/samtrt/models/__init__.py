"""PyTorch definitions of SAM. Needs the `export` extra; nothing that only runs engines does."""

from samtrt.errors import MissingExtraError

try:
    import torch  # noqa: F401
except ImportError:
    raise MissingExtraError("Running a checkpoint", "export", "torch") from None

from samtrt.models.sam import Sam, build_sam, seed_weights

__all__ = ["Sam", "build_sam", "seed_weights"]
