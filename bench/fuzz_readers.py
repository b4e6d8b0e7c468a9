"""What bench/fuzz.py reads: for each reader small files that are whole, and how one is read."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnx
import tifffile
import torch
from PIL import Image
from safetensors.numpy import save

from samtrt.checkpoints.weight_files import read_weights
from samtrt.choices import Precision, Stage
from samtrt.embeddings import FORMAT, read_embedding_info
from samtrt.errors import ImageError, SamtrtError
from samtrt.formats import read_boxes
from samtrt.images import Limits, ReadOptions, decode_picture, read_mask
from samtrt.images.formats import FORMATS
from samtrt.manifest import MANIFEST_NAME, FileEntry, Manifest, Source
from samtrt.masks import rle
from samtrt.onnx_files import external_files
from samtrt.preparation.spec import OFFICIAL
from samtrt.sealed import sealed_json, write_sealed
from samtrt.video.frames import FileFrames
from samtrt.video.limits import VideoLimits

OPTIONS = ReadOptions(limits=Limits(max_pixels=1 << 20, max_memory=1 << 28))


def picture_seeds() -> list[bytes]:
    """Return a small picture of every format and of the kinds of TIFF and PNG."""
    rgb = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    image = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    seeds = []
    for kind in FORMATS:
        for mode in ("RGB", "L", "P", "RGBA", "CMYK", "1", "I;16", "F"):
            buffer = io.BytesIO()
            try:
                image.convert(mode).save(buffer, kind, exif=exif)
            except Exception:  # that format has no such mode, or cannot be written
                continue
            seeds.append(buffer.getvalue())
    for options in ({"progressive": True}, {"quality": 100, "subsampling": 0}):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", exif=exif, **options)
        seeds.append(buffer.getvalue())
    frames = io.BytesIO()
    image.save(frames, "GIF", save_all=True, append_images=[image.rotate(90)])
    seeds.append(frames.getvalue())
    for dtype in ("u1", "u2", "i2", "u4", "f2", "f4", "f8"):
        for options in (
            {},
            {"compression": "zlib"},
            {"tile": (16, 16)},
            {"bigtiff": True},
            {"byteorder": ">"},
            {"planarconfig": "separate"},
        ):
            buffer = io.BytesIO()
            values: Any = rgb.astype(dtype)
            if "planarconfig" in options:
                values = np.ascontiguousarray(values.transpose(2, 0, 1))
            tifffile.imwrite(buffer, values, photometric="rgb", **options)
            seeds.append(buffer.getvalue())
    for suffix in (".png", ".tif"):
        for values in (rgb.astype("u2") * 16, np.dstack([rgb, rgb[..., :1]]).astype("u2") * 257):
            seeds.append(cv2.imencode(suffix, values)[1].tobytes())
    seeds.append(cv2.imencode(".tif", rgb.astype("f4"))[1].tobytes())
    return seeds


def read_picture(data: bytes) -> None:
    pixels = decode_picture(data, "a", OPTIONS).pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= OPTIONS.limits.max_pixels


_PLACE = Path(tempfile.gettempdir()) / "samtrt-fuzz-input"


def read_mask_file(data: bytes) -> None:
    _PLACE.write_bytes(data)
    assert read_mask(_PLACE, OPTIONS.limits).any()


def rle_seeds() -> list[bytes]:
    masks = np.random.default_rng(0).random((6, 9, 11)) > 0.6
    plain = [rle.encode(mask) for mask in masks]
    return [json.dumps(one).encode() for one in (*plain, *map(rle.compress, plain))]


def read_rle(data: bytes) -> None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    decoded: Any = rle.decode(document, 1 << 20)  # type: ignore[arg-type]
    patch = rle.cut(document, 1 << 20)  # type: ignore[arg-type]
    assert patch.mask.sum() == decoded.sum()


def embedding_seeds() -> list[bytes]:
    fields = {
        "format": FORMAT,
        "model": "vit_t",
        "checkpoint_sha256": "0" * 64,
        "precision": "fp32",
        "preparation": "x",
        "stored_as": "fp16",
        "image_name": "a.png",
        "image_sha256": "0" * 64,
        "original_height": "9",
        "original_width": "9",
        "read_as": "",
    }
    write_sealed(_PLACE, {"image_embeddings": np.zeros((1, 4, 2, 2), np.float16)}, fields)
    return [_PLACE.read_bytes()]


def read_embedding(data: bytes) -> None:
    _PLACE.write_bytes(data)
    read_embedding_info(_PLACE)


BOXES = {
    ".json": [
        {
            "images": [{"id": 1, "file_name": "a.png", "width": 90, "height": 60}],
            "categories": [{"id": 3, "name": "cat"}],
            "annotations": [
                {"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30.5, 20], "score": 0.5}
            ],
        },
        [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20], "score": 0.9}],
        {
            "imagePath": "a.png",
            "imageWidth": 90,
            "imageHeight": 60,
            "shapes": [
                {"label": "cat", "shape_type": "rectangle", "points": [[1, 2], [30, 22]]},
                {"label": "dog", "shape_type": "polygon", "points": [[1, 2], [30, 22], [5, 9]]},
            ],
        },
        [[1, 2, 30, 20], [4.5, 6, 70, 50]],
    ],
    ".txt": ["0 0.5 0.5 0.2 0.3\n1 0.1 0.2 0.1 0.1 0.9\n", "0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n"],
    ".csv": ['x1,y1,x2,y2,label\n1,2,30,20,cat\n4,5,70,50,"a, b"\n', "1;2;30;20\n"],
}


def box_seeds(suffix: str) -> list[bytes]:
    texts = (one if isinstance(one, str) else json.dumps(one) for one in BOXES[suffix])
    return [text.encode() for text in texts]


def read_box_file(data: bytes, suffix: str) -> None:
    path = _PLACE.with_suffix(suffix)
    path.write_bytes(data)
    for box in read_boxes(path, (60, 90)).xyxy:
        assert np.isfinite(box).all()


def manifest_seeds() -> list[bytes]:
    """Return a manifest, so that its checksum is that of what it says."""
    files = {stage: (FileEntry(name="a.onnx", size=1, sha256="0" * 64),) for stage in Stage}
    said: dict[str, Any] = {
        "model": "vit_t",
        "image_size": 256,
        "maps": ({"name": "image_embeddings", "shape": (256, 16, 16)},),
        "preparation": OFFICIAL,
        "precision": Precision.FP32,
        "opset": 20,
        "simplified": True,
        "dynamic_batch": False,
        "attention": "add",
        "checkpoint": Source(name="a.pth", sha256="0" * 64),
        "files": files,
        "versions": {"samtrt": "0"},
    }
    manifest = Manifest.model_validate(said)
    return [sealed_json(manifest.model_dump(mode="json")).encode()]


def read_manifest(data: bytes) -> None:
    """Read it as it is, and once more with a checksum of what it has become."""
    folder = _PLACE.with_suffix(".model")
    folder.mkdir(exist_ok=True)
    refused = None
    try:
        document = json.loads(data)
        document.pop("checksum", None)
        resealed = sealed_json(document).encode()
    except Exception:
        resealed = data
    for content in (data, resealed):
        (folder / MANIFEST_NAME).write_bytes(content)
        try:
            Manifest.load(folder)
        except SamtrtError as error:
            refused = error
    if refused:
        raise refused


def checkpoint_seeds() -> list[bytes]:
    tensors = {"a.weight": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)}
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    files = [save(tensors)]
    for wrapped, is_zip in ((state, True), ({"model": state, "epoch": 3}, True), (state, False)):
        buffer = io.BytesIO()
        torch.save(wrapped, buffer, _use_new_zipfile_serialization=is_zip)
        files.append(buffer.getvalue())
    return files


def read_checkpoint(data: bytes) -> None:
    suffix = ".safetensors" if data[:1] != b"P" and data[:1] != b"\x80" else ".pth"
    path = _PLACE.with_suffix(suffix)
    path.write_bytes(data)
    read_weights(path)


def onnx_seeds() -> list[bytes]:
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=1)
    tensor.external_data.add(key="location", value="weights")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    graph = onnx.helper.make_graph([node, constant], "g", [], [], initializer=[tensor])
    return [onnx.helper.make_model(graph).SerializeToString()]


def read_onnx(data: bytes) -> None:
    _PLACE.write_bytes(data)
    assert all(isinstance(name, str) for name in external_files(_PLACE))


def video_seeds() -> list[bytes]:
    """Return a video of eight small frames in every form and codec that can be written here."""
    seeds = []
    for suffix, codec, pixels in (
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".mov", "mjpeg", "yuvj420p"),
        (".avi", "mpeg4", "yuv420p"),
        (".webm", "libvpx-vp9", "yuv420p"),
        (".ts", "mpeg2video", "yuv420p"),
        (".flv", "flv1", "yuv420p"),
        (".gif", "gif", "rgb8"),
        (".mkv", "ffv1", "yuv420p"),
    ):
        if codec not in av.codecs_available:
            continue
        place = _PLACE.with_suffix(suffix)
        with av.open(str(place), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            for i in range(8):
                picture = np.full((48, 64, 3), (8 * i, 60, 120), np.uint8)
                picture[i : i + 12, 4 * i : 4 * i + 12] = 255
                frame = av.VideoFrame.from_ndarray(picture).reformat(format=pixels)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        seeds.append(place.read_bytes())
        place.unlink()
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///dev/zero\n#EXT-X-ENDLIST\n"
    return [*seeds, playlist.encode(), b"ffconcat version 1.0\nfile /dev/zero\n"]


def read_video(data: bytes) -> None:
    """Read every frame; one that is damaged must not keep the others from being read."""
    _PLACE.write_bytes(data)
    refused = None
    with FileFrames(_PLACE, VideoLimits(frames=1000, pixels=1 << 20, threads=1)) as frames:
        assert len(frames) == len(frames.times) <= 1000
        for i in range(len(frames)):
            try:
                height, width, channels = frames[i].shape
            except ImageError as error:
                refused = error
                continue
            assert channels == 3
            assert 0 < height * width <= 1 << 20
    if refused is not None:
        raise refused


READERS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], None]]] = {
    "pictures": (picture_seeds, read_picture),
    "videos": (video_seeds, read_video),
    "masks": (picture_seeds, read_mask_file),
    "rle": (rle_seeds, read_rle),
    "embeddings": (embedding_seeds, read_embedding),
    "boxes.json": (partial(box_seeds, ".json"), partial(read_box_file, suffix=".json")),
    "boxes.txt": (partial(box_seeds, ".txt"), partial(read_box_file, suffix=".txt")),
    "boxes.csv": (partial(box_seeds, ".csv"), partial(read_box_file, suffix=".csv")),
    "manifests": (manifest_seeds, read_manifest),
    "checkpoints": (checkpoint_seeds, read_checkpoint),
    "onnx": (onnx_seeds, read_onnx),
}
