"""Names of the Hub, against a server on this machine that answers as the Hub does."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")

import torch
from safetensors.torch import load, save

from samtrt.backends.pytorch import manifest_of
from samtrt.checkpoints import download, hub
from samtrt.checkpoints.load import load_checkpoint
from samtrt.errors import CheckpointError, DownloadError
from samtrt.models import build_sam, seed_weights
from support.checkpoint_cases import SPEC
from support.hub_server import COMMIT, REPO, Hub, serve


@pytest.fixture(scope="module")
def weights() -> bytes:
    sam = build_sam(SPEC)
    seed_weights(sam)
    return bytes(save({name: one.contiguous() for name, one in sam.state_dict().items()}))


@pytest.fixture
def there(weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A repository with weights, their configuration, and what must not be fetched."""
    files = {
        "model.safetensors": weights,
        "pytorch_model.bin": b"a pickle",
        "config.json": b'{"model_type": "sam"}',
        "preprocessor_config.json": json.dumps(
            {
                "image_mean": [0.5] * 3,
                "size": {"longest_edge": 128},
                "pad_size": {"height": 128, "width": 128},
            }
        ).encode(),
        "README.md": b"words",
        "handler.py": b"code",
    }
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with serve(Hub(files)) as state:
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("facebook/sam-vit-base", hub.HubName("facebook/sam-vit-base")),
        ("lkeab/hq-sam/sam_hq_vit_b.pth", hub.HubName("lkeab/hq-sam", "sam_hq_vit_b.pth")),
        ("a/b@main", hub.HubName("a/b", None, "main")),
        ("a/b/c/d.pt@v1.0", hub.HubName("a/b", "c/d.pt", "v1.0")),
        *(
            (text, None)
            for text in ("vit_b", "a/../b", "/a/b", "a/b/c", "a/b/c.bin", "a/", "a b/c")
        ),
    ],
)
def test_names(text: str, name: hub.HubName | None) -> None:
    assert hub.parse(text) == name


def test_weights_and_configuration_alone_are_fetched(there: Hub) -> None:
    path = download.resolve(REPO)
    expected = {"model.safetensors", "config.json", "preprocessor_config.json"}
    assert set(there.fetched) == expected == {each.name for each in path.iterdir()}
    checkpoint = load_checkpoint(path)
    assert checkpoint.preparation.mean == (0.5, 0.5, 0.5)
    source = manifest_of(checkpoint).checkpoint
    assert (source.name, source.hub) == (REPO, f"{REPO}@{COMMIT}")
    there.fetched.clear()
    assert download.fetch(f"{REPO}@{COMMIT}") == path
    assert there.fetched == [], "it is in the cache"


def test_offline(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="not in the cache and the Hub is out of reach"):
        download.resolve(REPO)
    with pytest.raises(DownloadError, match=r"directory 'weights/old/sam\.pth'; on the Hub"):
        download.resolve("weights/old/sam.pth")
    monkeypatch.setenv("HF_ENDPOINT", there.url)
    path = download.resolve(REPO)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert download.resolve(REPO) == path
    assert download.resolve(f"{REPO}@{COMMIT}") == path


def other(weights: bytes) -> bytes:
    """Return weights that are not those of the repository's root."""
    return bytes(save({name: one + 1 for name, one in load(weights).items()}))


@pytest.mark.parametrize("root_first", [True, False])
def test_a_named_file_is_the_one_that_is_read(there: Hub, weights: bytes, root_first: bool) -> None:
    there.files["large/model.safetensors"] = other(weights)
    there.files["large/preprocessor_config.json"] = b'{"size": 128, "image_mean": [0.25, 0, 0]}'
    if root_first:
        download.resolve(REPO)
    large = load_checkpoint(download.resolve(f"{REPO}/large/model.safetensors"))
    assert large.sha256 == hashlib.sha256(other(weights)).hexdigest()
    assert large.preparation.mean == (0.25, 0, 0)
    assert manifest_of(large).checkpoint.hub == f"{REPO}@{COMMIT}"
    named = load_checkpoint(download.resolve(f"{REPO}/model.safetensors"))
    assert named.sha256 == hashlib.sha256(weights).hexdigest()
    assert named.preparation.mean == (0.5, 0.5, 0.5), "as where no file is named"


def test_a_model_that_lies_in_a_folder_alone(there: Hub) -> None:
    there.files = {f"hf/{name}": content for name, content in there.files.items()}
    path = download.resolve(REPO)
    assert path.name == "hf"
    assert load_checkpoint(path).preparation.mean == (0.5, 0.5, 0.5)


def in_shards(weights: bytes, call: str) -> dict[str, bytes]:
    """Return the files of weights in two shards, and their index."""
    state = load(weights)
    files, index = {}, {}
    for i in range(2):
        names = sorted(state)[i::2]
        files[call.format(i)] = bytes(save({name: state[name] for name in names}))
        index.update(dict.fromkeys(names, call.format(i)))
    files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    return files


@pytest.mark.parametrize("call", ["model-0000{}-of-00002.safetensors", "part_{}.safetensors"])
@pytest.mark.parametrize("folder", ["", "hf/"])
def test_shards_are_those_of_the_index(
    there: Hub, weights: bytes, call: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {folder + name: one for name, one in in_shards(weights, call).items()}
    there.files = files if folder else {**files, "x.safetensors": b"another model"}
    path = download.resolve(REPO)
    assert load_checkpoint(path).spec == SPEC
    assert set(there.fetched) == set(files)
    (path / call.format(1)).unlink()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="not in the cache and the Hub is out of reach"):
        download.resolve(REPO)


def test_a_shard_that_the_repository_does_not_hold(there: Hub, weights: bytes) -> None:
    there.files = in_shards(weights, "model-0000{}-of-00002.safetensors")
    del there.files["model-00001-of-00002.safetensors"]
    with pytest.raises(CheckpointError, match=r"does not hold model-00001-of-.* names"):
        download.resolve(REPO)


def test_a_cache_that_does_not_say_how_images_are_prepared(
    there: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = download.resolve(REPO)
    (path / "preprocessor_config.json").unlink()  # as SamModel.from_pretrained leaves it
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"without preprocessor_config\.json.* give ") as caught:
        download.resolve(REPO)
    assert str(path) in str(caught.value)
    monkeypatch.setenv("HF_ENDPOINT", there.url)
    there.commit = COMMIT[::-1]
    del there.files["preprocessor_config.json"]
    path = download.resolve(REPO)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert download.resolve(REPO) == path, "the repository has none, as was noted"


def test_an_older_commit_does_not_stand_in_for_one_that_cannot_be_had(
    there: Hub, weights: bytes
) -> None:
    download.resolve(REPO)
    there.commit, there.failing = COMMIT[::-1], True
    there.files["model.safetensors"] = other(weights)
    with pytest.raises(DownloadError, match="not in the cache"):
        download.resolve(REPO)


@pytest.mark.usefixtures("there")
def test_a_cache_that_cannot_be_written_and_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    path = download.resolve(REPO)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for change in ("write_text", "touch", "mkdir"):
        monkeypatch.setattr(Path, change, refuse)
    assert download.resolve(REPO) == path


def test_one_file_of_several(there: Hub, tmp_path: Path) -> None:
    sam = build_sam(SPEC)
    seed_weights(sam)
    torch.save(sam.state_dict(), tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    there.files = {"a.pth": content, "b/c.pt": content, "readme": b""}
    with pytest.raises(CheckpointError, match=rf"2 weight files: name one, such as {REPO}/a\.pth"):
        download.resolve(REPO)
    path = download.resolve(f"{REPO}/b/c.pt")
    assert path.name == "c.pt"
    assert there.fetched == ["b/c.pt"]
    assert load_checkpoint(path).spec == SPEC
    assert hub.origin_of(path) == f"{REPO}@{COMMIT}"
    there.files = {"a.pth": content}
    there.commit = COMMIT[::-1]
    assert download.resolve(REPO).name == "a.pth"
    with pytest.raises(CheckpointError, match=r"holds no file d\.pt"):
        download.resolve(f"{REPO}/d.pt")


def test_what_cannot_be_had_is_one_clear_line(there: Hub) -> None:
    there.files = {"pytorch_model.bin": b"a pickle"}
    with pytest.raises(CheckpointError, match="loading them may run code"):
        download.resolve(REPO)
    with pytest.raises(DownloadError, match="no revision 'v9'"):
        download.resolve(f"{REPO}@v9")
    with pytest.raises(DownloadError, match="no such repository on the Hub, or it is private"):
        download.resolve("someone/else")
    with pytest.raises(DownloadError, match=r"directory 'weights/old/sam\.pth', and no"):
        download.resolve("weights/old/sam.pth")
    with pytest.raises(CheckpointError, match=r"'run/a--b', and no repository .* such a name"):
        download.resolve("run/a--b")
    there.gated = True
    with pytest.raises(DownloadError, match=r"is gated: accept its terms at .* 'hf auth login'"):
        download.resolve(REPO)


@pytest.mark.parametrize("commit", ["../../../elsewhere", "main"])
def test_a_server_that_names_no_commit(there: Hub, commit: str, tmp_path: Path) -> None:
    there.commit = commit
    with pytest.raises(DownloadError, match="names no commit; check HF_ENDPOINT"):
        download.resolve(REPO)
    assert there.fetched == []
    assert not (tmp_path / "hub").exists()


def test_paths_come_first(there: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / REPO
    folder.mkdir(parents=True)
    assert download.resolve(REPO) == Path(REPO)
    assert there.fetched == []
    assert hub.origin_of(folder) is None
