"""Running the application under uvicorn until it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import signal
from pathlib import Path

import uvicorn

from samtrt.predictor import Predictor
from samtrt.server.app import create_app
from samtrt.server.settings import Settings


def run(predictor: Predictor, settings: Settings, directory: Path, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests that were taken are finished first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = create_app(predictor, settings, directory)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # it would log paths, and with them the ids of images
        server_header=False,
        timeout_keep_alive=30,
        # Every request ends by its own limit; this one is for connections that hang.
        timeout_graceful_shutdown=int(settings.auto_seconds) + 10,
        h11_max_incomplete_event_size=64 * 1024,
    )
    # uvicorn raises the signal again once it is done; a stop that was asked for is no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()
