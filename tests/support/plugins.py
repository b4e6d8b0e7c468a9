"""Loads files of `integrations/`, which are no package: their tools run them from their folder."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

INTEGRATIONS = Path(__file__).parents[2] / "integrations"


def load(path: Path) -> ModuleType:
    """Import a file under a name that no other file has."""
    spec = spec_from_file_location(f"plugin_{path.parent.name}_{path.stem}", path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their own
    spec.loader.exec_module(module)
    return module
