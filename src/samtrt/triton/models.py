"""What each model of a repository is told to Triton: its tensors, instances, batches, warm-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from samtrt.backends.base import stage_tensors
from samtrt.choices import Stage, TritonPlatform
from samtrt.manifest import Manifest
from samtrt.tensorrt.record import Profile
from samtrt.triton.asked import auto_inputs, inputs_of, outputs_of
from samtrt.triton.config import Fields, Word, parameters, tensor, zeros
from samtrt.types import TensorInfo

_US = 1_000_000
"""Microseconds in a second."""

KEPT_VERSIONS = 2
"""The newest versions that Triton serves: what still runs on the one before is not cut off."""

PLATFORMS: Mapping[TritonPlatform, Fields] = {
    TritonPlatform.PYTHON: {"backend": "python"},
    TritonPlatform.ONNXRUNTIME: {"platform": "onnxruntime_onnx"},
    TritonPlatform.TENSORRT: {"platform": "tensorrt_plan"},
}


@dataclass(frozen=True)
class Scaling:
    """How much of a machine the models take.

    Attributes:
        instances: Of the `sam` model, each a process with an embedding cache of its own.
        auto_instances: Of the automatic model; 0 leaves it out.
        encoders, decoders: Instances of the two stages; on GPUs, on each of them.
        encoder_batch: Images encoded together, at most.
        batch_delay: Seconds that an image waits for others.
        sequences: Clients that one instance of `sam` has at once, at most; more wait.
        idle: Seconds after which a client that says nothing loses its place.
    """

    instances: int = 2
    auto_instances: int = 1
    encoders: int = 1
    decoders: int = 1
    encoder_batch: int = 8
    batch_delay: float = 0.002
    sequences: int = 1024
    idle: float = 600.0


def stage_config(
    name: str,
    manifest: Manifest,
    stage: Stage,
    platform: TritonPlatform,
    device: str,
    scaling: Scaling,
    threads: int = 0,
    profiles: Mapping[str, Profile] | None = None,
    file_name: str = "",
) -> tuple[Fields, Fields]:
    """Return what Triton is told of the encoder or decoder: what it takes, and how it runs.

    Args:
        name: The model's.
        manifest: Whose stage.
        stage: Which.
        platform: What runs it.
        device: "cpu", "cuda" or "cuda:N".
        scaling: Instances and batches.
        threads: CPU threads within one operation; 0 leaves it to the runtime.
        profiles: Shapes that an engine takes.
        file_name: The engine's or graph's, where the platform loads it by itself.
    """
    inputs, outputs = stage_tensors(manifest, stage)
    if profiles:
        inputs = [_bounded(one, profiles[one.name]) for one in inputs]
    most = batch_of(manifest, scaling.encoder_batch, profiles) if stage is Stage.ENCODER else 1
    batched = most > 1
    if not batched and stage is Stage.ENCODER and not profiles:
        # Of a graph that takes one image or several, but shall not.
        inputs, outputs = _alone(inputs), _alone(outputs)
    what: Fields = {
        "name": name,
        **PLATFORMS[platform],
        "max_batch_size": most if batched else 0,
        "input": [tensor(one, batched) for one in inputs],
        "output": [tensor(one, batched) for one in outputs],
    }
    if file_name:
        what["default_model_filename"] = file_name
    count = scaling.encoders if stage is Stage.ENCODER else scaling.decoders
    how: Fields = {"instance_group": [_instances(count, device)], **_policy()}
    if batched:
        delay = round(scaling.batch_delay * _US)
        how["dynamic_batching"] = {
            "preferred_batch_size": [most],
            "max_queue_delay_microseconds": delay,
        }
    sizes = {"batch": 1, "prompts": 1, "points": 2}
    warm = [zeros(one, sizes, batched) for one in inputs]
    how["model_warmup"] = [
        {"name": f"{stage.value} of {size}", "batch_size": size, "inputs": warm}
        for size in sorted({1, most})
    ]
    if platform is TritonPlatform.ONNXRUNTIME and threads:
        how["parameters"] = parameters({"intra_op_thread_count": str(threads)})
    return what, how


def batch_of(manifest: Manifest, wanted: int, profiles: Mapping[str, Profile] | None = None) -> int:
    """Return how many images an encoder takes at once, at most `wanted`."""
    if profiles:
        return min(wanted, profiles["images"].max[0])
    return wanted if manifest.dynamic_batch else 1


def sam_config(name: str, manifest: Manifest, scaling: Scaling) -> tuple[Fields, Fields]:
    """Return what Triton is told of the model that clients prompt."""
    what: Fields = {
        "name": name,
        "backend": "python",
        "max_batch_size": 0,
        "input": [tensor(one, optional=True) for one in inputs_of(manifest)],
        "output": [tensor(one) for one in outputs_of(manifest)],
    }
    how: Fields = {
        "instance_group": [_instances(scaling.instances, "cpu")],
        **_policy(),
        # Oldest: an instance takes a request of any of its clients as it comes.
        "sequence_batching": {
            "max_sequence_idle_microseconds": round(scaling.idle * _US),
            "oldest": {"max_candidate_sequences": scaling.sequences},
        },
    }
    return what, how


def auto_config(name: str, manifest: Manifest, scaling: Scaling) -> tuple[Fields, Fields]:
    """Return what Triton is told of the model that finds everything in an image."""
    image, options = auto_inputs()
    digest = outputs_of(manifest)[0]
    what: Fields = {
        "name": name,
        "backend": "python",
        "max_batch_size": 0,
        "input": [tensor(image), tensor(options, optional=True)],
        "output": [tensor(replace(image, name="masks")), tensor(digest)],
    }
    how: Fields = {"instance_group": [_instances(scaling.auto_instances, "cpu")], **_policy()}
    return what, how


def _policy() -> Fields:
    return {"version_policy": {"latest": {"num_versions": KEPT_VERSIONS}}}


def _instances(count: int, device: str) -> Fields:
    kind, _, number = device.partition(":")
    fields: Fields = {"count": count, "kind": Word("KIND_CPU" if kind == "cpu" else "KIND_GPU")}
    return {**fields, "gpus": [int(number)]} if number else fields


def _bounded(info: TensorInfo, profile: Profile) -> TensorInfo:
    """Return an engine's input: an axis that its profile leaves no choice for is fixed."""
    shape = tuple(
        size if isinstance(size, str) and least != most else most
        for size, least, most in zip(info.shape, profile.min, profile.max, strict=True)
    )
    return replace(info, shape=shape)


def _alone(infos: list[TensorInfo]) -> list[TensorInfo]:
    return [replace(one, shape=(1, *one.shape[1:])) for one in infos]
