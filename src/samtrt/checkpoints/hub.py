"""Checkpoints by their name on the Hugging Face Hub: `owner/name`, perhaps with a file or revision.

The files go into huggingface_hub's own cache, which other tools share; there a snapshot's folder
tells which revision it is. Only weights that are read without running code, and configuration, are
downloaded.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from samtrt.checkpoints.hugging_face import (
    CONFIG,
    NO_INDEX,
    PREPROCESSOR,
    PROCESSOR,
    WEIGHTS,
    index_of,
    shard_names,
)
from samtrt.errors import CheckpointError, DownloadError, MissingExtraError

_NAME = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:/(?P<file>[\w./-]+\.(?:safetensors|pth|pt|safetensors\.index\.json)))?"
    r"(?:@(?P<revision>[\w./-]+))?",
    re.ASCII,
)
_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>.+)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PROCESSORS = (PREPROCESSOR, PROCESSOR)  # how images are prepared
_CONFIGURATION = (CONFIG, *_PROCESSORS)
_WHOLE, _INDEX = WEIGHTS, index_of(WEIGHTS)
_ABSENT = ".no_exist"  # huggingface_hub's folder of what a repository is known not to have
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
_WEIGHTS = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class HubName:
    """A name on the Hub.

    Attributes:
        repo: "owner/name".
        file: The weight file that is meant, where the repository has several.
        revision: A branch, tag or commit; None for the main branch.
    """

    repo: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        return f"{self.repo}{file}" + (f"@{self.revision}" if self.revision else "")


def parse(text: str) -> HubName | None:
    """Read a name of the Hub; None where the text is none."""
    match = _NAME.fullmatch(text)
    if match is None or ".." in text:
        return None
    if match["repo"].lower().endswith(_WEIGHTS):  # the path of a file that is not there
        return None
    return HubName(match["repo"], match["file"], match["revision"])


def origin_of(path: Path) -> str | None:
    """Return "owner/name@commit" of a path in a snapshot of the Hub's cache; None elsewhere."""
    parts = path.absolute().parts
    for folder, word, commit in zip(parts, parts[1:], parts[2:], strict=False):
        match = _SNAPSHOT.fullmatch(folder)
        if match and word == "snapshots" and _COMMIT.fullmatch(commit):
            return f"{match['owner']}/{match['name']}@{commit}"
    return None


def fetch(name: HubName) -> Path:
    """Return where a name's checkpoint lies in the cache, downloading what is missing of it.

    Returns:
        A model directory as `transformers` saves them, or one weight file.

    Raises:
        CheckpointError: where the repository holds no weights that can be read safely, or several
            and none is named.
        DownloadError: where it is missing, gated, or not in the cache and out of reach.
        MissingExtraError: where huggingface_hub is not installed.
    """
    try:
        import huggingface_hub as hub
        from huggingface_hub import constants, errors
    except ImportError:
        raise MissingExtraError("A name of the Hub", "hub", "huggingface_hub") from None
    cache = Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
    endpoint = os.environ.get("HF_ENDPOINT")
    commit = None
    try:
        info = hub.HfApi(endpoint=endpoint).model_info(name.repo, revision=name.revision)
        commit = _commit(info.sha)
        folder = _folder_of(cache, name) / "snapshots" / commit
        names = {each.rfilename for each in info.siblings or ()}
        weights = _weights_of(name, names)

        def get(files: list[str]) -> None:
            for each in files:
                hub.hf_hub_download(
                    name.repo, each, revision=commit, cache_dir=cache, endpoint=endpoint
                )

        # Configuration first: weights in the cache without it would be prepared for as SAM's own.
        about = _beside(weights, _CONFIGURATION)
        get([each for each in about if each in names])
        get([weights])
        get(_shards(name, folder, weights, names))
        _note(folder, name.revision or "main", [each for each in about if each not in names])
    except CheckpointError:  # and DownloadError, which is one
        raise
    except errors.HFValidationError:
        raise CheckpointError(
            f"there is no file or directory '{name}', and no repository of the Hub has such a name"
        ) from None
    except errors.GatedRepoError:
        raise DownloadError(
            f"{name.repo} is gated: accept its terms at https://huggingface.co/{name.repo}, then "
            "log in with 'hf auth login' or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{name.repo} has no revision '{name.revision}'") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"there is no file or directory '{name}', and no such repository on the Hub, or "
            "it is private: log in with 'hf auth login' or set HF_TOKEN"
        ) from None
    except Exception as error:  # the clients that it has had for HTTP share no base class
        if isinstance(error, OSError) and error.errno in _DISK:
            raise DownloadError(
                f"cannot store {name.repo} in {cache}: {error.strerror}; make room or choose "
                "another place with HF_HUB_CACHE"
            ) from None
        folder, weights = _cached(cache, name, commit, error)
    place = folder / weights
    return place.parent if place.name in (_WHOLE, _INDEX) else place


def _commit(said: object) -> str:
    """Return the commit that a server says a repository is at; it is part of paths."""
    if not _COMMIT.fullmatch(str(said)):
        raise DownloadError("the Hub's answer names no commit; check HF_ENDPOINT")
    return str(said)


def _folder_of(cache: Path, name: HubName) -> Path:
    return cache / f"models--{name.repo.replace('/', '--')}"


def _cached(cache: Path, name: HubName, commit: str | None, error: Exception) -> tuple[Path, str]:
    """Return snapshot and weights of what is in the cache, where the Hub is out of reach.

    Args:
        cache: Of huggingface_hub.
        name: What is asked for.
        commit: Which it is, where the Hub could still tell: no older one stands in for it.
        error: Why the Hub gave no more.

    Raises:
        DownloadError: where it is not all there.
    """
    folder, revision = _folder_of(cache, name), name.revision or "main"
    try:
        commit = commit or (folder / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = revision
    snapshot = folder / "snapshots" / commit
    names = {each.relative_to(snapshot).as_posix() for each in snapshot.rglob("*")}
    try:
        weights = _weights_of(name, names)
        _shards(name, snapshot, weights, names)
    except CheckpointError:
        raise DownloadError(
            f"there is no file or directory '{name}'; on the Hub, {name.repo} is not in the cache "
            f"and the Hub is out of reach ({_line(error)}): check the path, or the network, and "
            "run the same command again"
        ) from None
    processors = _beside(weights, _PROCESSORS)
    place = snapshot / weights
    known = names | {each for each in processors if (folder / _ABSENT / commit / each).exists()}
    if place.name in (_WHOLE, _INDEX) and not (
        names & set(processors) or known.issuperset(processors)
    ):
        raise DownloadError(
            f"{name.repo} is in the cache without {processors[0]}, which says how images are "
            f"prepared, and the Hub is out of reach ({_line(error)}): run the same command with a "
            f"network, or, where the repository has none, give {place.parent}"
        )
    return snapshot, weights


def _weights_of(name: HubName, names: set[str]) -> str:
    """Return which of a repository's files has the weights, or is the index of their shards."""
    if name.file is not None:
        if name.file not in names:
            raise CheckpointError(f"{name.repo} holds no file {name.file}")
        return name.file
    for each in (_WHOLE, _INDEX):
        if each in names:
            return each
    indexes = [each for each in names if PurePosixPath(each).name == _INDEX]
    sharded = {PurePosixPath(each).parent for each in indexes}
    weights = sorted(
        each
        for each in names
        if each.endswith(_WEIGHTS)
        and (PurePosixPath(each).parent not in sharded or PurePosixPath(each).name == _WHOLE)
    )
    weights = sorted((*weights, *indexes))
    if len(weights) == 1:
        return weights[0]
    if weights:
        raise CheckpointError(
            f"{name.repo} holds {len(weights)} weight files: name one, such as "
            f"{name.repo}/{weights[0]} (or {', '.join(weights[1:4])})"
        )
    raise CheckpointError(
        f"{name.repo} holds no {', '.join(_WEIGHTS)}: other files are not read, as loading them "
        "may run code"
    )


def _beside(weights: str, files: tuple[str, ...]) -> list[str]:
    """Return the names of files in the folder of the weights; none where no format has them."""
    place = PurePosixPath(weights)
    return [str(place.with_name(each)) for each in files] if place.name in (_WHOLE, _INDEX) else []


def _shards(name: HubName, folder: Path, weights: str, names: set[str]) -> list[str]:
    """Return the files that an index of shards names; none of other weights.

    An index that cannot be followed is told of where it is read.

    Raises:
        CheckpointError: where the repository does not hold them all.
    """
    if PurePosixPath(weights).name != _INDEX:
        return []
    try:
        found = shard_names(folder / weights)
        shards = [each for each in found if "/" not in each and each.endswith(".safetensors")]
    except NO_INDEX:
        return []
    files = _beside(weights, tuple(shards))
    missing = [each for each in files if each not in names]
    if missing:
        raise CheckpointError(f"{name.repo} does not hold {missing[0]}, which {weights} names")
    return files


def _note(folder: Path, branch: str, absent: list[str]) -> None:
    """Note for offline use, as huggingface_hub does: a branch's commit, and which files are not."""
    repo, commit = folder.parent.parent, folder.name
    for each in absent:
        mark = repo / _ABSENT / commit / each
        if not mark.exists():
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
    note = repo / "refs" / branch
    if _COMMIT.fullmatch(branch):
        return
    if not note.is_file() or note.read_bytes() != commit.encode():
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(commit, encoding="ascii")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
