"""The API's description of bodies that routes read themselves, within the server's own limits."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from samtrt.server.schemas import AutoRequest, ErrorAnswer, MasksRequest
from samtrt.server.video.schemas import TrackRequest, VideoName, VideoPrompt

_ERRORS = {
    400: "The body cannot be read",
    401: "The token is missing or wrong",
    403: "The request came from a page or for a name that is not this server's",
    404: "No image or video has this id or name",
    408: "The body took too long",
    409: "The video is being tracked: stop that first",
    410: "The image or video was dropped to make room: upload it again",
    413: "Too many bytes or pixels",
    415: "Not an image or video of a known format, or not JSON",
    422: "The request says something that cannot be done",
    429: "Busy: try again after `Retry-After` seconds",
    500: "The model failed on this request",
    503: "The server is shutting down",
    504: "The server did not finish in time",
    507: "The disk is full",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route beside those that each may answer with."""
    return {
        status: {"model": ErrorAnswer, "description": _ERRORS[status]}
        for status in (400, 401, 403, *statuses)
    }


TOKEN = Depends(HTTPBearer(auto_error=False, description="where a token is set"))
"""Tells OpenAPI that there is a token, which the middleware checks."""

_PLACE = "#/components/schemas/{model}"


def body_of(model: type[BaseModel], required: bool) -> dict[str, Any]:
    """Describe a JSON body, for a route's `openapi_extra`."""
    schema = {"$ref": _PLACE.format(model=model.__name__)}
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def describe_bodies(app: FastAPI) -> None:
    """Add the models of these bodies to the application's OpenAPI document."""
    models = [
        (model, "validation")
        for model in (MasksRequest, AutoRequest, VideoName, VideoPrompt, TrackRequest)
    ]
    _, definitions = models_json_schema(models, ref_template=_PLACE)  # type: ignore[arg-type]
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["components"]["schemas"].update(definitions["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]
