"""The process that builds an engine: started, listened to, and gone in the end, come what may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import samtrt
from samtrt.build.options import Built, Failed, Job, Progress
from samtrt.errors import BuildError


def run_job(job: Job, report: Callable[[Progress], None]) -> Built:
    """Run the building process to its end; however this ends, the process is gone afterwards."""
    with tempfile.TemporaryFile() as noise:
        process = subprocess.Popen(
            [sys.executable, "-m", "samtrt.build.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            env=environment_for(job.options.device),
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends that one
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(job.model_dump_json().encode() + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith(b'{"kind":"progress"'):
                    report(Progress.model_validate_json(line))
                elif line.startswith(b'{"kind":"built"'):
                    return Built.model_validate_json(line)
                else:
                    raise Failed.model_validate_json(line).to_error()
            code = process.wait()
        except BrokenPipeError:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):  # it ended before it took all of its job
                process.stdin.close()
            process.stdout.close()
        noise.seek(0)
        raise BuildError(_describe_crash(job, code, noise.read().decode(errors="replace")))


def environment_for(device: int) -> dict[str, str]:
    """Return the environment in which GPU 0 is the one asked for, and samtrt can be imported."""
    environment = dict(os.environ)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    listed = [str(device)] if visible is None else visible.split(",")[device : device + 1]
    environment["CUDA_VISIBLE_DEVICES"] = listed[0] if listed else "-1"  # none, which is told
    environment.setdefault("CUDA_MODULE_LOADING", "LAZY")  # less memory, as TensorRT advises
    source = str(Path(samtrt.__file__).parent.parent)
    paths = [source, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def _describe_crash(job: Job, code: int, output: str) -> str:
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"crashed ({signal.Signals(-code).name})"
        if -code == signal.SIGKILL:
            how = "was killed, by the system perhaps for want of memory"
    last = (output.strip().splitlines() or [""])[-1]
    return (
        f"the process that built the {job.stage.words} for {job.target.value} {how}"
        + (f": {last}" if last else "")
        + "; see docs/tensorrt.md, Troubleshooting"
    )
