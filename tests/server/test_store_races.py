"""Requests for one image that overlap: hypothesis chooses who goes on when."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from samtrt.preparation.frame import Frame
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics
from samtrt.server.settings import Settings
from samtrt.server.spill import SpillFolder
from samtrt.server.store import ImageStore
from samtrt.types import Embedding

UNIT = 400  # bytes of one embedding
LOCKED = 0.01  # seconds after which a call that neither ends nor reaches the disk waits for a lock


def embedding(value: int) -> Embedding:
    return Embedding(np.full((1, 100), value, dtype=np.float32), Frame((10 + value, 20), 256, 64))


@dataclass(eq=False)
class Call:
    """One call of the store, in a thread that stops before and after it touches the disk."""

    kind: str
    number: int
    began: int  # calls that had ended when this one began
    ended: int = -1
    result: Any = None
    stopped: threading.Event = field(default_factory=threading.Event)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    at_disk: bool = False
    thread: threading.Thread | None = None


class Gate(SpillFolder):
    """A disk before and after which every call waits until the test lets it go on."""

    local = threading.local()

    def wait(self) -> None:
        call: Call | None = getattr(self.local, "call", None)
        if call is not None:
            call.at_disk = True
            call.stopped.set()
            assert call.go.acquire(timeout=30)

    def write(self, embedding: Embedding) -> Any:
        self.wait()
        written = super().write(embedding)
        self.wait()
        return written

    def read(self, spilled: Any) -> Any:
        self.wait()
        found = super().read(spilled)
        self.wait()
        return found


class Races(RuleBasedStateMachine):
    """Memory for one image, a disk for all: whatever was added and not removed must be found."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        options = Settings(cache_bytes=UNIT, spill_dir=Path(self.directory.name))
        self.store = ImageStore(options, Metrics())
        assert self.store._folder is not None
        self.store._folder.close()
        self.store._folder = Gate(Path(self.directory.name))
        self.ids: list[str] = []
        self.calls: list[Call] = []
        self.ends = 0

    @rule()
    def add(self) -> None:
        number = len(self.ids)
        self.ids.append("")  # until the call returns

        def work() -> None:
            self.ids[number] = self.store.add(embedding(number))

        self.begin("add", number, work)

    @rule(number=st.integers(0, 3))
    def get(self, number: int) -> None:
        if number < len(self.ids) and self.ids[number]:
            self.begin("get", number, lambda: self.store.get(self.ids[number]))

    @rule(number=st.integers(0, 3))
    def remove(self, number: int) -> None:
        if number < len(self.ids) and self.ids[number]:
            self.begin("remove", number, lambda: self.store.remove(self.ids[number]))

    @precondition(lambda self: any(call.at_disk for call in self.calls))
    @rule(choice=st.integers(0, 7))
    def go_on(self, choice: int) -> None:
        waiting = [call for call in self.calls if call.at_disk]
        call = waiting[choice % len(waiting)]
        call.at_disk = False
        call.stopped.clear()
        call.go.release()
        self.settle()

    def begin(self, kind: str, number: int, work: Callable[[], Any]) -> None:
        call = Call(kind, number, self.ends)

        def run() -> None:
            Gate.local.call = call
            try:
                call.result = work()
            except ApiError as error:
                call.result = error.status
            except BaseException as error:
                call.result = error
            call.stopped.set()

        call.thread = threading.Thread(target=run, daemon=True)
        self.calls.append(call)
        call.thread.start()
        self.settle()

    def settle(self) -> None:
        """Wait until every call has ended or waits for the disk or for another call."""
        for call in self.calls:
            if call.ended >= 0 or call.at_disk:
                continue
            if call.stopped.wait(LOCKED) and not call.at_disk:
                assert call.thread is not None
                call.thread.join(10)
                self.ends += 1
                call.ended = self.ends
                self.check(call)

    def check(self, call: Call) -> None:
        assert not isinstance(call.result, BaseException), repr(call.result)
        removals = [c for c in self.calls if c.kind == "remove" and c.number == call.number]
        if call.kind == "get":
            # Only a removal that began before this call ended can be why it found nothing.
            if isinstance(call.result, int):
                assert call.result == 404
                assert removals, "an image that is there was not found"
            else:
                np.testing.assert_array_equal(call.result.features, call.number)
                assert call.result.original_size == (10 + call.number, 20)
                assert not any(0 <= c.ended <= call.began for c in removals), "found after removal"
        if call.kind == "remove":
            done = [c for c in removals if c.ended >= 0]
            assert sum(c.result is None for c in done) <= 1, "removed twice"
            assert call.result in (None, 404)

    @invariant()
    def counts_are_right(self) -> None:
        memory = sum(image.nbytes for image in self.store._memory.values())
        disk = sum(image.nbytes for image in self.store._disk.values())
        assert (self.store._bytes, self.store._disk_bytes) == (memory, disk)

    def teardown(self) -> None:
        for _ in range(200):
            if all(call.ended >= 0 for call in self.calls):
                break
            for call in self.calls:
                if call.at_disk:
                    call.at_disk = False
                    call.stopped.clear()
                    call.go.release()
            self.settle()
        Gate.local.call = None
        assert all(call.ended >= 0 for call in self.calls), "a call never ended"
        removed = {c.number for c in self.calls if c.kind == "remove"}
        for number in removed:
            results = [c.result for c in self.calls if c.kind == "remove" and c.number == number]
            assert results.count(None) == 1, "nobody removed it"
        live = set(range(len(self.ids))) - removed
        assert len(self.store) == len(live)
        for number in live:
            np.testing.assert_array_equal(self.store.get(self.ids[number]).features, number)
        files = list(Path(self.directory.name).rglob("*.embedding"))
        assert len(files) == len(self.store._disk)
        self.store.close()
        assert list(Path(self.directory.name).iterdir()) == []
        self.directory.cleanup()


TestRaces = Races.TestCase
TestRaces.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("clients", [12])
def test_many_readers_of_few_spilled_images(clients: int, tmp_path: Path) -> None:
    """Without a gate: 12 threads ask for 4 images of which memory holds one."""
    store = ImageStore(Settings(cache_bytes=UNIT, spill_dir=tmp_path), Metrics())
    ids = [store.add(embedding(number)) for number in range(4)]

    def work(seed: int) -> int:
        rng = np.random.default_rng(seed)
        for number in rng.integers(0, 4, 100):
            assert store.get(ids[number]).features[0, 0] == number
        return 100

    with ThreadPoolExecutor(clients) as pool:
        assert sum(pool.map(work, range(clients))) == 100 * clients
    assert len(store) == 4
    for image_id in ids:
        store.remove(image_id)
    assert not list(tmp_path.rglob("*.embedding"))
    store.close()
