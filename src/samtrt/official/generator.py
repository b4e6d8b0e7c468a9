"""`SamAutomaticMaskGenerator`, with the official arguments and records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from samtrt.automatic.generator import AutomaticMaskGenerator
from samtrt.official.model import SamModel, as_model


class SamAutomaticMaskGenerator(AutomaticMaskGenerator):
    """Finds masks of everything, as `segment_anything.SamAutomaticMaskGenerator` does."""

    def __init__(self, model: SamModel | str | Path, *arguments: Any, **options: Any) -> None:
        """Take a model as `SamPredictor` does; all else as `AutomaticMaskGenerator`."""
        super().__init__(as_model(model).predictor, *arguments, **options)
