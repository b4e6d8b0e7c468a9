"""What a command does at addresses: images found, a directory claimed, files about all images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath

from samtrt.cluster.places import Place
from samtrt.cluster.staging import TRANSFERS
from samtrt.datasets.claim import NOTE, WRITTEN, taken_by_others
from samtrt.datasets.output import DatasetOutput
from samtrt.encoding import in_order
from samtrt.errors import ImageError
from samtrt.files import OUTPUT_NOTE
from samtrt.images.formats import suffixes
from samtrt.sources import Source, Sources, check_names


def find_sources_at(
    address: str, more: tuple[str, ...] = (), recursive: bool = False, leave_out: str = ""
) -> Sources:
    """Return the images at an address, by name; as `find_sources` does for folders.

    Args:
        address: Of a file, taken as it is, or a directory.
        more: Suffixes to look for beside those of images.
        recursive: Whether directories in it are searched too.
        leave_out: An address not to be searched, such as the one that results go to.

    Raises:
        ImageError: where there is no image, or two files would write results of one name.
        OutputError: where the address cannot be read.
    """
    address = address.rstrip("/")
    place, sources = Place(address), Sources()
    wanted = suffixes() + more
    names, sources.folders = place.files(recursive)
    if not names and place.is_file(""):
        folder, _, name = address.rpartition("/")
        sources.found.append(Source(Path(name), PurePath(name).with_suffix(""), folder))
        return sources
    apart = leave_out.rstrip("/") + "/"
    for name in names:
        path = PurePosixPath(name)
        if f"{address}/{name}".startswith(apart) or any(p.startswith(".") for p in path.parts):
            continue  # hidden ones do not count; ".." would lead out of the directory
        if path.suffix.lower() in wanted:
            sources.found.append(Source(Path(path), PurePath(path.with_suffix("")), address))
        else:
            sources.skipped.append(Path(path))
    if not sources.found:
        left = f"; {notice}" if (notice := sources.notice()) else ""
        raise ImageError(f"{address} holds no image{left}")
    check_names(sources.found)
    return sources


def claim_address(address: str, force: bool = False) -> None:
    """Make an address an output directory; as `claim_directory` does for folders.

    Raises:
        OutputError: where it cannot be one, or holds files that samtrt did not write.
    """
    place = Place(address)
    if place.is_file(OUTPUT_NOTE):
        return
    if not force:
        for name in WRITTEN:
            if place.is_file(name) or place.holds_files(name):
                raise taken_by_others(place.told(name))
    place.write(OUTPUT_NOTE, NOTE.encode())


def merge_at(address: str, files: DatasetOutput, sources: Sequence[Source]) -> str:
    """Write the files about all images that are done, and bring them to an address.

    Returns:
        The address of the COCO dataset.

    Raises:
        OutputError: where it cannot be read or written.
    """
    place = Place(address)
    with tempfile.TemporaryDirectory() as folder:
        here = replace(files, directory=Path(folder))
        merged = here.merge(_brought(place, here, sources))
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                place.send(path, path.relative_to(folder).as_posix())
        return place.told(merged.relative_to(folder).as_posix())


def _brought(place: Place, here: DatasetOutput, sources: Sequence[Source]) -> Iterator[Source]:
    """Yield images, each while the file that marks it as done is here."""

    def bring(source: Source) -> None:
        marker = here.marker(source)
        place.fetch(marker.relative_to(here.directory).as_posix(), marker)

    done = (source for source in sources if here.counts(source))
    with closing(in_order(done, bring, TRANSFERS, TRANSFERS)) as ready:
        for source, future in ready:
            future.result()
            yield source
            here.marker(source).unlink(missing_ok=True)
