"""Reading weight files without running what is in them: PyTorch archives and safetensors.

The format is told from the content; suffixes are not trusted. Messages here leave out the path of
the file, which `samtrt.checkpoints.load` puts in front.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from samtrt.checkpoints.hugging_face import (
    NO_INDEX,
    WEIGHTS,
    index_of,
    refuse_adapter,
    shard_names,
)
from samtrt.checkpoints.wording import some
from samtrt.errors import CheckpointError, MissingExtraError
from samtrt.files import open_regular

try:
    import torch
except ImportError:
    raise MissingExtraError("Loading a checkpoint", "export", "torch") from None

from safetensors import SafetensorError
from safetensors.torch import load_file

from samtrt.checkpoints.inert import STAND_INS

# In the order in which transformers looks for them.
HF_NAMES = (WEIGHTS, "pytorch_model.bin")
_DAMAGED = "the file is truncated or damaged; get it again"
_RESAVE = (
    "where you trust the file, save its weights alone with torch.save(model.state_dict(), ...) or "
    "as safetensors"
)


def find_weights(path: Path) -> tuple[Path, ...]:
    """Return the weight file at `path`, or the files of a Hugging Face model directory.

    Raises:
        CheckpointError: where there is nothing to read, or a shard of the index is missing.
    """
    if not path.is_dir():
        if not path.exists():
            raise CheckpointError("there is no such file or directory")
        return (path,)
    refuse_adapter(path)
    for name in HF_NAMES:
        if (path / name).is_file():
            return (path / name,)
        index = path / index_of(name)
        if index.is_file():
            return _shards(index)
    raise CheckpointError(
        f"the directory holds neither {' nor '.join(HF_NAMES)} (nor an index of shards); "
        "name the weight file itself"
    )


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = shard_names(index)
        outside = [name for name in names if Path(name).name != name]
    except (OSError, *NO_INDEX):
        raise CheckpointError(f"{index.name} is not an index of shards; get it again") from None
    if outside or not names:
        raise CheckpointError(f"{index.name} does not name files of its own directory")
    shards = tuple(index.parent / name for name in names)
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(f"{index.name} names {some(missing)}, missing here; get it too")
    return shards


def read_weights(path: Path) -> Mapping[Any, object]:
    """Read one weight file: tensors on the CPU, mapped from the file where the format allows.

    The result is whatever mapping the file holds: a state dict, or one wrapped by a trainer.

    Raises:
        CheckpointError: where the file is empty, damaged, of another kind, or a pickle that would
            run code.
    """
    try:
        with open_regular(path) as file:
            head = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror or error}") from None
    if not head:
        raise CheckpointError("the file is empty")
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return _read_torch(path, archive=True)
    # 8 bytes of header length, then JSON. The length may begin as a pickle does, and a pickle's
    # first bytes make no length that its file has.
    if head[8:] == b"{" and (head[:1] != b"\x80" or int.from_bytes(head[:8], "little") < size):
        return _read_safetensors(path)
    if head[:1] == b"\x80":  # a bare pickle, as torch.save wrote before 1.6
        return _read_torch(path, archive=False)
    raise CheckpointError(
        "this is neither a PyTorch file (.pth, .pt, .bin) nor safetensors; it may be a web page or "
        "a Git LFS pointer saved in a checkpoint's place"
    )


def _check_archive(path: Path) -> None:
    """Tell a cut-off archive, a TorchScript program and a plain zip from what torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            stored = all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        raise CheckpointError(_DAMAGED) from None
    if "constants.pkl" in names:
        raise CheckpointError(f"this is a TorchScript program, not weights; {_RESAVE}")
    if "data.pkl" not in names:
        raise CheckpointError("this is a zip archive, but not one that torch.save wrote")
    if not stored:  # tensors are mapped straight from the file
        raise CheckpointError("the archive was compressed again; use the file as it was published")


def _read_torch(path: Path, *, archive: bool) -> Mapping[Any, object]:
    # torch.load takes a path that ends in .safetensors for one, whatever is inside.
    by_path = path.suffix != ".safetensors"
    try:
        with (
            nullcontext(str(path)) if by_path else path.open("rb") as source,
            torch.serialization.safe_globals(STAND_INS),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # about pickle protocols; the error says enough
            loaded = torch.load(
                source, map_location="cpu", weights_only=True, mmap=archive and by_path
            )
    except pickle.UnpicklingError:
        unsafe = _unsafe_names(path) if archive else []
        if archive and not unsafe:
            raise CheckpointError(_DAMAGED) from None
        what = f" ({', '.join(unsafe[:3])})" if unsafe else ", or a damaged one"
        raise CheckpointError(
            f"refused: the file is a pickle that would run code when loaded{what}; {_RESAVE}"
        ) from None
    except Exception as error:  # parsing hostile bytes can fail in any way
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{_DAMAGED} ({type(error).__name__}: {reason})") from None
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"the file holds a {type(loaded).__name__}, not a state dict; {_RESAVE}"
        )
    return loaded


def _unsafe_names(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # only words for a message about a file that is refused anyway
        return []


def _read_safetensors(path: Path) -> Mapping[Any, object]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{_DAMAGED} (safetensors: {reason})") from None
