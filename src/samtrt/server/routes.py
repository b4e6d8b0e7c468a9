"""The API's routes: read a request, wait for the scheduler, write the answer."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParam
from pydantic import BaseModel

from samtrt._version import __version__
from samtrt.choices import SPECKS
from samtrt.server.auto import run_auto
from samtrt.server.decoder import Decoder
from samtrt.server.errors import ApiError
from samtrt.server.openapi import TOKEN, body_of, errors
from samtrt.server.reading import check_json_kind, check_upload_kind, read_body
from samtrt.server.scheduler import Scheduler
from samtrt.server.schemas import (
    AutoAnswer,
    AutoRequest,
    ImageAnswer,
    Limits,
    MapAnswer,
    MasksAnswer,
    MasksRequest,
    ModelAnswer,
    PromptResult,
    ThresholdsAnswer,
)
from samtrt.server.sending import SlicedResponse
from samtrt.server.video.routes import limits_of
from samtrt.server.waiting import for_client, run_in
from samtrt.types import Embedding, FloatArray, to_host

router = APIRouter(
    prefix="/v1",
    dependencies=[TOKEN],
)

ImageId = Annotated[str, PathParam(max_length=64, examples=["kV0mM3Jt1l2cWbqfX0d9Aw"])]


def scheduler_of(request: Request) -> Scheduler:
    scheduler: Scheduler = request.app.state.scheduler
    return scheduler


IMAGE_ID = "samtrt.image_id"
"""Key of an ASGI scope where whoever calls the application may say which id an upload gets."""

SchedulerOf = Annotated[Scheduler, Depends(scheduler_of)]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": "the image's bytes, or a form with the field `file`",
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


@router.post(
    "/images",
    status_code=201,
    response_model=ImageAnswer,
    responses=errors(408, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=_UPLOAD,
    summary="Upload and encode an image",
)
async def add_image(request: Request, scheduler: SchedulerOf) -> ImageAnswer:
    """Turn an image into an embedding, kept under an id until it is deleted or evicted.

    EXIF orientation is applied: coordinates are those of the upright image.
    """
    start = time.perf_counter()
    content_type = check_upload_kind(request)
    scheduler.uploads.check()
    with scheduler.bodies.account() as account:
        body = await read_body(request, scheduler.settings, account)
        image_id, embedding, seconds = await for_client(
            request,
            scheduler.add_image(body, content_type, request.scope.get(IMAGE_ID)),
            scheduler.settings.request_seconds,
        )
    height, width = embedding.original_size
    return ImageAnswer(
        id=image_id,
        width=width,
        height=height,
        encode_ms=_ms(seconds),
        total_ms=_ms(time.perf_counter() - start),
    )


@router.post(
    "/images/{image_id}/masks",
    response_model=MasksAnswer,
    responses=errors(404, 408, 410, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=body_of(MasksRequest, required=True),
    summary="Segment what prompts point at",
)
async def masks(image_id: ImageId, request: Request, scheduler: SchedulerOf) -> Response:
    """Answer one or many prompts on an image that was uploaded before."""
    start = time.perf_counter()
    check_json_kind(request)
    scheduler.prompts.check()
    with scheduler.bodies.account() as account:
        body = await read_body(request, scheduler.settings, account)
        results, seconds = await for_client(
            request, scheduler.answer(image_id, body), scheduler.settings.request_seconds
        )
    answer = MasksAnswer(
        results=[PromptResult(masks=candidates) for candidates in results],
        decode_ms=_ms(seconds),
        total_ms=_ms(time.perf_counter() - start),
    )
    return await _json(scheduler, answer)


@router.post(
    "/images/{image_id}/auto",
    response_model=AutoAnswer,
    responses=errors(404, 408, 410, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=body_of(AutoRequest, required=False),
    summary="Segment everything",
)
async def auto(image_id: ImageId, request: Request, scheduler: SchedulerOf) -> Response:
    """Prompt with a grid of points and keep the masks that are good and not repeated."""
    start = time.perf_counter()
    scheduler.autos.check()
    with scheduler.bodies.account() as account:
        body = await read_body(request, scheduler.settings, account)
        if body:
            check_json_kind(request)
        found, kept = await for_client(
            request, run_auto(scheduler, image_id, body), scheduler.settings.auto_seconds
        )
    answer = AutoAnswer(
        masks=found,
        pred_iou_thresh=kept.pred_iou,
        stability_score_thresh=kept.stability,
        total_ms=_ms(time.perf_counter() - start),
    )
    return await _json(scheduler, answer)


@router.get(
    "/images/{image_id}/embedding",
    response_class=Response,
    responses={
        200: {"description": "the embedding's bytes", "content": {"application/octet-stream": {}}},
        **errors(404, 410, 422, 429, 504),
    },
    summary="Fetch the embedding",
)
async def embedding(
    image_id: ImageId,
    request: Request,
    scheduler: SchedulerOf,
    dtype: Annotated[Literal["float32", "float16"], Query(description="of the numbers")] = (
        "float32"
    ),
) -> Response:
    """Send the raw numbers, little-endian, C order; headers give shape, dtype and image sizes.

    Where several maps flow from the model's encoder to its decoder (`maps` of `/v1/model`), they
    follow one another in that order, and `X-Shape` has their shapes in it, separated by semicolons.
    """
    found, maps = await for_client(
        request,
        _numbers(scheduler, image_id, "<f2" if dtype == "float16" else "<f4"),
        scheduler.settings.request_seconds,
    )
    if dtype == "float16" and not all(np.isfinite(array).all() for array in maps):
        raise ApiError(422, "this embedding does not fit float16: ask for dtype=float32")
    return SlicedResponse(
        maps[0].data if len(maps) == 1 else np.concatenate([one.ravel() for one in maps]).data,
        "application/octet-stream",
        {
            "X-Shape": ";".join(",".join(map(str, array.shape)) for array in maps),
            "X-Dtype": dtype,
            "X-Original-Size": ",".join(map(str, found.original_size)),
            "X-Input-Size": ",".join(map(str, found.frame.resized)),
        },
        scheduler.answers,
    )


async def _numbers(
    scheduler: Scheduler, image_id: str, dtype: str
) -> tuple[Embedding, list[FloatArray]]:
    """Look an image up; return it and the numbers of its maps as they are sent."""
    found = await scheduler.get(image_id)

    def convert() -> list[FloatArray]:
        with np.errstate(over="ignore"):  # what does not fit is told to the client
            return [np.ascontiguousarray(to_host(one), dtype) for one in found.maps.values()]

    return found, await run_in(scheduler.quick, convert)


@router.delete(
    "/images/{image_id}",
    status_code=204,
    responses=errors(404, 410, 504),
    summary="Forget an image",
)
async def remove_image(image_id: ImageId, request: Request, scheduler: SchedulerOf) -> None:
    """Free what the server holds of an image."""
    await for_client(request, scheduler.remove(image_id), scheduler.settings.request_seconds)


@router.get("/model", response_model=ModelAnswer, responses=errors(), summary="Describe the model")
async def model(request: Request, scheduler: SchedulerOf) -> ModelAnswer:
    """Say which model runs where, and within which limits."""
    manifest, limits = scheduler.predictor.manifest, scheduler.settings
    decoder: Decoder | None = request.app.state.decoder
    return ModelAnswer(
        model=manifest.model,
        checkpoint=manifest.checkpoint.name,
        image_size=manifest.image_size,
        mask_size=manifest.mask_size,
        embed_channels=manifest.embed_channels,
        maps=[MapAnswer(name=one.name, shape=one.shape) for one in manifest.maps],
        mask_choice=manifest.mask_choice,
        generation=manifest.generation,
        mask_threshold=manifest.mask_threshold,
        automatic=ThresholdsAnswer(
            pred_iou_thresh=manifest.automatic.pred_iou,
            stability_score_thresh=manifest.automatic.stability,
        ),
        specks=SPECKS,
        preparation=manifest.preparation,
        precision=scheduler.predictor.precision,
        backend=scheduler.predictor.decoder.name,
        device=scheduler.predictor.decoder.device,
        version=__version__,
        decoder=decoder.file if decoder else None,
        limits=Limits(
            max_upload_bytes=limits.max_upload_bytes,
            max_pixels=limits.max_pixels,
            max_prompts=limits.max_prompts,
            max_points=limits.max_points,
        ),
        video=limits_of(request),
    )


@router.get(
    "/model/decoder.onnx",
    response_class=Response,
    responses={
        200: {"description": "the graph", "content": {"application/octet-stream": {}}},
        304: {"description": "The client has it already"},
        **errors(404),
    },
    summary="Fetch the decoder's graph",
)
async def decoder_graph(request: Request) -> Response:
    """Send `decoder.onnx`, for decoding on the client. Its ETag is its sha256."""
    decoder: Decoder | None = request.app.state.decoder
    if decoder is None:
        raise ApiError(404, "this server has no decoder graph in one file to give away")
    headers = {"ETag": f'"{decoder.file.sha256}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return SlicedResponse(decoder.content, "application/octet-stream", headers)


async def _json(scheduler: Scheduler, answer: BaseModel) -> Response:
    """Write an answer, which may be long, off the event loop."""
    text = await run_in(scheduler.quick, answer.model_dump_json, exclude_none=True)
    return SlicedResponse(text.encode(), "application/json", bodies=scheduler.answers)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
