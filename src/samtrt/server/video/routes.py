"""The API's routes about videos."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParam

from samtrt.server.errors import ApiError
from samtrt.server.openapi import TOKEN, body_of, errors
from samtrt.server.reading import check_json_kind, read_body
from samtrt.server.schemas import VideoLimitsAnswer
from samtrt.server.sending import SlicedResponse
from samtrt.server.video.events import EventStream
from samtrt.server.video.schemas import (
    FoundMasks,
    FrameMasks,
    ObjectIds,
    TrackRequest,
    VideoAnswer,
    VideoFiles,
    VideoName,
    VideoPrompt,
)
from samtrt.server.video.videos import Videos
from samtrt.server.waiting import for_client, run_in

router = APIRouter(
    prefix="/v1/videos",
    tags=["videos"],
    dependencies=[TOKEN],
)

VideoId = Annotated[str, PathParam(max_length=64, examples=["kV0mM3Jt1l2cWbqfX0d9Aw"])]
FrameNumber = Annotated[int, PathParam(ge=0, lt=1 << 31, description="from 0")]
ObjectNumber = Annotated[int, PathParam(ge=1, le=255)]

_MOST_FRAMES = 1000
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "the video's bytes, or the name of a video in the server's folder",
        "content": {
            "video/*": _BINARY,
            "application/octet-stream": _BINARY,
            "application/json": body_of(VideoName, True)["requestBody"]["content"][
                "application/json"
            ],
        },
    }
}


def videos_of(request: Request) -> Videos:
    videos: Videos | None = request.app.state.videos
    if videos is None:
        raise ApiError(
            404,
            "this server follows no objects through videos: serve a SAM 2 that was exported with "
            "--video",
            "no_videos",
        )
    return videos


VideosOf = Annotated[Videos, Depends(videos_of)]


def limits_of(request: Request) -> VideoLimitsAnswer | None:
    """Return what the server takes of videos; None where it takes none."""
    videos: Videos | None = request.app.state.videos
    if videos is None:
        return None
    limits = videos.settings
    return VideoLimitsAnswer(
        max_bytes=limits.max_video_bytes,
        max_frames=limits.max_video_frames,
        max_pixels=limits.max_video_pixels,
        max_objects=limits.max_video_objects,
        folder=limits.videos_dir is not None,
    )


@router.get(
    "",
    response_model=VideoFiles,
    responses=errors(404, 504),
    summary="List the videos of the server's folder",
)
async def files(request: Request, videos: VideosOf) -> VideoFiles:
    """Name the videos that can be opened without an upload; none without `--videos`."""
    found = await for_client(request, videos.files(), videos.settings.request_seconds)
    return VideoFiles(files=found)


@router.post(
    "",
    status_code=201,
    response_model=VideoAnswer,
    responses=errors(404, 408, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=_UPLOAD,
    summary="Upload a video, or open one of the server's folder",
)
async def add_video(
    request: Request,
    videos: VideosOf,
    name: Annotated[str, Query(max_length=255, description="what an upload is called")] = "video",
) -> VideoAnswer:
    """Open a video. Its frames are numbered from 0, and upright."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await _read_json(request, videos)
        opened = await for_client(request, videos.open_named(body), videos.settings.request_seconds)
    elif kind in ("", "application/octet-stream") or kind.startswith("video/"):
        opened = await videos.receive(request, name)
    else:
        raise ApiError(
            415,
            "send a video's bytes as video/* or application/octet-stream, or JSON with the name "
            "of one in the server's folder",
        )
    return opened


@router.get(
    "/{video_id}",
    response_model=VideoAnswer,
    responses=errors(404, 410, 504),
    summary="Describe a video, and what was said and found of it",
)
async def video(video_id: VideoId, request: Request, videos: VideosOf) -> VideoAnswer:
    async def described() -> VideoAnswer:
        async with videos.held(video_id) as session:
            return session.describe(video_id)

    return await for_client(request, described(), videos.settings.request_seconds)


@router.delete(
    "/{video_id}",
    status_code=204,
    responses=errors(404, 410),
    summary="Forget a video",
)
async def remove_video(video_id: VideoId, videos: VideosOf) -> None:
    """Free what the server holds of a video; who tracks it gets an `error`."""
    await videos.remove(video_id)


@router.get(
    "/{video_id}/frames/{frame}",
    response_class=Response,
    responses={
        200: {"description": "the frame", "content": {"image/jpeg": {}}},
        **errors(404, 410, 422, 429, 504),
    },
    summary="Fetch a frame as JPEG",
)
async def frame_picture(
    video_id: VideoId,
    frame: FrameNumber,
    request: Request,
    videos: VideosOf,
    longest_side: Annotated[int | None, Query(ge=64, le=32_768)] = None,
) -> Response:
    """Send a frame, no larger than `longest_side` along its longer side."""
    content = await for_client(
        request,
        videos.picture(video_id, frame, longest_side),
        videos.settings.request_seconds,
    )
    answers = videos.scheduler.answers
    # The same for as long as its video has this id, which nobody else knows.
    headers = {"Cache-Control": "private, max-age=3600, immutable"}
    return SlicedResponse(content, "image/jpeg", headers, answers)


@router.post(
    "/{video_id}/prompts",
    response_model=FrameMasks,
    responses=errors(404, 408, 409, 410, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=body_of(VideoPrompt, required=True),
    summary="Point at an object on a frame, or correct it",
)
async def point(video_id: VideoId, request: Request, videos: VideosOf) -> FrameMasks:
    """Answer with all objects' masks on that frame; other frames change as they are tracked."""
    check_json_kind(request)
    body = await _read_json(request, videos)
    return await for_client(request, videos.point(video_id, body), videos.settings.request_seconds)


@router.delete(
    "/{video_id}/prompts/{frame}/{object_id}",
    response_model=FrameMasks,
    responses=errors(404, 409, 410, 422, 429, 500, 504),
    summary="Forget what was said of an object on a frame",
)
async def clear(
    video_id: VideoId,
    frame: FrameNumber,
    object_id: ObjectNumber,
    request: Request,
    videos: VideosOf,
) -> FrameMasks:
    """Masks that were found stay until they are tracked anew. An object of which nothing else was
    said is removed."""
    work = videos.clear(video_id, frame, object_id)
    return await for_client(request, work, videos.settings.request_seconds)


@router.delete(
    "/{video_id}/objects/{object_id}",
    response_model=ObjectIds,
    responses=errors(404, 410, 422, 429, 500, 504),
    summary="Forget an object",
)
async def remove_object(
    video_id: VideoId, object_id: ObjectNumber, request: Request, videos: VideosOf
) -> ObjectIds:
    """Forget an object and its masks, also while it is tracked: the others are tracked on."""
    work = videos.remove_object(video_id, object_id)
    left = await for_client(request, work, videos.settings.request_seconds)
    return ObjectIds(objects=left)


@router.post(
    "/{video_id}/track",
    response_class=Response,
    responses={
        200: {
            "description": "events `masks` (`FrameMasks`), one a frame, and at the end one `done` "
            "(`TrackDone`) or `error` (`TrackFailed`)",
            "content": {"text/event-stream": {}},
        },
        **errors(404, 408, 409, 410, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra=body_of(TrackRequest, required=False),
    summary="Track all objects, and stream their masks as they come",
)
async def track(video_id: VideoId, request: Request, videos: VideosOf) -> EventStream:
    """Send server-sent events. Closing the connection ends tracking; what was found stays."""
    body = await _read_json(request, videos)
    if body:
        check_json_kind(request)
    events = await for_client(
        request, videos.track(video_id, body), videos.settings.request_seconds
    )
    return EventStream(events, videos.settings.heartbeat_seconds)


@router.delete(
    "/{video_id}/track",
    status_code=204,
    responses=errors(404, 410, 504),
    summary="Stop tracking",
)
async def stop(video_id: VideoId, request: Request, videos: VideosOf) -> None:
    """Answer when tracking has ended, after the frame that is at work; fine where nobody tracks."""
    await for_client(request, videos.stop(video_id), videos.settings.request_seconds)


@router.get(
    "/{video_id}/masks",
    response_model=FoundMasks,
    responses=errors(404, 410, 422, 429, 504),
    summary="Fetch the masks that were found",
)
async def masks(
    video_id: VideoId,
    request: Request,
    videos: VideosOf,
    first: Annotated[int, Query(ge=0, lt=1 << 31, description="frame to begin with")] = 0,
    frames: Annotated[int, Query(ge=1, le=_MOST_FRAMES, description="how many at most")] = 200,
) -> Response:
    """Send what tracking and prompts have found so far, a part at a time."""

    async def collect() -> bytes:
        async with videos.held(video_id) as session:
            room = videos.settings.max_answer_bytes
            answer = await run_in(videos.scheduler.quick, session.masks.part, first, frames, room)
            return answer.model_dump_json().encode()

    text = await for_client(request, collect(), videos.settings.request_seconds)
    return SlicedResponse(text, "application/json", bodies=videos.scheduler.answers)


async def _read_json(request: Request, videos: Videos) -> bytes:
    """Read a JSON body, of which less is taken than of a video."""
    settings = videos.settings
    with videos.scheduler.bodies.account() as account:
        return await read_body(request, settings, account, settings.max_json_bytes)
