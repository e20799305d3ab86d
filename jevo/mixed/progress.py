"""How far a member is: what it takes to go on training, and what it would have become if it stopped there."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jevo.hyperparams import Genome, identity
from jevo.mixed.architectures import Architecture
from jevo.mixed.optimizers import Slots, start
from jevo.mixed.programs import Program, pad, unpad
from jevo.mixed.unpadded import first_weights
from jevo.types import Member


class Trained(NamedTuple):
    """What became of a member.

    Attributes:
        params: those with the best validation.
        score: float32 `[]`, theirs on the validation set: the accuracy, or minus the loss where there are no classes.
        loss: float32 `[]`, on the validation set.
        epochs: int32 `[]`, how many it trained before it was done, or was stopped.
        best: int32 `[]`, after how many it had these params.
        curve: float32 `[program.epochs]`, the mean train loss of each epoch; 0 after its last.
    """

    params: Member
    score: Any
    loss: Any
    epochs: Any
    best: Any
    curve: Any


class Progress(NamedTuple):
    """A member between two epochs: it goes on from here as if it had never stopped.

    Attributes:
        weights: of all layers `{layer: {kernel, bias}}`, as are the optimizer's two slots.
        so_far: what it has become by then.
    """

    weights: Slots
    so_far: Trained


class Kept(Protocol):
    """Keeps how far genomes are, for each of their repeats. What it has lost is trained again."""

    def save(self, genome: Genome, progress: Sequence[Progress]) -> None: ...

    def load(self, genome: Genome) -> Sequence[Progress] | None: ...

    def drop(self, genome: Genome) -> None: ...


class KeptInMemory:
    """Keeps it in memory."""

    def __init__(self) -> None:
        self._of: dict[str, Sequence[Progress]] = {}

    def save(self, genome: Genome, progress: Sequence[Progress]) -> None:
        self._of[identity(genome)] = progress

    def load(self, genome: Genome) -> Sequence[Progress] | None:
        return self._of.get(identity(genome))

    def drop(self, genome: Genome) -> None:
        self._of.pop(identity(genome), None)


def begin(of: Architecture, seed: int, most: int) -> Progress:
    """A member before its first epoch, at its own sizes; NumPy arrays.

    Args:
        of: its network.
        seed: of its weights.
        most: epochs that its program may train.
    """
    params = first_weights(of, seed)
    moments = [
        {
            layer: {name: start(array.shape, of.optimizer)[slot] for name, array in arrays.items()}
            for layer, arrays in params.items()
        }
        for slot in (0, 1)
    ]
    unseen = (np.float32(-np.inf), np.float32(np.inf), np.int32(0), np.int32(0))
    so_far = Trained(params, *unseen, np.zeros(most, np.float32))
    return Progress(Slots(params, (moments[0], moments[1])), so_far)


def padded(progress: Progress, of: Architecture, program: Program) -> Progress:
    """A member's progress among zeros, as its program has it."""
    return _each_tree(progress, lambda tree: pad(tree, of, program))


def unpadded(progress: Progress, of: Architecture, program: Program) -> Progress:
    """A member's own progress out of the padded one."""
    return _each_tree(progress, lambda tree: unpad(tree, of, program))


def _each_tree(progress: Progress, change: Callable[[Member], Member]) -> Progress:
    (params, (first, second)), so_far = progress
    weights = Slots(change(params), (change(first), change(second)))
    return Progress(weights, so_far._replace(params=change(so_far.params)))
