"""Memory is spoken for before it is allocated: never more than there is, and nobody starves."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.server.budget import Bodies, Budget
from samtrt.server.errors import ApiError

TOTAL = 10


@given(
    amounts=st.lists(st.integers(0, 15), min_size=1, max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
)
def test_never_more_than_there_is(amounts: list[int], cancelled: set[int]) -> None:
    order: list[int] = []
    held = 0

    async def work(budget: Budget, number: int, amount: int) -> None:
        nonlocal held
        async with budget.hold(amount):
            order.append(number)
            held += min(amount, TOTAL)
            assert held <= TOTAL
            await asyncio.sleep(0)
            held -= min(amount, TOTAL)

    async def main() -> None:
        budget = Budget(TOTAL)
        tasks = [asyncio.ensure_future(work(budget, i, a)) for i, a in enumerate(amounts)]
        await asyncio.sleep(0)
        for i in cancelled:
            if i < len(tasks) and i not in order:
                tasks[i].cancel()
        await asyncio.wait(tasks, timeout=10)
        assert all(task.done() for task in tasks), "someone waits for ever"
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        async with budget.hold(TOTAL):
            pass

    asyncio.run(main())
    assert order == sorted(order), "not first come, first served"


def test_bodies_are_counted_as_they_arrive() -> None:
    bodies = Bodies(100)
    with bodies.account() as first:
        first.add(60)
        with bodies.account() as second:
            second.add(40)
            with pytest.raises(ApiError) as error:
                second.add(1)
            assert error.value.status == 429
        with bodies.account() as third:
            third.add(40)
    with bodies.account() as again:
        again.add(100)
