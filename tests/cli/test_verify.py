"""verify with a stored reference."""

from __future__ import annotations

from pathlib import Path

from support.command_line import Run


def test_a_stored_reference(
    run: Run, tiny_model: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "reference.safetensors"
    done = run("verify", tiny_model, "-c", tiny_checkpoint, "--save-reference", path)
    assert done.code == 0, done.err
    assert path.exists()
    done = run("verify", tiny_model, "--reference", path)
    assert done.code == 0, done.err
    assert "verified" in done.out
    for wrong in ((), ("--reference", path, "-c", tiny_checkpoint)):
        done = run("verify", tiny_model, *wrong)
        assert done.code == 2
        assert "give either --checkpoint or --reference" in done.err
