"""What the server counts, for Prometheus. One registry an application, so tests do not share."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Prometheus collectors; labels hold routes and methods, never ids or tokens."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "samtrt_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "samtrt_request_seconds",
            "Time to the last byte",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.rejected = Counter(
            "samtrt_rejected", "Requests refused for want of room", ["what"], registry=registry
        )
        self.batch_seconds = Histogram(
            "samtrt_batch_seconds",
            "Time of one engine call",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "samtrt_batch_size",
            "Images or prompts in one engine call",
            ["stage"],
            buckets=_BATCH,
            registry=registry,
        )
        self.in_use = Gauge("samtrt_slots_in_use", "Work admitted", ["what"], registry=registry)
        self.cached_images = Gauge("samtrt_cached_images", "Images in memory", registry=registry)
        self.cached_bytes = Gauge("samtrt_cached_bytes", "Embeddings in memory", registry=registry)
        self.cached_device_bytes = Gauge(
            "samtrt_cached_device_bytes", "Embeddings on the GPU", registry=registry
        )
        self.spilled_bytes = Gauge("samtrt_spilled_bytes", "Embeddings on disk", registry=registry)
        self.evictions = Counter(
            "samtrt_evictions", "Images that memory had no room for", registry=registry
        )
        self.spill_failures = Counter(
            "samtrt_spill_failures", "Evicted images that the disk did not take", registry=registry
        )
        self.readers_died = Counter(
            "samtrt_readers_died",
            "Processes that ended while they read what a client sent",
            registry=registry,
        )
        self.open_videos = Gauge("samtrt_open_videos", "Videos that are open", registry=registry)
        self.video_evictions = Counter(
            "samtrt_video_evictions",
            "Videos that nobody asked about, closed to make room for others",
            registry=registry,
        )
        self.tracked_frames = Counter(
            "samtrt_tracked_frames",
            "Frames of videos on which objects were found",
            registry=registry,
        )
