"""Mutate small files of every kind and read them: nothing but a SamtrtError may come out.

    python bench/fuzz.py --seconds 600
    python bench/fuzz.py --reader pictures --count 500000

Inputs are read in a child process with a limit on memory and on the time of each, so that a crash
of a decoder is counted and named too, and so is what runs into those limits. An input that fails is
written to --keep, to become a test.
Every run with the same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_readers import READERS
from samtrt.errors import SamtrtError

BATCH = 500
MEMORY = 1 << 30
"""Bytes that reading may take, beyond what the process holds at its start."""
SECONDS_EACH = 5.0
"""Of a core."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--count", type=int, help="stop after so many inputs a reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=sorted(READERS), action="append")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    arguments = parser.parse_args()
    names = arguments.reader or sorted(READERS)
    share = arguments.seconds / len(names)
    failed = False
    for name in names:
        tally = try_reader(name, share, arguments.count, arguments.seed, arguments.keep)
        print(tally.line(name), flush=True)
        failed |= bool(tally.failures)
    raise SystemExit(1 if failed else 0)


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def line(self, name: str) -> str:
        total = self.read + self.refused + self.failures.total()
        kinds = "".join(f"\n    {count} x {kind}" for kind, count in self.failures.most_common())
        return (
            f"{name}: {total:,} inputs in {self.seconds:.0f} s: {self.refused:,} refused in a "
            f"line, {self.read:,} read, {self.failures.total()} failed{kinds}"
        )


def try_reader(name: str, seconds: float, count: int | None, seed: int, keep: Path) -> Tally:
    """Read mutated files in batches, each in a process of its own."""
    tally, begun, batch = Tally(), time.monotonic(), 0
    context = multiprocessing.get_context("fork")
    seeds = READERS[name][0]()
    while time.monotonic() - begun < seconds and (count is None or batch * BATCH < count):
        stop = (batch + 1) * BATCH
        place, read, refused = (context.Value("q", n) for n in (batch * BATCH, 0, 0))
        while place.value < stop:
            failures = context.SimpleQueue()
            counts = place, read, refused
            work = context.Process(target=_read, args=(name, seeds, seed, counts, stop, failures))
            work.start()
            found = _collect(work, failures)
            if work.exitcode:
                found.append((f"the process ended with {work.exitcode}", place.value))
                place.value += 1
            for kind, number in found:
                tally.failures[kind] += 1
                keep.mkdir(parents=True, exist_ok=True)
                data = mutated(seeds, random.Random(f"{seed}/{name}/{number}"))
                (keep / f"{name}-{seed}-{number}").write_bytes(data)
        tally.read += read.value
        tally.refused += refused.value
        batch += 1
    tally.seconds = time.monotonic() - begun
    return tally


def _collect(work: Any, failures: Any) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    while work.is_alive() or not failures.empty():
        if failures.empty():
            work.join(0.01)
        else:
            found.append(failures.get())
    work.join()
    return found


def _read(
    name: str, seeds: list[bytes], seed: int, counts: tuple[Any, Any, Any], stop: int, failures: Any
) -> None:
    """Read inputs from a place on; the child's own process."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, held + MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # too slow is a failure: the signal ends us
    reader = READERS[name][1]
    place, read, refused = counts
    while place.value < stop:
        number = place.value
        data = mutated(seeds, random.Random(f"{seed}/{name}/{number}"))
        signal.setitimer(signal.ITIMER_PROF, SECONDS_EACH)
        try:
            reader(data)
            read.value += 1
        except SamtrtError as error:
            line = str(error)
            if "\n" in line:
                failures.put(("an error of several lines", number))
            elif "more memory than there is" in line:
                failures.put(("more memory than the limit", number))
            else:
                refused.value += 1
        except BaseException as error:
            failures.put((f"{type(error).__name__}: {str(error)[:80]}", number))
        signal.setitimer(signal.ITIMER_PROF, 0)
        place.value += 1


INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)
INTERESTING += (0xFFFFFFFF, 1 << 16, 1 << 20, 1 << 24)


def mutated(seeds: list[bytes], chance: random.Random) -> bytes:
    """Return one of the seeds with one to eight changes; more often near its head."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        reach = min(len(data), chance.choice((32, 128, 1024, len(data))))
        place = chance.randrange(reach)
        match chance.randrange(8):
            case 0:
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[place] = chance.randrange(256)
            case 2 | 3:
                width = chance.choice((1, 2, 4))
                value = chance.choice(INTERESTING) & ((1 << 8 * width) - 1)
                order = chance.choice(("little", "big"))
                data[place : place + width] = value.to_bytes(width, order)
            case 4:
                del data[place : place + chance.choice((1, 2, 4, 16, 256))]
            case 5:
                some = data[place : place + chance.choice((1, 4, 16, 256))]
                data[place:place] = some
            case 6:
                del data[place:]
            case 7:
                other = chance.choice(seeds)
                begin = chance.randrange(len(other)) if other else 0
                data[place : place + 16] = other[begin : begin + 16]
    return bytes(data)


if __name__ == "__main__":
    main()
