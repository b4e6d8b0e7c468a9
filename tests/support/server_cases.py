"""What the server's tests share: a server around the fake backend that a test can hold up."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from samtrt.backends.fake import FakeBackend
from samtrt.choices import Stage
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.server.app import create_app
from samtrt.server.connections import options_of
from samtrt.server.settings import Settings
from samtrt.video.predictor import VideoPredictor
from support.moving_objects import MovingObjects


def image_bytes(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def make_picture(height: int = 120, width: int = 200) -> np.ndarray:
    """Return a picture with both edges and slopes, uint8 [H, W, 3]; made without torch."""
    coarse = np.random.default_rng(0).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.array(picture)


class Gated(FakeBackend):
    """A fake stage that a test can hold up, break, and watch."""

    def __init__(self, manifest: Manifest, stage: Stage) -> None:
        super().__init__(manifest, stage)
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.fails: Callable[[Any], bool] = lambda _: False
        self.batches: list[int] = []
        self.steepness = 1.0  # of the edges of masks

    def _compute(self, feeds: Any) -> Any:
        self.entered.release()
        assert self.open.wait(30), "the test forgot to open the gate"
        sizes = {len(array) for name, array in feeds.items() if name != "image_embeddings"}
        self.batches += sizes
        if self.fails(feeds):
            raise RuntimeError("secret detail of the backend")
        out = super()._compute(feeds)
        if "low_res_masks" in out:
            out["low_res_masks"] *= self.steepness
        return out


class Served:
    """A running application and what is behind it."""

    url: str  # where it is served over sockets
    video: MovingObjects  # where the model follows objects

    def __init__(self, manifest: Manifest, settings: Settings, **options: Any) -> None:
        self.encoder = Gated(manifest, Stage.ENCODER)
        self.decoder = Gated(manifest, Stage.DECODER)
        self.predictor = Predictor(self.encoder, self.decoder, manifest)
        self.settings = settings
        if manifest.video is not None:
            self.video = MovingObjects(manifest, self.encoder)
            options["video"] = VideoPredictor(
                self.video, fill_hole_area=0, add_all_frames_to_correct_as_cond=True
            )
        self.app = create_app(self.predictor, settings, **options)
        self.client = TestClient(
            self.app, base_url="http://localhost", raise_server_exceptions=False
        )

    def upload(self, pixels: np.ndarray, **options: Any) -> Any:
        return self.client.post(
            "/v1/images",
            content=image_bytes(pixels),
            headers={"Content-Type": "image/png"},
            **options,
        )

    def add(self, pixels: np.ndarray) -> str:
        response = self.upload(pixels)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def masks(self, image_id: str, *prompts: dict[str, Any], **options: Any) -> Any:
        return self.client.post(
            f"/v1/images/{image_id}/masks", json={"prompts": list(prompts), **options}
        )


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until something that other threads bring about is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.005)


@contextmanager
def live(app: Any, settings: Settings | None = None, port: int = 0) -> Iterator[str]:
    """Serve an application over real sockets from a thread; yield its URL."""
    options = options_of(settings or Settings())
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
