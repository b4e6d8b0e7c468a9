"""What the process that builds is told, and how its errors come back."""

from __future__ import annotations

import inspect

import pytest

from samtrt import errors
from samtrt.build.options import Failed
from samtrt.errors import MissingExtraError, SamtrtError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_comes_back_as_it_was(kind: type[SamtrtError]) -> None:
    words = {MissingExtraError: ("Using a GPU", "tensorrt", "cuda-bindings")}.get(kind, ("why",))
    error = kind(*words)
    told = Failed.of(error).model_dump_json()
    back = Failed.model_validate_json(told).to_error()
    assert (type(back), str(back), vars(back)) == (kind, str(error), vars(error))
