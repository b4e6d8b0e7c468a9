"""A stand-in for the builders of TensorRT 8.6 and 10, which cannot start without a GPU.

It stands in for what `samtrt.build.compile` touches, under the names that the bindings of
8.6.1 have (10 adds strong typing and bfloat16): enumerations, the parser (one layer for each node
of a real ONNX file, with TensorRT's types), precision constraints, profiles, timing caches.
`build_serialized_network` compiles nothing: the engine is a JSON of what it was asked for. A setter
that 8.6 does not have is an AttributeError.
"""

from __future__ import annotations

import json
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import onnx
from onnx import TensorProto

from samtrt.choices import Target
from samtrt.tensorrt.api import Api, Message

DataType = Enum("DataType", ["FLOAT", "HALF", "INT32", "BOOL", "INT64"])
LayerType = Enum(
    "LayerType", ["CAST", "CONSTANT", "SOFTMAX", "NORMALIZATION", "ELEMENTWISE", "PLUGIN_V2"]
)
BuilderFlag = IntEnum(
    "BuilderFlag", ["FP16", "TF32", "OBEY_PRECISION_CONSTRAINTS", "VERSION_COMPATIBLE"], start=0
)
BuilderFlag11 = IntEnum("BuilderFlag", ["TF32", "VERSION_COMPATIBLE"], start=0)
BuilderFlag10 = IntEnum("BuilderFlag", [*BuilderFlag.__members__, "BF16"], start=0)
NetworkFlag = IntEnum("NetworkDefinitionCreationFlag", ["EXPLICIT_BATCH"], start=0)
NetworkFlag10 = IntEnum("NetworkFlag", ["EXPLICIT_BATCH", "STRONGLY_TYPED"], start=0)
HardwareCompatibilityLevel = Enum("HardwareCompatibilityLevel", ["NONE", "AMPERE_PLUS"])
MemoryPoolType = Enum("MemoryPoolType", ["WORKSPACE"])

_TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.BOOL: DataType.BOOL,
    TensorProto.INT64: DataType.INT32,  # 8.6 has no 64-bit integers
    TensorProto.INT32: DataType.INT32,
}
_LAYERS = {
    "Cast": LayerType.CAST,
    "LayerNormalization": LayerType.NORMALIZATION,
    "Softmax": LayerType.SOFTMAX,
    "Constant": LayerType.CONSTANT,
}


class Tensor:
    def __init__(self, name: str, dtype: DataType, shape: tuple[int, ...] = ()) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape


class Layer:
    def __init__(
        self, name: str, kind: LayerType, ins: list[Tensor | None], outs: list[Tensor]
    ) -> None:
        self.name, self.type = name, kind
        self._ins, self._outs = ins, outs
        self.num_inputs, self.num_outputs = len(ins), len(outs)
        self.output_types: dict[int, DataType] = {}
        self._precision: DataType | None = None

    @property
    def precision(self) -> DataType | None:
        return self._precision

    @precision.setter
    def precision(self, dtype: DataType) -> None:
        assert self.type.name not in ("CAST", "CONSTANT", "PLUGIN_V2"), self.name
        self._precision = dtype

    def get_input(self, index: int) -> Tensor | None:
        return self._ins[index]

    def get_output(self, index: int) -> Tensor:
        return self._outs[index]

    def set_output_type(self, index: int, dtype: DataType) -> None:
        # As TensorRT: only a float may become another float.
        assert self._outs[index].dtype in (DataType.FLOAT, DataType.HALF), self.name
        self.output_types[index] = dtype


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.layers: list[Layer] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]


class OnnxParser:
    """Its errors have no node names, as in 8.6. Operators of other domains must be in `plugins`."""

    num_errors = 1
    plugins: set[str] = set()  # noqa: RUF012

    def __init__(self, network: Network, _logger: object) -> None:
        self.network = network

    def get_error(self, _index: int) -> SimpleNamespace:
        return SimpleNamespace(node=lambda: 7, desc=lambda: "In node 7:\n  unsupported operator")

    def parse_from_file(self, path: str) -> bool:
        model = onnx.load(path)
        custom = {node.op_type for node in model.graph.node if node.domain}
        if not custom <= self.plugins or model.functions:
            return False
        graph = onnx.shape_inference.infer_shapes(model).graph
        tensors: dict[str, Tensor | None] = {"": None}
        for value in (*graph.input, *graph.output, *graph.value_info):
            found = value.type.tensor_type
            shape = tuple(-1 if d.dim_param else d.dim_value for d in found.shape.dim)
            tensors[value.name] = Tensor(value.name, _TYPES[found.elem_type], shape)
        for weight in graph.initializer:
            tensors[weight.name] = Tensor(weight.name, _TYPES[weight.data_type])
        for node in graph.node:
            ins, outs = ([tensors[n] for n in names] for names in (node.input, node.output))
            other = LayerType.PLUGIN_V2 if node.domain else LayerType.ELEMENTWISE
            kind = _LAYERS.get(node.op_type, other)
            name = node.name or f"(Unnamed Layer* {len(self.network.layers)}) [{node.op_type}]"
            self.network.layers.append(Layer(name, kind, ins, outs))
        self.network.inputs = [tensors[value.name] for value in graph.input]
        self.network.outputs = [tensors[value.name] for value in graph.output]
        return True


class OptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, low: Any, opt: Any, high: Any) -> None:
        self.shapes[name] = (low, opt, high)

    def get_shape(self, name: str) -> tuple[Any, ...]:
        return self.shapes[name]


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data


class TacticSource(IntEnum):
    CUBLAS = 0
    CUBLAS_LT = 1
    CUDNN = 2
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class BuilderConfig:
    __slots__ = (
        "builder_optimization_level",
        "cache",
        "flags",
        "hardware_compatibility_level",
        "pools",
        "profiles",
        "tactic_sources",
    )

    def __init__(self) -> None:
        self.flags: set[IntEnum] = {BuilderFlag.TF32}  # TensorRT's default
        self.profiles: list[OptimizationProfile] = []
        self.pools: dict[str, int] = {}
        self.cache: TimingCache | None = None
        self.tactic_sources = sum(1 << int(source) for source in TacticSource)  # all of them
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE

    def set_flag(self, flag: IntEnum) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: IntEnum) -> None:
        self.flags.discard(flag)

    def get_tactic_sources(self) -> int:
        return self.tactic_sources

    def set_tactic_sources(self, sources: int) -> bool:
        self.tactic_sources = sources
        return True

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: bytes) -> TimingCache | None:
        return TimingCache(data) if data in (b"",) or data.startswith(b"times") else None

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.cache


class Builder:
    """`fails_with` is what the library logs instead of building."""

    fails_with: str | None = None

    def __init__(self, logger: SimpleNamespace) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags & 1, "8.6 needs EXPLICIT_BATCH"
        return Network(flags)

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig()

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def build_serialized_network(self, network: Network, config: BuilderConfig) -> bytes | None:
        if self.fails_with:
            self._log("error", self.fails_with)
            return None
        self._log("warning", "weights were rounded")
        self._log("warning", "weights were rounded")
        if config.cache is not None:
            config.cache.data = b"times" + config.cache.data
        asked = {
            "flags": sorted(flag.name for flag in config.flags),
            "strongly_typed": bool(network.flags & 2),
            "pools": config.pools,
            "level": config.builder_optimization_level,
            "tactic_sources": [s.name for s in TacticSource if config.tactic_sources >> int(s) & 1],
            "compatible": config.hardware_compatibility_level.name,
            "layers": {layer.name: layer.type.name for layer in network.layers},
            "float32": {
                layer.name: [layer.type.name, {k: v.name for k, v in layer.output_types.items()}]
                for layer in network.layers
                if layer.precision is DataType.FLOAT
            },
        }
        return json.dumps(asked).encode()

    def _log(self, severity: str, text: str) -> None:
        for listener in self.logger.listeners:
            listener.append(Message(severity, text))


def weak_api(version: tuple[int, ...] = (8, 6, 0)) -> Api:
    """Return what `load_api` would for TensorRT of a version; of 11, its flags alone are right."""
    ten = version >= (10,)
    flags = BuilderFlag11 if version >= (11,) else BuilderFlag10 if ten else BuilderFlag
    module = SimpleNamespace(
        __name__="tensorrt",
        Builder=type("Builder", (Builder,), {}),
        Runtime=object,
        OnnxParser=type("OnnxParser", (OnnxParser,), {"plugins": set()}),
        BuilderFlag=flags,
        NetworkDefinitionCreationFlag=NetworkFlag10 if ten else NetworkFlag,
        HardwareCompatibilityLevel=HardwareCompatibilityLevel,
        MemoryPoolType=MemoryPoolType,
        LayerType=LayerType,
        TacticSource=TacticSource,
        float32=DataType.FLOAT,
        float16=DataType.HALF,
    )
    return Api(Target.TENSORRT, module, version, True, SimpleNamespace(listeners=[]))
