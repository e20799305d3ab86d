"""Masks that are bred: the genetic algorithm, its control, and what the two score."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jevo import bits, genetics
from jevo import population as pop
from jevo.data.task import Task
from jevo.experiments.masks.config import Config
from jevo.experiments.searcher import Breeding, Cost, More
from jevo.genetics import Algorithm, State
from jevo.networks import Network, masked
from jevo.networks.masks import kept, thinned
from jevo.types import Key, Member, Population


class Data(NamedTuple):
    """What the programs of this experiment read: the examples, and the frozen weights."""

    task: Task
    weights: Member


THINNEST = 1 / 30
"""Of the share of its weights that a child loses at most: the least."""
SPREADING = 0.2
"""The last part of the generations, in which children lose more and more."""


def share_kept(config: Config) -> Cost | None:
    """The other objective, if there is one."""
    return Cost("kept", lambda genome: kept(genome, config.mask)) if len(config.objectives) > 1 else None


def consensus(config: Config) -> More | None:
    """What most of the best say of each bit stands for champion, too."""
    if not config.consensus or config.population == 1:
        return None

    def agreed(state: State, order: jax.Array) -> Population:
        voters = pop.take(state.population, order[: config.consensus])
        return pop.stack([jax.tree.map(bits.majority, voters, is_leaf=bits.is_bits)])

    return agreed


def evolution(config: Config) -> Breeding:
    """The genetic algorithm of each generation, whose mutation rate follows the schedule."""
    selection = {
        "truncation": lambda: genetics.truncation(config.breeders, config.lucky),
        "tournament": lambda: genetics.tournament(config.tournament_size),
        "rank": genetics.rank,
        "roulette": genetics.roulette,
    }[config.selection]()
    constant = config.mutation_rate == config.final_mutation_rate

    def breeding(data: Data, generation: jax.Array, chunk: int) -> Algorithm:
        rate = config.mutation_rate if constant else scheduled_rate(config, generation)
        mutation = genetics.flip(rate) if config.mutation == "flip" else genetics.redraw(rate, config.redraw_ones)

        def thin(key: Key, genome: Member) -> Member:
            share_key, key = jax.random.split(key)
            # Wide steps at the end make the front long; from the start, the empty mask would be better than all.
            most = config.thinning ** jnp.minimum((1 - generation / config.generations) / SPREADING, 1)
            return thinned(key, genome, config.mask, most * THINNEST ** jax.random.uniform(share_key))

        return genetics.genetic(
            selection,
            genetics.CROSSOVERS[config.crossover](),
            genetics.chain(mutation, thin) if len(config.objectives) > 1 else mutation,
            elites=config.elites,
            lucky=config.lucky,
            parents=config.parents,
            rescore=config.rescored,
            chunk=chunk,
        )

    return breeding


def distribution(config: Config) -> Breeding:
    """A probability for each bit, which follows the gradient of the expected fitness; the rate falls to zero."""
    optimizer = optax.sgd(config.rate(config.generations))
    algorithm = genetics.bernoulli_es(optimizer, density=config.density, floor=config.flips)
    return lambda data, generation, chunk: algorithm


def random_masks(config: Config, network: Network) -> Breeding:
    """The control: fresh masks each generation, as many as the search scores."""

    def breeding(data: Data, generation: jax.Array, chunk: int) -> Algorithm:
        def init(key: Key) -> Member:
            if len(config.objectives) == 1:
                return masked(network, data.weights, config.mask, config.density).init(key)
            share_key, thin_key, key = jax.random.split(key, 3)  # A front wants masks of any density.
            whole = masked(network, data.weights, config.mask, 1.0).init(key)
            return thinned(thin_key, whole, config.mask, jax.random.uniform(share_key))

        return genetics.random_search(init, elites=config.survivors, rescore=config.rescored, chunk=chunk)

    return breeding


def scheduled_rate(config: Config, generation: jax.Array) -> jax.Array:
    """The mutation rate of a generation: it falls geometrically from the first to the last."""
    progress = generation / config.generations
    low = np.finfo(np.float32).tiny  # A rate of zero has no logarithm; this one is rounded to zero.
    first, last = (np.log(max(rate, low)) for rate in (config.mutation_rate, config.final_mutation_rate))
    return jnp.exp((1 - progress) * first + progress * last)
