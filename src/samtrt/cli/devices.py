"""A run over many images on several devices: a process for each, and a share of the images."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from samtrt.errors import BackendError, SamtrtError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")

DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda or cuda:N; several, such as cuda:0,cuda:1, share the images, in a process "
        "each. Default: the backend's own.",
    ),
]


def on_each(
    work: Callable[[str | None, Sequence[T]], R], devices: str | None, items: Sequence[T]
) -> list[R]:
    """Do `work(device, share)` for each of the devices at once; return what each gave.

    One device takes all items, in this process. Of several, each takes every so manieth item, so
    that sorted folders are shared evenly.

    Args:
        work: What processes can be told of: a function of a module, or a `partial` of one.
        devices: As `--device` has them.
        items: What to share.

    Raises:
        BackendError: where a name is empty, or a process ended by itself.
        SamtrtError: the first of any process; the others are ended.
    """
    if devices is None or "," not in devices:
        return [work(devices, items)]
    names = [name.strip() for name in devices.split(",")]
    if "" in names:
        raise BackendError(f"--device {devices} has an empty name; say one, or cuda:0,cuda:1")
    shares = [(name, items[i :: len(names)]) for i, name in enumerate(names)]
    return _in_processes(work, [(name, share) for name, share in shares if share] or shares[:1])


def _in_processes(
    work: Callable[[str | None, Sequence[T]], R], shares: list[tuple[str, Sequence[T]]]
) -> list[R]:
    import multiprocessing
    from multiprocessing.connection import wait

    spawn = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    results: dict[int, R] = {}
    running: dict[Any, int] = {}  # by the end of a pipe that its process writes to
    processes = []
    try:
        for number, (device, share) in enumerate(shares):
            ours, theirs = spawn.Pipe(duplex=False)
            process = spawn.Process(target=_share, args=(theirs, work, device, share))
            process.start()
            theirs.close()  # so that we see its end
            processes.append(process)
            running[ours] = number
        while running:
            for ready in wait(list(running)):
                pipe: Any = ready
                number = running.pop(pipe)
                try:
                    error, result = pipe.recv()
                except EOFError:
                    raise BackendError(_ended(processes[number], shares[number][0])) from None
                if isinstance(error, SamtrtError):
                    raise error
                results[number] = result
        return [results[number] for number in range(len(shares))]
    finally:
        for process in processes:
            if len(results) < len(shares):
                process.terminate()
        for process in processes:
            process.join()


def _share(
    pipe: Connection,
    work: Callable[[str | None, Sequence[T]], R],
    device: str,
    share: Sequence[T],
) -> None:
    """Be the process of one device."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is half done is removed first
    try:
        pipe.send((None, work(device, share)))
    except SamtrtError as error:
        pipe.send((type(error)(f"{device}: {error}"), None))
    except KeyboardInterrupt:
        sys.exit(130)


def _ended(process: Any, device: str) -> str:
    process.join()
    code = process.exitcode
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"the process for {device} {how}; its images are not done: run the command again"
