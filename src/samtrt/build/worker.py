"""The process that builds one engine: a job on stdin, one JSON message a line on stdout.

A process of its own can be stopped at any moment, whatever the library is doing, and takes no
other with it where the library crashes.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

from pydantic import BaseModel

from samtrt.build.compile import compile_engine
from samtrt.build.options import Failed, Job
from samtrt.errors import SamtrtError
from samtrt.tensorrt.api import load_api


def main() -> int:
    """Build what stdin asks for; return 0 where an answer was given, good or bad."""
    # Libraries print to stdout too: keep it for our messages, and send theirs to stderr.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = Job.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def send(message: BaseModel) -> None:
        _send(channel, message)

    try:
        send(compile_engine(load_api(job.target), job, send))
    except SamtrtError as error:
        send(Failed.of(error))
    return 0


def _send(channel: TextIO, message: BaseModel) -> None:
    try:
        channel.write(message.model_dump_json() + "\n")
        channel.flush()
    except BrokenPipeError:  # nobody waits for the engine any more
        os._exit(1)


def _die_with_parent() -> None:
    """Stdin ends when the parent does, even where it was killed."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    # No interpreter shutdown: some versions crash while their objects are torn down.
    code = main()
    sys.stderr.flush()
    os._exit(code)
