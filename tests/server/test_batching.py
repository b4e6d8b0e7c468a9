"""Rules that hold for every sequence of jobs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.server.batching import Admission, BatchQueue
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics

Job = tuple[int, str, int]  # number, key, weight
jobs_of = st.lists(
    st.tuples(st.integers(0, 99), st.sampled_from("abc"), st.integers(1, 6)), max_size=30
)


@given(jobs=jobs_of, max_batch=st.integers(1, 8), workers=st.integers(1, 3))
def test_every_job_gets_its_own_result(jobs: list[Job], max_batch: int, workers: int) -> None:
    batches: list[list[Job]] = []
    gate = threading.Event()

    def run(batch: Sequence[Job]) -> list[int]:
        gate.wait()  # so that jobs pile up
        batches.append(list(batch))
        return [number + 1 for number, _, _ in batch]

    queue: BatchQueue[Job, int] = BatchQueue(run, max_batch, workers, "test")
    futures = [queue.submit(job, job[1], job[2]) for job in jobs]
    gate.set()
    assert [future.result(10) for future in futures] == [number + 1 for number, _, _ in jobs]
    assert queue.close(10)
    assert sorted(job for batch in batches for job in batch) == sorted(jobs)
    for batch in batches:
        assert len({key for _, key, _ in batch}) == 1
        assert len(batch) == 1 or sum(weight for _, _, weight in batch) <= max_batch


@given(bad=st.sets(st.integers(0, 9)), max_batch=st.integers(1, 10))
def test_only_jobs_at_fault_fail(bad: set[int], max_batch: int) -> None:
    def run(batch: Sequence[int]) -> list[int]:
        if bad & set(batch):
            raise ValueError("bad job")
        return list(batch)

    queue: BatchQueue[int, int] = BatchQueue(run, max_batch, 1, "test")
    futures = [queue.submit(i) for i in range(10)]
    assert queue.close(10)
    assert {i for i, future in enumerate(futures) if future.exception(0)} == bad


def test_closing_finishes_what_was_taken_and_takes_no_more() -> None:
    gate = threading.Event()

    def run(batch: Sequence[int]) -> list[int]:
        gate.wait()
        return list(batch)

    queue: BatchQueue[int, int] = BatchQueue(run, 2, 1, "test")
    futures = [queue.submit(i) for i in range(5)]
    closing = threading.Thread(target=queue.close, args=(10,))
    closing.start()
    gate.set()
    closing.join(10)
    assert [future.result(0) for future in futures] == [0, 1, 2, 3, 4]
    with pytest.raises(ApiError, match="shutting down"):
        queue.submit(6)


def test_a_cancelled_job_is_not_run() -> None:
    gate = threading.Event()
    seen: list[int] = []

    def run(batch: Sequence[int]) -> list[int]:
        gate.wait()
        seen.extend(batch)
        return list(batch)

    queue: BatchQueue[int, int] = BatchQueue(run, 1, 1, "test")
    futures = [queue.submit(i) for i in range(3)]
    assert futures[1].cancel()
    gate.set()
    assert queue.close(10)
    assert seen == [0, 2]
    with pytest.raises(CancelledError):
        futures[1].result(0)


@given(weights=st.lists(st.integers(1, 10), max_size=20), slots=st.integers(1, 12))
def test_admission_never_exceeds_its_slots(weights: list[int], slots: int) -> None:
    admission = Admission("things", slots, Metrics())
    held: list[tuple[int, object]] = []
    for weight in weights:
        used = sum(w for w, _ in held)
        context = admission.admit(weight)
        if used and used + weight > slots:
            with pytest.raises(ApiError) as refused:
                context.__enter__()
            assert refused.value.status == 429
            assert refused.value.retry_after
        else:
            context.__enter__()
            held.append((weight, context))
    for _, context in held:
        context.__exit__(None, None, None)  # type: ignore[attr-defined]
    with admission.admit(slots):  # all slots are free again
        pass
