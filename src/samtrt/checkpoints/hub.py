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
from pathlib import Path

from samtrt.errors import CheckpointError, DownloadError, MissingExtraError

_NAME = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:/(?P<file>[\w./-]+\.(?:safetensors|pth|pt)))?"
    r"(?:@(?P<revision>[\w./-]+))?",
    re.ASCII,
)
_SNAPSHOT = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>.+)", re.ASCII)
_CONFIGURATION = ("config.json", "preprocessor_config.json", "processor_config.json")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors", re.ASCII)
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
        if match and word == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", commit):
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
    try:
        info = hub.HfApi(endpoint=endpoint).model_info(name.repo, revision=name.revision)
        wanted = _chosen(name, [each.rfilename for each in info.siblings or ()])
        for each in wanted:
            hub.hf_hub_download(
                name.repo, each, revision=info.sha, cache_dir=cache, endpoint=endpoint
            )
        folder = _folder_of(cache, name) / "snapshots" / str(info.sha)
        _note_branch(folder, name.revision or "main")
    except CheckpointError:
        raise
    except errors.GatedRepoError:
        raise DownloadError(
            f"{name.repo} is gated: accept its terms at https://huggingface.co/{name.repo}, then "
            "log in with 'hf auth login' or set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise DownloadError(f"{name.repo} has no revision '{name.revision}'") from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"there is no file or directory '{name.repo}', and no such repository on the Hub, or "
            "it is private: log in with 'hf auth login' or set HF_TOKEN"
        ) from None
    except Exception as error:  # the clients that it has had for HTTP share no base class
        if isinstance(error, OSError) and error.errno in _DISK:
            raise DownloadError(
                f"cannot store {name.repo} in {cache}: {error.strerror}; make room or choose "
                "another place with HF_HUB_CACHE"
            ) from None
        folder, wanted = _cached(cache, name, error)
    weights = [each for each in wanted if each.endswith(_WEIGHTS)]
    if len(weights) == 1 and Path(weights[0]).name != "model.safetensors":
        return folder / weights[0]
    return folder


def _folder_of(cache: Path, name: HubName) -> Path:
    return cache / f"models--{name.repo.replace('/', '--')}"


def _cached(cache: Path, name: HubName, error: Exception) -> tuple[Path, list[str]]:
    """Return what is in the cache, where the Hub is out of reach.

    Raises:
        DownloadError: where it is not all there.
    """
    folder, revision = _folder_of(cache, name), name.revision or "main"
    try:
        commit = (folder / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = revision
    snapshot = folder / "snapshots" / commit
    names = [each.relative_to(snapshot).as_posix() for each in snapshot.rglob("*")]
    try:
        return snapshot, _chosen(name, names)
    except CheckpointError:
        raise DownloadError(
            f"{name.repo} is not in the cache and the Hub is out of reach ({_line(error)}): check "
            "the network and run the same command again"
        ) from None


def _chosen(name: HubName, names: list[str]) -> list[str]:
    """Return which of a repository's files are needed."""
    if name.file is not None:
        if name.file not in names:
            raise CheckpointError(f"{name.repo} holds no file {name.file}")
        return [name.file]
    configuration = [each for each in _CONFIGURATION if each in names]
    if "model.safetensors" in names:
        return ["model.safetensors", *configuration]
    if "model.safetensors.index.json" in names:
        shards = [each for each in names if _SHARD.fullmatch(each)]
        return ["model.safetensors.index.json", *shards, *configuration]
    weights = sorted(each for each in names if each.endswith(_WEIGHTS))
    if len(weights) == 1:
        return weights
    if weights:
        raise CheckpointError(
            f"{name.repo} holds {len(weights)} weight files: name one, such as "
            f"{name.repo}/{weights[0]} (or {', '.join(weights[1:4])})"
        )
    raise CheckpointError(
        f"{name.repo} holds no {', '.join(_WEIGHTS)}: other files are not read, as loading them "
        "may run code"
    )


def _note_branch(folder: Path, branch: str) -> None:
    """Note which commit a branch is at, so that the cache is found by the branch when offline."""
    if re.fullmatch(r"[0-9a-f]{40}", branch):
        return
    note = folder.parent.parent / "refs" / branch
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(folder.name, encoding="ascii")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
