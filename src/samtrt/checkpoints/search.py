"""Finding the one SAM in whatever a trainer saved.

Nothing is known of wrappers: every mapping is looked into, and a model is where the tensors' names
end as a SAM's do. What stands before is its prefix. Two different models are an error, as no rule
says which was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from samtrt.checkpoints.inert import Array
from samtrt.checkpoints.layouts import LAYOUTS, Layout
from samtrt.checkpoints.wording import some
from samtrt.errors import CheckpointError, MissingExtraError

try:
    import torch
except ImportError:
    raise MissingExtraError("Loading a checkpoint", "export", "torch") from None

from torch import Tensor

TOP = "."
"""What the option calls the model whose tensors have no prefix."""

_EXPANSION = 8
"""How many times larger than in the file tensors may be in float32: 4 for float8, with room."""
_SMALL = 1 << 24  # bytes that are never too many

Words = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """One model among a file's tensors.

    Attributes:
        layout: How its tensors are named.
        prefix: What stands before all of its names.
        inner: What stands behind the name of a part, as where parts were wrapped one by one.
        state: Its tensors by official name.
        beside: Tensors with its prefix that belong to no part, by name behind the prefix.
        names: The file's names of all of these.
    """

    layout: Layout
    prefix: Words
    inner: Words
    state: dict[str, Tensor] = field(repr=False, default_factory=dict)
    beside: dict[str, Tensor] = field(repr=False, default_factory=dict)
    names: set[Words] = field(repr=False, default_factory=set)

    @property
    def label(self) -> str:
        """What the user calls it: the names' beginning, or `TOP`."""
        part = self.layout.parts[:1] if self.inner else ()
        return ".".join((*self.prefix, *part, *self.inner)) or TOP

    @property
    def missing(self) -> list[str]:
        """The parts of which it has no tensor."""
        official = LAYOUTS[0].parts
        present = {name.split(".", 1)[0] for name in self.state}
        return [part for part in official if part not in present]


def find_model(loaded: Mapping[object, object], wanted: str | None = None) -> tuple[Found, Words]:
    """Return the model that was meant, and the names of the tensors that are not of it.

    Args:
        loaded: What a file holds: tensors by name, in mappings of any depth.
        wanted: The `Found.label` of one of several models; None where there must be one alone.

    Raises:
        CheckpointError: where there is none, or several and none is named.
    """
    tensors = flatten(loaded)
    found = [_collect(tensors, *anchor) for anchor in _anchors(tensors)]
    if not found:
        raise CheckpointError(_no_model(loaded, tensors))
    for one in found:
        _add_parts_from_elsewhere(one, found, tensors)
    whole = [one for one in found if not one.missing] or found[:1]
    chosen = _choose(whole, wanted)
    return chosen, tuple(".".join(words) for words in tensors if words not in chosen.names)


def flatten(loaded: Mapping[object, object]) -> dict[Words, Tensor]:
    """Return every tensor by the words of its name, those of mappings around it first.

    Words that begin with an underscore are left out: torch's own wrappers add them (`_orig_mod`,
    `_fsdp_wrapped_module`). What is no tensor is left out too.
    """
    flat: dict[Words, Tensor] = {}
    named = list(_walk(loaded, (), set()))
    _check_budget([tensor for _, tensor in named])
    for name, tensor in named:
        words = tuple(word for word in name if not word.startswith("_"))
        if words in flat and not same(flat[words], tensor):
            raise CheckpointError(f"two tensors have the name {'.'.join(words)}")
        flat[words] = tensor
    return flat


def _walk(value: object, name: Words, seen: set[int]) -> Iterator[tuple[Words, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Array):
        yield name, torch.from_numpy(value.values)
    # Each mapping once: a pickle may hold itself, or one a million times.
    elif isinstance(value, Mapping) and id(value) not in seen:
        seen.add(id(value))
        for key, inner in value.items():
            yield from _walk(inner, (*name, *str(key).split(".")), seen)


def _check_budget(tensors: list[Tensor]) -> None:
    """Refuse tensors that repeat few numbers very often, before they are compared or copied."""
    stored: dict[int, int] = {}
    claimed = 0
    for tensor in tensors:
        if tensor.layout == torch.strided and not tensor.is_meta:
            storage = tensor.untyped_storage()
            stored[storage.data_ptr()] = storage.nbytes()
            claimed += 4 * tensor.numel()
    held = sum(stored.values())
    if claimed > _EXPANSION * held + _SMALL:
        raise CheckpointError(
            f"its tensors would take {claimed / 1e9:.1f} GB and the file holds {held / 1e6:.3f} MB "
            "of numbers, repeated; save each tensor's own numbers"
        )


def _anchors(tensors: Mapping[Words, Tensor]) -> Iterator[tuple[Layout, Words, Words]]:
    """Yield layout, prefix and inner words of every model whose encoder is there."""
    seen: set[Words] = set()
    # Longer names first: the end of one may be another layout's.
    for layout in sorted(LAYOUTS, key=lambda one: -len(one.anchor)):
        part, *rest = layout.anchor.split(".")
        for words in tensors:
            if part in words and words[-len(rest) :] == tuple(rest) and words not in seen:
                seen.add(words)
                place = words.index(part)
                yield layout, words[:place], words[place + 1 : -len(rest)]


def _collect(tensors: Mapping[Words, Tensor], layout: Layout, prefix: Words, inner: Words) -> Found:
    found = Found(layout, prefix, inner)
    for words in tensors:
        if words[: len(prefix)] == prefix:
            rest = words[len(prefix) :]
            if rest and rest[0] in layout.parts:
                _add(found, words, rest, tensors[words])
            else:
                found.beside[".".join(rest)] = tensors[words]
    return found


def _add(found: Found, words: Words, rest: Words, tensor: Tensor) -> None:
    part, *tail = rest
    inner = found.inner
    if inner and tuple(tail[: len(inner)]) == inner:
        tail = tail[len(inner) :]
    name = found.layout.official(".".join((part, *tail)))
    found.names.add(words)
    if name in found.layout.splits and tensor.ndim == 2:
        rows = {found.layout.splits[name].format(i): tensor[i : i + 1] for i in range(len(tensor))}
        found.state.update(rows)
        return
    # Hugging Face may store one position matrix under two names.
    if name in found.state and not same(found.state[name], tensor):
        raise CheckpointError(f"two tensors disagree about {name}; the second is {'.'.join(words)}")
    found.state[name] = tensor


def _add_parts_from_elsewhere(
    found: Found, all_found: list[Found], tensors: Mapping[Words, Tensor]
) -> None:
    """Take a part that lies under another prefix, where it is the only one in the file."""
    taken = {one.prefix for one in all_found}
    for part in found.missing:
        places = {
            words[: words.index(part)]
            for words in tensors
            if part in words and words[: words.index(part)] not in taken
        }
        if len(places) == 1:
            place = places.pop()
            for words, tensor in tensors.items():
                if words[: len(place) + 1] == (*place, part):
                    _add(found, words, words[len(place) :], tensor)


def _choose(found: list[Found], wanted: str | None) -> Found:
    labels = [one.label for one in found]
    if wanted is not None:
        if wanted not in labels:
            raise CheckpointError(
                f"no SAM's tensors begin with '{wanted}'; --tensors takes {', '.join(labels)}"
            )
        return found[labels.index(wanted)]
    first, *others = sorted(found, key=lambda one: len(one.label))
    differing = [one for one in others if not _equal(first, one)]
    if differing:
        if len(set(labels)) < len(labels):
            kinds = " and ".join(sorted({one.layout.name for one in found}))
            raise CheckpointError(
                f"it holds the tensors of {len(found)} different SAMs in one place, with {kinds}: "
                "save each model in a file of its own"
            )
        named = " and ".join(f"'{label}'" for label in labels)
        raise CheckpointError(
            f"it holds {len(found)} different SAMs, {named}: choose one with --tensors "
            f"{labels[0]} (or {' or '.join(labels[1:])})"
        )
    return first


def _equal(one: Found, other: Found) -> bool:
    return one.state.keys() == other.state.keys() and all(
        same(tensor, other.state[name]) for name, tensor in one.state.items()
    )


def same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two tensors are equal; what cannot be compared is not."""
    if one is other:
        return True
    try:
        return one.shape == other.shape and bool(torch.equal(one, other))
    except (RuntimeError, NotImplementedError):  # sparse, without data
        return False


def put(state: dict[str, Tensor], name: str, tensor: Tensor, made_of: str) -> None:
    """Put a tensor that was made of others where it belongs.

    Raises:
        CheckpointError: where another one is there already.
    """
    if name in state and not same(state[name], tensor):
        raise CheckpointError(f"{name} and {made_of} are there and disagree")
    state[name] = tensor


def _no_model(loaded: Mapping[object, object], tensors: Mapping[Words, Tensor]) -> str:
    names = [".".join(words) for words in tensors]
    lora = [name for name in names if ".lora_" in f".{name}"]
    if lora:
        return (
            f"it holds a LoRA ({some(lora, 1)}) and not the model that it changes: merge them "
            "with PEFT's merge_and_unload() and save the whole"
        )
    # The parts that code bases call alike, or with SAM 2's word before.
    found = {word.removeprefix("sam_") for words in tensors for word in words}
    parts = sorted(found & set(LAYOUTS[0].parts))
    if parts:
        return f"it holds a SAM's {' and '.join(parts)} alone: a whole model is needed"
    listed = some(names or list(map(str, loaded))) or "nothing"
    anchor = LAYOUTS[0].anchor
    return (
        f"not a SAM checkpoint: no tensor {anchor}, nor another family's like it; it holds {listed}"
    )
