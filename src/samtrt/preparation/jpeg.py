"""JPEG files to pixels on a GPU, by NVIDIA's nvImageCodec; all other files by the host's reader.

What the GPU does not take is told from a file's markers, before it decodes anything: it must not
show another picture than the host's reader does. Of what it takes, pixels differ from the host's by
a step or two of 255, where chroma is scaled up.
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samtrt.cuda.kernels import load_kernels
from samtrt.cuda.memory import CudaArray, Memory
from samtrt.cuda.runtime import LEGACY_STREAM
from samtrt.errors import BackendError, ImageError, MissingExtraError
from samtrt.images import ImageNotice, ReadOptions, decode_picture
from samtrt.images.jpeg import BASELINE, PROGRESSIVE, RGB_TRANSFORM, Structure, structure_of
from samtrt.images.orientation import orientation_of, turned
from samtrt.images.pillow import open_picture
from samtrt.images.read import read_file
from samtrt.types import DeviceArray, UInt8Array

_SOURCE = Path(__file__).with_name("jpeg.cu")
_PLAIN = (1, 1)
_SAMPLING = ((_PLAIN,), *((luma, _PLAIN, _PLAIN) for luma in (_PLAIN, (2, 1), (2, 2))))
"""Grey, 4:4:4, 4:2:2 and 4:2:0: what cameras and programs write, and both decoders scale alike."""
_YCBCR = ((1, 2, 3), (0, 1, 2))
"""Ids of components that are luma and chroma, whatever else a file says."""
_OFF = 3
"""Steps of 255 that the two decoders may differ by."""


@dataclass(frozen=True)
class JpegPicture:
    """A picture that was read.

    Attributes:
        pixels: RGB, uint8 [H, W, 3], upright; on the GPU where that decoded it.
        notices: What was assumed to read it, a sentence each.
        sha256: Hash of the file's bytes.
    """

    pixels: UInt8Array | DeviceArray
    notices: tuple[str, ...]
    sha256: str


class JpegReader:
    """Reads pictures as `samtrt.read_image` does, JPEG on the GPU of a predictor.

    A JPEG that the GPU does not take is read on the host, and an `ImageNotice` says why: once for
    each reason. Threads may share a reader; it decodes one picture at a time.
    """

    def __init__(self, memory: Memory | None) -> None:
        """Open the decoder, and try it.

        Args:
            memory: Of the predictor's GPU; None where images are prepared on the host.

        Raises:
            BackendError: where there is no such GPU, or it decodes nothing here.
            MissingExtraError: where nvImageCodec is not installed.
        """
        if memory is None:
            raise BackendError(
                "JPEG is decoded on a GPU where images are prepared there too: use the backend "
                "tensorrt or tensorrt-rtx without --pixels host, or leave out --jpeg gpu "
                "(in Python: use read_image)"
            )
        try:
            from nvidia import nvimgcodec
        except ImportError:
            raise MissingExtraError(
                "Decoding JPEG on a GPU", "jpeg-gpu", "nvidia-nvimgcodec-cu13"
            ) from None
        self._memory = memory
        self._told: set[str] = set()
        self._lock = threading.Lock()
        memory.cuda.use()
        self._kernels = load_kernels(_SOURCE, memory.cuda)
        # None that decodes on the host: that is our own reader's work, which knows what is damaged.
        kinds = (nvimgcodec.GPU_ONLY, nvimgcodec.HYBRID_CPU_GPU, nvimgcodec.HW_GPU_ONLY)
        try:
            self._decoder = nvimgcodec.Decoder(
                device_id=memory.cuda.index,
                backends=[nvimgcodec.Backend(kind) for kind in kinds],
                options=":fancy_upsampling=1",  # as libjpeg's; its default changed with versions
            )
            # Whichever way up: a broken EXIF is read as the host reads it.
            self._params = nvimgcodec.DecodeParams(
                apply_exif_orientation=False, color_spec=nvimgcodec.ColorSpec.SRGB
            )
        except Exception as error:  # the package's own are RuntimeErrors without a type
            raise BackendError(f"nvImageCodec does not start: {error}") from None
        self._try()

    def __call__(self, path: str | Path) -> UInt8Array | DeviceArray:
        """Read a picture, RGB, uint8 [H, W, 3], on the GPU where that decoded it.

        Raises:
            ImageError: as `samtrt.read_image`.
        """
        picture = self.read(path)
        for notice in picture.notices:
            warnings.warn(f"{path}: {notice}", ImageNotice, stacklevel=2)
        return picture.pixels

    def read(self, path: str | Path, options: ReadOptions | None = None) -> JpegPicture:
        """Read a picture; tell what was assumed, and the file's hash. Raises as `read_image`."""
        options = options or ReadOptions()
        data = read_file(path, options.limits)
        sha256 = hashlib.sha256(data).hexdigest()
        reason: str | None = None
        if data[:3] == b"\xff\xd8\xff" and "JPEG" in options.limits.formats:
            found = structure_of(data)
            reason = why_not(found, options)
            if reason is None:
                pixels = self._read(data, found, str(path), options)
                if pixels is not None:
                    return JpegPicture(pixels, (), sha256)
                reason = "the GPU's decoder refuses it"
        picture = decode_picture(data, str(path), options)
        return JpegPicture(picture.pixels, (*picture.notices, *self._once(reason)), sha256)

    def _once(self, reason: str | None) -> tuple[str, ...]:
        """Return what is said of a reason when it is first met."""
        with self._lock:
            if reason is None or reason in self._told:
                return ()
            self._told.add(reason)
        return (f"it is decoded on the host, as others like it will be: {reason}",)

    def _read(
        self, data: bytes, found: Structure, name: str, options: ReadOptions
    ) -> CudaArray | None:
        """Decode what the GPU takes; None where it does not, or the header is not as it should be.

        Raises:
            ImageError: where the picture is more than the limits allow.
        """
        try:
            picture = open_picture(data, options.limits, name, found)
        except ImageError:
            raise
        except Exception:  # of a damaged header: the host's reader says what is wrong with it
            return None
        with closing(picture):
            if picture.format != "JPEG" or picture.size != found.size[::-1]:
                return None
            orientation = orientation_of(picture.info)
        return self._decode(data[: found.end], found.size, orientation)

    def _decode(self, data: bytes, size: tuple[int, int], orientation: int) -> CudaArray | None:
        """Decode to uint8 [H, W, 3], complete when it is returned; None where the GPU refuses."""
        cuda, shape = self._memory.cuda, (*size, 3)
        with self._lock:
            cuda.use()
            try:
                image: Any = self._decoder.decode(data, params=self._params)
            except Exception:  # whatever it says of a damaged file
                return None
            if image is None:
                return None
            shared = image.__cuda_array_interface__
            if tuple(shared["shape"]) != shape or np.dtype(shared["typestr"]) != np.uint8:
                return None
            cuda.synchronize(shared.get("stream") or LEGACY_STREAM)
            steps = tuple(shared.get("strides") or (3 * size[1], 3, 1))
            # A view of no memory: NumPy works out where an upright picture's pixels are.
            nothing = np.empty(0, np.uint8)
            lying = np.lib.stride_tricks.as_strided(nothing, shape, steps)
            upright = turned(lying, orientation)
            first = upright.ctypes.data - lying.ctypes.data
            height, width, _ = upright.shape
            out = self._memory.empty((height, width, 3), np.dtype(np.uint8))
            span = (size[0] - 1) * steps[0] + (size[1] - 1) * steps[1] + 3
            source = CudaArray(self._memory, shared["data"][0], (span,), out.dtype, image)
            places = (np.int64(step) for step in (first, *upright.strides[:2]))
            blocks = (height, -(-width // 128))
            self._kernels.launch("gather", blocks, 128, source, *places, width, out)
            self._memory.synchronize()  # until then the decoder's image is in use
        return out

    def _try(self) -> None:
        """Decode a small picture as the host does, or raise `BackendError`: without nvJPEG the
        package starts, and decodes nothing."""
        ramp = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(np.dstack([ramp, 2 * ramp, 255 - ramp])).save(file, "JPEG")
        data = file.getvalue()
        got = self._decode(data, structure_of(data).size, 1)
        if got is None:
            raise BackendError(
                "nvImageCodec decodes no JPEG on this GPU, as where nvJPEG is missing: install it "
                "with pip install 'samtrt[jpeg-gpu]', or leave out --jpeg gpu"
            )
        wanted = decode_picture(data).pixels.astype(np.int16)
        off = int(np.abs(got.numpy().astype(np.int16) - wanted).max())
        if off > _OFF:
            raise BackendError(
                f"nvImageCodec's pixels are up to {off} of 255 from the host's on this GPU: leave "
                "out --jpeg gpu"
            )


def why_not(found: Structure, options: ReadOptions) -> str | None:
    """Say why a JPEG is not for the GPU; None where it is."""
    if options.value_range is not None:
        return "the host brings values to a range"
    if found.end is None:
        return "it has no end marker"
    if found.frames not in ((BASELINE,), (PROGRESSIVE,)) or 0 in found.size:
        return "it is neither baseline nor progressive"
    if found.bits != 8:
        return f"it has {found.bits} bits a sample"
    if found.frames == (BASELINE,) and found.scans != 1:
        return "its components come one after the other"
    if len(found.components) not in (1, 3):
        return f"it has {len(found.components)} components, such as inks"
    is_grey = len(found.components) == 1
    if not is_grey and (found.transform == RGB_TRANSFORM or found.components not in _YCBCR):
        return "its components are not luma and chroma"
    if found.sampling not in _SAMPLING:
        return "its components are sampled in an unusual way"
    return None
