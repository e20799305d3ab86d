"""Masks by node perturbation: a score for each weight, whose sign is its mask."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import bits
from jevo import population as pop
from jevo.experiments.forward import Searcher
from jevo.experiments.masks.config import Config
from jevo.experiments.masks.search import Data
from jevo.genetics import State
from jevo.networks import Network
from jevo.training.perturbation import node_perturbation, weight_noise
from jevo.types import Key, Member

MEANS = {"mask": (0.0, 1.0), "flip": (-1.0, 1.0)}
"""What a weight is multiplied with where its bit is zero, and one."""


class Scores(NamedTuple):
    """What the search keeps beside the mask.

    Attributes:
        theta: of each weight, float32; the mask is where they are positive.
        optimizer: its state.
    """

    theta: Member
    optimizer: optax.OptState


def perturbed(config: Config, network: Network) -> Searcher:
    """A search for one mask, in which a generation's members are noise about it.

    Each example and unit has noise of the size that flipping each bit with probability `flips` would give; what it does
    to the fitness of the example, times what a weight adds to the unit, moves the weight's score by Adam.

    Args:
        config: says how.
        network: without its mask.
    """
    rate = optax.linear_schedule(config.learning_rate, 0.0, config.generations + 1)
    optimizer = optax.adam(rate, b1=0.9, b2=0.99, eps=1e-12)
    zero, one = MEANS[config.mask]

    def advanced(key: Key, scores: Scores, data: Data, generation: jax.Array) -> State:
        x, y = config.batch(data.task, generation)

        def mean(weight: jax.Array, theta: jax.Array) -> jax.Array:
            ones = jnp.where(theta > 0, 1 - config.flips, config.flips)
            return weight * (zero + (one - zero) * ones)

        variance = jax.tree.map(lambda weight: config.flips * ((one - zero) * weight) ** 2, data.weights)
        found = node_perturbation(
            network.apply,
            jax.tree.map(mean, data.weights, scores.theta),
            x,
            lambda logits: config.objective_by_example(logits, y),
            jax.random.fold_in(key, generation),
            noise=weight_noise(network.apply, variance, x),
            pairs=config.population // 2,
        )
        downhill = jax.tree.map(lambda weight, change: -(one - zero) * weight * change, data.weights, found.gradient)
        updates, state = optimizer.update(downhill, scores.optimizer)
        theta = optax.apply_updates(scores.theta, updates)
        mask = jax.tree.map(lambda theta: bits.pack(theta > 0), theta)
        return State(pop.stack([mask]), found.fitness[None], generation, Scores(theta, state))

    def start(key: Key, data: Data, chunk: int) -> State:
        first_key, key = jax.random.split(key)
        arrays, treedef = jax.tree.flatten(data.weights)
        keys = treedef.unflatten(jax.random.split(first_key, len(arrays)))
        middle = jax.scipy.stats.norm.ppf(config.density)
        theta = jax.tree.map(lambda key, weight: middle + jax.random.normal(key, weight.shape), keys, data.weights)
        return advanced(key, Scores(theta, optimizer.init(theta)), data, jnp.int32(0))

    def step(key: Key, state: State, data: Data, chunk: int) -> State:
        return advanced(key, state.own, data, state.generation + 1)

    return Searcher(start, step)
