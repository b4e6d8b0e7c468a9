"""Values that pass between the layers: what a stage takes and gives, and what a user gets."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from samtrt.feature_maps import IMAGE_EMBEDDINGS, FeatureMap

if TYPE_CHECKING:
    from samtrt.preparation.frame import Frame

FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]

Size = tuple[int, int]
"""Height and width, in pixels."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a stage.

    `shape` holds a name for a dimension that may vary from call to call: inputs that share the
    name must agree on it. `max_shape`, when known, holds the most that each dimension may be.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str, ...]
    max_shape: tuple[int, ...] | None = None

    @classmethod
    def of_map(cls, one: FeatureMap, batch: int | str = 1) -> TensorInfo:
        """Describe what a stage takes or gives of a map, for `batch` images."""
        return cls(one.name, np.dtype(one.dtype), (batch, *one.shape))

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape fits."""
        limits = self.max_shape or shape
        return len(shape) == len(self.shape) and all(
            (isinstance(fixed, str) or size == fixed) and size <= limit
            for size, fixed, limit in zip(shape, self.shape, limits, strict=True)
        )

    def __str__(self) -> str:
        limits = self.max_shape or (None,) * len(self.shape)
        return " x ".join(
            str(size) if isinstance(size, int) or limit is None else f"{size} (1..{limit})"
            for size, limit in zip(self.shape, limits, strict=True)
        )


class DeviceArray(ABC):
    """An array in a device's memory; freed with its last reference, views included.

    It has what NumPy arrays have where results pass from stage to stage, so that the same lines
    work on both: rows along the first axis, which are taken on the device, and other shapes of
    the same values. PyTorch and CuPy take it without a copy (`torch.from_dlpack(array)`,
    `cupy.asarray(array)`).

    Attributes:
        shape: As of a NumPy array; elements lie in C order, without gaps.
        dtype: As of a NumPy array.
        device: Where it is, such as "cuda:0".
        pointer: Address of the first element, in the device's memory.
        stream: The CUDA stream in which work on it may still be queued, for others to wait for;
            None where its contents are complete.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: str
    pointer: int
    stream: int | None = None

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no rows")
        return self.shape[0]

    @abstractmethod
    def numpy(self) -> npt.NDArray[Any]:
        """Copy it to the host."""

    def __getitem__(self, key: int | slice | npt.ArrayLike) -> DeviceArray:
        """Return rows along the first axis, as NumPy does for the same key.

        One row, or a slice with a step of 1, is a view; for any other slice, and an array of
        integers or of booleans, the device copies the rows to an array of their own.

        Raises:
            IndexError: where there is no such row.
        """
        rows = np.arange(len(self))[key]  # type: ignore[index]
        if isinstance(key, slice) and key.indices(len(self))[2] == 1:
            return self._view(int(rows[0]) if len(rows) else 0, (len(rows), *self.shape[1:]))
        if rows.ndim == 0 and not isinstance(key, np.ndarray):
            return self._view(int(rows), self.shape[1:])
        return self._take(rows.ravel()).reshape(*rows.shape, *self.shape[1:])

    def reshape(self, *shape: int) -> DeviceArray:
        """Return the same memory in another shape, in which one size may be -1.

        Raises:
            ValueError: where it is not of as many elements.
        """
        count, known = math.prod(self.shape), math.prod(size for size in shape if size != -1)
        if -1 in shape and known:
            shape = tuple(count // known if size == -1 else size for size in shape)
        if math.prod(shape) != count or min(shape, default=0) < 0:
            raise ValueError(f"an array of the shape {self.shape} cannot have the shape {shape}")
        return self._view(0, shape)

    @abstractmethod
    def _view(self, row: int, shape: tuple[int, ...]) -> DeviceArray:
        """Return an array of this shape in the same memory, from a row on."""

    @abstractmethod
    def _take(self, rows: npt.NDArray[np.intp]) -> DeviceArray:
        """Return an array of these rows [K], each of which there is."""

    @abstractmethod
    def __dlpack__(self, **options: Any) -> Any:
        """Return a DLPack capsule of the same memory, with the protocol's keyword arguments."""

    @abstractmethod
    def __dlpack_device__(self) -> tuple[int, int]:
        """Return DLPack's number of the kind of device, and the device's own number."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """What Numba, CuPy and PyTorch read to share the memory of a CUDA GPU (version 3)."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        raise TypeError("an array on a device is copied to the host by its method numpy() alone")


Tensor = npt.NDArray[Any] | DeviceArray
"""An array, wherever it is."""


@dataclass(frozen=True)
class Embedding:
    """An encoded image: all that prompts need to know of it.

    Its arrays cannot be written to any more, so that decoders may keep what they make of them.

    Attributes:
        features: Image embedding, float [1, 256, S/16, S/16]; on a GPU where that encoded it.
        frame: Where the image lies in the model's square.
        further: Other maps that the model's decoder takes, by name, in the manifest's order.
    """

    features: Tensor
    frame: Frame
    further: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tensor in self.maps.values():
            if isinstance(tensor, np.ndarray):
                tensor.flags.writeable = False

    @classmethod
    def of(cls, maps: Mapping[str, Tensor], frame: Frame) -> Embedding:
        """Make one of all its maps, by name."""
        further = {name: tensor for name, tensor in maps.items() if name != IMAGE_EMBEDDINGS}
        return cls(maps[IMAGE_EMBEDDINGS], frame, further)

    @property
    def maps(self) -> dict[str, Tensor]:
        """All maps by name, as the decoder takes them: `features` first."""
        return {IMAGE_EMBEDDINGS: self.features, **self.further}

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Embedding:
        """Return it with every map changed alike."""
        return Embedding.of({name: change(one) for name, one in self.maps.items()}, self.frame)

    @property
    def nbytes(self) -> int:
        """Bytes of all maps."""
        return sum(tensor.nbytes for tensor in self.maps.values())

    @property
    def on_device(self) -> bool:
        """Whether any map is in a device's memory."""
        return any(isinstance(tensor, DeviceArray) for tensor in self.maps.values())

    @property
    def original_size(self) -> Size:
        """Height and width of the image as the user gave it."""
        return self.frame.original

    def host_features(self) -> FloatArray:
        """Return the features as a NumPy array, copied from a GPU where they are on one."""
        return to_host(self.features)


def to_host(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a NumPy array, copied where it is not one."""
    return tensor.numpy() if isinstance(tensor, DeviceArray) else tensor


_C = TypeVar("_C", bound="Closeable")


class Closeable(ABC):
    """Something that holds memory until `close`; a `with` block closes it."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held; safe to call twice."""

    def __enter__(self: _C) -> _C:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
