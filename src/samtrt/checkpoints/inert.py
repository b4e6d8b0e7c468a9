"""What pickles may name beside tensors: stand-ins that hold data and do nothing.

A trainer's file often holds its arguments, its configuration and a NumPy score beside the weights.
PyTorch's safe unpickler refuses their classes. Here each name stands for a class of ours: nothing
of another package is imported or called. A name that is not in the list is refused as before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class Inert:
    """Takes whatever a pickle gives it and keeps nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class InertMapping:
    """Becomes a plain mapping: the safe unpickler fills no other."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class InertList:
    """Becomes a plain list, as `InertMapping` a mapping."""

    def __new__(cls, *_: object, **__: object) -> list[Any]:  # type: ignore[misc]
        return []


class DType:
    """A NumPy dtype by its code; numbers alone."""

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = str(code), ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1]).replace("|", "")

    def numpy(self) -> np.dtype[Any]:
        """Return NumPy's own.

        Raises:
            ValueError: where it is not one of numbers.
        """
        dtype = np.dtype(self.order + self.code)
        if dtype.kind not in "fiub":
            raise ValueError(f"arrays of {dtype} are not read")
        return dtype


class Array:
    """A NumPy array of a pickle, made from its bytes."""

    def __init__(self, *_: object) -> None:
        self.values: npt.NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if isinstance(dtype, DType) and isinstance(data, bytes):
            flat = np.frombuffer(data, dtype=dtype.numpy())
            native = flat.astype(flat.dtype.newbyteorder("="))
            self.values = native.reshape(shape, order="F" if fortran else "C")


def reconstruct(*_: object) -> Array:
    """Begin an array; `__setstate__` fills it."""
    return Array()


_NAMES = (
    "argparse.Namespace",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.str",
    "builtins.tuple",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "types.SimpleNamespace",
    "typing.Any",
)

_MAPPINGS = (
    "collections.defaultdict",
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "yacs.config.CfgNode",
)

STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((type(name.rpartition(".")[2], (Inert,), {}), name) for name in _NAMES),
    *((type(name.rpartition(".")[2], (InertMapping,), {}), name) for name in _MAPPINGS),
    (InertList, "collections.deque"),
    (DType, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    (reconstruct, "numpy.core.multiarray._reconstruct"),
    (reconstruct, "numpy._core.multiarray._reconstruct"),
]
"""What `torch.serialization.safe_globals` takes."""
