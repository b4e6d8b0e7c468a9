"""A network of TensorRT's for one ONNX file, for benches that build single graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from samtrt.choices import Target
from samtrt.tensorrt.api import load_api


class Parsed(NamedTuple):
    """What a build takes; the parser holds the weights until it is done."""

    trt: Any
    logger: Any
    builder: Any
    parser: Any
    network: Any
    config: Any

    def build(self) -> Any:
        """Return the engine's bytes.

        Raises:
            SystemExit: where TensorRT builds none; it has said why on standard error.
        """
        plan = self.builder.build_serialized_network(self.network, self.config)
        if plan is None:
            raise SystemExit("no engine")
        return plan


def parse_fp16(path: Path) -> Parsed:
    """Parse a graph, to be built in fp16 for the GPU at hand.

    Raises:
        SystemExit: where TensorRT does not parse it.
    """
    trt: Any = load_api(Target.TENSORRT).trt
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(path.read_bytes()):
        raise SystemExit(f"not parsed: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    return Parsed(trt, logger, builder, parser, network, config)
