"""The command of NVIDIA's own tool that builds the same engine: for logs, reports and doubts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from samtrt.build.options import Job
from samtrt.choices import HardwareCompatibility, Precision, Target
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.record import Profile

_TOOLS = {Target.TENSORRT: "trtexec", Target.TENSORRT_RTX: "tensorrt_rtx"}
_LEVELS = {
    HardwareCompatibility.AMPERE_PLUS: "ampere+",
    HardwareCompatibility.SAME_CAPABILITY: "sameComputeCapability",
}


def trtexec_command(api: Api, job: Job, graph: Path | None = None) -> str:
    """Return the command line that does `job` with `trtexec` (for TensorRT-RTX: `tensorrt_rtx`).

    Args:
        api: The TensorRT.
        job: What to build.
        graph: Where the graph's layers can be read, where that is not in `job.onnx`.

    Raises:
        MissingExtraError: where layers stay in float32 by name, and `onnx` is not installed to
            name them.
    """
    options = job.options
    words = [_TOOLS[job.target], f"--onnx={job.onnx}", f"--saveEngine={job.output}"]
    for bound in ("min", "opt", "max"):
        if job.profiles:
            words.append(f"--{bound}Shapes={_shapes(job.profiles, bound)}")
    words += _precision(api, job, graph or job.onnx)
    if job.plugin:
        words.append(f"--dynamicPlugins={job.plugin}")
    if not options.tf32:
        words.append("--noTF32")
    if options.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.workspace is not None:
        words.append(f"--memPoolSize=workspace:{options.workspace / 2**20:g}")
    if options.compute_capabilities:
        listed = ",".join(
            capability.replace(".", "") for capability in options.compute_capabilities
        )
        words.append(f"--computeCapabilities={listed}")
    if options.hardware_compatible:
        words.append(f"--hardwareCompatibilityLevel={_LEVELS[options.hardware_compatible]}")
    if options.version_compatible:
        words.append("--versionCompatible")
    if job.target is Target.TENSORRT and options.device:
        words.append(f"--device={options.device}")
    return shlex.join([*words, "--skipInference"])


def _shapes(profiles: Mapping[str, Profile], bound: str) -> str:
    return ",".join(
        f"{name}:{'x'.join(map(str, getattr(profile, bound)))}"
        for name, profile in profiles.items()
    )


def _precision(api: Api, job: Job, graph: Path) -> list[str]:
    if job.strongly_typed:
        return [] if api.is_always_strongly_typed else ["--stronglyTyped"]
    if job.precision is Precision.FP32:
        return []
    words = [f"--{job.precision.value}"]
    names = _float32_names(job, graph)
    if names:
        listed = ",".join(f"{name}:fp32" for name in names)
        words += ["--precisionConstraints=obey", f"--layerPrecisions={listed}"]
        words.append(f"--layerOutputTypes={listed}")
    return words


def _float32_names(job: Job, graph: Path) -> list[str]:
    """Return the ONNX nodes whose layers stay in float32; TensorRT names layers after them."""
    from samtrt.export.precision import float32_nodes, float_tensors, load_graph

    model = load_graph(graph)
    floats = float_tensors(model)
    kept = float32_nodes(model.graph, job.image_input, job.options.float32)
    nodes = (model.graph.node[i] for i in kept)
    computing = (node for node in nodes if node.op_type not in ("Cast", "Constant"))
    return [node.name for node in computing if set(node.output) <= floats]
