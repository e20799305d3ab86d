"""Strategies of evosax, in jevo's loop."""

from typing import Any

import jax
import jax.numpy as jnp

from jevo import population as pop
from jevo.genetics.algorithm import Algorithm, Candidates, State, replaced
from jevo.genetics.selection import as_fitness
from jevo.programs import compiled_when_plain
from jevo.stateful import has_state
from jevo.types import Fitness, Key, Population


def from_evosax(strategy: Any, state: Any, params: Any = None) -> Algorithm:
    """A strategy of evosax (extra `evosax`, 0.3 or later) as an algorithm: any that asks and tells.

    Args:
        strategy: such as `evosax.algorithms.CMA_ES(population_size=P, solution=member)`.
        state: as its `init` gives it; `State.own` holds it from then on.
        params: of the strategy; None for its defaults.

    Members are pytrees of floats like the strategy's solution, and all of them are new in each generation. evosax makes
    its fitness small, so it is told the negative of this one, and NaN of members that failed. The key of a generation's
    `ask` is split in two: evosax asks with the first, and tells with the second.

    Raises:
        ValueError: from `init`, if the population is not the strategy's size, or its members have state.

    Source: Lange, "evosax: JAX-based evolution strategies", 2022.

    Example:

        strategy = CMA_ES(population_size=32, solution=member)
        algorithm = from_evosax(strategy, strategy.init(key, member, strategy.default_params))
        state = algorithm.init(population, jnp.full(32, -jnp.inf))      # Scores of the first population are not read.
        state = generation(algorithm, evaluate, key, state)
        strategy.get_mean(state.own)
    """
    params = strategy.default_params if params is None else params
    # With types of their own, not those of Python's numbers, so that a loop may carry them.
    first = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf)), state)
    members = strategy.population_size

    @compiled_when_plain()
    def init(population: Population, fitness: Fitness) -> State:
        if pop.size(population) != members:
            raise ValueError(f"the strategy is for a population of {members}, not of {pop.size(population)}")
        if has_state(population):
            raise ValueError("a strategy of evosax is for members without state, such as running statistics")
        return State(population, as_fitness(fitness, members), jnp.zeros((), jnp.int32), first)

    @compiled_when_plain()
    def ask(key: Key, state: State) -> Candidates:
        ask_key, tell_key = jax.random.split(key)
        population, asked = strategy.ask(ask_key, state.own, params)
        places = jnp.arange(members, dtype=jnp.int32)
        return Candidates(population, jnp.full((members, 1), -1, jnp.int32), places, (tell_key, asked))

    @compiled_when_plain()
    def tell(state: State, candidates: Candidates, fitness: Fitness) -> State:
        after = replaced(state, candidates.members, fitness)
        key, asked = candidates.own
        failed = after.fitness == -jnp.inf
        losses = jnp.where(failed, jnp.nan, -after.fitness)
        return after._replace(own=strategy.tell(key, after.population, losses, asked, params)[0])

    return Algorithm(init, ask, tell)
