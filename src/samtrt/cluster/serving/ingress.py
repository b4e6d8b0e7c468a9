"""What clients of a server with replicas reach: it reads requests, and finds the replica for each.

All requests about an image go to one replica, the one that encoded it, by consistent hashing of the
image's id (Ray Serve's own router). Where replicas come or go, a share of the images moves.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from samtrt import tracing
from samtrt.cluster.serving.replica import Call, Headers, Reply
from samtrt.errors import SamtrtError
from samtrt.server.app import trace_headers
from samtrt.server.budget import Bodies
from samtrt.server.errors import ApiError, ClientLeftError, error_response
from samtrt.server.reading import read_body
from samtrt.server.security import UPLOAD_PATH, admit
from samtrt.server.settings import Settings
from samtrt.server.stored import new_id

log = logging.getLogger("ray.serve")

_OF_AN_IMAGE = re.compile(re.escape(UPLOAD_PATH) + r"/([^/]{1,64})(?:/.*)?")
TRIES = 3
"""Replicas that may die on a request before it is answered so."""


class Ingress:
    """Forwards requests to replicas."""

    def __init__(self, replicas: Any, settings: Settings) -> None:
        """Begin.

        Args:
            replicas: Handle of the deployment of `Replica`.
            settings: Limits and access, which are those of the replicas too.
        """
        tracing.start("ingress")
        self._replicas, self._settings = replicas, settings
        self._bodies = Bodies(settings.body_bytes)

    async def __call__(self, request: Request) -> Response:
        """Answer a request as `samtrt serve` would, with a replica's answer."""
        with tracing.span("HTTP", trace_headers(request.scope)) as span:
            response = await self._respond(request)
            if span is not None:
                kind = "an image" if _OF_AN_IMAGE.fullmatch(request.scope["path"]) else "the server"
                span.update_name(f"{request.method} of {kind}")
                span.set_attribute("http.response.status_code", response.status_code)
            return response

    async def _respond(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except ApiError as error:
            return error_response(error)
        except ClientLeftError:
            return Response(status_code=499)

    async def _answer(self, request: Request) -> Response:
        receive = admit(request.scope, request.receive, self._settings)
        path = request.scope["path"]
        if path == "/healthz":
            return Response('{"status":"ok"}', media_type="application/json")
        image_id = None
        if path == UPLOAD_PATH and request.method == "POST":
            image_id = new_id()
        elif found := _OF_AN_IMAGE.fullmatch(path):
            image_id = found[1]
        target = request.scope["raw_path"].decode("latin-1")
        if request.scope["query_string"]:
            target += "?" + request.scope["query_string"].decode("latin-1")
        with self._bodies.account() as account:
            limited = Request(request.scope, receive)
            body = await read_body(limited, self._settings, account)
            headers = _traced(request.headers.raw)
            reply = await self._reply(Call(request.method, target, headers, body, image_id))
        return _response(reply)

    async def _reply(self, call: Call) -> Reply:
        """Have a replica answer; where it dies, another one. Every call may be made again."""
        # Without an id, any replica will do.
        options: dict[str, Any] = {"session_id": call.image_id} if call.image_id else {}
        answer: Callable[[Call], Any] = self._replicas.options(**options).answer.remote
        for attempt in range(TRIES):
            try:
                reply: Reply = await answer(call)
                return reply
            except BackPressureError:
                raise ApiError(429, "all replicas are busy: try again", retry_after=1) from None
            except RayTaskError as error:
                if not isinstance(error.cause, SamtrtError):
                    raise
                log.error("request failed: %s", error.cause)
                raise ApiError(
                    500, "the server could not run this request; its log says why", "backend_failed"
                ) from None
            except (RayActorError, RayServeException) as error:
                log.warning("a replica died on a request, try %d: %s", attempt + 1, error)
        raise ApiError(503, "the replicas that got this request died", retry_after=10)


def _traced(headers: Headers) -> Headers:
    """Return headers that name the span here in place of the client's."""
    ours = [(name.encode(), value.encode()) for name, value in tracing.headers().items()]
    named = {name for name, _ in ours}
    return [*(one for one in headers if one[0] not in named), *ours]


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    response.raw_headers = [one for one in reply.headers if one[0] != b"transfer-encoding"]
    return response
