"""A backend that keeps what passes through it: every field of every output, as the engine gave it.

A predictor picks some of a decoder's masks and scores; the comparison and the recording need all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samtrt.backends.base import Backend, Tensors
from samtrt.errors import VerificationError
from samtrt.predictor import Predictor
from samtrt.sealed import Tensors as Arrays
from samtrt.types import Tensor, to_host


@dataclass(frozen=True)
class TappedRun:
    """What a stage took and gave, by name, on the host."""

    inputs: Arrays
    outputs: Arrays


class Tap(Backend):
    """Runs another backend and keeps its runs, until `take`.

    Args:
        backend: The one that computes.
        inputs: Names of the inputs to be kept beside all outputs.
    """

    def __init__(self, backend: Backend, inputs: tuple[str, ...] = ()) -> None:
        self._backend, self._kept = backend, inputs
        self.name, self.device = backend.name, backend.device
        self.memory, self.precision = backend.memory, backend.precision
        self.inputs, self.outputs = backend.inputs, backend.outputs
        self._runs: list[TappedRun] = []

    def _run(self, feeds: Tensors, on_host: bool) -> Mapping[str, Tensor]:
        outputs = self._backend.run(feeds, on_host)
        if outputs.keys() != self.outputs.keys():
            raise VerificationError(
                f"{self.name} gives the outputs {', '.join(outputs)} and not "
                f"{', '.join(self.outputs)}"
            )
        kept = {name: to_host(feeds[name]) for name in self._kept if name in feeds}
        self._runs.append(
            TappedRun(kept, {name: to_host(array) for name, array in outputs.items()})
        )
        return outputs

    def take(self) -> list[TappedRun]:
        """Return the runs since the last call."""
        runs, self._runs = self._runs, []
        return runs

    def take_outputs(self) -> Arrays:
        """Return the outputs of the runs since the last call, of all prompts together."""
        runs = self.take()
        return {name: np.concatenate([run.outputs[name] for run in runs]) for name in self.outputs}

    def close(self) -> None:
        self._backend.close()


def tapped(predictor: Predictor, prompts_per_run: int | None = None) -> tuple[Predictor, Tap, Tap]:
    """Return a predictor on the same engines, and the taps of its encoder and its decoder.

    Args:
        predictor: Whose engines.
        prompts_per_run: Prompts that the decoder gets at once; None for as many as there.
    """
    encoder = Tap(predictor.encoder)
    decoder = Tap(predictor.decoder, ("point_coords", "point_labels", "has_mask_input"))
    limit = prompts_per_run or predictor.prompts_per_run
    return Predictor(encoder, decoder, predictor.manifest, limit), encoder, decoder
