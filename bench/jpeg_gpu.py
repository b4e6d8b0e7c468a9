"""Does decoding JPEG on the GPU pay? Pillow and an upload beside NVIDIA's nvImageCodec.

    pip install 'samtrt[kernels,jpeg-gpu]'
    python bench/jpeg_gpu.py --json jpeg.json

One photograph in three sizes, 4:2:0 and 4:4:4, quality 90. Wall time from the file
to its pixels, uint8 [H, W, 3], on the GPU, p50 of `--runs`; for many files, images a second of
nvImageCodec's own batches beside as many threads as there are cores. `gpu_ms` is the decoder alone,
`reader_ms` also what `Predictor.jpeg_reader` does around it: markers, limits, hash, turning. The
two decoders round differently: `most_off` and `mean_off` say by how many of 255 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from samtrt import assets
from samtrt.cuda.memory import Memory
from samtrt.cuda.runtime import Cuda
from samtrt.images import read_image
from samtrt.preparation.jpeg import JpegReader

SIZES = ((640, 480), (1800, 1200), (6000, 4000))
SAMPLINGS = {"4:2:0": 2, "4:4:4": 0}
BATCH = 32


def jpeg(path: Path, size: tuple[int, int], subsampling: int) -> None:
    """Write the demo's photograph as JPEG."""
    with Image.open(assets.DEMO_PHOTOGRAPH) as file:
        picture = file.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    picture.save(path, "JPEG", quality=90, subsampling=subsampling)


def p50(call: Callable[[], Any], runs: int) -> float:
    """Return the median of a call's milliseconds."""
    call(), call()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(found), 3)


def measure(
    path: Path, memory: Memory, decoder: Any, reader: JpegReader, runs: int
) -> dict[str, Any]:
    """Time both ways of one file, alone and among many."""
    data = path.read_bytes()

    def on_host() -> None:
        memory.upload(read_image(path))
        memory.synchronize()

    def on_gpu() -> Any:
        found = decoder.decode(data)
        memory.cuda.synchronize_device()
        return found

    def many_on_gpu() -> None:
        decoder.decode([data] * BATCH)
        memory.cuda.synchronize_device()

    ours = read_image(path).astype(np.int16)
    theirs = np.asarray(on_gpu().cpu()).astype(np.int16)
    off = np.abs(ours - theirs)
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def many_on_host() -> None:
            list(pool.map(lambda _: read_image(path), range(BATCH)))

        many = p50(many_on_host, 5)
    return {
        "bytes": len(data),
        "host_ms": p50(on_host, runs),
        "host_decode_ms": p50(lambda: read_image(path), runs),
        "gpu_ms": p50(on_gpu, runs),
        "reader_ms": p50(lambda: reader(path), runs),
        "host_images_per_second": round(BATCH / many * 1e3),
        "gpu_images_per_second": round(BATCH / p50(many_on_gpu, 5) * 1e3),
        "most_off": int(off.max()),
        "mean_off": round(float(off.mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from nvidia import nvimgcodec

    cuda = Cuda()
    cuda.use()
    memory, decoder = Memory(cuda), nvimgcodec.Decoder(device_id=0)
    reader = JpegReader(memory)
    result: dict[str, Any] = {"cpu_count": os.cpu_count(), "nvimgcodec": nvimgcodec.__version__}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photograph.jpg"
        for size in SIZES:
            for name, subsampling in SAMPLINGS.items():
                key = f"{size[0]}x{size[1]} {name}"
                jpeg(path, size, subsampling)
                result[key] = measure(path, memory, decoder, reader, options.runs)
                print(key, result[key], flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
