"""The ASGI application: routes, middleware, health and the scheduler's life."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samtrt import tracing
from samtrt._version import __version__
from samtrt.predictor import Predictor
from samtrt.server import page, routes
from samtrt.server.decoder import load_decoder
from samtrt.server.errors import add_error_handlers
from samtrt.server.metrics import Metrics
from samtrt.server.openapi import describe_bodies
from samtrt.server.scheduler import Scheduler
from samtrt.server.security import Guard
from samtrt.server.settings import Settings
from samtrt.server.video.routes import router as video_router
from samtrt.server.video.videos import Videos
from samtrt.video.predictor import VideoPredictor

log = logging.getLogger("samtrt.server")

DESCRIPTION = """Upload an image once, then ask for masks as often as you like: the heavy encoder
ran at the upload, a prompt costs the light decoder alone."""


def create_app(
    predictor: Predictor,
    settings: Settings | None = None,
    directory: Path | None = None,
    video: VideoPredictor | None = None,
) -> FastAPI:
    """Build the application around a loaded predictor, which it closes when it ends.

    Args:
        predictor: The model to serve.
        settings: Limits and access; safe defaults where left out.
        directory: The model directory, whose decoder graph browsers may fetch; None to keep it.
        video: What follows objects through videos, closed as well; None where the model does not.

    Raises:
        OutputError: where there is no place for embeddings on disk, or for videos.
    """
    settings = settings or Settings()
    metrics = Metrics()
    scheduler = Scheduler(predictor, settings, metrics)
    videos = None if video is None else Videos(video, scheduler)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await scheduler.intake.readers.start()
        app.state.ready = True
        yield
        app.state.ready = False
        # Freeing a model that is still at work would end the process badly.
        ended = await asyncio.gather(
            *(asyncio.to_thread(one.close) for one in (videos, scheduler) if one is not None)
        )
        if all(ended):
            predictor.close()
            if video is not None:
                video.close()

    app = FastAPI(
        title="samtrt",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        # The interactive pages load scripts from elsewhere; the schema itself is served.
        docs_url=None,
        redoc_url=None,
    )
    app.state.ready = False
    app.state.scheduler = scheduler
    app.state.videos = videos
    app.state.decoder = load_decoder(predictor.manifest, directory)
    describe_bodies(app)
    add_error_handlers(app)
    app.include_router(routes.router)
    app.include_router(video_router)
    app.include_router(page.router)
    _add_health(app, metrics)
    app.add_middleware(Guard, settings=settings)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Shape", "X-Dtype", "X-Original-Size", "X-Input-Size", "Retry-After"],
        )
    app.add_middleware(_Observed, metrics=metrics)
    return app


def _add_health(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Is the process alive?", tags=["operation"])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Can it take work?",
        tags=["operation"],
        responses={503: {"description": "Starting or shutting down"}},
    )
    async def readyz(response: Response) -> dict[str, str]:
        ready = app.state.ready
        response.status_code = 200 if ready else 503
        return {"status": "ready" if ready else "not ready"}

    @app.get(
        "/metrics",
        summary="Figures for Prometheus",
        tags=["operation"],
        response_class=Response,
        responses={
            200: {"description": "text format", "content": {"text/plain": {}}},
            401: {"description": "The token is missing or wrong"},
        },
    )
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


class _Observed:
    """ASGI middleware: counts and times every request, and logs one line for it.

    The line names the route, not the path: ids open images, so they stay out of logs.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        start = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with tracing.span("HTTP", trace_headers(scope)) as span:
                try:
                    await self._app(scope, receive, watched)
                finally:
                    if span is not None:
                        route = getattr(scope.get("route"), "path", "other")
                        span.update_name(f"{scope['method']} {route}")
                        span.set_attribute("http.response.status_code", status)
        except asyncio.CancelledError:
            status = 503  # a stop, whose time is up; uvicorn closes the connection
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(route, method, status).inc()
            self._metrics.request_seconds.labels(route).observe(seconds)
            # What is refused costs its sender nothing: it must not fill the log.
            extra = {"kind": status} if 400 <= status < 500 else None
            log.info("%s %s %d %.1f ms", method, route, status, 1000 * seconds, extra=extra)


def trace_headers(scope: Scope) -> dict[str, str]:
    """Return what a client says of its trace."""
    names = (b"traceparent", b"tracestate")
    headers = scope["headers"]
    return {name.decode(): value.decode("latin-1") for name, value in headers if name in names}


_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
