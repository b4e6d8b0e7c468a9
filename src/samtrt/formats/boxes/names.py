"""Which of the images that a file names is the picture at hand."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

from samtrt.formats.boxes.types import NotListed, Unreadable


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


class Names:
    """The names that entries of a file have, found by the path of a picture.

    A list of a hundred thousand pictures is gone through once, not for each of them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._places: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            self._places.setdefault(name, []).append(place)
        self._of_last: dict[str, list[str]] = {}
        for name in self._places:
            last = parts_of(name)[-1:] or ("",)
            self._of_last.setdefault(last[0], []).append(name)

    @property
    def pictures(self) -> list[str]:
        """Each name once, in the file's order."""
        return list(self._places)

    def name_at(self, place: int) -> str:
        """Return the name of an entry."""
        return self._names[place]

    def find(self, wanted: str) -> tuple[list[int], str]:
        """Return the places of the picture `wanted`, and a notice where one was assumed.

        The last part of a name must be the picture's own, or, without a suffix, its stem. Of
        several, those count that share the most folders with the picture's path.

        Raises:
            NotListed: where there is none.
            Unreadable: where two of different folders are alike.
        """
        path = parts_of(wanted)
        if not path:
            if len({parts_of(name) for name in self._places}) > 1:
                raise Unreadable(
                    "it is about several images: give the name of the picture that boxes are for"
                )
            return sorted(place for places in self._places.values() for place in places), ""
        found = self._of_last.get(path[-1], [])
        if not found:
            path = (*path[:-1], PurePosixPath(path[-1]).stem)
            found = self._of_last.get(path[-1], [])
        if not found:
            raise NotListed(f"no image of it is called {parts_of(wanted)[-1]}")
        common = {name: _common(parts_of(name), path) for name in found}
        best = [name for name in found if common[name] == max(common.values())]
        # Of cat.jpg and q/cat.jpg, the first may be in any folder, and the second is in another.
        best = [name for name in best if common[name] == len(parts_of(name))] or best
        if len({parts_of(name) for name in best}) > 1:
            one, other = sorted(best)[:2]
            raise Unreadable(
                f"it names both {one} and {other}, and either may be {wanted}: keep the picture in "
                "a folder of the same name"
            )
        name = best[0]
        whole = common[name] == min(len(parts_of(name)), len(path))
        places = sorted(place for name in best for place in self._places[name])
        return (
            places,
            "" if whole else f"the boxes of {name} are taken, the only image of that name",
        )


def _common(name: tuple[str, ...], path: tuple[str, ...]) -> int:
    """Count the parts that two paths have in common at their ends."""
    count = 0
    for one, other in zip(reversed(name), reversed(path), strict=False):
        if one != other:
            break
        count += 1
    return count
