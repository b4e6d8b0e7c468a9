"""Which NVIDIA GPU there is, asked of the CUDA runtime; no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samtrt.errors import BackendError, MissingExtraError


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        index: CUDA's number for it.
        name: As NVIDIA calls it.
        compute_capability: "8.9" and the like.
        memory: Bytes.
        driver: Newest CUDA version that the driver supports, "13.0" and the like.
    """

    index: int
    name: str
    compute_capability: str
    memory: int
    driver: str

    @property
    def slug(self) -> str:
        """Return its name as a part of file names."""
        return "-".join(self.name.lower().split())


def find_gpu(index: int = 0) -> Gpu:
    """Describe a GPU.

    Raises:
        BackendError: where there is no such GPU, no driver, or one that is too old.
        MissingExtraError: where cuda-bindings is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError:
        raise MissingExtraError("Using a GPU", "tensorrt", "cuda-bindings") from None
    count = _checked(runtime.cudaGetDeviceCount())
    if not 0 <= index < count:
        raise BackendError(f"there is no GPU {index}: CUDA sees {count}, numbered from 0")
    found = _checked(runtime.cudaGetDeviceProperties(index))
    driver = _checked(runtime.cudaDriverGetVersion())
    return Gpu(
        index=index,
        name=found.name.split(b"\0")[0].decode(),
        compute_capability=f"{found.major}.{found.minor}",
        memory=found.totalGlobalMem,
        driver=f"{driver // 1000}.{driver % 1000 // 10}",
    )


def _checked(result: tuple[Any, ...]) -> Any:
    status, value = result
    if int(status) == 0:
        return value
    reason = {
        35: "there is no NVIDIA driver, or it is older than this CUDA needs",
        100: "there is no GPU that CUDA can see",
    }.get(int(status), status.name)
    raise BackendError(
        f"no GPU can be used: {reason} (CUDA error {int(status)}); check with: nvidia-smi"
    )
