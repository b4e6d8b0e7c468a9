"""What a run's process tells the command that started it: a line of JSON each.

Ray ends a process whose cluster's head is lost for a minute, without an exception. So the process
that talks to Ray is not the one that the user started, which goes on when the head is back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from samtrt.datasets.work import State, Task


@dataclass(frozen=True)
class Request:
    """What the process is to do: pickled, on its standard input.

    Attributes:
        address: Of the cluster.
        job: Pickled.
        directory: The model directory, on each node.
        cpus: Cores of one worker.
        gpus: GPUs of one worker.
        tasks: Images with their numbers.
        trace: What makes workers' spans parts of the command's; empty where nobody wants any.
    """

    address: str
    job: bytes
    directory: Path
    cpus: int
    gpus: int
    tasks: list[tuple[int, Task]]
    trace: dict[str, str]


@dataclass(frozen=True)
class Connected:
    """The cluster was reached.

    Attributes:
        address: HOST:PORT of its head.
    """

    address: str


@dataclass(frozen=True)
class Alive:
    """The cluster answers.

    Attributes:
        images: How many images are done of those that the process was given.
    """

    images: int


@dataclass(frozen=True)
class Opened:
    """Engines are open on a worker.

    Attributes:
        settings: All that results depend on beside image and task.
    """

    settings: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """A line for the user."""

    line: str


@dataclass(frozen=True)
class Told:
    """What became of an image.

    Attributes:
        task: Its number.
        state: Whether it is done.
        masks: How many masks were written.
        error: Why it failed, in a line.
        notes: What was assumed.
    """

    task: int
    state: State
    masks: int = 0
    error: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Refused:
    """The run cannot be done.

    Attributes:
        reason: Why, in a line.
        lost: Whether it may go on when the cluster is back.
    """

    reason: str
    lost: bool = False


@dataclass(frozen=True)
class Ended:
    """All images are done or have failed."""


Message = Connected | Alive | Opened | Said | Told | Refused | Ended
_KINDS = {kind.__name__: kind for kind in (Connected, Alive, Opened, Said, Told, Refused, Ended)}


def send(message: Message, out: TextIO) -> None:
    """Write a message as a line."""
    text = json.dumps({"kind": type(message).__name__, **asdict(message)})
    out.write(text + "\n")
    out.flush()


def parse(line: str) -> Message:
    """Read a line that `send` wrote."""
    values = json.loads(line)
    message: Message = _KINDS[values.pop("kind")](**values)
    if isinstance(message, Told):
        return Told(**{**values, "state": State(message.state)})
    return message
