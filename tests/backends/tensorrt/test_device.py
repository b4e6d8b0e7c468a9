"""Pixels on the GPU, beside the engines: the same embeddings and masks as with the host's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-bindings")

from samtrt.choices import MaskChoice, PixelWork, Stage
from samtrt.errors import ImageError, MissingExtraError
from samtrt.manifest import FileEntry
from samtrt.masks import rle
from samtrt.types import DeviceArray
from support import emulated_kernels, fake_tensorrt
from support.fake_cuda_streams import Cuda
from support.samples import make_manifest
from support.trt_cases import boxes, expected, load, same

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++ to compile the kernels")


def test_the_whole_way_stays_on_the_gpu(
    cuda: Cuda, directory: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated_kernels.install(monkeypatch, cuda)
    reference = expected(directory)
    with load(directory, pixels=PixelWork.DEVICE) as predictor:
        for one in (predictor, reference):
            one.set_image(picture[..., ::-1], "BGR")
        before = cuda.copied_to_host
        assert isinstance(predictor.embedding.features, DeviceArray)
        np.testing.assert_array_equal(
            predictor.get_image_embedding(), reference.get_image_embedding()
        )
        embedding = predictor.embedding.features.nbytes
        assert cuda.copied_to_host - before == embedding
        for arguments in (
            {"boxes": boxes(3), "multimask_output": False},
            {"point_coords": [[[60, 50]]], "point_labels": [[1]], "return_logits": True},
            {"boxes": boxes(5)},  # more than the profile takes: in parts
        ):
            got, wanted = (one.predict_batch(**arguments) for one in (predictor, reference))
            same(got[1:], wanted[1:])
            if "return_logits" in arguments:
                np.testing.assert_allclose(got.masks, wanted.masks, atol=1e-4)
            else:
                assert np.count_nonzero(got.masks != wanted.masks) <= 2
        before = cuda.copied_to_host
        masks, scores = predictor.predict_rle(boxes=boxes(5), multimask_output=False)
        assert cuda.copied_to_host - before < 5 * 200 * 2 * 4 + 1000
        wanted = predictor.predict_batch(boxes=boxes(5), multimask_output=False)
        np.testing.assert_array_equal(scores, wanted.iou_predictions)
        found = [[rle.with_list(mask) for mask in each] for each in masks]
        assert found == [[rle.encode(mask) for mask in each] for each in wanted.masks]
        del got, wanted, embedding


def test_rle_of_the_host(directory: Path, picture: np.ndarray) -> None:
    reference = expected(directory)
    reference.set_image(picture)
    masks, scores = reference.predict_rle(boxes=boxes(3))
    wanted = reference.predict_batch(boxes=boxes(3))
    np.testing.assert_array_equal(scores, wanted.iou_predictions)
    found = [[rle.with_list(mask) for mask in each] for each in masks]
    assert found == [[rle.encode(mask) for mask in each] for each in wanted.masks]


def test_without_kernels_it_says_what_to_install(
    cuda: Cuda, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cuda
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'samtrt\[kernels\]'") as caught:
        load(directory, pixels=PixelWork.DEVICE)
    assert "--pixels host" in str(caught.value)
    load(directory, pixels=PixelWork.HOST).close()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[1, 2], [3, 4]], "must be an array of NumPy"),
        (np.zeros((4, 4), np.uint8), "H x W x 3"),
        (np.zeros((4, 4, 3)), "uint8"),
    ],
)
def test_other_images_are_refused(
    cuda: Cuda, directory: Path, monkeypatch: pytest.MonkeyPatch, image: Any, message: str
) -> None:
    emulated_kernels.install(monkeypatch, cuda)
    with (
        load(directory, pixels=PixelWork.DEVICE) as predictor,
        pytest.raises(ImageError, match=message),
    ):
        predictor.encode(image)


def test_further_maps_stay_on_the_gpu_too(
    cuda: Cuda, tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = (
        {"name": "image_embeddings", "shape": (256, 16, 16)},
        {"name": "hq_features", "shape": (32, 64, 64)},
    )
    manifest = make_manifest(maps=maps, mask_choice=MaskChoice.BEST)
    files = {}
    for stage in Stage:
        path = tmp_path / f"{stage.value}.onnx"
        path.write_bytes(b"not a graph")
        files[stage] = (FileEntry.of(path),)
    manifest.model_copy(update={"files": files}).save(tmp_path)
    fake_tensorrt.write_engines(tmp_path)
    emulated_kernels.install(monkeypatch, cuda)
    reference = expected(tmp_path)
    reference.set_image(picture)
    with load(tmp_path, pixels=PixelWork.DEVICE) as predictor:
        before = cuda.copied_to_host
        predictor.set_image(picture)
        assert cuda.copied_to_host == before
        for name, one in reference.embedding.maps.items():
            got = predictor.embedding.maps[name]
            assert isinstance(got, DeviceArray)
            np.testing.assert_array_equal(got.numpy(), one)
        for several in (True, False):
            arguments = {"boxes": boxes(3), "multimask_output": several}
            got, wanted = (one.predict_batch(**arguments) for one in (predictor, reference))
            assert got.masks.shape == (3, 1, 120, 200)
            same(got[1:], wanted[1:])
            assert np.count_nonzero(got.masks != wanted.masks) <= 2
        predictor.reset_image()
        del got
