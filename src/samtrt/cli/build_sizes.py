"""How the command line says which sizes and which stages engines are built for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from samtrt.choices import EVERY_STAGE, AnyStage, Target
from samtrt.errors import BuildError

if TYPE_CHECKING:
    from samtrt.build.options import Range
    from samtrt.tensorrt.record import Exact

DEFAULT_EXACT = "1x2,4x2,16x2,64x2"
"""A click with its padding point, or a box; a few; many; those of a grid or a detector."""
DEFAULT_EXACT_OBJECTS = "1"


def exact_of(text: str | None, target: Target, prompts: Range, points: Range) -> tuple[Exact, ...]:
    """Read "1x2,64x2" or "none"; None stands for what the target gets by itself."""
    from samtrt.tensorrt.record import Exact

    if text is None:
        usual = map(Exact.parse, DEFAULT_EXACT.split(","))
        fitting = (one for one in usual if one.prompts in prompts and one.points in points)
        return tuple(fitting) if target is Target.TENSORRT else ()
    try:
        return () if text == "none" else tuple(dict.fromkeys(map(Exact.parse, text.split(","))))
    except ValueError as error:
        raise BuildError(f"--exact: {error}; separate several by commas, or say none") from None


def range_of(text: str | None, option: str) -> Range | None:
    """Read "7:7:10", or a number; None where nothing was said."""
    from samtrt.build.options import Range

    return None if text is None else Range.parse(text, option)


def counts_of(text: str | None, target: Target, objects: Range) -> tuple[int, ...]:
    """Read "1,8" or "none"; None stands for what the target gets by itself."""
    if text is None:
        usual = map(int, DEFAULT_EXACT_OBJECTS.split(","))
        return tuple(n for n in usual if n in objects) if target is Target.TENSORRT else ()
    if text == "none":
        return ()
    if not all(re.fullmatch(r"[1-9]\d*", part) for part in text.split(",")):
        raise BuildError(
            f"--exact-objects: '{text}' are not numbers of objects, such as 1,8; or say none"
        )
    return tuple(dict.fromkeys(map(int, text.split(","))))


def stages_of(directory: Path, asked: list[str] | None) -> tuple[AnyStage, ...]:
    """Return the stages of these names, or all of a directory."""
    from samtrt.build.jobs import stages_to_build
    from samtrt.manifest import Manifest

    known = {stage.value: stage for stage in EVERY_STAGE}
    for name in asked or ():
        if name not in known:
            raise BuildError(f"--stage must be one of {', '.join(known)}, not '{name}'")
    named = [known[name] for name in asked or ()]
    return stages_to_build(Manifest.load(directory), directory, named)
