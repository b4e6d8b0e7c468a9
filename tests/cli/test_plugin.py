"""`samtrt plugin`: what it prints, what it refuses. The compiler is a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.command_line import Run, parsed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TensorRT 8.6, as far as its version, and a compiler that writes a file."""
    headers = tmp_path / "TensorRT" / "include"
    headers.mkdir(parents=True)
    (headers / "NvInfer.h").touch()
    (headers / "NvInferVersion.h").write_text(
        "#define NV_TENSORRT_MAJOR 8\n#define NV_TENSORRT_MINOR 6\n"
    )
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[-1], 'w').write('library')\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return headers.parent


def test_command(run: Run, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.so"
    done = run("plugin", "--tensorrt-root", root, "-o", out, "--arch", "sm_90a")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{out}  ")
    first, second = done.out.splitlines()[-2:]
    assert first.startswith("Next: samtrt export vit_s -o vit_s-plugin --attention plugin")
    assert second.endswith(f"--plugin {out}")
    assert parsed(first) == {"checkpoint": "vit_s", "output": Path("vit_s-plugin")}
    assert parsed(second) == {"directory": Path("vit_s-plugin")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tensorrt-root", "nowhere", "--arch", "sm_80"], "there is no NvInfer.h in nowhere"),
        (["--tensorrt-root", "ROOT", "--arch", "9.0"], "'9.0' is no GPU architecture"),
        (["--tensorrt-root", "ROOT", "--nvcc", "none"], "there is no none; name CUDA's compiler"),
    ],
)
def test_command_refuses(run: Run, root: Path, arguments: list[str], message: str) -> None:
    done = run("plugin", *(str(root) if word == "ROOT" else word for word in arguments))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert message in done.err
