"""A decoder's graph in parts: what depends on the image alone, on masks too, on points too.

Only the last has to run at every click. Each node goes to the first part that has all of its
inputs, so that any exported decoder can be taken apart, and computes what it did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from samtrt.backends.protobuf import Field, field, fields

# Numbers of fields, as in `onnx.proto`.
_GRAPH = 7  # of ModelProto
_NODE, _NAME, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 2, 5, 11, 12, 13  # of GraphProto
_SPARSE_INITIALIZER = 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4  # of NodeProto
_INITIALIZER_NAME = 8  # of TensorProto
_VALUE_NAME, _VALUE_TYPE = 1, 2  # of ValueInfoProto
_TENSOR = _ELEMENT = 1  # of TypeProto and of TypeProto.Tensor
_SHAPE, _DIMENSION = 2, 1  # of TypeProto.Tensor and of TensorShapeProto
_SIZE, _SIZE_NAME = 1, 2  # of TensorShapeProto.Dimension

_FLOAT = 1  # of TensorProto.DataType
_WITH_GRAPHS = {"If", "Loop", "Scan"}
"""Operators that read values which are not among their inputs."""
_CONSTANT = -1
"""Stands for a part: of values that depend on no input, and are made wherever they are used."""


@dataclass(frozen=True)
class Part:
    """A graph, and the names of what it takes and gives.

    Attributes:
        model: An ONNX file's bytes.
        inputs: Inputs of the whole graph, and outputs of earlier parts.
        outputs: What later parts take, and outputs of the whole graph.
    """

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: list[str]
    outputs: list[str]
    raw: memoryview


def parts_of(model: bytes, inputs: Sequence[Collection[str]]) -> list[Part] | None:
    """Take a graph apart.

    Args:
        model: An ONNX file's bytes.
        inputs: All inputs of the graph, of each part those that it is the first to take.

    Returns:
        As many parts, in which to run them one after the other; None where it cannot be taken
        apart so.
    """
    try:
        return _Graph(model, inputs).parts()
    except ValueError:  # no ONNX file: its runtime will say so
        return None


class _Graph:
    """A graph whose nodes and values have the number of their part."""

    def __init__(self, model: bytes, inputs: Sequence[Collection[str]]) -> None:
        self.count = len(inputs)
        self.head, self.named = [], defaultdict[int, dict[str, Field]](dict)
        self.nodes: list[_Node] = []
        for one in fields(model):
            if one.number == _GRAPH:
                self._read(one)
            else:
                self.head.append(one.raw)
        self.part_of = {name: part for part, names in enumerate(inputs) for name in names}
        if self.named[_INPUT].keys() != self.part_of.keys():
            raise ValueError("a graph with other inputs")
        self.readers = defaultdict[str, list[_Node]](list)
        for node in self.nodes:
            for name in node.inputs:
                self.readers[name].append(node)
        self.placed = self._place()

    def _read(self, graph: Field) -> None:
        names = {_INITIALIZER: _INITIALIZER_NAME} | dict.fromkeys(
            (_INPUT, _OUTPUT, _VALUE_INFO), _VALUE_NAME
        )
        for one in fields(graph.message):
            if one.number == _NODE:
                self.nodes.append(_node(one))
            elif one.number == _SPARSE_INITIALIZER:
                raise ValueError("weights of a kind that is not copied")
            elif one.number in names:
                self.named[one.number][_only(one.message, names[one.number]).text] = one

    def _place(self) -> list[int]:
        """Return each node's part."""
        placed = []
        for node in self.nodes:
            if node.operator in _WITH_GRAPHS:
                raise ValueError("a graph within the graph")
            placed.append(max((self._part_of(name) for name in node.inputs), default=_CONSTANT))
            self.part_of.update(dict.fromkeys(node.outputs, placed[-1]))
        return [self._moved(node, part) for node, part in zip(self.nodes, placed, strict=True)]

    def _moved(self, node: _Node, part: int) -> int:
        """Return the part of a node, the last for what transposes for products there alone.

        They take a matrix either way round: where the last part has it anyway, another copy would
        take memory and save nothing.
        """
        last = self.count - 1
        if node.operator != "Transpose" or part in (_CONSTANT, last):
            return part
        readers = self.readers[node.outputs[0]]
        if not all(one.operator == "MatMul" and self._is_of(one, last) for one in readers):
            return part
        others = (one for one in self.readers[node.inputs[0]] if one is not node)
        if not any(self._is_of(one, last) for one in others):
            return part
        self.part_of[node.outputs[0]] = last
        return last

    def _is_of(self, node: _Node, part: int) -> bool:
        return self._part_of(node.outputs[0]) == part

    def _part_of(self, value: str) -> int:
        return self.part_of.get(value, _CONSTANT)

    def parts(self) -> list[Part] | None:
        """Return them, if each has something to do and only float32 passes between them."""
        made: list[Part] = []
        results = set(self.named[_OUTPUT])
        wanted = set(results)
        for number in reversed(range(self.count)):
            made.append(self._part(number, wanted))
            wanted.update(made[-1].inputs)
        whole = results.issubset(made[0].outputs) and all(part.outputs for part in made)
        return made[::-1] if whole else None

    def _part(self, number: int, wanted: Collection[str]) -> Part:
        """Write a part that gives what is wanted of it."""
        placed = list(zip(self.nodes, self.placed, strict=True))
        given = [name for node, part in placed if part == number for name in node.outputs]
        outputs = [name for name in given if name in wanted]
        nodes, needed = [], set(outputs)
        for node, part in reversed(placed):
            if part in (number, _CONSTANT) and needed.intersection(node.outputs):
                nodes.append(node.raw)
                needed.update(node.inputs)
        own = [name for name in self.named[_INPUT] if self.part_of[name] == number]
        before = sorted(name for name in needed if _CONSTANT < self._part_of(name) < number)
        values = self.named[_OUTPUT] | self.named[_VALUE_INFO] | self.named[_INPUT]
        graph: list[bytes | memoryview] = [
            *reversed(nodes),
            field(_NAME, [b"part"]),
            *(one.raw for name, one in self.named[_INITIALIZER].items() if name in needed),
            *(field(_INPUT, [values[name].message]) for name in own),
            *(field(_INPUT, [_loose(values.get(name))]) for name in before),
            *(field(_OUTPUT, [values[name].message]) for name in outputs),
        ]
        return Part(b"".join([*self.head, field(_GRAPH, graph)]), (*own, *before), tuple(outputs))


def _node(node: Field) -> _Node:
    operator, inputs, outputs = "", [], []
    for one in fields(node.message):
        if one.number == _NODE_INPUT:
            inputs.append(one.text)
        elif one.number == _NODE_OUTPUT:
            outputs.append(one.text)
        elif one.number == _NODE_OPERATOR:
            operator = one.text
    return _Node(operator, inputs, outputs, node.raw)


def _only(message: memoryview, number: int) -> Field:
    found = [one for one in fields(message) if one.number == number]
    if len(found) != 1:
        raise ValueError("no field of this number, or several")
    return found[0]


def _loose(value: Field | None) -> bytes:
    """Write an input like a value, but whose dimensions that vary have names of their own.

    What was made for one prompt without a mask goes with any number of prompts with points: the
    same name would say that there are as many.
    """
    if value is None:
        raise ValueError("a value whose type is not known")
    name = _only(value.message, _VALUE_NAME)
    tensor = _only(_only(value.message, _VALUE_TYPE).message, _TENSOR).message
    element, shape = _only(tensor, _ELEMENT), _only(tensor, _SHAPE)
    if element.value != _FLOAT:
        raise ValueError("a value that is not float32")
    dimensions = []
    for axis, dimension in enumerate(fields(shape.message)):
        size: list[bytes | memoryview]
        size = [one.raw for one in fields(dimension.message) if one.number == _SIZE]
        own = field(_SIZE_NAME, [f"{name.text}, {axis}".encode()])
        dimensions.append(field(_DIMENSION, size or [own]))
    loose = field(_SHAPE, dimensions)
    return b"".join([name.raw, field(_VALUE_TYPE, [field(_TENSOR, [element.raw, loose])])])
