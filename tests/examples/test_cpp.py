"""The C++ example, compiled as its README says, against the predictor's answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from samtrt import Segmenter, assets
from support.samples import edit_sealed
from support.sharing import Make

pytestmark = pytest.mark.long

SOURCES = Path(__file__).parents[2] / "examples" / "cpp"
NEEDED = ("onnxruntime/onnxruntime_cxx_api.h", "nlohmann/json.hpp", "stb/stb_image.h")
TENSORRT_HEADERS = "SAMTRT_TENSORRT_HEADERS"
"""Folders with NvInfer.h, of all versions that the example is compiled against."""


@pytest.fixture(scope="session")
def headers(shared: Callable[[str, Make], Path]) -> Path:
    """A folder with the headers of ONNX Runtime, JSON and stb in its `include`."""
    if all((Path("/usr/include") / name).is_file() for name in NEEDED):
        return Path("/usr")

    def make(directory: Path) -> None:
        fetched = subprocess.run(
            [SOURCES / "get-headers", directory], capture_output=True, text=True
        )
        (directory / "said").write_text(fetched.stderr)

    directory = shared("cpp-headers", make)
    if not all((directory / "usr" / "include" / name).is_file() for name in NEEDED):
        said = (directory / "said").read_text().strip() or "without a word"
        pytest.skip(f"headers that ./get-headers does not get: {said.splitlines()[-1]}")
    return directory / "usr"


@pytest.fixture(scope="session")
def program(headers: Path, shared: Callable[[str, Make], Path]) -> Path:
    """`segment-onnxruntime`, linked to the library in ONNX Runtime's wheel."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake here")
    folder = Path(onnxruntime.__file__).parent / "capi"
    libraries = sorted(folder.glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip(f"no libonnxruntime.so in {folder}")

    # The name that the library goes by, which the wheel does not have.
    name = "libonnxruntime.so.1"
    library = shared("cpp-library", lambda place: (place / name).symlink_to(libraries[0])) / name

    def make(directory: Path) -> None:
        where = {"CMAKE_PREFIX_PATH": headers, "ONNXRUNTIME_LIBRARY": library}
        words = [f"-D{name}={value}" for name, value in where.items()]
        flags = ["-DCMAKE_CXX_FLAGS=-Werror", "-DCMAKE_BUILD_TYPE=Debug"]
        subprocess.run(["cmake", "-S", SOURCES, "-B", directory, *words, *flags], check=True)
        subprocess.run(["cmake", "--build", directory], check=True)

    return shared("cpp-program", make) / "segment-onnxruntime"


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photograph without loss, so that readers agree on its values."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.open(assets.DEMO_PHOTOGRAPH).convert("RGB").save(path)
    return path


def run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120)


POINT = ("--point", "300,80")
PROMPTS = {
    "a point": (POINT, {"point_coords": [[300, 80]], "point_labels": [1]}),
    "two points": (
        (*POINT, "--point", "20.5,380,0"),
        {"point_coords": [[300, 80], [20.5, 380]], "point_labels": [1, 0]},
    ),
    "a box beyond the border": (("--box", "-20,95,369,193"), {"box": [-20, 95, 369, 193]}),
    "a box and a point": (
        ("--box", "204,95,369,193", *POINT),
        {"point_coords": [[300, 80]], "point_labels": [1], "box": [204, 95, 369, 193]},
    ),
}


def compare(program: Path, directory: Path, photo: Path, output: Path, prompt: str) -> None:
    words, arguments = PROMPTS[prompt]
    done = run(program, directory, photo, *words, "-o", output)
    assert (done.returncode, done.stderr) == (0, "")
    with Segmenter(directory) as segmenter:
        expected = segmenter.segment(photo.read_bytes(), **arguments)
    mask = np.asarray(Image.open(output))
    assert set(np.unique(mask)) <= {0, 255}
    assert mask.shape == expected.mask.shape
    # Logits that are the threshold within rounding.
    assert np.count_nonzero((mask > 0) != expected.mask) <= 5
    _, score, said = done.stdout.split(maxsplit=2)
    assert float(score.rstrip(",")) == pytest.approx(expected.score, abs=2e-3)
    assert said == f"{np.count_nonzero(mask)} pixels: {output}\n"
    assert 0 < expected.mask.sum() < expected.mask.size


@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_are_the_predictors(
    program: Path, tiny_model: Path, photo: Path, tmp_path: Path, prompt: str
) -> None:
    compare(program, tiny_model, photo, tmp_path / "mask.png", prompt)


@pytest.mark.parametrize("prompt", ["a point", "a box and a point"])
def test_a_sam_hq_with_two_maps_runs_too(
    program: Path, hq_model: Path, photo: Path, tmp_path: Path, prompt: str
) -> None:
    compare(program, hq_model, photo, tmp_path / "mask.png", prompt)


def test_a_jpeg_is_read(program: Path, tiny_model: Path, tmp_path: Path) -> None:
    """By another decoder, which rounds otherwise."""
    done = run(program, tiny_model, assets.DEMO_PHOTOGRAPH, *POINT, "-o", tmp_path / "mask.png")
    assert (done.returncode, done.stderr) == (0, "")
    with Segmenter(tiny_model) as segmenter:
        expected = segmenter.segment(
            assets.DEMO_PHOTOGRAPH.read_bytes(), point_coords=[[300, 80]], point_labels=[1]
        ).mask
    mask = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    assert (mask & expected).sum() / (mask | expected).sum() > 0.95


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "usage: DIR IMAGE"),
        (("--point",), "not '-o'"),
        (("--polygon", "1,2"), "usage: DIR IMAGE"),
        (("--point", "300"), "x,y or x,y,label, not '300'"),
        (("--point", "nan,3"), "not 'nan,3'"),
        (("--point", "1,2,"), "not '1,2,'"),
        (("--point", "1,2,5"), "a point's label is 1 or 0"),
        (("--point", "600,10"), "a point is outside the image, which is 600 x 400"),
        (("--box", "1,2,3"), "x1,y1,x2,y2, not '1,2,3'"),
        (("--box", "50,50,40,60"), "the box is empty"),
        (("--box", "700,10,800,20"), "the box is outside the image"),
    ],
)
def test_wrong_prompts_are_refused(
    program: Path, tiny_model: Path, photo: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    refused(program, (tiny_model, photo, *words, "-o", tmp_path / "mask.png"), said, tmp_path)


def refused(program: Path, words: tuple[object, ...], said: str, folder: Path) -> None:
    """See that a run ends with one line and code 2, and leaves no mask."""
    done = run(program, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(folder.glob("mask.png*"))


def test_pictures_that_would_be_read_otherwise_are_refused(
    program: Path, tiny_model: Path, photo: Path, tmp_path: Path
) -> None:
    picture = Image.open(photo)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=turned)
    picture.convert("RGBA").save(tmp_path / "clear.png")
    Image.fromarray(np.zeros((40, 60), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:5000])
    (tmp_path / "text.png").write_text("no picture")
    turned[0x0112] = 1
    picture.save(tmp_path / "upright.jpg", exif=turned)
    for name, said in {
        "turned.jpg": "is stored turned (EXIF orientation 6)",
        "clear.png": "is transparent",
        "deep.png": "has 16 bits",
        "half.png": "is damaged",
        "text.png": "is no image that can be read here",
        "none.png": "cannot read",
        ".": "cannot read",
    }.items():
        path = tmp_path / name
        refused(program, (tiny_model, path, *POINT, "-o", tmp_path / "mask.png"), said, tmp_path)
    done = run(program, tiny_model, tmp_path / "upright.jpg", *POINT, "-o", tmp_path / "up.png")
    assert done.returncode == 0, done.stderr
    lost = tmp_path / "none" / "mask.png"
    refused(program, (tiny_model, photo, *POINT, "-o", lost), "cannot write", tmp_path)


def test_models_that_it_cannot_run_are_refused(
    program: Path, model: Path, photo: Path, tmp_path: Path
) -> None:
    def tell(said: str, directory: Path = model) -> None:
        refused(program, (directory, photo, *POINT, "-o", tmp_path / "mask.png"), said, tmp_path)

    tell("no model in", tmp_path)
    whole = (model / "samtrt.json").read_text()
    for changes, said in (
        ({"generation": "sam2"}, 'runs no model whose generation is "sam2"'),
        ({"mask_choice": "stable"}, 'runs no model whose mask_choice is "stable"'),
        ({"format": 99}, "runs no model whose format is 99"),
        ({"files": {}}, "names no encoder"),
        ({"image_size": "large"}, "is no manifest"),
    ):
        edit_sealed(model / "samtrt.json", **changes)
        tell(said)
        (model / "samtrt.json").write_text(whole)
    (model / "samtrt.json").write_text(whole.replace('"bilinear"', '"lanczos"'))
    tell('runs no model whose filter is "lanczos"')
    (model / "samtrt.json").write_text(whole[:-100])
    tell("holds no JSON object")
    (model / "samtrt.json").write_text(whole)
    graph = model / "encoder.onnx"
    spoiled = bytes(graph.stat().st_size)
    graph.write_bytes(spoiled[:-1])
    tell("is not the file that samtrt.json names")
    graph.write_bytes(spoiled)
    tell("error: ")  # ONNX Runtime's own words


@pytest.mark.parametrize("number", range(3))
def test_the_tensorrt_half_compiles(headers: Path, number: int, tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    folders = [one for one in os.environ.get(TENSORRT_HEADERS, "").split(os.pathsep) if one]
    cuda = [
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")),
        *Path("/usr/local").glob("cuda-*"),
    ]
    found = [one for one in cuda if (one / "include" / "cuda_runtime_api.h").is_file()]
    if not compiler or not found or number >= len(folders):
        pytest.skip(f"needs a compiler, CUDA's headers (CUDA_HOME) and {TENSORRT_HEADERS}")
    includes = [headers / "include", found[0] / "include", folders[number]]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers"]
    words = [*flags, *(f"-isystem{one}" for one in includes), "-o", tmp_path / "engine.o"]
    subprocess.run([compiler, "-c", *words, SOURCES / "engine_tensorrt.cpp"], check=True)
