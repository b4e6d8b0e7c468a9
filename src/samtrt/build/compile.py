"""From one ONNX graph to one engine, in this process: parse, configure, constrain, build.

`samtrt.build.engines` runs this in a process of its own, which may be killed, and may crash.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samtrt.build.float32 import keep_float32
from samtrt.build.options import Built, Job, Progress, TensorFact
from samtrt.choices import HardwareCompatibility, Precision, Target
from samtrt.errors import BuildError
from samtrt.files import sha256_of, write_atomic
from samtrt.tensorrt.api import Api, Message, capture, explain_cuda_failure
from samtrt.tensorrt.gpu import Gpu, find_gpu
from samtrt.tensorrt.plugin.library import register_plugins
from samtrt.tensorrt.record import Profile

RTX_CAPABILITIES = ("8.6", "8.9", "12.0", "12.1+")
"""What TensorRT-RTX compiles for when nothing is asked ("CPU-Only AOT" in its documentation)."""

Report = Callable[[Progress], None]


def compile_engine(api: Api, job: Job, report: Report = lambda _: None) -> Built:
    """Build one engine and write it to `job.output`.

    Raises:
        BackendError: where the library cannot start: no GPU (TensorRT), or too old a driver; or
            where the plugin library is not for it.
        BuildError: where the graph cannot be parsed, an option is not one of this version's, or the
            build fails.
        OutputError: where the engine cannot be written.
    """
    # TensorRT times kernels on the GPU at hand; TensorRT-RTX compiles with none.
    gpu = find_gpu() if job.target is Target.TENSORRT else None
    builder = api.create_builder()
    with capture(api.logger) as messages:
        if job.plugin:
            register_plugins(api, job.plugin, sha256_of(job.plugin), gpu)
        network = _create_network(api, builder, job.strongly_typed)
        report(Progress(share=None, text=f"parsing {job.onnx.name}"))
        parse(api, network, job.onnx)
        config = builder.create_builder_config()
        _configure(api, config, job)
        profile = _add_profile(builder, network, config, job)
        kept: list[str] = []
        if not job.strongly_typed and job.precision is not Precision.FP32:
            kept = keep_float32(api.trt, network, job.nodes)
        cache = _load_timing_cache(api, config, job, gpu)
        if api.has_progress_monitor:
            monitor = _make_monitor(api, report)  # the config does not keep it alive
            config.progress_monitor = monitor
        report(Progress(share=None, text="building"))
        before = len(messages)  # a timing cache that is of no use is told as an error too
        start = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - start
    if plan is None:
        raise BuildError(_explain(api, job, messages[before:]))
    if cache:
        _save_timing_cache(config, cache)
    with write_atomic(job.output) as temporary:
        temporary.write_bytes(plan)
    return Built(
        library_version=api.version_text,
        gpu=gpu.name if gpu and not job.options.hardware_compatible else None,
        compute_capabilities=_capabilities(config, job, gpu),
        inputs=tuple(_fact(network.get_input(i)) for i in range(network.num_inputs)),
        outputs=tuple(_fact(network.get_output(i)) for i in range(network.num_outputs)),
        profiles=_read_profiles(network, profile),
        float32_layers=tuple(kept),
        seconds=round(seconds, 3),
        warnings=tuple(dict.fromkeys(m.text for m in messages if m.severity == "warning")),
    )


def parse(api: Api, network: Any, path: Path) -> None:
    """Read an ONNX file into a network.

    Raises:
        BuildError: with the node, its operator and the parser's own words.
    """
    parser = api.trt.OnnxParser(network, api.logger)
    if parser.parse_from_file(str(path)):
        return
    problems = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise BuildError(f"{api.product} cannot parse {path}: {(problems or ['no reason'])[0]}{more}")


def _parser_error(error: Any) -> str:
    # Older bindings tell a node by its number alone.
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    where = f"node {name or error.node()}" + (f" ({operator})" if operator else "")
    return f"{where}: {' '.join(error.desc().split())}"


def _create_network(api: Api, builder: Any, strongly_typed: bool) -> Any:
    members = api.trt.NetworkDefinitionCreationFlag.__members__
    wanted = {"EXPLICIT_BATCH": True, "STRONGLY_TYPED": strongly_typed}
    flags = sum(1 << int(members[name]) for name, on in wanted.items() if on and name in members)
    return builder.create_network(flags)


def _configure(api: Api, config: Any, job: Job) -> None:
    if job.plugin:
        # TensorRT 8.6 would load cuBLAS and cuDNN to hand to plugins, and ours needs neither.
        members = api.trt.TacticSource.__members__
        unused = sum(1 << int(members[n]) for n in ("CUBLAS", "CUBLAS_LT", "CUDNN") if n in members)
        config.set_tactic_sources(config.get_tactic_sources() & ~unused)
    trt, options = api.trt, job.options
    flags = trt.BuilderFlag
    if options.tf32:
        config.set_flag(flags.TF32)
    else:
        config.clear_flag(flags.TF32)
    if not job.strongly_typed and job.precision is not Precision.FP32:
        config.set_flag(getattr(flags, job.precision.name))
        config.set_flag(flags.OBEY_PRECISION_CONSTRAINTS)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.version_compatible:
        config.set_flag(flags.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        level = {
            HardwareCompatibility.AMPERE_PLUS: "AMPERE_PLUS",
            HardwareCompatibility.SAME_CAPABILITY: "SAME_COMPUTE_CAPABILITY",
        }[options.hardware_compatible]
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if options.compute_capabilities:
        config.num_compute_capabilities = len(options.compute_capabilities)
        for i, capability in enumerate(options.compute_capabilities):
            member = getattr(trt.ComputeCapability, f"SM{capability.replace('.', '')}")
            config.set_compute_capability(member, i)


def _add_profile(builder: Any, network: Any, config: Any, job: Job) -> Any:
    """Add the one profile; return None where every shape is fixed."""
    names = [network.get_input(i).name for i in range(network.num_inputs)]
    dynamic = {name: shapes for name, shapes in job.profiles.items() if name in names}
    if not dynamic:
        return None
    profile = builder.create_optimization_profile()
    for name, shapes in dynamic.items():
        profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refuses the optimization profile {dynamic}")
    return profile


def _read_profiles(network: Any, profile: Any) -> dict[str, Profile]:
    """Return the shapes of every input, as the profile and the network hold them."""
    found = {}
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        fixed = tuple(tensor.shape)
        shapes = profile.get_shape(tensor.name) if -1 in fixed else (fixed,) * 3
        low, opt, high = (tuple(shape) for shape in shapes)
        found[tensor.name] = Profile(min=low, opt=opt, max=high)
    return found


def _fact(tensor: Any) -> TensorFact:
    return TensorFact(name=tensor.name, dtype=tensor.dtype.name.lower(), shape=tuple(tensor.shape))


def _capabilities(config: Any, job: Job, gpu: Gpu | None) -> tuple[str, ...]:
    if gpu is not None:
        ampere_plus = job.options.hardware_compatible is HardwareCompatibility.AMPERE_PLUS
        return ("8.0+",) if ampere_plus else (gpu.compute_capability,)
    members = [config.get_compute_capability(i) for i in range(config.num_compute_capabilities)]
    return tuple(f"{int(m) // 10}.{int(m) % 10}" for m in members) or RTX_CAPABILITIES


def _load_timing_cache(api: Api, config: Any, job: Job, gpu: Gpu | None) -> Path | None:
    """Give the config the kernel times of earlier builds; return where to keep this one's."""
    if job.timing_cache is None or gpu is None:
        return None
    path = job.timing_cache / f"{job.target.value}-{api.version_text}-{gpu.slug}.timing"
    try:
        data = path.read_bytes()
    except OSError:  # none yet
        data = b""
    cache = config.create_timing_cache(data)
    # A damaged file, or one of another version in spite of its name: measure afresh.
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    return path


def _save_timing_cache(config: Any, path: Path) -> None:
    with write_atomic(path) as temporary:
        temporary.write_bytes(config.get_timing_cache().serialize())


_NO_IMPLEMENTATION = "couldnotfindanyimplementation"
WITHOUT_IMPLEMENTATION = (
    "; TensorRT 8.6 has none for many standard operators together: export with --attention plugin "
    "--opset 17 and build with --plugin, or take TensorRT 10"
)


def _explain(api: Api, job: Job, messages: list[Message]) -> str:
    errors = list(dict.fromkeys(" ".join(m.text.split()) for m in messages if m.is_error))
    text = " ".join(errors)
    squeezed = text.lower().replace(" ", "")
    what = f"{api.product} cannot build the {job.stage.words}"
    if any(sign in squeezed for sign in ("outofmemory", "workspacelimit", "insufficientworkspace")):
        return (
            f"{what}: out of memory; allow more with --workspace, free the GPU, or build for fewer "
            f"prompts, points, objects or images at once ({errors[0]})"
        )
    # What went wrong first, and what came of it: only the two together tell which layer it was.
    told = "; ".join(dict.fromkeys((errors[0], errors[-1]))) if errors else "no reason was logged"
    is_weak = api.is_tensorrt_8 and job.plugin is None
    advice = WITHOUT_IMPLEMENTATION if is_weak and _NO_IMPLEMENTATION in squeezed else ""
    return f"{what}: {explain_cuda_failure(text) or told}{advice}"


def _make_monitor(api: Api, report: Report) -> Any:
    """Return a progress monitor: phases are nested, and each has a known number of steps."""

    class Monitor(api.trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            api.trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, list[int]] = {}
            self.share = 0.0

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = [0, max(num_steps, 1)]
            report(Progress(share=self.share, text=phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.phases:
                self.phases[phase_name][0] = step + 1
            share, width = 0.0, 1.0
            for done, steps in self.phases.values():
                share += width * done / steps
                width /= steps
            # A phase ends before its parent counts the step, which must not look like going back.
            if share > self.share:
                self.share = min(share, 1.0)
                report(Progress(share=self.share, text=phase_name))
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

    return Monitor()
