"""A stand-in for a compiled plugin library, which takes nvcc and a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from samtrt.tensorrt.api import Api
from samtrt.tensorrt.plugin import library as plugin

REGISTRY, LOGGER = 0x1000, 0x2000
"""Addresses that a stand-in for TensorRT tells."""


def install(
    patch: pytest.MonkeyPatch,
    major: int = 8,
    architectures: bytes = b"sm_90a",
    refused: int = 0,
    head_dims: tuple[int, ...] = (32, 64, 80),
    on_register: Callable[[], object] = lambda: None,
) -> list[tuple[Path, int, int]]:
    """Let every file be a plugin library; return what was registered: library, registry, logger."""
    registered: list[tuple[Path, int, int]] = []

    def dlopen(path: Path) -> SimpleNamespace:
        def architectures_() -> bytes:
            return architectures

        def register(registry: int, logger: int) -> int:
            registered.append((path, registry, logger))
            on_register()
            return refused

        return SimpleNamespace(
            samtrt_plugin_tensorrt_major=lambda: major,
            samtrt_architectures=architectures_,
            samtrt_register_plugins=register,
            samtrt_layer_norm_supported=lambda channels: int(channels <= 1280),
            samtrt_linear_gelu_supported=lambda inputs, outputs: int(
                inputs % 64 == 0 and outputs % 128 == 0
            ),
            samtrt_memory_attention_workspace=lambda channels: channels,
            samtrt_square_attention_supported=lambda grid, dim, window, stride: int(
                grid % stride == window % stride == 0 and dim in (56, 72, 96)
            ),
            samtrt_attention_supported=lambda grid, dim, window: int(
                grid in (16, 32, 48, 64) and dim in head_dims and window in (0, 14)
            ),
        )

    patch.setattr(plugin, "_dlopen", dlopen)
    patch.setattr(plugin, "_registered", {})
    patch.setattr(Api, "plugin_registry", lambda _: (REGISTRY, LOGGER))
    return registered
