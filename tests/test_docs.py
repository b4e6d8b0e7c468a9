"""The documents' code runs as it stands, and what they point at exists."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

import samtrt
from samtrt import assets
from samtrt.cli import app
from samtrt.files import sha256_of
from samtrt_page import STATIC

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("training/*.md"),
        *ROOT.glob("integrations/*/*.md"),
        *ROOT.glob("examples/*/*.md"),
    ]
)


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.S | re.M)


def test_python_of_the_readme_runs(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory where `make demo` has run, which here holds a tiny model instead."""
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / "model").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "README.md", "python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["best"].shape == (400, 600)
    assert names["batch"].masks.shape == (2, 1, 400, 600)


@pytest.mark.usefixtures("traced_once")
def test_python_of_the_api_runs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a checkpoint lies, which here is a tiny one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sam_vit_b_01ec64.pth").symlink_to(tiny_checkpoint)
    (tmp_path / "photo.jpg").symlink_to(assets.DEMO_PHOTOGRAPH)
    (code,) = blocks(ROOT / "docs" / "python.md", "python")
    names: dict[str, Any] = {}
    exec(compile(code, "python.md", "exec"), names)
    assert names["report"].passed
    assert names["masks"].shape == (3, 400, 600)
    assert isinstance(names["records"], list)


def test_a_new_familys_page_shows_code_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it quotes stands in the sources; what it runs, runs."""
    *quoted, code = blocks(ROOT / "docs" / "new-family.md", "py")
    sources = "".join(path.read_text() for path in (ROOT / "src" / "samtrt").rglob("*.py"))
    joined = " ".join(sources.split())
    assert len(quoted) == 3
    for part in quoted:
        assert " ".join(part.split()) in joined
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "new-family.md", "exec"), names)
    assert names["checkpoint"].spec.name == "mobile_sam_t"
    assert names["maps"][0].std() > 0.05
    assert names["difference"] < 1e-4


def test_the_api_is_what_its_page_names() -> None:
    page = (ROOT / "docs" / "python.md").read_text()
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|.*", page, re.M))))
    assert named == set(samtrt.__all__)


def test_the_api_page_has_the_docstrings_of_all_that_is_public() -> None:
    shown = re.findall(r"^::: samtrt\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M)
    assert sorted([*shown, "__version__", "assets"]) == sorted(samtrt.__all__)


def test_the_site_has_every_page_and_no_other() -> None:
    """Those outside docs/ have the place that mkdocs_links.py gives them."""
    settings = (ROOT / "mkdocs.yml").read_text()
    navigation = settings[settings.index("\nnav:") : settings.index("\nvalidation:")]
    named = re.findall(r"(\S+\.md)(?:\s|$)", re.sub(r"#.*", "", navigation))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    outside = {name for name in named if name.startswith("repository/")}
    assert sorted(named) == sorted({"index.md", *pages, *outside})
    assert all((ROOT / name.removeprefix("repository/")).is_file() for name in outside)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_use_public_names_alone(document: Path) -> None:
    for code in blocks(document, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("samtrt"):
                assert node.module == "samtrt", f"{document.name} imports from {node.module}"
                assert {alias.name for alias in node.names} <= set(samtrt.__all__)
    assert not re.search(r"`samtrt(\.\w+){2,}", document.read_text()), document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_exist(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), f"{document.name} points at {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document: Path) -> None:
    """Every `samtrt COMMAND --option` in a document is one that the command line has."""
    import typer.main

    commands = typer.main.get_command(app).commands
    lines = [line for block in blocks(document, "(?:sh)?") for line in block.splitlines()]
    for line in lines:
        if not line.startswith("samtrt "):
            continue
        words = shlex.split(line, comments=True)
        assert words[1] in commands, line
        known = {name for option in commands[words[1]].params for name in option.opts}
        known |= {name for option in commands[words[1]].params for name in option.secondary_opts}
        used = {word.strip("[]").split("=")[0] for word in words if word.strip("[").startswith("-")}
        assert used <= known | {"-h", "--help"}, line


def test_changelog_names_this_version() -> None:
    assert f"## [{samtrt.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pictures_are_of_these_weights_and_this_page() -> None:
    """What README and docs show is what users get."""
    made = json.loads((ROOT / "docs" / "images" / "made-from.json").read_text())
    current = {
        "weights": sha256_of(assets.SMALL_CHECKPOINT),
        "page": (STATIC / "sources.sha256").read_text().strip(),
    }
    assert made == current, "run `make pictures` and look at them"


@pytest.mark.parametrize("name", ["click", "everything", "boxes"])
def test_notebooks_run_and_show_their_results(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cell by cell, where a model was exported before, which here is a tiny one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit_s").symlink_to(tiny_model)
    book = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text())
    names: dict[str, Any] = {}
    shown = []
    for cell in book["cells"]:
        assert not cell.get("outputs"), "notebooks are kept without outputs"
        if cell["cell_type"] == "code":
            *body, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(body, []), name, "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), name, "eval"), names))
            else:
                exec(compile(ast.Module([last], []), name, "exec"), names)
    assert sum(hasattr(one, "_repr_png_") for one in shown) >= 1
    for one in shown:
        if hasattr(one, "_repr_png_"):
            assert one._repr_png_().startswith(b"\x89PNG")


@pytest.mark.long
def test_notebooks_run_in_jupyters_kernel(tmp_path: Path) -> None:
    """As a user opens them, with the bundled checkpoint; the first to run exports it."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    said = {}
    for name in ("click", "everything", "boxes"):
        book = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
        where = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(book, timeout=280, resources=where).execute()
        outputs = [one for cell in book.cells for one in cell.get("outputs", [])]
        assert any("image/png" in one.get("data", {}) for one in outputs), name
        said[name] = "".join(one.text for one in outputs if one.output_type == "stream")
    assert (tmp_path / "vit_s" / "samtrt.json").is_file()
    few, more = map(int, re.findall(r"(\d+) masks", said["everything"]))
    assert 0 < few < more
    assert "(3, 1, 400, 600)" in said["boxes"]
