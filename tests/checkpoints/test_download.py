from __future__ import annotations

import hashlib
import shutil
from collections import namedtuple
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samtrt import assets
from samtrt.checkpoints import download, transfer
from samtrt.checkpoints.download import fetch, resolve
from samtrt.errors import DownloadError
from samtrt.files import cache_dir
from support.fetch_cases import CLIENT, CONTENT, DIGEST, part, publish, put_part, refused
from support.http_server import Answer, FileServer


def test_downloads_once_and_leaves_only_the_file(server: FileServer) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch("vit_b", progress=lambda done, total: seen.append((done, total)))
    assert path == cache_dir() / "tiny.pth"
    assert path.read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert {file.suffix for file in cache_dir().iterdir()} <= {".pth", ".lock"}
    assert fetch("vit_b") == resolve("vit_b") == path
    assert len(server.requests) == 1


def test_resumes_where_the_connection_dropped(server: FileServer) -> None:
    server.answers = [Answer(drop_after=70_000), Answer(drop_after=50_000)]
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=70000-", "bytes=120000-"]
    assert server.requests[1]["if-range"] == '"v1"'


def test_resumes_what_an_earlier_run_left(server: FileServer) -> None:
    server.always = Answer(drop_after=0)
    server.answers = [Answer(drop_after=70_000)]
    refused("attempts in a row", "resumes")
    assert part().read_bytes() == CONTENT[:70_000]
    server.always = Answer()
    seen: list[int] = []
    assert fetch("vit_b", progress=lambda done, _: seen.append(done)).read_bytes() == CONTENT
    assert seen[0] == 70_000
    assert server.ranges()[-1] == "bytes=70000-"


@pytest.mark.parametrize(
    ("etag", "modified", "sent"),
    [
        ('W/"weak"', "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ('W/"weak"', None, None),
        (None, None, None),
    ],
)
def test_if_range_never_carries_a_weak_etag(
    server: FileServer, etag: str | None, modified: str | None, sent: str | None
) -> None:
    server.etag, server.last_modified = etag, modified
    server.answers = [Answer(drop_after=70_000)]
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.ranges()[1] == "bytes=70000-"
    assert server.requests[1].get("if-range") == sent


def test_starts_again_where_range_is_ignored(server: FileServer) -> None:
    server.answers = [Answer(drop_after=70_000), Answer(ranges=False)]
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=70000-"]


def test_starts_again_where_the_published_file_has_changed(server: FileServer) -> None:
    put_part(b"old" * 10_000, validator='"v0"')
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.requests[0]["if-range"] == '"v0"'


@pytest.mark.parametrize(
    "answer", [Answer(status=416), Answer(content_range=f"bytes 5-9/{len(CONTENT)}")]
)
def test_starts_again_where_a_range_is_refused_or_wrong(server: FileServer, answer: Answer) -> None:
    put_part(CONTENT[:1000])
    server.answers = [answer]
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.ranges() == ["bytes=1000-", None]


def test_drops_a_part_longer_than_the_file(server: FileServer) -> None:
    put_part(CONTENT + b"x")
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.ranges() == [None]


def test_a_whole_part_needs_no_request(server: FileServer) -> None:
    put_part(CONTENT)
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.requests == []


def test_wrong_bytes_name_both_hashes_and_are_removed(server: FileServer) -> None:
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    server.answers = [Answer(body=wrong)]
    refused(DIGEST, hashlib.sha256(wrong).hexdigest(), server.url)
    assert not part().exists()
    assert fetch("vit_b").read_bytes() == CONTENT


@pytest.mark.parametrize("announce", [True, False])
@pytest.mark.parametrize("body", [CONTENT + b"x" * 9, CONTENT * 3])
def test_a_longer_file_is_refused(server: FileServer, announce: bool, body: bytes) -> None:
    server.answers = [Answer(body=body, announce=announce)]
    refused(f"expected {len(CONTENT)}", server.url)
    assert not part().exists()
    assert len(server.requests) == 1


def test_a_web_page_is_refused_by_its_length(server: FileServer) -> None:
    put_part(CONTENT[:1000])
    server.answers = [Answer(body=b"<html>sign in first</html>", ranges=False)]
    refused("is 26 bytes long", f"expected {len(CONTENT)}")
    assert part().read_bytes() == CONTENT[:1000]  # what was right stays


@pytest.mark.parametrize("status", [401, 403, 404, 410, 416])
def test_a_refusal_is_final(server: FileServer, status: int) -> None:
    server.answers = [Answer(status=status)]
    refused(str(status), server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again(server: FileServer, status: int) -> None:
    server.answers = [Answer(status=status)] * (transfer.ATTEMPTS - 1)
    assert fetch("vit_b").read_bytes() == CONTENT
    assert len(server.requests) == transfer.ATTEMPTS


@pytest.mark.parametrize("answer", [Answer(status=503), Answer(drop_after=0)])
def test_attempts_are_bounded(server: FileServer, answer: Answer) -> None:
    server.always = answer
    refused(f"{transfer.ATTEMPTS} attempts")
    assert len(server.requests) == transfer.ATTEMPTS


def test_attempts_are_bounded_where_every_one_starts_again(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PROGRESS", 1000)
    server.always = Answer(drop_after=70_000, ranges=False)
    refused("attempts in a row")
    assert len(server.requests) == transfer.ATTEMPTS


def test_progress_earns_further_attempts(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PROGRESS", 1000)
    server.always = Answer(drop_after=10_000)
    assert fetch("vit_b").read_bytes() == CONTENT
    assert len(server.requests) == len(CONTENT) // 10_000


def test_waits_longer_before_each_attempt(
    capsys: pytest.CaptureFixture[str], server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transfer, "BACKOFF", 1.0)
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    server.always = Answer(status=503)
    refused("503")
    assert waits == [2.0**i for i in range(transfer.ATTEMPTS - 1)]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == transfer.ATTEMPTS - 1
    assert "503" in told[0]
    assert told[0].endswith("attempt 2 of 5 in 1 s")


answers = st.one_of(
    st.builds(Answer, drop_after=st.integers(0, len(CONTENT)), ranges=st.booleans()),
    st.builds(Answer, status=st.sampled_from([404, 416, 429, 503])),
    st.builds(Answer, body=st.binary(max_size=40), announce=st.booleans()),
    st.just(Answer(body=bytes(len(CONTENT)))),
    st.builds(Answer, content_range=st.sampled_from(["", "bytes 3-4/5", "bytes */9", "x"])),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(script=st.lists(answers, max_size=6), left=st.integers(0, len(CONTENT)))
def test_whatever_happens_the_file_is_right_or_absent(
    server: FileServer, script: list[Answer], left: int
) -> None:
    shutil.rmtree(cache_dir(), ignore_errors=True)
    put_part(CONTENT[:left])
    server.answers = list(script)
    target = cache_dir() / "tiny.pth"
    try:
        assert fetch("vit_b", client=CLIENT) == target
    except DownloadError:
        assert not target.exists()
    else:
        assert target.read_bytes() == CONTENT
    server.answers = []
    for _ in range(2):  # whatever was left does no lasting harm: a wrong part costs one attempt
        try:
            fetch("vit_b", client=CLIENT)
        except DownloadError:
            continue
    assert target.read_bytes() == CONTENT


@pytest.mark.usefixtures("server")
def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "http://127.0.0.1:1/tiny.pth")
    refused("http://127.0.0.1:1/tiny.pth", "check the network", "samtrt export vit_s -o vit_s")


def test_no_network_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "http://127.0.0.1:1/tiny.pth")
    monkeypatch.setattr(transfer.time, "sleep", lambda _seconds: pytest.fail("it waited"))
    refused("check the network")


def test_the_small_checkpoint_is_there_without_a_network() -> None:
    assert fetch("vit_s") == download.resolve("vit_s") == assets.SMALL_CHECKPOINT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.usefixtures("server")
def test_a_disk_that_fills_up() -> None:
    cache_dir().mkdir()
    part().symlink_to("/dev/full")
    refused("No space left on device", "SAMTRT_CACHE")
    part().unlink()
    assert fetch("vit_b").read_bytes() == CONTENT


def test_a_disk_without_room_is_told_before_downloading(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(100, 90, 10))
    refused("no room", f"{len(CONTENT)} bytes", "10 free")
    assert server.requests == []


@pytest.mark.usefixtures("server")
def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAMTRT_CACHE", str(tmp_path / "file" / "cache"))
    refused("cannot write", "SAMTRT_CACHE")


def test_a_server_that_sends_next_to_nothing_is_given_up(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "SLOW_BYTES", 1 << 30)
    refused("the server sent", "bytes in 0 s", "5 attempts in a row")
    assert len(server.requests) == 5


@pytest.mark.parametrize("validator", ['"v1"\r\nX-Evil: 1', "\x00\xff", '"é"', ""])
def test_a_broken_note_of_the_servers_version_is_left_out(
    server: FileServer, validator: str
) -> None:
    put_part(CONTENT[:1000], validator)
    assert fetch("vit_b").read_bytes() == CONTENT
    assert server.ranges() == ["bytes=1000-"]
    assert "if-range" not in server.requests[0]


def test_a_size_of_a_thousand_digits_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [(b"Content-Length", b"9" * 5000), (b"ETag", b'"\xff"')]
    answer = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers))
    publish(monkeypatch, "http://localhost/tiny.pth")
    with httpx.Client(transport=answer) as client, pytest.raises(DownloadError) as caught:
        fetch("vit_b", client=client)
    assert "bytes long, expected 200000" in str(caught.value)
    assert len(str(caught.value)) < 300
