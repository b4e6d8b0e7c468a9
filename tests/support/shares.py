"""What tests of several devices have done in processes of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from samtrt.errors import ImageError


def described(device: str | None, share: Sequence[int]) -> tuple[str | None, list[int], int]:
    return device, list(share), os.getpid()


def failing(device: str | None, share: Sequence[Path]) -> None:
    """Fail on device b at once; on any other go on for a minute, and say when ended before."""
    if device == "b":
        raise ImageError("no such GPU")
    try:
        time.sleep(60)
    except SystemExit:
        share[0].write_text("ended")
        raise


def killed(device: str | None, _share: Sequence[int]) -> None:
    if device == "b":
        os.kill(os.getpid(), signal.SIGKILL)
