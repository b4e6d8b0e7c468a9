"""Arrays on a GPU: the same cases on a stand-in for CUDA and, where there is one, on a GPU."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.cuda import memory as memory_module
from samtrt.cuda.memory import CudaArray, Memory
from samtrt.cuda.pool import Pool
from samtrt.cuda.runtime import THREAD_STREAM, Cuda
from samtrt.errors import DeviceMemoryError
from support import fake_cuda_streams
from support.places import PLACES

FLOAT = np.dtype(np.float32)


@pytest.fixture(params=PLACES)
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    fake = fake_cuda_streams.install(monkeypatch) if request.param == "stand-in" else None
    cuda = Cuda(0)
    cuda.use()
    memory = Memory(cuda)
    yield memory
    memory.close()
    gc.collect()
    assert (memory.pool.out, memory.pinned.out) == (0, 0)
    if fake:
        assert fake.faults == []
        assert not fake.live()


def upload(memory: Memory, numbers: np.ndarray) -> CudaArray:
    array = memory.empty(numbers.shape, numbers.dtype)
    if numbers.size:
        memory.cuda.copy(array.pointer, numbers.ctypes.data, numbers.nbytes, THREAD_STREAM)
        memory.cuda.synchronize(THREAD_STREAM)
    return array


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(2, 4), slice(9, 3), slice(0, 7, 3), 5, -1, [3, 3, -5], [[0], [2]], True],
    ids=str,
)
def test_rows(memory: Memory, rows: Any) -> None:
    wanted = numbers(7, 3, 5)
    array = upload(memory, wanted)
    rows = np.arange(7) % 2 == 0 if rows is True else rows
    got = array[rows]
    assert got.device == "cuda:0"
    assert (got.shape, got.dtype, got.nbytes) == (wanted[rows].shape, FLOAT, wanted[rows].nbytes)
    np.testing.assert_array_equal(got.numpy(), wanted[rows])
    np.testing.assert_array_equal(array.numpy(), wanted)


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 0), (2, 3, 4), (1000, 1001)])
def test_copies(memory: Memory, shape: tuple[int, ...]) -> None:
    wanted = numbers(*shape)
    array = upload(memory, wanted)
    copied = array.copy()
    upload(memory, wanted)  # in another block
    assert copied.pointer != array.pointer
    for one in (array, copied):
        np.testing.assert_array_equal(one.numpy(), wanted)


def test_a_view_keeps_the_memory(memory: Memory) -> None:
    wanted = numbers(4, 100)
    part = upload(memory, wanted)[1:3].reshape(-1, 10)
    others = [upload(memory, numbers(4, 100, seed=i)) for i in range(3)]
    np.testing.assert_array_equal(part.numpy(), wanted[1:3].reshape(-1, 10))
    pointer = part.pointer - wanted[0].nbytes
    del part
    assert upload(memory, wanted).pointer == pointer  # which came back
    del others


def test_host_copies_keep_theirs(memory: Memory) -> None:
    first, second = numbers(64), numbers(64, seed=1)
    kept = upload(memory, first).numpy()[3:]
    again = upload(memory, second).numpy()
    np.testing.assert_array_equal(kept, first[3:])
    np.testing.assert_array_equal(again, second)


def test_no_more_pinned_memory_than_there_should_be(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "PINNED_MOST", 1024)
    array = upload(memory, numbers(200))
    kept = [array.numpy() for _ in range(4)]
    assert memory.pinned.out == 1024
    for one in kept:
        np.testing.assert_array_equal(one, numbers(200))
    assert memory.pinned.out == 1024
    del one
    kept.clear()


def test_threads(memory: Memory) -> None:
    wanted = numbers(50, 400)
    array = upload(memory, wanted)

    def work(seed: int) -> bool:
        memory.cuda.use()
        rows = np.random.default_rng(seed).integers(0, 50, 20)
        return bool((array[rows].numpy() == wanted[rows]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


def test_sizes_stand_in_for_one_another(memory: Memory) -> None:
    pointer = memory.empty((1000,), FLOAT).pointer
    assert memory.empty((1020,), FLOAT).pointer == pointer


def test_idle_blocks_go_before_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda_streams.install(monkeypatch, memory=1 << 20)
    memory = Memory(Cuda(0))
    kept = memory.empty((1 << 19,), np.dtype(np.uint8))
    for size in (1 << 18, 3 << 17, 1 << 19):
        memory.empty((size,), np.dtype(np.uint8))
    with pytest.raises(DeviceMemoryError, match=r"GPU is out of memory: 1 MB more"):
        memory.empty(((1 << 19) + 1,), np.dtype(np.uint8))
    del kept
    memory.close()
    assert not fake.live()


def test_blocks_that_others_read_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda_streams.install(monkeypatch)
    memory = Memory(Cuda(0))
    array = memory.empty((10,), FLOAT)
    interface = array.__cuda_array_interface__
    assert interface["data"] == (array.pointer, False)
    assert (interface["shape"], interface["typestr"]) == ((10,), "<f4")
    assert interface["stream"] is None  # complete: there is nothing to wait for
    del array
    before = fake.calls["cudaDeviceSynchronize"]
    other = memory.empty((10,), FLOAT)
    assert fake.calls["cudaDeviceSynchronize"] == before + 1
    del other
    kept = memory.empty((10,), FLOAT)  # that nobody else read since
    assert fake.calls["cudaDeviceSynchronize"] == before + 1
    del kept
    memory.close()


def test_blocks_may_come_back_at_any_moment(memory: Memory) -> None:
    """The garbage collector frees arrays in whatever thread, inside the pool's own code too."""
    kept = [memory.empty((10,), FLOAT)]

    def drop_inside(pool: Pool = memory.pool) -> None:
        with pool._lock:
            kept.clear()

    thread = threading.Thread(target=drop_inside, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.gpu
def test_others_take_it_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    memory = Memory(Cuda(0))
    memory.cuda.use()
    wanted = numbers(6, 5)
    array = upload(memory, wanted)
    taken = [
        torch.from_dlpack(array[1:]), torch.as_tensor(array[1:], device="cuda"),
    ]  # fmt: skip
    for tensor in taken:
        assert (tensor.data_ptr(), tensor.device.type) == (array.pointer + 20, "cuda")
        np.testing.assert_array_equal(tensor.cpu().numpy(), wanted[1:])
    pointer = array.pointer
    del array, tensor
    held = [upload(memory, numbers(6, 5, seed=i)) for i in range(3)]
    assert pointer not in [one.pointer for one in held]  # the tensors keep it
    np.testing.assert_array_equal(taken[0].cpu().numpy(), wanted[1:])
    taken.clear()
    gc.collect()
    assert upload(memory, wanted).pointer == pointer
