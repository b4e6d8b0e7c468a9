"""The graph that an engine is built from: the exported one, or one made of it for this build."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from samtrt.backends.base import image_inputs
from samtrt.build.checks import uses_plugin
from samtrt.build.options import BuildOptions, NodePrecision
from samtrt.choices import AnyStage, Float32Part, HardwareCompatibility, Precision, Target
from samtrt.manifest import Manifest
from samtrt.tensorrt.api import Api
from samtrt.tensorrt.gpu import find_gpu
from samtrt.tensorrt.plugin.library import COMPILE_COMMAND, PluginLibrary


def graph_to_build(
    api: Api,
    manifest: Manifest,
    stage: AnyStage,
    graph: Path,
    options: BuildOptions,
    work: Path,
    report: Callable[[str], None],
) -> Path:
    """Return a graph that the parser takes, with the types that the network needs.

    Args:
        api: The TensorRT that builds.
        manifest: Of the model directory.
        stage: Which engine.
        graph: The exported graph; it stays as it is.
        options: `plugin` keeps the plugin's nodes; without it they become standard operators.
        work: An empty directory, where what is made goes.
        report: Told what is done.

    Raises:
        ExportError: where the graph cannot be read, or has weights that half precision cannot hold.
        MissingExtraError: where a graph must be made, and `onnx` is not installed.
    """
    precision = options.precision or manifest.precision
    to_type = precision is not manifest.precision and api.is_strongly_typed
    # Typing needs the functions to know the types of what the plugin's operators make.
    if uses_plugin(manifest) and not (options.plugin and to_type):
        report("writing the graph " + ("with" if options.plugin else "without") + " the plugin")
        graph = without_functions(graph, options, work)
        if options.plugin and precision is Precision.FP16 and not api.is_strongly_typed:
            from samtrt.export.precision import halve_plugin_weights

            halve_plugin_weights(graph)
    if not to_type:
        return graph
    from samtrt.export.precision import convert, load_graph, save_graph

    report(f"typing the graph as {precision.value}")
    typed = work / graph.name
    parts = frozenset(options.float32)
    held = image_inputs(stage, manifest)
    save_graph(convert(load_graph(graph), precision, held, parts), typed)
    return typed


def slow_operators(graph: Path, options: BuildOptions) -> frozenset[str]:
    """Return names of the plugin's operators that the engine is faster without, or has to be.

    `SamtrtLinearGelu` is a matrix product, which TensorRT does faster, with its own convolution and
    `SamtrtGelu` after it, wherever the plugin has not Hopper's kernel for it. For
    `SamtrtMemoryAttention` the plugin has no other kernel.

    Args:
        graph: As exported.
        options: With a plugin.

    Raises:
        BackendError: where there is no GPU.
        ExportError: where the graph cannot be read.
    """
    from samtrt.export.operators.graph import weight_shapes
    from samtrt.export.operators.linear_gelu import LINEAR_GELU
    from samtrt.export.operators.memory_attention import MEMORY_ATTENTION

    assert options.plugin
    shapes = weight_shapes(graph)
    if not shapes.keys() & {LINEAR_GELU.name, MEMORY_ATTENTION.name}:
        return frozenset()
    library, gpu = PluginLibrary.open(options.plugin), find_gpu(options.device)
    elsewhere = options.hardware_compatible is HardwareCompatibility.AMPERE_PLUS
    has_hopper = library.has_hopper(gpu) and not elsewhere
    slow = set()
    linear = shapes.get(LINEAR_GELU.name, set())
    if linear and not (has_hopper and all(library.multiplies(*shape) for shape in linear)):
        slow.add(LINEAR_GELU.name)
    if MEMORY_ATTENTION.name in shapes and not has_hopper:
        slow.add(MEMORY_ATTENTION.name)
    return frozenset(slow)


def without_operators(graph: Path, names: Collection[str], work: Path) -> Path:
    """Write a graph with standard operators in the place of some of the plugin's; return where.

    Args:
        graph: As exported.
        names: Of these operators.
        work: As in `without_functions`.
    """
    from samtrt.export.operators.graph import inline_fallback

    written = work / "operators" / graph.name
    written.parent.mkdir()
    inline_fallback(graph, written, names)
    return written


def node_precisions(
    graph: Path, image_inputs: Collection[str], parts: Collection[Float32Part]
) -> tuple[NodePrecision, ...]:
    """Tell which nodes of a graph compute in float32 at half precision.

    Args:
        graph: In float32 or in half precision; the plugin's operators need their functions, which
            tell types.
        image_inputs: As in `float32_nodes`.
        parts: What stays in float32.

    Raises:
        ExportError: where the graph cannot be read.
        MissingExtraError: where `onnx` is not installed.
    """
    from samtrt.export.float32_parts import float32_nodes
    from samtrt.export.precision import float_tensors, load_graph

    model = load_graph(graph)
    floats, kept = float_tensors(model), set(float32_nodes(model.graph, image_inputs, parts))

    def computes(node: Any) -> bool:  # constants and casts have no precision of their own
        return node.op_type not in ("Cast", "Constant") and floats.issuperset(node.output)

    return tuple(
        NodePrecision(
            name=node.name, outputs=tuple(node.output), is_float32=i in kept and computes(node)
        )
        for i, node in enumerate(model.graph.node)
    )


def without_functions(graph: Path, options: BuildOptions, work: Path) -> Path:
    """Write a graph with the plugin's operators anew, as parsers take it; return where.

    Args:
        graph: As exported, where every such operator has a function of standard ones.
        options: With `plugin` the operators stay and the functions go, without it the reverse.
        work: A directory, where the graph goes; weights may be shared with the exported one.
    """
    from samtrt.export.operators.graph import inline_fallback, strip_functions

    written = work / "form" / graph.name
    written.parent.mkdir()
    (strip_functions if options.plugin else inline_fallback)(graph, written)
    return written


def plain_graph_command(graph: Path, options: BuildOptions) -> tuple[Path, str]:
    """Return a graph that NVIDIA's own tools take, and the command that makes it of `graph`."""
    plain = graph.with_name(f"{graph.stem}.{'plugin' if options.plugin else 'plain'}.onnx")
    function = "strip_functions" if options.plugin else "inline_fallback"
    code = (
        f"from pathlib import Path; from samtrt import {function}; "
        f"{function}(Path({str(graph)!r}), Path({str(plain)!r}))"
    )
    return plain, shlex.join(["python", "-c", code])


def operators_note(names: Collection[str]) -> str:
    """Return what to tell where a build does without some of the plugin's operators."""
    return (
        f"built with standard operators in the place of {', '.join(sorted(names))}, whose fast "
        "kernel is for Hopper (compute capability 9.0) and for whole tiles of channels"
    )


def fallback_note(manifest: Manifest, target: Target, options: BuildOptions) -> str | None:
    """Return what to tell where a build does without the plugin that it could have."""
    precision = options.precision or manifest.precision
    if (
        not uses_plugin(manifest)
        or options.plugin
        or target is not Target.TENSORRT
        or precision is Precision.FP32
    ):
        return None
    return (
        "built without the plugin, in standard operators, which is slower; for the plugin, compile "
        f"it with: {COMPILE_COMMAND} and build again with --plugin FILE"
    )
