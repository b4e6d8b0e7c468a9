"""Who may ask, from where, and what leaks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.server.settings import SettingsError, check_exposure, read_token

TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert check_exposure(host, None, insecure=False) is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_other_hosts_need_a_token_or_the_word(host: str) -> None:
    with pytest.raises(SettingsError, match="--token-file"):
        check_exposure(host, None, insecure=False)
    assert check_exposure(host, TOKEN, insecure=False) is None
    assert check_exposure(host, None, insecure=True) is None


def test_tokens_come_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, "another-long-enough-token") == TOKEN
    assert read_token(None, TOKEN) == TOKEN
    assert read_token(None, None) is None
    with pytest.raises(SettingsError, match="16"):
        read_token(None, "short")
    with pytest.raises(SettingsError, match="cannot read"):
        read_token(tmp_path / "missing", None)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_wrong_tokens(serve: Callable[..., Any], header: str | None) -> None:
    served = serve(token=TOKEN)
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for method, path in (("GET", "/v1/model"), ("GET", "/metrics"), ("POST", "/v1/images")):
        response = served.client.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"


def test_the_right_token(serve: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    served = serve(token=TOKEN)
    with caplog.at_level(logging.DEBUG):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert served.client.get("/v1/model", headers=headers).status_code == 200
    assert TOKEN not in caplog.text


def test_page_and_health_are_open(serve: Callable[..., Any]) -> None:
    served = serve(token=TOKEN)
    for path in ("/", "/static/main.js", "/healthz", "/readyz"):
        assert served.client.get(path).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "a@b"])
def test_a_rebound_name_is_refused(served: Any, host: str) -> None:
    assert served.client.get("/v1/model", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:9", "[::1]:8000"])
def test_loopback_names_are_fine(served: Any, host: str) -> None:
    assert served.client.get("/v1/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_other_sites_cannot_write(served: Any, origin: str) -> None:
    response = served.client.post("/v1/images", content=b"x", headers={"Origin": origin})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_cors_is_for_those_named(serve: Callable[..., Any]) -> None:
    friend = "https://friend.example"
    served = serve(cors_origins=(friend,))
    for origin, allowed in ((friend, friend), ("https://evil.example", None)):
        response = served.client.get("/v1/model", headers={"Origin": origin})
        assert response.headers.get("access-control-allow-origin") == allowed
    response = served.client.post("/v1/images", content=b"x", headers={"Origin": friend})
    assert response.status_code == 415


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nothing", "/static/main.js"])
def test_headers_on_every_answer(served: Any, path: str) -> None:
    headers = served.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    assert "'unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fpyproject.toml",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/",
        "/static/ort",
    ],
)
def test_no_path_leaves_the_page(served: Any, path: str) -> None:
    assert served.client.get(path).status_code == 404


def test_ids_and_names_stay_out_of_the_log(
    served: Any, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "samtrt.server"):
        image_id = served.add(picture)
        served.masks(image_id, {"points": [[5, 5]]})
    assert "POST /v1/images/{image_id}/masks 200" in caplog.text
    assert image_id not in caplog.text
