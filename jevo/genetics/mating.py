"""What mating costs before anything is learnt, and children that give way to their parents."""

import jax
import jax.numpy as jnp

from jevo import population as pop
from jevo.genetics.algorithm import Candidates, State
from jevo.genetics.champion import rounding
from jevo.types import Fitness


def barrier(state: State, candidates: Candidates, fitness: Fitness) -> jax.Array:
    """How much worse each candidate is than its parents on the average, before it has learnt anything: `[n]`.

    Args:
        state: that bred the candidates.
        candidates: whose parents are members of the state.
        fitness: of the candidates as bred, `[n]`.
    """
    return jnp.mean(state.fitness[candidates.parents], axis=1) - fitness


def guarded(state: State, candidates: Candidates, fitness: Fitness) -> Candidates:
    """The candidates, where each with a barrier above rounding gives its place to a copy of its best parent.

    So a mating that does not work (of strangers, whose mean is no solution) costs nothing, and selects. A child that is
    as good as its parents keeps its place: a copy with other settings explores, whatever the last bits of its score.
    """
    parents = candidates.parents
    best = jnp.take_along_axis(parents, jnp.argmax(state.fitness[parents], axis=1)[:, None], axis=1)[:, 0]
    stays = barrier(state, candidates, fitness) <= rounding(fitness)
    members = jax.tree.map(
        lambda child, parent: jnp.where(stays.reshape(-1, *[1] * (child.ndim - 1)), child, parent),
        candidates.members,
        pop.take(state.population, best),
    )
    return candidates._replace(members=members)
