"""What cannot be done on a cluster is told in a line, before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from samtrt.cli import main
from samtrt.cluster import run as cluster_run
from support.cluster_cases import Nodes, free_port

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that is refused; return its line."""

    def call(*arguments: object) -> str:
        assert main([str(one) for one in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("samtrt: error: ")
        return line

    return call


@pytest.mark.parametrize("command", ["auto", "embed"])
def test_no_cluster_answers(refused: Refused, folder: Path, tmp_path: Path, command: str) -> None:
    pytest.importorskip("ray")
    address = f"127.0.0.1:{free_port()}"
    line = refused(command, "model", folder, "-o", tmp_path / "out", "--ray", address)
    assert f"no Ray cluster answers at {address}" in line


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ray://head:10001", "ray job submit"),
        ("http://head:8265", "ray job submit"),
        ("head", "HOST:PORT"),
        ("head:port", "HOST:PORT"),
        (":6379", "HOST:PORT"),
        ("head:0", "HOST:PORT"),
        ("head:99999", "HOST:PORT"),
    ],
)
def test_addresses(refused: Refused, folder: Path, tmp_path: Path, address: str, told: str) -> None:
    pytest.importorskip("ray")
    assert told in refused("auto", "model", folder, "-o", tmp_path / "out", "--ray", address)


def test_without_ray(
    refused: Refused, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_run, "find_spec", lambda _: None)
    line = refused("auto", "model", folder, "-o", tmp_path / "out", "--ray", "auto")
    assert "pip install 'samtrt[ray]'" in line


def test_a_worker_gets_its_gpu_from_ray(refused: Refused, folder: Path, tmp_path: Path) -> None:
    for device in ("cuda:1", "cuda:0,cuda:1"):
        more = ("--device", device, "--ray", "auto")
        assert "--device cuda" in refused("auto", "model", folder, "-o", tmp_path / "out", *more)


def test_one_picture_needs_no_cluster(refused: Refused, folder: Path) -> None:
    line = refused("predict", "model", folder / "p0.png", "-p", "1,1", "--ray", "auto")
    assert "--ray is for the boxes of a folder" in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["s3://b/images", "-o", "out"], "images at an address, s3://b/images, is for clusters"),
        (["pictures", "-o", "s3://b/out"], "-o at an address, s3://b/out, is for clusters"),
        (["pictures", "-o", "memory://out", "--ray", "local"], "the memory of one process"),
        (["pictures", "-o", "nothing://out", "--ray", "local"], "nothing://out"),
    ],
)
@pytest.mark.parametrize("command", ["auto", "predict"])
@pytest.mark.usefixtures("folder")
def test_addresses_of_images_and_results(
    refused: Refused,
    fake_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
    told: str,
) -> None:
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.csv").write_text(
        "filename,xmin,ymin,xmax,ymax,class\np0.png,10,20,50,70,cat\n"
    )
    boxes = ["--boxes", "boxes.csv"] if command == "predict" else []
    assert told in refused(command, fake_directory, *options, *boxes)
    assert {path.name for path in tmp_path.iterdir()} == {"boxes.csv", "pictures", "fake-model"}


def test_a_file_of_all_masks_is_no_address(refused: Refused, folder: Path) -> None:
    pytest.importorskip("ray")
    more = ("--boxes", folder, "-o", "s3://b/out.json", "--ray", "local")
    assert "give -o one, not s3://b/out.json" in refused("predict", "model", folder, *more)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--ray", "auto"], "--images"),
        (["--images", "there"], "give --ray"),
        (["--replicas", "2"], "give --ray"),
        (["--ray", "auto", "--images", "there", "--replicas", "many"], "LEAST:MOST"),
        (["--ray", "auto", "--images", "there", "--replicas", "3:2"], "the least first"),
        (["--ray", "auto", "--images", "nothing://there"], "nothing"),
    ],
)
def test_servers(refused: Refused, options: list[str], told: str) -> None:
    pytest.importorskip("ray")
    assert told in refused("serve", "model", *options)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_nodes_that_cannot_do_it(
    refused: Refused, nodes: Nodes, tiny_model: Path, folder: Path, tmp_path: Path
) -> None:
    run = (folder, "-o", tmp_path / "out", "--ray", nodes.address)
    missing = tmp_path / "no-model"
    line = refused("auto", missing, *run)
    assert "error: node " in line
    assert str(missing) in line
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "sitecustomize.py").write_text(
        "import samtrt._version\nsamtrt._version.__version__ = '0.0.1'\n"
    )
    node = nodes.add_with(tmp_path / "older")
    line = refused("auto", tiny_model, *run)
    nodes.remove(node)
    assert "has samtrt 0.0.1" in line
    assert not (tmp_path / "out" / "annotations.json").exists()
