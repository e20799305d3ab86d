"""Masks that are bred: the genetic algorithm, its control, and what the two score."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jevo import bits, genetics
from jevo import population as pop
from jevo.data.task import Task
from jevo.experiments.forward import Breeding, More
from jevo.experiments.masks.config import Config
from jevo.genetics import Algorithm, State
from jevo.networks import Network, masked
from jevo.types import Member, Population


class Data(NamedTuple):
    """What the programs of this experiment read: the examples, and the frozen weights."""

    task: Task
    weights: Member


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
        return genetics.genetic(
            selection,
            genetics.CROSSOVERS[config.crossover](),
            genetics.flip(rate) if config.mutation == "flip" else genetics.redraw(rate, config.redraw_ones),
            elites=config.elites,
            lucky=config.lucky,
            parents=config.parents,
            rescore=config.batches == "rotating",
            chunk=chunk,
        )

    return breeding


def distribution(config: Config) -> Breeding:
    """A probability for each bit, which follows the gradient of the expected fitness; the rate falls to zero."""
    optimizer = optax.sgd(optax.linear_schedule(config.learning_rate, 0.0, config.generations))
    algorithm = genetics.bernoulli_es(optimizer, density=config.density, floor=config.flips)
    return lambda data, generation, chunk: algorithm


def random_masks(config: Config, network: Network, rescore: bool) -> Breeding:
    """The control: fresh masks each generation, as many as the search scores."""

    def breeding(data: Data, generation: jax.Array, chunk: int) -> Algorithm:
        init = masked(network, data.weights, config.mask, config.density).init
        return genetics.random_search(init, elites=config.survivors, rescore=rescore, chunk=chunk)

    return breeding


def scheduled_rate(config: Config, generation: jax.Array) -> jax.Array:
    """The mutation rate of a generation: it falls geometrically from the first to the last."""
    progress = generation / config.generations
    low = np.finfo(np.float32).tiny  # A rate of zero has no logarithm; this one is rounded to zero.
    first, last = (np.log(max(rate, low)) for rate in (config.mutation_rate, config.final_mutation_rate))
    return jnp.exp((1 - progress) * first + progress * last)
