"""Which of the images that a file names is the picture at hand."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from samtrt.formats.boxes.types import Unreadable


def parts_of(name: str) -> tuple[str, ...]:
    """Return a path's parts, whatever system it was written on.

    Windows separates folders by a backslash, and macOS takes letters and their accents apart (NFD).
    """
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", "."))


def stem_of(name: str) -> str:
    """Return the name of a file without folders and suffix."""
    parts = parts_of(name)
    return PurePosixPath(parts[-1]).stem if parts else ""


def matches(names: Sequence[str], wanted: str) -> tuple[list[int], str]:
    """Return the places in `names` of the picture `wanted`, and a notice where one was assumed.

    The last part of a name must be the picture's own, or, without a suffix, its stem. Of several,
    those count that share the most folders with the picture's path.

    Raises:
        Unreadable: where there is none, or where two of different folders are alike.
    """
    path = parts_of(wanted)
    if not path:
        if len({parts_of(name) for name in names}) > 1:
            raise Unreadable(
                "it is about several images: give the name of the picture that boxes are for"
            )
        return list(range(len(names))), ""
    found = [i for i, name in enumerate(names) if parts_of(name)[-1:] == path[-1:]]
    bare = [*path[:-1], PurePosixPath(path[-1]).stem]
    if not found:
        path = tuple(bare)
        found = [i for i, name in enumerate(names) if parts_of(name)[-1:] == path[-1:]]
    if not found:
        raise Unreadable(f"no image of it is called {parts_of(wanted)[-1]}")
    common = {i: _common(parts_of(names[i]), path) for i in found}
    best = [i for i in found if common[i] == max(common.values())]
    if len({parts_of(names[i]) for i in best}) > 1:
        one, other = sorted({names[i] for i in best})[:2]
        raise Unreadable(
            f"it names both {one} and {other}, and either may be {wanted}: keep the picture in a "
            "folder of the same name"
        )
    name = names[best[0]]
    whole = common[best[0]] == min(len(parts_of(name)), len(path))
    return best, "" if whole else f"the boxes of {name} are taken, the only image of that name"


def _common(name: tuple[str, ...], path: tuple[str, ...]) -> int:
    """Count the parts that two paths have in common at their ends."""
    count = 0
    for one, other in zip(reversed(name), reversed(path), strict=False):
        if one != other:
            break
        count += 1
    return count
