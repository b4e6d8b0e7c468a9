"""What TensorRT-RTX compiles at run time, kept for the next process.

An RTX engine holds kernels that are finished on the GPU that runs them, at the first run of each
shape. That takes seconds, once for each process without a cache.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from samtrt.errors import OutputError
from samtrt.files import write_atomic
from samtrt.tensorrt.api import Api


class JitCache:
    """How one RTX engine is run, and the kernels compiled for it. Outlives its contexts.

    Attributes:
        config: For `ICudaEngine.create_execution_context`.
    """

    def __init__(self, api: Api, engine: Any, path: Path) -> None:
        self.config = engine.create_runtime_config()
        # A graph that we recorded would go on with the kernels of its time, which may be
        # placeholders for some still being compiled; the library knows when to record anew.
        self.config.cuda_graph_strategy = api.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = self.config.create_runtime_cache()
        self._path, self._stored = path, b""
        with suppress(OSError):  # none yet
            stored = path.read_bytes()
            # The library refuses what another GPU, driver or version compiled.
            if self._cache.deserialize(stored):
                self._stored = stored
        self.config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Store what was compiled since; a place that cannot be written costs time, no more."""
        compiled = bytes(self._cache.serialize())
        if compiled != self._stored:
            with suppress(OutputError), write_atomic(self._path) as temporary:
                temporary.write_bytes(compiled)
                self._stored = compiled
