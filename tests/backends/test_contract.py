"""The same cases on every backend that this machine has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samtrt.backends.base import Backend, stage_tensors
from samtrt.choices import BackendName, Stage
from samtrt.errors import BackendError
from samtrt.manifest import Manifest
from samtrt.predictor import Predictor
from samtrt.types import to_host
from support.contract_cases import FAKE, Places, cases, opened


@pytest.fixture(scope="module", params=cases())
def stages(
    request: pytest.FixtureRequest,
    exported: Callable[..., Path],
    tiny_checkpoint: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[Stage, Backend]]:
    places = Places(exported, tiny_checkpoint, tmp_path_factory.mktemp("contract"))
    with opened(request.param, places) as found:
        yield found


def feeds(stage: Stage, prompts: int = 3, points: int = 4, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    if stage is Stage.ENCODER:
        return {"images": rng.normal(size=(1, 3, 256, 256)).astype(np.float32)}
    arrays = {
        "image_embeddings": rng.normal(size=(1, 256, 16, 16)),
        "point_coords": rng.uniform(0, 256, (prompts, points, 2)),
        "point_labels": rng.integers(-1, 4, (prompts, points)),
        "mask_input": rng.normal(size=(prompts, 1, 64, 64)),
        "has_mask_input": rng.integers(0, 2, prompts),
    }
    if points:  # whole boxes only
        arrays["point_labels"][:, -1] = -1
        arrays["point_labels"][arrays["point_labels"] > 1] = 0
    return {name: array.astype(np.float32) for name, array in arrays.items()}


@pytest.mark.parametrize("stage", list(Stage))
def test_declares_the_designed_inputs_and_outputs(
    stages: dict[Stage, Backend], stage: Stage, tiny_model: Path
) -> None:
    backend = stages[stage]
    for declared, designed in zip(
        (backend.inputs, backend.outputs),
        stage_tensors(Manifest.load(tiny_model), stage),
        strict=True,
    ):
        assert list(declared) == [info.name for info in designed]
        for info in designed:
            assert declared[info.name].dtype == info.dtype
            assert declared[info.name].shape == info.shape
    assert backend.device in ("cpu", "cuda:0")
    assert backend.name in {FAKE, *BackendName}


def test_encodes(stages: dict[Stage, Backend]) -> None:
    out = stages[Stage.ENCODER].run(feeds(Stage.ENCODER))
    assert list(out) == ["image_embeddings"]
    assert out["image_embeddings"].shape == (1, 256, 16, 16)
    assert out["image_embeddings"].dtype == np.float32
    assert np.isfinite(out["image_embeddings"]).all()


@pytest.mark.parametrize("prompts", [1, 2, 7])
@pytest.mark.parametrize("points", [0, 1, 2, 9])
def test_decodes_any_number(stages: dict[Stage, Backend], prompts: int, points: int) -> None:
    decoder = stages[Stage.DECODER]
    out = decoder.run(feeds(Stage.DECODER, prompts, points))
    assert out["low_res_masks"].shape == (prompts, 4, 64, 64)
    assert out["iou_predictions"].shape == (prompts, 4)
    assert {array.dtype for array in out.values()} == {np.dtype(np.float32)}
    assert all(np.isfinite(array).all() for array in out.values())


def test_prompts_do_not_touch_each_other(stages: dict[Stage, Backend]) -> None:
    together = feeds(Stage.DECODER, prompts=3)
    out = stages[Stage.DECODER].run(together)
    for i in range(3):
        alone = {
            name: array if name == "image_embeddings" else array[i : i + 1]
            for name, array in together.items()
        }
        single = stages[Stage.DECODER].run(alone)
        assert np.abs(single["low_res_masks"][0] - out["low_res_masks"][i]).max() <= 1e-4


def test_outputs_may_stay_where_they_are_made(stages: dict[Stage, Backend]) -> None:
    encoder, decoder = stages[Stage.ENCODER], stages[Stage.DECODER]
    images, prompts = feeds(Stage.ENCODER), feeds(Stage.DECODER)
    on_host = encoder.run(images)["image_embeddings"]
    stays = encoder.run(images, on_host=False)["image_embeddings"]
    assert (stays.shape, stays.dtype, stays.nbytes) == ((1, 256, 16, 16), "f4", 256 * 256 * 4)
    np.testing.assert_array_equal(to_host(stays), on_host)
    wanted = decoder.run({**prompts, "image_embeddings": on_host})
    made = decoder.run({**prompts, "image_embeddings": stays}, on_host=False)
    assert made.keys() == wanted.keys()
    encoder.run(feeds(Stage.ENCODER, seed=1), on_host=False)  # what was given out is the caller's
    decoder.run(feeds(Stage.DECODER, seed=1), on_host=False)
    np.testing.assert_array_equal(to_host(stays), on_host)
    for name, array in made.items():
        np.testing.assert_array_equal(to_host(array), wanted[name])


@pytest.mark.parametrize(
    "rows",
    [
        slice(None), slice(1, 7), slice(9, 99), slice(None, None, -2), slice(5, 5), 3, -1,
        np.array([], int), [0], [4, 5, 6, 1, 1, -2], np.array([7, 3]), np.arange(12) % 3 == 0,
        [[0, 1], [5, 2]],
    ],
    ids=str,
)  # fmt: skip
def test_rows_of_outputs(stages: dict[Stage, Backend], rows: Any) -> None:
    run = stages[Stage.DECODER].run
    masks = run(feeds(Stage.DECODER), on_host=False)["low_res_masks"].reshape(-1, 64, 64)
    assert len(masks) == 12
    wanted = run(feeds(Stage.DECODER))["low_res_masks"].reshape(-1, 64, 64)[rows]
    got = masks[rows]
    assert (got.shape, got.dtype, got.nbytes) == (wanted.shape, wanted.dtype, wanted.nbytes)
    np.testing.assert_array_equal(to_host(got), wanted)


@pytest.mark.parametrize("rows", [12, -13, [0, 12], (0, 0, 0, 0), [0.5], "1"], ids=str)
def test_rows_that_there_are_not(stages: dict[Stage, Backend], rows: Any) -> None:
    made = stages[Stage.DECODER].run(feeds(Stage.DECODER), on_host=False)
    with pytest.raises(IndexError):
        made["low_res_masks"].reshape(-1, 64, 64)[rows]


def test_shapes_that_do_not_fit(stages: dict[Stage, Backend]) -> None:
    made = stages[Stage.DECODER].run(feeds(Stage.DECODER), on_host=False)["iou_predictions"]
    assert made.reshape(2, -1).shape == (2, 6)
    for shape in ((5, -1), (13,), (-1, -1)):
        with pytest.raises(ValueError, match=r"shape|one unknown"):
            made.reshape(*shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("point_labels"), "takes the inputs .*point_labels"),
        (lambda f: f.update(extra=np.zeros(1)), "takes the inputs"),
        (lambda f: f.update(has_mask_input=np.zeros(3)), "array of float32, not float64"),
        (lambda f: f.update(has_mask_input=[0, 0, 0]), "array of float32, not list"),
        (
            lambda f: f.update(mask_input=np.zeros((3, 1, 9, 9), np.float32)),
            r"shape prompts( \(1..8\))? x 1 x 64 x 64, not \(3, 1, 9, 9\)",
        ),
        (
            lambda f: f.update(point_labels=np.zeros(3, np.float32)),
            r"shape prompts( \(1..8\))? x points( \(1..10\))?, not",
        ),
    ],
)
def test_refuses_what_does_not_fit(stages: dict[Stage, Backend], change: Any, message: str) -> None:
    bad = feeds(Stage.DECODER)
    change(bad)
    with pytest.raises(BackendError, match=message):
        stages[Stage.DECODER].run(bad)


def test_prompt_inputs_that_disagree_in_number(stages: dict[Stage, Backend]) -> None:
    bad = feeds(Stage.DECODER)
    bad["point_labels"] = bad["point_labels"][:, :2]
    with pytest.raises(BackendError, match="point_coords has 4 points and point_labels has 2"):
        stages[Stage.DECODER].run(bad)
    good = stages[Stage.DECODER].run(feeds(Stage.DECODER))
    assert len(good["iou_predictions"]) == 3  # the failed run left nothing behind


def test_threads_share_a_stage(stages: dict[Stage, Backend]) -> None:
    cases = [feeds(Stage.DECODER, prompts=1 + i % 3, seed=i) for i in range(8)]
    decoder = stages[Stage.DECODER]
    expected = [decoder.run(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(decoder.run, cases))
    for a, b in zip(expected, got, strict=True):
        assert np.abs(a["low_res_masks"] - b["low_res_masks"]).max() <= 1e-5


@pytest.mark.parametrize("case", cases())
def test_closing_frees_and_says_so(
    case: tuple[str, str], exported: Callable[..., Path], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with opened(case, Places(exported, tiny_checkpoint, tmp_path)) as found:
        backend = found[Stage.DECODER]
        with backend:
            backend.run(feeds(Stage.DECODER))
        backend.close()
        for on_host in (True, False):
            with pytest.raises(BackendError, match="closed"):
                backend.run(feeds(Stage.DECODER), on_host)


@pytest.mark.parametrize("name", [BackendName.ONNXRUNTIME, BackendName.OPENVINO])
def test_nothing_said_of_a_device_is_the_backends_own(name: BackendName, tiny_model: Path) -> None:
    with Predictor.load(tiny_model, name) as predictor:
        assert predictor.encoder.device == predictor.decoder.device == "cpu"
