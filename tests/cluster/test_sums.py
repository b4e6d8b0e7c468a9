"""The arithmetic of docs/cluster.md is that of its script, from the measured times beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def sums(*options: str) -> str:
    words = [sys.executable, ROOT / "bench" / "cluster_sums.py", *options]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_the_document_has_the_sums_of_its_script() -> None:
    document = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8").splitlines()
    lines = [line for line in sums().splitlines() if line]
    assert len(lines) > 15
    assert [line for line in lines if line not in document] == []


def test_half_the_gpus_take_twice_as_long_and_cost_the_same() -> None:
    one, other = (
        next(line for line in sums("--gpus", gpus).splitlines() if line.startswith("| auto"))
        for gpus in ("64", "32")
    )
    (_, _, per_gpu, rate, _, hours, dollars, _) = (cell.strip() for cell in one.split("|"))
    (_, _, same, half, _, as_many, as_much, _) = (cell.strip() for cell in other.split("|"))
    assert (per_gpu, hours, dollars) == (same, as_many, as_much)
    assert int(rate.replace(",", "")) == pytest.approx(2 * int(half.replace(",", "")), rel=0.01)
