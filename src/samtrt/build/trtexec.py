"""The command of NVIDIA's own tool that builds the same engine: for logs, reports and doubts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from samtrt.build.options import Job
from samtrt.choices import HardwareCompatibility, Precision, Target
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.record import Profile

_TOOLS = {Target.TENSORRT: "trtexec", Target.TENSORRT_RTX: "tensorrt_rtx"}
_LEVELS = {
    HardwareCompatibility.AMPERE_PLUS: "ampere+",
    HardwareCompatibility.SAME_CAPABILITY: "sameComputeCapability",
}


def trtexec_command(api: Api, job: Job) -> str:
    """Return the command line that does `job` with `trtexec` (for TensorRT-RTX: `tensorrt_rtx`)."""
    options = job.options
    words = [_TOOLS[job.target], f"--onnx={job.onnx}", f"--saveEngine={job.output}"]
    for bound in ("min", "opt", "max"):
        if job.profiles:
            words.append(f"--{bound}Shapes={_shapes(job.profiles, bound)}")
    words += _precision(api, job)
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


def _precision(api: Api, job: Job) -> list[str]:
    if job.strongly_typed:  # TensorRT 11 and TensorRT-RTX know nothing else
        return ["--stronglyTyped"] if api.has_flag("FP16") else []
    if job.precision is Precision.FP32:
        return []
    words = [f"--{job.precision.value}"]
    names = [node.name for node in job.nodes if node.is_float32]  # layers have the nodes' names
    if names:
        listed = ",".join(f"{name}:fp32" for name in names)
        words += ["--precisionConstraints=obey", f"--layerPrecisions={listed}"]
        words.append(f"--layerOutputTypes={listed}")
    return words
