"""Figures of an instance, on Triton's own page for Prometheus."""

from __future__ import annotations

from typing import Any


class Metrics:
    """Counts that Triton cannot know, each with the model's name, version and instance."""

    def __init__(self, args: dict[str, str]) -> None:
        labels = {
            "model": args["model_name"],
            "version": args["model_version"],
            "instance": args["model_instance_name"],
        }
        self.cached_bytes = _Figure("samtrt_cached_bytes", "Bytes of embeddings kept", labels, True)
        self.cached_images = _Figure("samtrt_cached_images", "Images kept", labels, True)
        self.evictions = _Figure("samtrt_evictions_total", "Images dropped to make room", labels)
        self.hits = _Figure("samtrt_hits_total", "Requests whose image was kept", labels)
        self.misses = _Figure("samtrt_misses_total", "Requests whose image was not kept", labels)
        self.encoded = _Figure("samtrt_encoded_total", "Images encoded", labels)
        self.prompts = _Figure("samtrt_prompts_total", "Prompts answered", labels)


class _Figure:
    def __init__(self, name: str, about: str, labels: dict[str, str], gauge: bool = False) -> None:
        import triton_python_backend_utils as backend

        kind = backend.MetricFamily.GAUGE if gauge else backend.MetricFamily.COUNTER
        # Kept: the metric goes with its family.
        self._family: Any = backend.MetricFamily(name=name, description=about, kind=kind)
        self._metric: Any = self._family.Metric(labels=labels)

    def add(self, value: float = 1) -> None:
        self._metric.increment(value)

    def set(self, value: float) -> None:
        self._metric.set(value)
