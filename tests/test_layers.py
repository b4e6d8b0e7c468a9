"""Imports go down only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import samtrt

ROOT = Path(samtrt.__file__).parent
REPOSITORY = Path(__file__).parent.parent

LAYERS = (
    ("errors", "choices", "feature_maps", "_version"),
    ("types",),
    ("tracing", "unfinished"),
    ("files",),
    ("images", "onnx_files", "sealed"),
    ("cuda", "sources"),
    ("preparation",),
    ("registry",),
    ("assets", "manifest"),
    ("masks", "models", "tensorrt"),
    ("checkpoints", "client", "formats"),
    ("backends",),
    ("encoding", "environment"),
    ("decoding",),
    ("predictor",),
    ("interactive",),
    ("embeddings",),
    ("automatic", "benchmark", "datasets", "video"),
    ("verification",),
    ("export", "official", "server", "triton"),
    ("build", "cluster"),
    ("cli",),
    ("__main__",),
)
"""Files and folders of `src/samtrt`, lowest first. One may import those of lower lines alone."""

FREE = ("_version",)
"""What every line may import: `samtrt` itself gives it, and `samtrt.__file__`."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def place_of(path: Path) -> str:
    """Return the file or folder of `src/samtrt` that a module belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and place of everything of ours that a module imports when it runs."""
    for node in running(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            if package == "samtrt" and rest and rest[0] in LEVEL:
                yield node.lineno, rest[0]


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes below `node`, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from running(child)


def test_every_file_and_folder_has_its_layer() -> None:
    assert {place_of(path) for path in MODULES} == set(LEVEL)


def test_the_map_for_newcomers_is_the_tree() -> None:
    """CONTRIBUTING.md lists every file and folder of `src/samtrt` once, lowest layer first."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (plan,) = re.findall(r"^```\nsrc/samtrt/.*?\n(.*?)^```", page, re.M | re.S)
    listed = re.findall(r"(?:^|  )(\w+(?:/\w+)*(?:\.py|/))(?= )", plan, re.M)
    inside = [path for path in listed if (ROOT / path).exists()]
    outside = [path for path in listed if path not in inside]
    assert all((REPOSITORY / path).is_dir() for path in outside), outside
    places = [path.strip("/").removesuffix(".py") for path in inside if "/" not in path.strip("/")]
    assert sorted(places) == sorted(set(LEVEL) - {"__main__", "_version"})
    levels = [LEVEL[place] for place in places]
    assert levels == sorted(levels), "the map has another order than LAYERS"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = place_of(path)
    for line, place in imports(path):
        assert place == own or place in FREE or LEVEL[place] < LEVEL[own], (
            f"{path}:{line} imports {place}, which is no lower than {own}"
        )


@pytest.mark.parametrize(
    "path",
    [*MODULES, *(REPOSITORY / "bench").glob("*.py"), *(REPOSITORY / "training").glob("*.py")],
    ids=lambda path: path.stem,
)
def test_no_module_is_named_as_a_function_in_it(path: Path) -> None:
    """Where a package gave the function too, the module could no longer be reached by its name."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    functions = {n.name for n in body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    assert path.stem not in functions
