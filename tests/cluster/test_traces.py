"""One trace from a command to the image in a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from samtrt import tracing
from samtrt.cli import main
from support.cluster_cases import Nodes
from support.collector import collecting

OPTIONS = ("--points-per-side", "2", "--formats", "none")


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command start its traces, and no other test see them."""
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setattr(tracing, "_tracer", None)
    monkeypatch.setattr(tracing, "_provider", None)


def test_on_one_machine_threads_are_in_the_commands_trace(
    fake_directory: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "damaged.png").write_bytes(b"no picture")
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        words = ["auto", str(fake_directory), str(folder), "-o", str(tmp_path / "out"), *OPTIONS]
        assert main(words) == 1
        tracing.flush()
        found = collector.spans()
    (command,) = (one for one in found if one.name == "samtrt auto")
    assert {one.trace for one in found} == {command.trace}
    names = {path.name for path in folder.iterdir()}
    for name in ("samtrt.image", "samtrt.read"):
        assert {one.image for one in found if one.name == name} == names
        assert {one.parent for one in found if one.name == name} == {command.id}
    images = {one.id for one in found if one.name == "samtrt.image"}
    assert {one.parent for one in found if one.name == "samtrt.write"} < images


@pytest.mark.long
@pytest.mark.timeout(600)
def test_on_a_cluster_workers_are_in_the_commands_trace(
    nodes: Nodes,
    tiny_model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        words = ["auto", str(tiny_model), str(folder), "-o", str(tmp_path / "out"), *OPTIONS]
        assert main([*words, "--ray", nodes.address]) == 0
        tracing.flush()
        found = collector.spans()
    (command,) = (one for one in found if one.name == "samtrt auto")
    images = [one for one in found if one.name == "samtrt.image"]
    assert {one.image for one in images} == {path.name for path in folder.iterdir()}
    assert {one.service for one in images} == {"samtrt worker"}
    assert {(one.trace, one.parent) for one in images} == {(command.trace, command.id)}
