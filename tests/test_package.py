"""The package as a whole: public names, lazy imports, and a bare environment."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import samtrt
from samtrt import errors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "onnxsim",
    "onnxscript",
    "cv2",
    "numpy",
    "PIL",
    "pydantic",
)
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
)


def python(code: str) -> str:
    """Run code in a fresh interpreter; return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names_are_there_and_sorted() -> None:
    assert samtrt.__all__ == sorted(samtrt.__all__)
    assert set(samtrt.__all__) == {*samtrt._HOMES, "__version__", "assets"}
    for name in samtrt.__all__:
        assert getattr(samtrt, name) is not None
    assert dir(samtrt) == samtrt.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = samtrt.nothing


def test_every_error_is_public_and_one_family() -> None:
    tree = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(issubclass(error, errors.SamtrtError) for error in tree)
    assert {error.__name__ for error in tree} <= set(samtrt.__all__)


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import samtrt", ()),
        ("import samtrt.cli", ()),
        ("import samtrt.checkpoints.download", ("pydantic",)),
        (
            "import samtrt; samtrt.Predictor",
            ("numpy", "cv2", "PIL", "pydantic"),
        ),
    ],
)
def test_imports_stay_light(code: str, allowed: tuple[str, ...]) -> None:
    heavy = python(f"import sys\n{code}\nprint(*(m for m in {HEAVY!r} if m in sys.modules))")
    assert set(heavy.split()) <= set(allowed)


def test_help_needs_neither_numbers_nor_tables() -> None:
    """`samtrt --help` took half of its time for what draws boxes around text."""
    run = "import sys; from samtrt.cli import main; main(['--help'])"
    heavy = (*HEAVY, "rich")
    out = python(f"{run}; print('imported:', *(m for m in {heavy!r} if m in sys.modules))")
    assert "Usage: " in out
    assert out.splitlines()[-1] == "imported:"


def test_a_model_directory_is_described_without_opencv(fake_directory: Path) -> None:
    run = f"import sys; from samtrt.cli import main; main(['info', {str(fake_directory)!r}])"
    out = python(f"{run}; print('imported:', *(m for m in {HEAVY!r} if m in sys.modules))")
    assert "sha256 checked" in out
    assert set(out.splitlines()[-1].split()[1:]) <= {"numpy", "pydantic"}


def test_every_module_imports_or_names_its_extra_in_a_bare_environment() -> None:
    """With every optional package missing, nothing fails with a plain ImportError."""
    names = [m.name for m in pkgutil.walk_packages(samtrt.__path__, "samtrt.")]
    names = [name for name in names if not name.endswith("__main__")]
    code = f"""
import importlib, sys
from samtrt.errors import MissingExtraError

missing = ("torch", "onnx", "onnxruntime", "openvino", "onnxsim", "onnxscript",
           "typer", "rich", "httpx", "pycocotools", "samtrt_assets", "samtrt_page",
           "fastapi", "uvicorn", "prometheus_client", "starlette", "python_multipart", "ray")
sys.modules.update(dict.fromkeys(missing))  # neither imported nor found
for name in {names!r}:
    try:
        importlib.import_module(name)
    except MissingExtraError as error:
        print(name, error.extra)
"""
    refused = dict(line.split() for line in python(code).splitlines())
    assert set(refused.values()) <= EXTRAS
    assert refused["samtrt.backends.ort"] == "ort"
    assert refused["samtrt.export.onnx"] == "export"
    assert refused["samtrt.client"] == "client"
    assert refused["samtrt.checkpoints.download"] == "client"
    assert refused["samtrt.cluster.driver"] == "ray"
    for light in (
        "samtrt.predictor",
        "samtrt.assets",
        "samtrt.verification.compare",
    ):
        assert light in names
        assert light not in refused


def test_missing_extra_names_the_install_command() -> None:
    error = errors.MissingExtraError("Exporting", "export", "torch")
    assert "pip install 'samtrt[export]'" in str(error)
    assert "'torch', which is not installed" in str(error)


def test_typed() -> None:
    assert (Path(samtrt.__file__).parent / "py.typed").exists()


def test_prediction_needs_no_pytorch(tiny_model: Path, tmp_path: Path) -> None:
    from PIL import Image

    from support.oracle import random_image

    Image.fromarray(random_image(40, 60)).save(tmp_path / "image.png")
    out = python(f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "onnx", "onnxsim", "onnxscript"]))  # import fails
from samtrt.cli import main
code = main(["predict", {str(tiny_model)!r}, {str(tmp_path / "image.png")!r}, "-p", "30,20"])
print("code", code)
""")
    assert out.endswith("code 0\n")


def test_the_command_line_names_its_extra_where_it_is_missing() -> None:
    out = python("""
import sys
sys.modules["typer"] = None  # import fails
sys.stderr = sys.stdout
from samtrt.__main__ import main
print("code", main())
""")
    assert out == (
        "samtrt: error: The command line needs the package 'typer', which is not installed; "
        "install it with: pip install 'samtrt[cli]'\ncode 2\n"
    )


def test_the_small_checkpoint_names_its_extra_where_it_is_missing() -> None:
    out = python("""
import sys
sys.modules["samtrt_assets"] = None  # import fails
from samtrt.cli import main
sys.stderr = sys.stdout
print(main(["fetch", "vit_s"]), main(["export", "vit_s", "-o", "x"]), "torch" in sys.modules)
""")
    assert out.count("pip install 'samtrt[assets]'") == 2
    assert out.endswith("2 2 False\n")


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", ["assets", "page"])
def test_distributions_of_their_own_have_the_version_that_the_extra_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / f"src/samtrt_{name}/pyproject.toml").read_text())["project"]
    assert project["name"] == f"samtrt-{name}"
    assert project["version"] == samtrt.__version__
    assert PROJECT["optional-dependencies"][name] == [f"samtrt-{name}~={samtrt.__version__}"]
    assert project["requires-python"] == PROJECT["requires-python"]


def test_what_runs_on_a_cpu_asks_for_neither_pytorch_nor_cuda() -> None:
    """Of the core and of the extras that a CPU needs, by name."""
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"]]
    waiting = ["ort", "openvino", "cli", "client", "server", "page", "assets"]
    while waiting:
        for one in extras[waiting.pop()]:
            own = one.startswith("samtrt[")
            waiting += one[7:-1].split(",") if own else []
            asked += [] if own else [one]
    assert len(asked) > 15
    assert not [one for one in asked if any(w in one for w in ("torch", "cuda", "nvidia", "gpu"))]
