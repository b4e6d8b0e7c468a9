"""What to build, as the process that builds gets it and as it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from samtrt import errors
from samtrt.choices import (
    DEFAULT_FLOAT32,
    AnyStage,
    Float32Part,
    HardwareCompatibility,
    Precision,
    Target,
)
from samtrt.errors import BuildError, SamtrtError
from samtrt.tensorrt.record import Exact, Profile


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Frozen):
    """Sizes that one dimension may have, and the one that an engine is fastest at."""

    min: int = Field(ge=0)
    opt: int
    max: int

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.min <= self.opt <= self.max or self.max < 1:
            raise ValueError(f"{self} is not in order: min <= opt <= max, and max at least 1")
        return self

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def __contains__(self, size: int) -> bool:
        return self.min <= size <= self.max

    @classmethod
    def only(cls, size: int) -> Range:
        """Return one size, which leaves no choice."""
        return cls(min=size, opt=size, max=size)

    @classmethod
    def parse(cls, text: str, what: str) -> Range:
        """Read `min:opt:max`, or one number for all three.

        Raises:
            BuildError: where it is neither, or is not in order.
        """
        parts = text.split(":")
        try:
            low, opt, high = (int(part) for part in (parts * 3 if len(parts) == 1 else parts))
            return cls(min=low, opt=opt, max=high)
        except ValueError:
            raise BuildError(
                f"{what} must be MIN:OPT:MAX in rising order, such as 1:4:8, or one number; "
                f"got '{text}'"
            ) from None


class BuildOptions(_Frozen):
    """How to build the engines of a directory.

    Attributes:
        precision: What the engines compute in; None for what the graphs were exported in.
        tf32: Let float32 products round their factors to TF32 (10 bits of mantissa).
        float32: Parts that stay in float32 at half precision.
        prompts: Prompts P that one run of the decoder takes.
        points: Points N of each prompt. A box counts as two, points without a box get one more, and
            a prompt that is a mask alone has none.
        exact: Sizes that the decoder gets engines of their own for, beside the one for all: they
            are faster, and take no other. TensorRT only.
        objects: Objects N that one run of a video's engines takes.
        memories, pointers: What each object may remember; None for what it has where it was pointed
            at on one frame, up to `PROMPTED_FRAMES` of them.
        exact_objects: Numbers of objects that a video's engines get others of their own for, which
            are faster and take objects that were pointed at on one frame. TensorRT only.
        batch: Images that one run of the encoder takes; needs `samtrt export --dynamic-batch`.
        optimization_level: 0 (fast build) to 5 (fast engine); None for the library's default, 3, or
            for 0 where a decoder builds at no other.
        workspace: Bytes that a layer may use; None for all that the GPU has.
        compute_capabilities: GPUs to compile for, such as ("8.6", "8.9"); TensorRT-RTX only.
        hardware_compatible: Which other GPUs may run the engine; TensorRT only.
        version_compatible: Let later versions of TensorRT run the engine; TensorRT only.
        plugin: Library of `samtrt plugin`, which runs the encoder of a directory that was exported
            with its operators; None for standard operators. TensorRT only, in half precision.
        timing_cache: Keep measured kernel times for later builds; TensorRT only.
        device: CUDA's number of the GPU to build on; TensorRT only.
    """

    precision: Precision | None = None
    tf32: bool = False
    float32: tuple[Float32Part, ...] = DEFAULT_FLOAT32
    prompts: Range = Range(min=1, opt=1, max=64)
    exact: tuple[Exact, ...] = ()
    points: Range = Range(min=0, opt=5, max=20)
    objects: Range = Range(min=1, opt=1, max=8)
    memories: Range | None = None
    pointers: Range | None = None
    exact_objects: tuple[int, ...] = ()
    batch: Range | None = None
    optimization_level: int | None = Field(default=None, ge=0, le=5)
    workspace: int | None = Field(default=None, gt=0)
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatible: HardwareCompatibility | None = None
    version_compatible: bool = False
    plugin: Path | None = None
    timing_cache: bool = True
    device: int = Field(default=0, ge=0)

    @field_validator("compute_capabilities")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))


class NodePrecision(_Frozen):
    """What one node of a graph computes in, where the rest computes in half precision."""

    name: str
    outputs: tuple[str, ...]
    is_float32: bool


class Job(_Frozen):
    """One engine to build, with every choice made.

    Attributes:
        onnx: The graph; typed already where `strongly_typed`.
        output: Where to write the engine.
        nodes: Of a weakly typed network in half precision, every node.
        profiles: Shapes of every input whose shape is not fixed.
        exact: The one size that the engine is for, None for all of the profiles'.
        plugin: The library whose plugins the graph has, None for none.
        timing_cache: Directory of timing caches, None for none.
    """

    stage: AnyStage
    target: Target
    onnx: Path
    output: Path
    precision: Precision
    strongly_typed: bool
    nodes: tuple[NodePrecision, ...]
    profiles: dict[str, Profile]
    exact: Exact | None = None
    options: BuildOptions
    plugin: Path | None
    timing_cache: Path | None


class TensorFact(_Frozen):
    """One input or output as TensorRT sees it; -1 is a dimension that varies."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Built(_Frozen):
    """What was built, as TensorRT's own objects tell it."""

    kind: Literal["built"] = "built"
    library_version: str
    gpu: str | None
    compute_capabilities: tuple[str, ...]
    inputs: tuple[TensorFact, ...]
    outputs: tuple[TensorFact, ...]
    profiles: dict[str, Profile]
    float32_layers: tuple[str, ...]
    seconds: float
    warnings: tuple[str, ...]


class Progress(_Frozen):
    """How far a build is: a share in 0..1 where the library tells it, and what it is doing."""

    kind: Literal["progress"] = "progress"
    share: float | None
    text: str


class Failed(_Frozen):
    """Why a build failed: the class of `samtrt.errors`, and what its error was made of."""

    kind: Literal["failed"] = "failed"
    error: str
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, error: SamtrtError) -> Failed:
        return cls(error=type(error).__name__, arguments=error.args)

    def to_error(self) -> SamtrtError:
        """Return the error again, in the process that asked for the build."""
        kind: type[SamtrtError] = getattr(errors, self.error)
        return kind(*self.arguments)
