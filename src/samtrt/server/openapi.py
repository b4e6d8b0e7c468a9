"""The API's description of bodies that routes read themselves, within the server's own limits."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from samtrt.server.schemas import AutoRequest, MasksRequest

_PLACE = "#/components/schemas/{model}"


def body_of(model: type[BaseModel], required: bool) -> dict[str, Any]:
    """Describe a JSON body, for a route's `openapi_extra`."""
    schema = {"$ref": _PLACE.format(model=model.__name__)}
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}
    }


def describe_bodies(app: FastAPI) -> None:
    """Add the models of these bodies to the application's OpenAPI document."""
    models = [(model, "validation") for model in (MasksRequest, AutoRequest)]
    _, definitions = models_json_schema(models, ref_template=_PLACE)  # type: ignore[arg-type]
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["components"]["schemas"].update(definitions["$defs"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]
