"""What an operator of our own is: all that Python knows of it comes from its one declaration.

An operator is a file here, a file of `tensorrt/plugin/csrc/operators`, and a line in the list of
each (`registry`, `operators.h`). The file here has a function whose name is the operator's, in
onnxscript's words for ONNX: its parameters are the operator's inputs, then its attributes, and what
it returns are the outputs, by their names in the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import cached_property
from typing import Any

from samtrt.errors import MissingExtraError
from samtrt.export.operators.graph import DOMAIN

try:
    from onnx import FunctionProto
    from onnx.defs import OpSchema
    from onnxscript import FLOAT, opset17, script
    from onnxscript.values import Op, Opset
except ImportError as error:
    raise MissingExtraError("The plugin form", "export", error.name or "onnxscript") from None

__all__ = ["FLOAT", "Operator", "biases_and_norms", "meaning", "op"]

op: Any = opset17
"""Operators of ONNX; their declared types do not know what onnxscript makes of numbers."""

PLUGIN_ATTRIBUTES = {"plugin_version": "1", "plugin_namespace": ""}
"""On every node: what TensorRT's parser looks a plugin up by, beside the operator's name."""

_OPSET = Opset(DOMAIN, 1)


def meaning(function: Callable[..., Any]) -> Any:
    """Take a function as what an operator means, in operators of ONNX that opset 17 has.

    Literals are written as constants: TensorRT 8.6 does not know `CastLike`, which onnxscript would
    make of them.
    """
    return script(_OPSET, default_opset=op)(function)


def biases_and_norms(function: Any) -> set[str]:
    """Return the inputs of a function of `meaning` that are biases, or a norm's, by their names.

    Kernels add them to sums in float32, and take them so.
    """
    names = (value.name for value in function.function_ir.inputs)
    return {name for name in names if name.endswith("bias") or name.startswith("norm")}


class Operator:
    """One operator.

    Attributes:
        name: As nodes have it.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        attributes: Its attributes and their types, int or float.
        float32: Inputs and outputs that the plugin takes and makes in float32; the others are in
            half precision.
    """

    def __init__(
        self,
        function: Any,
        compute: Callable[..., Any],
        shape: Callable[..., Any],
        float32: Collection[str] = (),
    ) -> None:
        """Declare an operator.

        Args:
            function: What it means, of `meaning`.
            compute: The same on PyTorch's tensors, for `Operator.__call__`.
            shape: Makes its outputs, empty, of its arguments.
            float32: As in the class.
        """
        signature = function.function_ir
        self.name: str = function.name
        self.inputs = tuple(value.name for value in signature.inputs)
        self.outputs = tuple(value.name for value in signature.outputs)
        self.attributes = {
            name: float if value.type.name == "FLOAT" else int
            for name, value in signature.attributes.items()
        }
        self.float32 = frozenset(float32)
        self._function, self._compute, self._shape = function, compute, shape

    @cached_property
    def float32_inputs(self) -> frozenset[int]:
        """Indexes of the inputs that the plugin takes in float32."""
        return frozenset(i for i, name in enumerate(self.inputs) if name in self.float32)

    @cached_property
    def float32_outputs(self) -> frozenset[int]:
        """Indexes of the outputs that the plugin makes in float32."""
        return frozenset(i for i, name in enumerate(self.outputs) if name in self.float32)

    def to_function(self, opset: int) -> FunctionProto:
        """Return what it means, for a graph of an opset from 17 on."""
        proto = self._function.to_function_proto()
        proto.attribute.extend(PLUGIN_ATTRIBUTES)
        for entry in proto.opset_import:
            if entry.domain == "":
                entry.version = opset
        for node in proto.node:
            node.name = ""  # a number, which many functions have
        return proto

    @cached_property
    def calls(self) -> frozenset[str]:
        """Names of the operators that `to_function` needs the functions of."""
        nodes = self._function.to_function_proto().node
        return frozenset(node.op_type for node in nodes if node.domain == DOMAIN)

    @cached_property
    def custom_op(self) -> Any:
        """The operator in PyTorch, which exporters trace through."""
        from torch.library import custom_op

        tensors = [f"Tensor {name}" for name in self.inputs]
        numbers = [f"{kind.__name__} {name}" for name, kind in self.attributes.items()]
        made = ", ".join(["Tensor"] * len(self.outputs))
        schema = f"({', '.join(tensors + numbers)}) -> ({made})"
        defined = custom_op(f"{DOMAIN}::{self.name}", self._compute, mutates_args=(), schema=schema)
        defined.register_fake(self._shape)
        return defined

    def __call__(self, *arguments: Any) -> Any:
        """Run it on PyTorch's tensors: inputs, then attributes, in order."""
        return self.custom_op(*arguments)

    @cached_property
    def writer(self) -> Callable[..., Any]:
        """What writes its node, for PyTorch's exporter: takes what `__call__` does."""
        node = Op(_OPSET, self.name, self._schema())

        def write(*arguments: Any) -> Any:
            count = len(self.inputs)
            attributes = dict(zip(self.attributes, arguments[count:], strict=True))
            return node(*arguments[:count], **attributes, **PLUGIN_ATTRIBUTES)

        names = (*self.inputs, *self.attributes)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        write.__annotations__ = dict.fromkeys(names, Any)
        write.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, kind, annotation=Any) for name in names]
        )
        return write

    def _schema(self) -> OpSchema:
        kinds = {int: OpSchema.AttrType.INT, float: OpSchema.AttrType.FLOAT}
        types = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
        return OpSchema(
            self.name,
            DOMAIN,
            since_version=1,
            inputs=[OpSchema.FormalParameter(name, "T") for name in self.inputs],
            outputs=[OpSchema.FormalParameter(name, "T") for name in self.outputs],
            type_constraints=[("T", types, "")],
            attributes=[
                *(
                    OpSchema.Attribute(name, kinds[kind], required=True)
                    for name, kind in self.attributes.items()
                ),
                *(OpSchema.Attribute(name, OpSchema.AttrType.STRING) for name in PLUGIN_ATTRIBUTES),
            ],
        )
