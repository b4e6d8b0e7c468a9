"""All open videos: who asks about which, with bounded room, threads and processes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from fastapi import Request

from samtrt.server.batching import Admission
from samtrt.server.errors import ApiError
from samtrt.server.metrics import Metrics
from samtrt.server.reading import Model, parse_json
from samtrt.server.scheduler import Scheduler
from samtrt.server.settings import Settings
from samtrt.server.stored import REMEMBERED, new_id
from samtrt.server.video.events import Events
from samtrt.server.video.files import Uploads, listed, named
from samtrt.server.video.frames import RemoteFrames
from samtrt.server.video.schemas import (
    FrameMasks,
    TrackRequest,
    VideoAnswer,
    VideoName,
    VideoPrompt,
)
from samtrt.server.video.session import VideoSession
from samtrt.server.video.tracking import check_still, events_of
from samtrt.server.waiting import for_client, result_of, run_in
from samtrt.types import UInt8Array
from samtrt.video.predictor import VideoPredictor

T = TypeVar("T")

BYTES_A_SHOWN_PIXEL = 6
"""Memory to write a frame as JPEG."""
_QUALITY = 85


class Videos:
    """Videos by id. Its coroutines belong to one event loop."""

    def __init__(self, predictor: VideoPredictor, scheduler: Scheduler) -> None:
        """Make room for videos.

        Args:
            predictor: Which follows objects.
            scheduler: Of the server: its limits, memory and threads.

        Raises:
            OutputError: where there is no place for uploads.
        """
        self._predictor, self.scheduler = predictor, scheduler
        self.settings: Settings = scheduler.settings
        self.metrics: Metrics = scheduler.metrics
        self._uploads = Uploads(self.settings.spill_dir)
        self._open: dict[str, VideoSession] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._opening = 0
        self._prompts = Admission("prompts of videos", self.settings.prompt_slots, self.metrics)
        # Two, so that what is said of one video need not wait for another that is tracked.
        self.work = ThreadPoolExecutor(2, "video")
        self._reading = ThreadPoolExecutor(self.settings.video_slots + 1, "frames")

    async def files(self) -> list[str]:
        """Return the names of the videos that may be named."""
        folder = self.settings.videos_dir
        return [] if folder is None else [*await run_in(self._reading, listed, folder)]

    async def receive(self, request: Request, name: str) -> VideoAnswer:
        """Open a video that a request brings."""
        with self._slot():
            path = await self._uploads.receive(request, self.settings)
            seconds = self.settings.request_seconds
            return await for_client(request, self._opened(path, name), seconds)

    async def open_named(self, body: bytes) -> VideoAnswer:
        """Open a video of the folder, which a request names."""
        asked = await self._parsed(VideoName, body)
        with self._slot():
            folder = self.settings.videos_dir
            path = await run_in(self._reading, named, folder, asked.name)
            return await self._opened(path, Path(asked.name).name)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        """Hold room for one more video while it is opened.

        Raises:
            ApiError: 429 where all are in use.
        """
        slots = self.settings.video_slots
        if len(self._open) + self._opening >= slots:
            idle = max(self._open, key=lambda one: self._open[one].idle_seconds, default=None)
            if idle is None or self._open[idle].idle_seconds < self.settings.video_idle_seconds:
                self.metrics.rejected.labels("videos").inc()
                raise ApiError(
                    429,
                    f"{slots} videos are open, as many as may be: delete one, or try again later",
                    "busy",
                    retry_after=10,
                )
            self.metrics.video_evictions.inc()
            self._end(idle)
            self._gone[idle] = None
            while len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    async def _opened(self, path: Path, name: str) -> VideoAnswer:
        def start() -> VideoSession:
            frames = RemoteFrames(path, self.settings, self.metrics)
            try:
                return VideoSession(name, path, frames, self._predictor, self.settings)
            except BaseException:
                frames.close()
                raise

        future = self._reading.submit(start)
        try:
            session = await result_of(future)
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().frames.close()
            self._uploads.remove(path)
            raise
        video_id = new_id()
        self._open[video_id] = session
        self.metrics.open_videos.set(len(self._open))
        return session.describe(video_id)

    @asynccontextmanager
    async def held(self, video_id: str) -> AsyncIterator[VideoSession]:
        """Hold a video for the block: nobody else changes it, between two frames of tracking.

        Raises:
            ApiError: 404 where the id is not known, 410 where it made room for another.
        """
        session = self._find(video_id)
        with session.use():
            async with session.lock:
                self._find(video_id)
                yield session

    @asynccontextmanager
    async def _still(self, video_id: str) -> AsyncIterator[VideoSession]:
        """Hold a video that nobody tracks; raises 409 else, and as `held`."""
        check_still(self._find(video_id))  # at once, not when a frame is done
        async with self.held(video_id) as session:
            check_still(session)
            yield session

    def _find(self, video_id: str) -> VideoSession:
        session = self._open.get(video_id)
        if session is not None:
            return session
        if video_id in self._gone:
            raise ApiError(410, "the video was closed to make room: open it again", "video_closed")
        raise ApiError(404, "no video has this id: open it first", "video_unknown")

    async def point(self, video_id: str, body: bytes) -> FrameMasks:
        """Take a prompt; return all objects' masks on its frame."""
        asked = await self._parsed(VideoPrompt, body)
        if len(asked.points) > self.settings.max_points:
            raise ApiError(
                422, f"{len(asked.points)} points; the server takes {self.settings.max_points}"
            )
        with self._prompts.admit():
            async with self._still(video_id) as session:
                facts, mask = session.frames.facts, None
                if asked.mask is not None:
                    size = facts.height, facts.width
                    mask = await self.scheduler.intake.read_mask(asked.mask, size)
                return await self.run(session, partial(session.point, asked, mask))

    async def clear(self, video_id: str, frame: int, obj_id: int) -> FrameMasks:
        """Forget what was said of an object on a frame; return what is left there."""
        async with self._still(video_id) as session:
            return await self.run(session, partial(session.clear, frame, obj_id))

    async def remove_object(self, video_id: str, obj_id: int) -> list[int]:
        """Forget an object, also while it is tracked; return those that are left."""
        async with self.held(video_id) as session:
            if obj_id not in session.objects:
                raise ApiError(404, f"the video has no object {obj_id}", "object_unknown")
            await self.run(session, partial(session.remove, obj_id))
            return session.objects

    async def picture(self, video_id: str, frame: int, longest_side: int | None) -> bytes:
        """Return a frame as JPEG."""
        session = self._find(video_id)
        with session.use():
            if frame >= len(session.frames):
                raise ApiError(
                    404, f"the video has the frames 0..{len(session.frames) - 1}", "frame_unknown"
                )
            async with self.scheduler.memory.hold(session.pixels * BYTES_A_SHOWN_PIXEL):
                pixels = await run_in(self._reading, session.frames.__getitem__, frame)
                return await run_in(self.scheduler.forming, _jpeg, pixels, longest_side)

    async def track(self, video_id: str, body: bytes) -> Events:
        """Begin to track, and return the events of it.

        Raises:
            ApiError: 409 where it is tracked already.
            PromptError: where there is nothing to track.
        """
        asked = await self._parsed(TrackRequest, body) if body else TrackRequest()
        async with self._still(video_id) as session:
            session.stopping = False  # who stops it from here on means this tracking
            start = await self.run(session, partial(session.settle, asked))
        return events_of(self, video_id, session, asked, start)

    async def stop(self, video_id: str) -> None:
        """End tracking, and wait until it has ended."""
        session = self._find(video_id)
        session.stopping = True
        await session.still.wait()

    def stop_all(self) -> None:
        """End all tracking, each after the frame that is at work."""
        for session in self._open.values():
            session.stopping = True

    async def run(self, session: VideoSession, work: Callable[[], T]) -> T:
        """Let a thread work on a video that is held, with memory for its masks."""
        async with self.scheduler.memory.hold(session.need):
            with self.metrics.batch_seconds.labels("video").time():
                return await run_in(self.work, work)

    async def _parsed(self, model: type[Model], body: bytes) -> Model:
        with self.scheduler.parses.admit():
            return await run_in(self.scheduler.quick, parse_json, model, body, self.settings)

    async def remove(self, video_id: str) -> None:
        """Forget a video; who tracks it is told.

        Raises:
            ApiError: as `held`.
        """
        self._find(video_id)
        self._end(video_id)

    def _end(self, video_id: str) -> None:
        session = self._open.pop(video_id)
        self.metrics.open_videos.set(len(self._open))
        self._reading.submit(self._free, session)

    def _free(self, session: VideoSession) -> None:
        session.frames.close()
        self._uploads.remove(session.path)

    def close(self, seconds: float = 3.0) -> bool:
        """Free everything but the predictor; False where it is still at work after `seconds`."""
        for session in list(self._open.values()):
            session.frames.close()
        self._open.clear()
        for pool in (self.work, self._reading):
            pool.shutdown(wait=False, cancel_futures=True)
        self._uploads.close()
        # What is at work ends with its frame.
        waiting = threading.Thread(target=self.work.shutdown, daemon=True)
        waiting.start()
        waiting.join(seconds)
        return not waiting.is_alive()


def _jpeg(pixels: UInt8Array, longest_side: int | None) -> bytes:
    height, width = pixels.shape[:2]
    share = 1.0 if longest_side is None else min(1.0, longest_side / max(height, width))
    if share < 1:
        size = max(1, round(width * share)), max(1, round(height * share))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return bytes(content)
