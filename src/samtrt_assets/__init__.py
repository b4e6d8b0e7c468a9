"""The small checkpoint of samtrt, trained by the project: `pip install 'samtrt[assets]'`.

Code takes it from `samtrt.assets`, which says what to install where this package is missing.
"""

from pathlib import Path

SMALL_CHECKPOINT = Path(__file__).parent / "vit_s.safetensors"
"""float16, official key names; see docs/model-card.md of the project."""
