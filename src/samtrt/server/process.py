"""Running the application under uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from samtrt import tracing
from samtrt.predictor import Predictor
from samtrt.server.allocator import give_memory_back
from samtrt.server.app import create_app
from samtrt.server.connections import options_of, room_for_connections
from samtrt.server.logs import FewOfAKind
from samtrt.server.settings import Settings
from samtrt.video.predictor import VideoPredictor

log = logging.getLogger("samtrt.server")

LAST_SECONDS = 5.0
"""For what is left after `Settings.shutdown_seconds`: then the process ends, whatever it does."""


def run(
    predictor: Predictor,
    settings: Settings,
    directory: Path,
    host: str,
    port: int,
    video: VideoPredictor | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests that were taken get `shutdown_seconds` to finish."""
    give_memory_back()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(FewOfAKind())
    room = room_for_connections(settings.max_connections)
    if room < settings.max_connections:
        log.warning("the limit of open files (ulimit -n) leaves room for %d connections", room)
    settings = replace(settings, max_connections=room)
    tracing.start("serve")
    app = create_app(predictor, settings, directory, video)
    # uvicorn raises the signal again once it is done; a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        Server(app, settings, host=host, port=port).run()


_IN_LINE = 2048
"""Connections that may wait to be accepted, of which as many as uvicorn's backlog are at once. One
that finds no room in the line is tried again by its own system, after a second."""


class Server(uvicorn.Server):
    """uvicorn, with limits for clients that are slow and for how long a stop may take."""

    def __init__(self, app: FastAPI, settings: Settings, host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,  # it would log paths, and with them the ids of images
            server_header=False,
            timeout_graceful_shutdown=int(settings.shutdown_seconds),
            **options_of(settings),
        )
        super().__init__(config)
        self._scheduler, self._videos = app.state.scheduler, app.state.videos
        self._seconds = settings.shutdown_seconds + LAST_SECONDS
        self._end: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._scheduler.intake.readers.start()  # the first upload need not wait for them
        await super().startup(sockets)
        for server in self.servers:
            for one in server.sockets:
                with socket.fromfd(one.fileno(), one.family, one.type) as same:
                    same.listen(_IN_LINE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._videos is not None:
            self._videos.stop_all()
        if self._end is None:
            self._end = threading.Timer(self._seconds, self._give_up)
            self._end.daemon = True
            self._end.start()

    def _give_up(self) -> None:
        """End the process where something cannot be interrupted: a model that is at work."""
        log.error("work did not end within %g s of the stop: it is cut off", self._seconds)
        self._scheduler.close(0)
        os._exit(1)
