"""Reading and writing protobuf's fields, beside the `onnx` package."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from samtrt.backends.protobuf import field, fields

INFO = helper.make_tensor_value_info("name", TensorProto.FLOAT, [1, "many", 300])


def test_fields_are_those_that_onnx_wrote() -> None:
    content = INFO.SerializeToString()
    name, type_ = fields(content)
    assert (name.number, name.text) == (1, "name")
    assert (type_.number, bytes(type_.message)) == (2, INFO.type.SerializeToString())
    assert b"".join([name.raw, type_.raw]) == content


def test_numbers_of_every_kind() -> None:
    attribute = helper.make_attribute("alpha", 0.5)  # a fixed width of 32 bits, and a number
    found = {one.number: one for one in fields(attribute.SerializeToString())}
    assert len(found[2].message) == 4
    assert found[20].value == onnx.AttributeProto.FLOAT
    with pytest.raises(ValueError, match="a number where"):
        _ = found[20].message


@given(st.binary(max_size=400))
def test_what_is_written_is_read(content: bytes) -> None:
    (one,) = fields(field(300, [content[:7], content[7:]]))
    assert (one.number, bytes(one.message)) == (300, content)


@pytest.mark.parametrize("content", [b"\x0a", b"\x0a\x05abc", b"\xff" * 12, b"\x0b", b"\x0d\x00"])
def test_what_is_cut_off_or_no_message(content: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf"):
        list(fields(content))
