"""What all members of a population say together: what their training buys, if an answer may cost as many passes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo import population as pop
from jevo.data.datasets import Dataset
from jevo.data.task import Task
from jevo.genetics import State
from jevo.networks import Network
from jevo.runs import medians
from jevo.training.criterion import Criterion
from jevo.training.scoring import ROWS

SPLITS = ("validation", "test")
"""On which it is measured. Nothing is chosen by it."""


def saying(network: Network, criterion: Criterion, task: Task, dataset: Dataset) -> Callable[[State], dict[str, Any]]:
    """The mean of what all members that have not failed say, class probabilities for example, of each split: of a State
    whose leaves are `[R, P, ...]`, float32 `[R, n, k]`."""

    def said(state: State, x: jax.Array) -> jax.Array:
        """Of one seed, and of examples in blocks `[blocks, rows, ...]`."""
        alive = state.fitness > -jnp.inf

        def member(i: jax.Array) -> jax.Array:
            params = pop.take(state.population.params, i)
            says = jax.lax.map(lambda rows: criterion.finish(network.apply(params, task.inputs(rows))), x)
            # One that has failed says nothing, and may say NaN.
            return jnp.where(alive[i], says.reshape(-1, says.shape[-1]), 0)

        # One at a time: sums of so many answers, and not the answers, are what is kept.
        first, rest = member(jnp.int32(0)), jnp.arange(1, alive.size)
        total = jax.lax.scan(lambda so_far, i: (so_far + member(i), None), first, rest)[0]
        return total / alive.sum()

    program = jax.jit(lambda state, x: jax.lax.map(lambda one: said(one, x), state))

    def every(state: State) -> dict[str, Any]:
        found = {}
        for split in SPLITS:
            x = getattr(dataset, split).x
            rows = min(ROWS, len(x))
            blocks = -(-len(x) // rows)
            # The last block is filled up with the last example.
            filled = x[np.minimum(np.arange(blocks * rows), len(x) - 1)].reshape(blocks, rows, *x.shape[1:])
            found[split] = program(state, filled)[:, : len(x)]
        return found

    return every


def ensemble(
    criterion: Criterion, dataset: Dataset, said: Mapping[str, Any], members: int, seed: int
) -> dict[str, Any]:
    """What `result.json` holds of it: how many answer, `metrics` by split (medians over seeds), and those of each seed.

    Args:
        criterion: measures.
        dataset: all sets.
        said: what `saying` gives.
        members: how many say it.
        seed: the first.
    """
    labels = {split: getattr(dataset, split).y for split in SPLITS}
    seeds = [
        {split: criterion.measure(np.asarray(said[split][i]), labels[split]) for split in SPLITS}
        for i in range(len(said["test"]))
    ]
    found: dict[str, Any] = {"members": members, "metrics": medians(seeds)}
    if len(seeds) > 1:
        found["repeats"] = [{"seed": seed + i, "metrics": metrics} for i, metrics in enumerate(seeds)]
    return found
