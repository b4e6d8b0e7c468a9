"""Where a command's images are and where its results go: folders or, on a cluster, addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samtrt.cluster.places import Place, is_address

if TYPE_CHECKING:
    from samtrt.datasets.output import DatasetOutput
    from samtrt.sources import Source, Sources


@dataclass(frozen=True)
class Target:
    """Where results go.

    Attributes:
        folder: A directory; the working directory, where there is an address.
        address: Such as s3://bucket/masks; empty for a folder.
    """

    folder: Path
    address: str = ""

    @property
    def told(self) -> str:
        """The place as users read it."""
        return self.address or str(self.folder)

    def of(self, path: Path) -> str:
        """Return where a file of `folder` goes, for users to read."""
        return f"{self.address}/{path.as_posix()}" if self.address else str(path)

    def claim(self, force: bool) -> None:
        """Make it an output directory; raises `OutputError`."""
        from samtrt.datasets.claim import claim_directory

        if self.address:
            from samtrt.cluster.addresses import claim_address

            claim_address(self.address, force)
        else:
            claim_directory(self.folder, force)

    def merge(self, files: DatasetOutput, sources: Sequence[Source]) -> str:
        """Write the files about all images; return where the COCO dataset is."""
        if self.address:
            from samtrt.cluster.addresses import merge_at

            return merge_at(self.address, files, sources)
        return str(files.merge(sources))


def is_one(images: str) -> bool:
    """Tell whether images are a file, whose error is the command's own; not what is at an address,
    which is seldom one."""
    return not is_address(images) and not Path(images).is_dir()


def target(output: str, ray: str | None) -> Target:
    """Read -o.

    Raises:
        OutputError: where it is an address without a cluster, or one that a process has for itself.
        ClusterError, MissingExtraError: where it is none that can be used here.
    """
    if not is_address(output):
        return Target(Path(output))
    _check(output, ray, "-o")
    return Target(Path(), output.rstrip("/"))


def find(
    images: Sequence[str],
    ray: str | None,
    more: tuple[str, ...] = (),
    recursive: bool = False,
    leave_out: Target | None = None,
) -> Sources:
    """Return the images of files, folders and addresses, as `find_sources` does.

    Raises:
        ImageError: where a folder holds none, or two would write results of the same name.
        OutputError: where an address cannot be read, or there is no cluster to read it.
    """
    from samtrt.sources import check_names, find_sources

    folder = leave_out.folder if leave_out and not leave_out.address else None
    paths = [Path(one) for one in images if not is_address(one)]
    sources = find_sources(paths, more, recursive, leave_out=folder)
    for one in filter(is_address, images):
        from samtrt.cluster.addresses import find_sources_at

        _check(one, ray, "images")
        found = find_sources_at(one, more, recursive, leave_out.address if leave_out else "")
        sources.found += found.found
        sources.skipped += found.skipped
        sources.folders += found.folders
    check_names(sources.found)
    return sources


def _check(address: str, ray: str | None, what: str) -> None:
    from samtrt.errors import OutputError

    if ray is None:
        raise OutputError(
            f"{what} at an address, {address}, is for clusters: add --ray, which takes 'local' for "
            "this machine alone, or give a folder"
        )
    if address.startswith("memory:"):
        raise OutputError(f"{address} is the memory of one process: give what all nodes reach")
    Place(address)  # before any work
