"""A video that is tracked for as long as its client listens."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from samtrt.errors import SamtrtError
from samtrt.server.errors import ApiError, told, told_of_bug
from samtrt.server.schemas import ErrorDetail
from samtrt.server.video.events import Events
from samtrt.server.video.schemas import TrackDone, TrackFailed, TrackRequest
from samtrt.server.video.session import VideoSession
from samtrt.server.waiting import run_in

if TYPE_CHECKING:
    from samtrt.server.video.videos import Videos

log = logging.getLogger("samtrt.server")


def check_still(session: VideoSession) -> None:
    """Refuse what would change a video that is being tracked.

    Raises:
        ApiError: 409.
    """
    if session.tracking:
        raise ApiError(409, "the video is being tracked: stop that first, or wait for its end")


async def events_of(
    videos: Videos, video_id: str, session: VideoSession, asked: TrackRequest, start: int
) -> Events:
    """Yield what is found, frame by frame, and how it ended."""
    done = 0
    try:
        check_still(session)  # two may have begun at once
        session.still.clear()
        steps = session.steps(asked, start)
        try:
            with session.use():
                while True:
                    if session.stopping:
                        reason = "stopped"
                        break
                    async with videos.held(video_id):
                        found = await videos.run(session, partial(next, steps, None))
                    if found is None or not session.objects:
                        reason = "end" if session.objects else "no_objects"
                        break
                    done += 1
                    videos.metrics.tracked_frames.inc()
                    yield "masks", found
        finally:
            await run_in(videos.work, steps.close)
            session.still.set()
        yield "done", TrackDone.model_validate({"frames": done, "reason": reason})
    except Exception as error:
        if isinstance(error, SamtrtError):
            answer = told(error)
        else:
            answer = told_of_bug("tracking")
            log.exception("what went wrong:")
        detail = ErrorDetail(code=answer.code, message=str(answer))
        yield "error", TrackFailed(error=detail, frames=done)
