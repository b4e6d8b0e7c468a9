"""Builds in processes of their own: interrupted, killed, two at a time, and on a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from samtrt.build.engines import build_engines
from samtrt.build.options import BuildOptions
from samtrt.choices import Stage, Target
from samtrt.errors import BuildError
from samtrt.manifest import Manifest
from samtrt.tensorrt.engine_files import load_engine_record
from support.rtx_cases import needs_rtx

pytestmark = needs_rtx
RTX = Target.TENSORRT_RTX


def start_build(model: Path, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """Start `samtrt build`; return it, and its worker, held while at work on the decoder.

    On a busy machine a worker that goes on might be done before anything is done to it.
    """
    command = [sys.executable, "-m", "samtrt", "build", str(model), "-t", "tensorrt-rtx"]
    process = subprocess.Popen(
        [*command, "--stage", "decoder", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        # Jobs in the background of a script ignore Ctrl-C, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    await_that(lambda: process.poll() is not None or any(map(held, children(process.pid))))
    assert process.poll() is None, process.communicate()
    (worker,) = children(process.pid)
    return process, worker


def held(pid: int) -> bool:
    """Stop a process that has loaded the library, in whose code it then is for seconds."""
    try:
        if "libtensorrt_onnxparser" not in Path(f"/proc/{pid}/maps").read_text():
            return False
        os.kill(pid, signal.SIGSTOP)
        return True
    except OSError:
        return False


def await_that(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(p) for task in tasks for p in (task / "children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


@linux
def test_ctrl_c_ends_the_build_and_leaves_nothing_half_written(model: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    process, worker = start_build(model)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not alive(worker)
    after = {p.name: p.read_bytes() for p in model.iterdir() if not p.name.endswith(".lock")}
    assert after == before


@linux
def test_killed_build_takes_its_builder_with_it(model: Path) -> None:
    process, worker = start_build(model)
    process.kill()
    os.kill(worker, signal.SIGCONT)
    process.communicate(timeout=60)
    await_that(lambda: not alive(worker))
    assert list(model.glob(".build-*")), "nobody was left to tidy up"
    # The system has given the lock back: the next build is not refused, and tidies up.
    build_engines(model, RTX, BuildOptions(compute_capabilities=("8.6",)), [Stage.DECODER])
    assert not list(model.glob(".build-*"))


@linux
def test_two_builds_in_one_directory(model: Path) -> None:
    """The second is told so at once; the first is not disturbed."""
    process, worker = start_build(model)
    with pytest.raises(BuildError, match=r"another process is building tensorrt-rtx engines in"):
        build_engines(model, RTX)
    os.kill(worker, signal.SIGCONT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "decoder.tensorrt-rtx.engine" in out
    load_engine_record(model, Manifest.load(model), Stage.DECODER, RTX)


def test_disk_that_fills_keeps_the_engine_of_before(model: Path) -> None:
    """Files may not grow past 10 MB in these processes: the write of the decoder fails for real."""
    build_engines(model, RTX, BuildOptions(compute_capabilities=("8.6",)))
    before = {path.name: path.read_bytes() for path in model.glob("decoder.*")}
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
from samtrt.cli import main
sys.exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "build", str(model), "--target", "tensorrt-rtx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "samtrt: error: cannot write" in done.stderr
    assert {path.name: path.read_bytes() for path in model.glob("decoder.*")} == before
    assert not list(model.glob(".build-*"))
