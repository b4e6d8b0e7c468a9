"""A Triton server on this machine: the one that is installed, or that of nvidia-pytriton.

The package brings the `tritonserver` program with its Python backend alone, for Linux with glibc
2.35 or newer; the backend's interpreter is the Python that runs here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from samtrt.errors import OutputError, SamtrtError
from samtrt.files import cache_dir
from samtrt.unfinished import new_directory

PROGRAM = "tritonserver"
STUB = "triton_python_backend_stub"
UTILITIES = "triton_python_backend_utils.py"

_PATHS = """# The interpreter within Triton is an isolated one: it leaves PYTHONPATH alone.
import os
import sys

sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
with open({0!r}, encoding="utf-8") as _file:
    exec(compile(_file.read(), {0!r}, "exec"))
"""
"""What the backend imports first, in place of its own module of that name."""


class TritonMissingError(SamtrtError):
    """There is no Triton server on this machine that could be started."""


class ExposedError(SamtrtError):
    """A server would let in whom nobody allowed."""


SHARED_BYTES = 128 << 20
"""Memory that each process of the Python backend shares with Triton, taken as it is used."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Installation:
    """A Triton server.

    Attributes:
        program: Its file.
        arguments: What it needs to find its parts.
        environment: Variables beside those of this process.
    """

    program: Path
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def find_server() -> Installation:
    """Return the Triton server of this machine.

    Raises:
        TritonMissingError: where there is none, or none that runs with this Python.
        OutputError: where the user's cache, which takes the package's backend, cannot be written.
    """
    if found := shutil.which(PROGRAM):
        return Installation(Path(found))
    spec = find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise TritonMissingError(
            f"there is no {PROGRAM} here: run this in NVIDIA's image (docs/triton.md), or, on "
            "Linux, install it with: pip install --no-deps nvidia-pytriton"
        )
    return _of_package(Path(spec.submodule_search_locations[0]))


def _of_package(package: Path) -> Installation:
    root, python = package / "tritonserver", f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / "python_backend_stubs" / python / STUB
    if not stub.is_file():
        raise TritonMissingError(
            f"the package nvidia-pytriton has no Python backend for Python {python}: use another "
            "Python, or NVIDIA's image (docs/triton.md)"
        )
    libraries = [str(package.parent / "nvidia_pytriton.libs")]
    # Of the interpreter's library, which the backend loads.
    if where := sysconfig.get_config_var("LIBDIR"):
        libraries.insert(0, str(where))
    ours = [entry for entry in sys.path if entry]
    environment = {
        "LD_LIBRARY_PATH": _joined(libraries, os.environ.get("LD_LIBRARY_PATH")),
        "PYTHONPATH": _joined(ours),
    }
    backends = _backends(root, stub)
    program = root / "bin" / PROGRAM
    return Installation(program, ("--backend-directory", str(backends)), environment)


def _backends(root: Path, stub: Path) -> Path:
    """Return a directory of backends whose Python backend has this Python's interpreter, which the
    package keeps elsewhere, and finds this Python's packages."""
    parts = root / "backends" / "python"
    # Of this installation and this Python, so that no other changes it.
    mark = hashlib.sha256(f"{root}\n{stub}\n{_PATHS}".encode()).hexdigest()[:16]
    place = cache_dir() / "triton" / mark
    if not place.is_dir():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with new_directory(place.parent) as staging:
                backend = staging / "python"
                backend.mkdir()
                for path in (stub, *parts.glob("*.so")):
                    (backend / path.name).symlink_to(path)
                (backend / UTILITIES).write_text(_PATHS.format(str(parts / UTILITIES)), "utf-8")
                with suppress(OSError):  # another process was first
                    staging.rename(place)
        except OSError as error:
            raise OutputError(
                f"cannot write {place.parent}: {error.strerror}; choose another place with "
                "SAMTRT_CACHE"
            ) from None
    return place


def _joined(paths: Sequence[str], more: str | None = None) -> str:
    return os.pathsep.join([*paths, more] if more else paths)


@dataclass(frozen=True)
class Listening:
    """Where a server listens: HTTP, gRPC, and HTTP for figures."""

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002

    @property
    def arguments(self) -> tuple[str, ...]:
        """The server's options."""
        return (
            *("--http-address", self.host, "--http-port", str(self.http_port)),
            *("--grpc-address", self.host, "--grpc-port", str(self.grpc_port)),
            *("--metrics-address", self.host, "--metrics-port", str(self.metrics_port)),
        )


def check_exposure(listening: Listening, insecure: bool) -> None:
    """Refuse to let other machines in where nobody said so: Triton knows no users.

    Raises:
        ExposedError: where they could come in.
    """
    if listening.host not in LOOPBACK and not insecure:
        raise ExposedError(
            f"--host {listening.host} lets other machines in, and Triton asks nobody for a token: "
            "put a proxy before a loopback address, or say --insecure to allow everyone"
        )


def command(
    installation: Installation,
    repository: Path,
    listening: Listening,
    more: Sequence[str] = (),
) -> list[str]:
    """Return the command that starts a server on a repository."""
    return [
        *(str(installation.program), "--model-repository", str(repository)),
        # All configurations are complete: nothing is to be started only to be asked for its own.
        "--disable-auto-complete-config",
        # Room for all that a model hands on at once: a Triton 2.51 that had to make more of it
        # under load ended with signal 11.
        *("--backend-config", f"python,shm-default-byte-size={SHARED_BYTES}"),
        # It counts clients that are silent as work to be finished.
        *("--exit-timeout-secs", "10"),
        *(*installation.arguments, *listening.arguments, *more),
    ]


def become(installation: Installation, words: Sequence[str]) -> None:
    """Become the server: signals and the exit code are its own from here on.

    Raises:
        TritonMissingError: where the program cannot be run.
    """
    sys.stdout.flush()
    try:
        os.execve(words[0], list(words), {**os.environ, **installation.environment})
    except OSError as error:
        raise TritonMissingError(f"cannot run {words[0]}: {error.strerror}") from None
