"""Engines of the decoder for one size alone, beside the one for all sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import Stage, Target
from samtrt.errors import BackendError, EngineError
from samtrt.tensorrt.engine_files import find_exact
from samtrt.tensorrt.record import Exact
from support import fake_tensorrt
from support.samples import edit_sealed
from support.trt_cases import boxes, expected, load, same

pytestmark = pytest.mark.usefixtures("cuda")

SIZES = (Exact(1, 2), Exact(4, 2))


@pytest.fixture
def exact_directory(directory: Path) -> Path:
    """A model directory with engines for one and for four prompts of two points."""
    for exact in SIZES:
        fake_tensorrt.write_engines(directory, exact=exact)
    return directory


def test_the_fastest_engine_that_fits_runs(exact_directory: Path, picture: np.ndarray) -> None:
    reference = expected(exact_directory)
    reference.set_image(picture)
    point = {"point_coords": [[[60, 50]]], "point_labels": [[1]]}
    three = {"point_coords": [[[60, 50], [9, 9]]], "point_labels": [[1, 0]]}
    masks = np.full((3, 1, 64, 64), 3.0)
    cases = [
        ({"boxes": boxes(1)}, SIZES[0]),
        (point, SIZES[0]),
        (three, None),  # with its padding point
        ({"boxes": boxes(4)}, SIZES[1]),
        ({"boxes": boxes(3)}, SIZES[1]),  # made up to four
        ({"boxes": boxes(3), "mask_input": masks}, SIZES[1]),
        ({"boxes": boxes(2)}, None),
        ({"mask_input": masks[:1]}, None),
    ]
    with load(exact_directory) as predictor:
        predictor.set_image(picture)
        decoder = predictor.decoder
        for arguments, wanted in cases:
            same(predictor.predict_batch(**arguments), reference.predict_batch(**arguments))
            used = [exact for exact, lane in decoder._lanes.items() if lane is decoder._last]
            assert used == [wanted]


def test_an_engine_for_one_prompt_takes_several_in_turn(
    directory: Path, picture: np.ndarray
) -> None:
    """As TensorRT 8.6 builds it without the plugin; engines for a size take what they can."""
    fake_tensorrt.write_engines(directory, prompts=1)
    fake_tensorrt.write_engines(directory, exact=Exact(1, 2))
    reference = expected(directory)
    reference.set_image(picture)
    masks = np.full((2, 1, 64, 64), 3.0)
    points = {"point_coords": np.full((3, 2, 2), 40), "point_labels": np.ones((3, 2))}
    cases = [
        ({"boxes": boxes(1)}, Exact(1, 2)),
        ({"boxes": boxes(6)}, Exact(1, 2)),
        (points, None),
        ({"mask_input": masks}, None),
    ]
    with load(directory) as predictor:
        predictor.set_image(picture)
        decoder = predictor.decoder
        for arguments, wanted in cases:
            same(predictor.predict_batch(**arguments), reference.predict_batch(**arguments))
            assert decoder._last is decoder._lanes[wanted]


def test_masks_alone_have_an_engine_where_others_want_points(
    directory: Path, picture: np.ndarray
) -> None:
    fake_tensorrt.write_engines(directory, least_points=1)
    masks = np.random.default_rng(0).normal(size=(3, 1, 64, 64))
    with load(directory) as predictor:
        predictor.set_image(picture)
        with pytest.raises(BackendError, match="has 0 points"):
            predictor.predict_batch(mask_input=masks)
    fake_tensorrt.write_engines(directory, exact=Exact(1, 0))
    reference = expected(directory)
    reference.set_image(picture)
    with load(directory) as predictor:
        predictor.set_image(picture)
        for given in (masks, masks[:1]):
            same(
                predictor.predict_batch(mask_input=given), reference.predict_batch(mask_input=given)
            )
            assert predictor.decoder._last is predictor.decoder._lanes[Exact(1, 0)]
        same(predictor.predict_batch(boxes=boxes(2)), reference.predict_batch(boxes=boxes(2)))
        assert predictor.decoder._last is predictor.decoder._lanes[None]


def test_an_engine_of_another_export_is_refused(exact_directory: Path) -> None:
    record = exact_directory / "decoder-4x2.tensorrt.json"
    edit_sealed(record, onnx={"decoder.onnx": "0" * 64})
    with pytest.raises(EngineError, match=r"decoder-4x2.*exported again.*samtrt build"):
        load(exact_directory)


def test_renamed_engines_are_refused(exact_directory: Path) -> None:
    for suffix in ("engine", "json"):
        path = exact_directory / f"decoder-4x2.tensorrt.{suffix}"
        path.rename(exact_directory / f"decoder-5x2.tensorrt.{suffix}")
    with pytest.raises(EngineError, match="renamed"):
        load(exact_directory)


def test_sizes_are_read_from_names(tmp_path: Path) -> None:
    for name in ("decoder-64x2", "decoder-4x20", "decoder-x", "decoder-0x2", "encoder-1x1"):
        (tmp_path / f"{name}.tensorrt.engine").touch()
    assert find_exact(tmp_path, Stage.DECODER, Target.TENSORRT) == [Exact(4, 20), Exact(64, 2)]
    assert [str(Exact.parse("64x2")), Exact.parse("1x0")] == ["64x2", (1, 0)]
    for text in ("64", "x2", "64x", "0x2", "64 x 2", "-1x2"):
        with pytest.raises(ValueError, match="such as 64x2"):
            Exact.parse(text)
