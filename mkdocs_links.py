"""Files outside docs/ on the site, so that links are written as the repository has them.

README.md is the site's first page. What else a page links to lies under `repository/`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\((?![a-z]+:|#|/)([^)#\s]+)")
INDEX = "index.md"


def place(path: str) -> str:
    """Where a file of the repository is on the site, before it is rendered."""
    if path == "README.md":
        return INDEX
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def origin(place: str) -> str:
    """The file of the repository that is there."""
    if place == INDEX:
        return "README.md"
    outside = place.removeprefix("repository/")
    return outside if outside != place else f"docs/{place}"


def target(path: str, link: str) -> str:
    """The file of the repository that `link` in the file `path` means."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md, and all that pages link to outside docs/, and what these link to."""
    root = Path(config.config_file_path).parent
    waiting = ["README.md", *(origin(page.src_uri) for page in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not (root / path).is_file():
            continue  # MkDocs names the link that leads nowhere
        if not files.get_file_from_path(place(path)):
            inclusion = InclusionLevel.NOT_IN_NAV
            files.append(
                File.generated(
                    config, place(path), abs_src_path=str(root / path), inclusion=inclusion
                )
            )
        if path.endswith(".md"):
            linked = {target(path, link) for link in LINK.findall((root / path).read_text())}
            waiting += sorted(linked - seen)
            seen |= linked
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Links from where a page is on the site, instead of from where it is in the repository."""
    here = page.file.src_uri

    def moved(found: re.Match[str]) -> str:
        there = place(target(origin(here), found[1]))
        if not files.get_file_from_path(there):
            return found[0]
        return f"]({posixpath.relpath(there, posixpath.dirname(here) or '.')}"

    return LINK.sub(moved, markdown)
