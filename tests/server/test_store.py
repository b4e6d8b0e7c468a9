"""The cache of embeddings against a plain model of it."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samtrt.preparation.frame import Frame
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics
from samtrt.server.settings import Settings
from samtrt.server.store import ImageStore
from samtrt.types import Embedding

UNIT = 400  # bytes of one embedding


def embedding(value: int) -> Embedding:
    return Embedding(np.full((1, 100), value, dtype=np.float32), Frame((10 + value, 20), 256, 64))


@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "get", "remove"]), st.integers(0, 9))),
    room=st.integers(1, 4),
    disk=st.one_of(st.none(), st.integers(0, 3)),
)
def test_it_behaves_as_two_lists(steps: list[tuple[str, int]], room: int, disk: int | None) -> None:
    """Memory and disk hold the most recent; all else is gone; what was never there is unknown."""
    with tempfile.TemporaryDirectory() as directory:
        spill_dir = None if disk is None else Path(directory)
        settings = Settings(
            cache_bytes=room * UNIT, spill_dir=spill_dir, spill_bytes=(disk or 0) * UNIT
        )
        store = ImageStore(settings, Metrics())
        ids: list[str] = []
        memory: list[int] = []
        spilled: list[int] = []
        removed: set[int] = set()

        def use(number: int) -> None:
            for place in (memory, spilled):
                if number in place:
                    place.remove(number)
            memory.append(number)
            while len(memory) > room:
                spilled.append(memory.pop(0))
            while len(spilled) > (disk or 0):
                spilled.pop(0)

        for step, number in steps:
            if step == "add":
                ids.append(store.add(embedding(len(ids))))
                use(len(ids) - 1)
                continue
            if number >= len(ids):
                continue
            call = store.get if step == "get" else store.remove
            if number in memory or number in spilled:
                found = call(ids[number])
                if step == "get":
                    assert found is not None
                    np.testing.assert_array_equal(found.features, number)
                    assert found.original_size == (10 + number, 20)
                    use(number)
                else:
                    for place in (memory, spilled):
                        if number in place:
                            place.remove(number)
                    removed.add(number)
            else:
                with pytest.raises(ApiError) as error:
                    call(ids[number])
                assert error.value.status == (404 if number in removed else 410)
            assert len(store) == len(memory) + len(spilled)
        files = list(Path(directory).rglob("*.embedding"))
        assert len(files) == len(spilled)
        store.close()
        assert list(Path(directory).iterdir()) == []


@pytest.mark.parametrize("spoil", [lambda d: d[:50], lambda d: b"\1" + d[1:], lambda _: b""])
def test_a_damaged_spill_file_is_an_evicted_image(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    store = ImageStore(Settings(cache_bytes=1, spill_dir=tmp_path), Metrics())
    first = store.add(embedding(1))
    store.add(embedding(2))
    (file,) = tmp_path.rglob("*.embedding")
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ApiError) as error:
        store.get(first)
    assert error.value.status == 410


def test_threads_never_see_anothers_embedding(tmp_path: Path) -> None:
    store = ImageStore(Settings(cache_bytes=3 * UNIT, spill_dir=tmp_path), Metrics())
    wrong: list[object] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        mine: list[tuple[str, int]] = []
        for i in range(60):
            value = 1000 * seed + i
            mine.append((store.add(embedding(value)), value))
            image_id, value = mine[rng.integers(len(mine))]
            if store.get(image_id).features[0, 0] != value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert len(store) == 240
