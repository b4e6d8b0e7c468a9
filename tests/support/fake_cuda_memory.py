"""Memory of the stand-in for CUDA, and copies; see `fake_cuda`."""

# ruff: noqa: N802
from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from support.fake_cuda import DEVICE_BASE, OK, Block, FakeCuda, Status, Stream


class CudaMemory(FakeCuda):
    """The stand-in with memory, without streams."""

    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        with self._lock:
            if failed := self._enter("cudaMalloc", breaks_capture=True):
                return failed, None
            if self.used + size > self.memory:
                return Status.cudaErrorMemoryAllocation, None
            data = np.full(size, 0xFF, np.uint8)
            address = data.ctypes.data if self.real_addresses else self._address
            block = Block(address, data, self.device)
            self._address += -(-size // 256) * 256 + 4096
            self._blocks[block.address] = block
            self.peak = max(self.peak, self.used)
            return OK, block.address

    def cudaMallocHost(self, size: int) -> tuple[Status, int | None]:
        with self._lock:
            if failed := self._enter("cudaMallocHost", breaks_capture=True):
                return failed, None
            data = np.full(size, 0xFF, np.uint8)
            self._blocks[data.ctypes.data] = Block(data.ctypes.data, data, None)
            return OK, data.ctypes.data

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Status, int | None]:
        del flags
        return self.cudaMallocHost(size)

    def cudaFree(self, address: Any) -> tuple[Status]:
        return self._free("cudaFree", address, pinned=False)

    def cudaFreeHost(self, address: Any) -> tuple[Status]:
        return self._free("cudaFreeHost", address, pinned=True)

    def _free(self, name: str, address: Any, pinned: bool) -> tuple[Status]:
        with self._lock:
            if failed := self._enter(name, breaks_capture=True):
                return (failed,)
            if int(address) == 0:
                return (OK,)
            block = self._blocks.get(int(address))
            if block is None or (block.device is None) is not pinned:
                self.faults.append(f"{name} of {int(address):#x}: freed before, or never allocated")
                return (Status.cudaErrorInvalidValue,)
            for stream in self._streams():  # freeing waits for the device
                self._drain(stream)
            del self._blocks[block.address]
            block.freed = True
            block.data[:] = 0xDD
            self._graveyard.append(block)
            return (OK,)

    def view(self, address: Any, size: int, device: int | None) -> np.ndarray | None:
        """Return the bytes of device or pinned memory as work of this device sees them."""
        for block in self._blocks.values():
            offset = int(address) - block.address
            if 0 <= offset < max(len(block.data), 1):
                if offset + size > len(block.data):
                    self.faults.append(
                        f"{size} bytes at {offset} of an allocation of {len(block.data)}"
                    )
                    return None
                if None not in (device, block.device) and device != block.device:
                    self.faults.append(f"work of GPU {device} on memory of GPU {block.device}")
                    return None
                return block.data[offset : offset + size]
        if int(address) >= DEVICE_BASE and int(address) < self._address:
            self.faults.append(f"use of device memory {int(address):#x} after it was freed")
            return None
        if any(0 <= int(address) - b.address < len(b.data) for b in self._graveyard):
            self.faults.append(f"use of pinned memory {int(address):#x} after it was freed")
            return None
        # Any other host memory.
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(int(address)))

    def _on_device(self, address: Any) -> bool:
        if not self.real_addresses:
            return DEVICE_BASE <= int(address) < self._address
        return any(
            0 <= int(address) - block.address < len(block.data)
            for block in self._blocks.values()
            if block.device is not None
        )

    def _is_pageable(self, address: Any) -> bool:
        if self._on_device(address):
            return False
        known = [*self._blocks.values(), *self._graveyard]
        return not any(0 <= int(address) - b.address < len(b.data) for b in known)

    def cudaMemcpyAsync(
        self, target: Any, source: Any, size: int, kind: Any, stream: Any
    ) -> tuple[Status]:
        del kind
        with self._lock:
            if failed := self._enter("cudaMemcpyAsync"):
                return (failed,)
            on = self._get(stream, Stream)
            if on is None:
                return (Status.cudaErrorInvalidResourceHandle,)

            def copy() -> None:
                to = self.view(target, size, on.device)
                what = self.view(source, size, on.device)
                if to is not None and what is not None:
                    to[:] = what
                    if self._on_device(source) and not self._on_device(target):
                        self.copied_to_host += size

            self.enqueue(on, "copy", copy)
            if self._is_pageable(target) or self._is_pageable(source):
                if on.capture is not None:
                    self.faults.append("a copy of pageable memory in a capture")
                    on.broken = True
                self._drain(on)
            return (OK,)

    def cudaMemcpy(self, target: Any, source: Any, size: int, kind: Any) -> tuple[Status]:
        """As the real one, it does not wait for streams made with cudaStreamNonBlocking."""
        del kind
        with self._lock:
            if failed := self._enter("cudaMemcpy", breaks_capture=True):
                return (failed,)
            to, what = self.view(target, size, None), self.view(source, size, None)
            if to is None or what is None:
                return (Status.cudaErrorIllegalAddress,)
            to[:] = what
            return (OK,)

    def cudaMemsetAsync(self, target: Any, value: int, size: int, stream: Any) -> tuple[Status]:
        with self._lock:
            on = self._get(stream, Stream)
            if on is None:
                return (Status.cudaErrorInvalidResourceHandle,)

            def fill() -> None:
                to = self.view(target, size, on.device)
                if to is not None:
                    to[:] = value

            self.enqueue(on, "memset", fill)
            return (OK,)
