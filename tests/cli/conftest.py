"""Running the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from samtrt.cli import main
from support.command_line import Outcome, Run
from support.oracle import random_image


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `samtrt ARGUMENTS...`; return its exit code and what it printed."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 200 x 120 pixels on disk."""
    path = tmp_path / "photo.png"
    Image.fromarray(random_image(120, 200)).save(path)
    return path


@pytest.fixture
def replaced_while_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture becomes another one once its bytes are in memory."""
    from samtrt.images import read

    decode = read.decode_picture

    def decode_and_replace(data: bytes, name: str, options: object) -> object:
        Image.new("RGB", (31, 17)).save(name)
        return decode(data, name, options)  # type: ignore[arg-type]

    monkeypatch.setattr(read, "decode_picture", decode_and_replace)
