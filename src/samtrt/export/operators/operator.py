"""How one of the plugin's operators is declared to PyTorch's exporter."""

from __future__ import annotations

from samtrt.errors import MissingExtraError

try:
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset
except ImportError as error:
    raise MissingExtraError("Exporting", "export", error.name or "onnx") from None

from samtrt.export.operators.graph import DOMAIN, PLUGIN_ATTRIBUTES

INT, FLOAT = OpSchema.AttrType.INT, OpSchema.AttrType.FLOAT


def declare_operator(name: str, inputs: str, outputs: str, **attributes: OpSchema.AttrType) -> Op:
    """Declare an operator of tensors of one type, as the exporter wants to know it."""
    schema = OpSchema(
        name,
        DOMAIN,
        since_version=1,
        inputs=[OpSchema.FormalParameter(word, "T") for word in inputs.split()],
        outputs=[OpSchema.FormalParameter(word, "T") for word in outputs.split()],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"], "")],
        attributes=[
            *(OpSchema.Attribute(word, kind, required=True) for word, kind in attributes.items()),
            *(OpSchema.Attribute(word, OpSchema.AttrType.STRING) for word in PLUGIN_ATTRIBUTES),
        ],
    )
    return Op(Opset(DOMAIN, 1), name, schema)
