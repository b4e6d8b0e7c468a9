"""Checkpoints by their name on the Hugging Face Hub: `owner/name`, perhaps with a file or revision.

The files go into huggingface_hub's own cache, which other tools share; there a snapshot's folder
tells which revision it is. Only weights that are read without running code, and configuration, are
downloaded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

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
    except ImportError:
        raise MissingExtraError("A name of the Hub", "hub", "huggingface_hub") from None
    where: dict[str, Any] = {
        "cache_dir": os.environ.get("HF_HUB_CACHE"),
        "endpoint": os.environ.get("HF_ENDPOINT"),
    }
    errors = hub.errors
    away: tuple[type[Exception], ...] = (errors.OfflineModeIsEnabled, httpx.TransportError)
    try:
        try:
            info = hub.HfApi(endpoint=where["endpoint"]).model_info(
                name.repo, revision=name.revision
            )
            names = [each.rfilename for each in info.siblings or ()]
            wanted = _chosen(name, names)
            folder = hub.snapshot_download(
                name.repo, revision=info.sha, allow_patterns=wanted, **where
            )
            _note_branch(Path(folder), name.revision or "main")
        except away:
            folder = hub.snapshot_download(
                name.repo, revision=name.revision, local_files_only=True, **where
            )
            names = [each.relative_to(folder).as_posix() for each in Path(folder).rglob("*")]
            wanted = _chosen(name, names)
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
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx.TransportError):
        raise DownloadError(
            f"{name.repo} is not in the cache and the Hub is out of reach (or HF_HUB_OFFLINE is "
            "set): check the network and run the same command again"
        ) from None
    except errors.HfHubHTTPError as error:
        raise DownloadError(f"cannot download {name.repo}: {_line(error)}") from None
    except OSError as error:
        raise DownloadError(f"cannot store {name.repo}: {error.strerror or error}") from None
    weights = [each for each in wanted if each.endswith(_WEIGHTS)]
    if len(weights) == 1 and Path(weights[0]).name != "model.safetensors":
        return Path(folder) / weights[0]
    return Path(folder)


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
