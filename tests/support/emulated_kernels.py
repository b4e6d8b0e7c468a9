"""CUDA kernels that are compiled at run time, in the emulator, on the stand-in for CUDA.

They run in stream order. A kernel sees the stand-in's memory; an array that was given back too
early holds something else by the time that the kernel runs. What it reads or writes beyond an
array's end is a segmentation fault.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import re
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.cuda import kernels
from samtrt.cuda.runtime import THREAD_STREAM
from samtrt.types import DeviceArray
from support.fake_cuda import Stream
from support.fake_cuda_streams import Cuda

EMULATOR = Path(__file__).parents[1] / "kernels" / "emulator"
_ONE_AT_A_TIME = threading.Lock()

_CALL = """
#include <tuple>
#include <type_traits>
#include <utility>

template <typename... P, std::size_t... I>
void call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::remove_cv_t<P>*>(arguments[I])...);
}
template <typename... P>
void emulate(void (*kernel)(P...), unsigned x, unsigned y, int threads, void** arguments) {
  emulator::run(dim3(x, y), threads, 0, [&] {
    call(kernel, arguments, std::index_sequence_for<P...>());
  });
}
"""


@cache
def library(source: Path) -> ctypes.CDLL:
    """Compile a source for this machine; `emulate_NAME` runs each of its kernels."""
    text = source.read_text()
    names = re.findall(r'extern "C" __global__ void[^(]*(?:\([^)]*\))?\s+(\w+)\(', text)
    assert len(names) == text.count("__global__"), f"{source}: kernels found: {names}"
    calls = "".join(
        f'extern "C" void emulate_{name}(unsigned x, unsigned y, int threads, void** a) '
        f"{{ emulate({name}, x, y, threads, a); }}\n"
        for name in names
    )
    emulator = (EMULATOR / "emulator.cpp").read_text()
    whole = f'#include "emulator.h"\n#include "{source}"\n{_CALL}{calls}'
    key = hashlib.sha256((whole + text + emulator).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"samtrt-emulated-{key}"
    built = folder / "kernels.so"
    if not built.exists():
        folder.mkdir(exist_ok=True)
        (folder / "kernels.cpp").write_text(whole)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as file:
            command = ["g++", "-std=c++17", "-O2", "-w", "-shared", "-fPIC", f"-I{EMULATOR}"]
            command += [str(folder / "kernels.cpp"), str(EMULATOR / "emulator.cpp")]
            subprocess.run([*command, "-o", file.name], check=True)
        Path(file.name).replace(built)
    return ctypes.CDLL(str(built))


class EmulatedKernels:
    """As `samtrt.cuda.kernels.Kernels`."""

    def __init__(self, source: Path, cuda: Cuda) -> None:
        self._library, self._cuda = library(source), cuda

    def launch(self, name: str, blocks: tuple[int, int], threads: int, *arguments: Any) -> None:
        assert blocks[1] <= 65535
        if 0 in blocks:
            return
        cuda = self._cuda
        stream = cuda._get(THREAD_STREAM, Stream)
        arrays = {i: (a.pointer, a.nbytes) for i, a in enumerate(arguments) if is_array(a)}
        values = [np.asarray(kernels.as_argument(argument)) for argument in arguments]
        function = getattr(self._library, f"emulate_{name}")

        def work() -> None:
            seen, guarded = list(values), []
            for i, (pointer, size) in arrays.items():
                view = cuda.view(pointer, size, stream.device)
                assert view is not None, cuda.faults
                guarded.append((view, Guarded(view)))
                seen[i] = np.asarray(np.uint64(guarded[-1][1].address))
            pointers = (ctypes.c_void_p * len(seen))(*(value.ctypes.data for value in seen))
            with _ONE_AT_A_TIME:
                function(*map(ctypes.c_uint, blocks), ctypes.c_int(threads), pointers)
            for view, copy in guarded:
                copy.give_back(view)

        with cuda._lock:
            cuda.enqueue(stream, name, work)


class Guarded:
    """A copy of an array that ends where memory ends: one byte further is a segmentation fault."""

    def __init__(self, data: np.ndarray) -> None:
        size, page = data.nbytes, mmap.PAGESIZE
        whole = (size // page + 2) * page
        self._map = mmap.mmap(-1, whole)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.address = start + whole - page - size
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        assert protect(ctypes.c_void_p(start + whole - page), page, 0) == 0
        ctypes.memmove(self.address, data.ctypes.data, size)

    def give_back(self, data: np.ndarray) -> None:
        """Copy what the kernel left there."""
        ctypes.memmove(data.ctypes.data, self.address, data.nbytes)


def is_array(value: Any) -> bool:
    return isinstance(value, DeviceArray)


def install(patch: pytest.MonkeyPatch, cuda: Cuda) -> None:
    """Let kernels run in the emulator, on this stand-in for CUDA."""
    patch.setattr(kernels, "_loaded", lambda source, *_: EmulatedKernels(source, cuda))
