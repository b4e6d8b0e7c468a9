"""A stand-in for NVIDIA's nvImageCodec on the stand-in for CUDA, or on a real GPU's memory.

It stands in for `nvidia.nvimgcodec`: the few names that samtrt uses, with their real signatures.
Pillow decodes. Pixels reach the GPU in a stream of the image's own, with a gap behind each line,
and an image's memory is freed with it: who does not wait, or keeps no image, gets other values.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from samtrt.cuda.runtime import Cuda

GAP = 5
"""Bytes behind each line."""


class Image:
    def __init__(self, pixels: np.ndarray, cuda: Cuda) -> None:
        height, width, _ = pixels.shape
        line = 3 * width + GAP
        self._cuda, self._stream, self._size = cuda, cuda.create_stream(), height * line
        self._pointer = cuda.allocate(self._size)
        self._pinned = cuda.allocate_pinned(self._size)  # other memory is copied at once
        buffer = (ctypes.c_uint8 * self._size).from_address(self._pinned)
        lines = np.frombuffer(buffer, np.uint8).reshape(height, line)
        lines[:, : 3 * width] = pixels.reshape(height, -1)
        cuda.copy(self._pointer, self._pinned, self._size, self._stream)
        self.__cuda_array_interface__ = {
            "shape": pixels.shape,
            "typestr": "|u1",
            "data": (self._pointer, False),
            "strides": (line, 3, 1),
            "stream": self._stream,
            "version": 3,
        }

    def __del__(self) -> None:
        # The next picture may be there at once: freeing in a stream waits for no other.
        self._cuda.clear(self._pointer, self._size, self._stream)
        self._cuda.synchronize(self._stream)
        self._cuda.destroy_stream(self._stream)
        self._cuda.free(self._pointer)
        self._cuda.free_pinned(self._pinned)


class DecodeParams:
    def __init__(
        self,
        apply_exif_orientation: bool = True,
        color_spec: str = "SRGB",
        allow_any_depth: bool = False,
        sample_format: str = "I_AUTO_COMPONENTS",
    ) -> None:
        self.turns = apply_exif_orientation
        assert (color_spec, allow_any_depth) == ("SRGB", False)
        assert sample_format == "I_AUTO_COMPONENTS"


class NvImgCodec(ModuleType):
    """The module.

    Attributes:
        decoded: How many pictures were.
        refuses: Whether each is refused, or the error that is raised for it.
        brighter: Steps that its pixels are above Pillow's.
    """

    GPU_ONLY, HYBRID_CPU_GPU, HW_GPU_ONLY, CPU_ONLY = range(4)
    DecodeParams = DecodeParams

    def __init__(self) -> None:
        super().__init__("nvidia.nvimgcodec")
        self.decoded = 0
        self.refuses: Any = False
        self.brighter = 0
        outer = self

        class ColorSpec:
            SRGB = "SRGB"

        class Backend:
            def __init__(self, backend_kind: int) -> None:
                assert backend_kind != outer.CPU_ONLY

        class Decoder:
            def __init__(
                self,
                device_id: int = -1,
                max_num_cpu_threads: int = 0,
                backends: list[Backend] | None = None,
                options: str = "",
            ) -> None:
                assert max_num_cpu_threads == 0
                assert backends, "it would decode on the host too"
                assert options == ":fancy_upsampling=1"
                self._cuda = Cuda(device_id)

            def decode(self, src: bytes, *, params: DecodeParams | None = None) -> Image | None:
                if isinstance(outer.refuses, Exception):
                    raise outer.refuses
                if outer.refuses:
                    return None
                assert params is not None
                assert not params.turns
                assert src.endswith(b"\xff\xd9")
                with Pillow.open(io.BytesIO(src)) as file:
                    pixels = np.asarray(file.convert("RGB")) + np.uint8(outer.brighter)
                outer.decoded += 1
                return Image(pixels, self._cuda)

        self.ColorSpec, self.Backend, self.Decoder = ColorSpec, Backend, Decoder


def install(patch: pytest.MonkeyPatch) -> NvImgCodec:
    """Let samtrt import the stand-in."""
    module = NvImgCodec()
    try:
        package = importlib.import_module("nvidia")
    except ImportError:
        package = ModuleType("nvidia")
        patch.setitem(sys.modules, "nvidia", package)
    patch.setattr(package, "nvimgcodec", module, raising=False)
    patch.setitem(sys.modules, "nvidia.nvimgcodec", module)
    return module
