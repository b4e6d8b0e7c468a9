"""What `verify` reads and writes: images of one name, and files that are not its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from samtrt.cli.verify import _read_images
from samtrt.errors import VerificationError
from support.command_line import Run


def test_images_of_one_base_name_are_two(photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / photo.name
    other.parent.mkdir()
    shutil.copy(photo, other)
    assert list(_read_images([photo, other])) == [str(photo), str(other)]
    assert list(_read_images([photo])) == [photo.name]
    with pytest.raises(VerificationError, match="are one image: give each once"):
        _read_images([photo, other, photo.parent / "other" / ".." / photo.name])


@pytest.mark.parametrize("option", ["--save-reference", "--json"])
def test_what_is_not_its_own_is_not_replaced(
    run: Run, fake_directory: Path, tmp_path: Path, option: str
) -> None:
    """Before any work: there is no such checkpoint."""
    path = tmp_path / "vit_b.safetensors"
    path.write_bytes(b"a checkpoint")
    done = run("verify", fake_directory, "-c", tmp_path / "none.pth", option, path)
    assert done.code == 2
    assert "was not written by samtrt" in done.err
    assert path.read_bytes() == b"a checkpoint"
