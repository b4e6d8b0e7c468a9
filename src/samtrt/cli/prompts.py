"""Points and boxes as the command line takes them."""

from __future__ import annotations

import math


def numbers(text: str, option: str, counts: tuple[int, ...]) -> list[float]:
    """Read numbers between commas, of one of these counts; raises `PromptError`."""
    from samtrt.errors import PromptError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(map(math.isfinite, values)):
        wanted = "x,y or x,y,label" if option == "--point" else "x1,y1,x2,y2"
        raise PromptError(f"{option} takes {wanted} in pixels, not '{text}'")
    return values
