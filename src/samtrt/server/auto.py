"""Automatic masks for one request, stopped when nobody waits for them any more."""

from __future__ import annotations

from samtrt.server.engine import Engine
from samtrt.server.schemas import AutoMask, AutoRequest


async def run_auto(engine: Engine, image_id: str, request: AutoRequest) -> list[AutoMask]:
    raise NotImplementedError
