"""Scripts in `bench/` and `training/`, which no other test runs: what they import is there."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob("bench/*.py"), *ROOT.glob("training/*.py")])
TESTS = {path.stem for path in (ROOT / "tests").rglob("*")} - {"bench", "training"}


def imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Yield the modules that a file imports, and the name it takes of one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_a_script_imports_of_ours_exists(path: Path) -> None:
    for name, member in imports(path):
        if name.partition(".")[0] != "samtrt":
            continue
        module = importlib.import_module(name)
        if member and not hasattr(module, member):
            importlib.import_module(f"{name}.{member}")


@pytest.mark.parametrize("folder", ["bench", "training"])
def test_scripts_import_nothing_of_tests(folder: str) -> None:
    own = {path.stem for path in (ROOT / folder).glob("*.py")}
    for path in (ROOT / folder).glob("*.py"):
        roots = {name.partition(".")[0] for name, _ in imports(path)}
        assert not roots & (TESTS - own), path
