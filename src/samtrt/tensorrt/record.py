"""The record of a TensorRT engine: what it is for, and where it may run.

An engine is compiled for one GPU, one library version and one ONNX graph: loading it anywhere else
must be a clear error before the library sees it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from samtrt.choices import AnyStage, HardwareCompatibility, Precision, Target
from samtrt.errors import EngineError
from samtrt.manifest import FileEntry
from samtrt.sealed import CHECKSUM, check_json, sealed_json
from samtrt.tensorrt.api import is_tensorrt_8
from samtrt.tensorrt.gpu import Gpu

FORMAT = 2
"""2 has a checksum over all that it says."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Exact(NamedTuple):
    """The one number of prompts, and of points of each, that a decoder's engine takes.

    An engine for no points has no inputs of them either. Of engines for videos, the number of
    objects, and of memories of each.
    """

    prompts: int
    points: int

    def __str__(self) -> str:
        return f"{self.prompts}x{self.points}"

    @classmethod
    def parse(cls, text: str) -> Exact:
        """Read "64x2" and the like.

        Raises:
            ValueError: where it is not of that form, or is of no prompt.
        """
        found = re.fullmatch(r"([1-9]\d*)x(\d+)", text)
        if not found:
            raise ValueError(f"'{text}' is not a number of prompts and of points, such as 64x2")
        return cls(int(found[1]), int(found[2]))


class Profile(_Frozen):
    """The shapes of one input that an engine takes, and the one that it is fastest at."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


class BuildFlags(_Frozen):
    """What else changes an engine.

    Attributes:
        strongly_typed: Types come from the graph, not from flags and per-layer constraints.
        optimization_level: 0 (fast build) to 5 (fast engine); None leaves it to the library.
        workspace: Bytes that a layer may use for itself; None leaves it to the library.
        hardware_compatible: Which other GPUs may run it; None for none.
        version_compatible: Later versions of the library may run it. The engine then holds code
            for the host, which the runtime runs only where `engine_host_code_allowed` is set.
    """

    strongly_typed: bool
    optimization_level: int | None = None
    workspace: int | None = None
    hardware_compatible: HardwareCompatibility | None = None
    version_compatible: bool = False


class EngineRecord(_Frozen):
    """The sidecar of one engine.

    Attributes:
        library_version: Of the TensorRT that built it.
        gpu: The one GPU model that it is for; None where any of the capabilities will do.
        compute_capabilities: What it runs on, such as ("8.6", "8.9"); "12.1+" includes later ones.
        precision: What the engine computes in; its borders are float32.
        tf32: Whether float32 products may round their factors to TF32.
        profiles: For every input, the shapes it takes.
        exact: What the engine takes where it is one of those for one size alone.
        onnx: sha256 of each file of the ONNX graph it was built from.
        file: The engine file.
        plugin: The library beside it that the engine's plugins come from; None where it has none.
        build_seconds: Wall time of the build.
        versions: Of samtrt and its tools.
    """

    format: int = FORMAT
    stage: AnyStage
    target: Target
    library_version: str
    gpu: str | None
    compute_capabilities: tuple[str, ...] = Field(min_length=1)
    precision: Precision
    tf32: bool
    profiles: dict[str, Profile]
    exact: Exact | None = None
    flags: BuildFlags
    onnx: dict[str, str]
    file: FileEntry
    plugin: FileEntry | None = None
    build_seconds: float
    versions: dict[str, str]

    def to_json(self) -> str:
        """Return the sidecar's text."""
        return sealed_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: bytes) -> EngineRecord:
        """Read a sidecar of this format or an older one.

        Raises:
            ValueError: where it is none, or was changed since it was written. A `ValidationError`
                is one, too.
        """
        data = json.loads(text)
        if isinstance(data, dict) and (CHECKSUM in data or data.get("format") != 1):
            data = check_json(data)
        return cls.model_validate(data)

    def check_runs_on(
        self, library_version: str, gpu: Gpu, directory: Path, lean: bool = False
    ) -> None:
        """Make sure that this library on this GPU is what the engine was built for.

        Args:
            library_version: Of the running library.
            gpu: The one to run on.
            directory: Where the engine lies.
            lean: Whether the library is a lean runtime.

        Raises:
            EngineError: where it is not; the message names both, and the command that rebuilds.
        """
        again = f"rebuild it here with: {build_command(directory, self.target)}"
        path = directory / self.file.name
        built, running = self.library_version, library_version
        newer = _numbers(running) > _numbers(built)
        if built != running and not (self.flags.version_compatible and newer):
            raise EngineError(
                f"{path} was built with {self.target.value} {built} and {running} is running; "
                f"{again}"
            )
        if lean and not self.flags.version_compatible:
            raise EngineError(
                f"{path} was built without --version-compatible, and the TensorRT {running} here "
                "is a lean runtime, which runs no other engines; build it again with that, or "
                "install the whole TensorRT"
            )
        if self._mixes_prompts:
            raise EngineError(
                f"{path} takes several prompts at once, for which TensorRT {built} gives wrong "
                f"masks without the plugin; {again}"
            )
        here = f"{gpu.name} (compute capability {gpu.compute_capability})"
        if not self._fits(gpu):
            there = f"compute capability {', '.join(self.compute_capabilities)}"
            there = f"{self.gpu} ({there})" if self.gpu else there
            raise EngineError(f"{path} was built for {there} and this GPU is {here}; {again}")

    @property
    def _mixes_prompts(self) -> bool:
        """Tell whether it is what `build` does not make any more, see `build.checks`."""
        prompts = self.profiles.get("has_mask_input")  # of decoders alone
        is_8 = is_tensorrt_8(self.target, _numbers(self.library_version))
        return is_8 and self.plugin is None and prompts is not None and prompts.max[0] > 1

    def _fits(self, gpu: Gpu) -> bool:
        here = _numbers(gpu.compute_capability)
        # TensorRT tunes for the very model: on another of the same capability an engine may be
        # slow or fail, so that other models count only where it was built for them.
        return self.gpu in (None, gpu.name) and any(
            here >= _numbers(built[:-1]) if built.endswith("+") else here == _numbers(built)
            for built in self.compute_capabilities
        )


def build_command(directory: Path, target: Target) -> str:
    """Return the command that makes a directory's engines."""
    return f"samtrt build {directory} --target {target.value}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
