"""Masks by node perturbation: a score for each weight, whose sign is its mask."""

import jax
import jax.numpy as jnp
import optax

from jevo import bits
from jevo.experiments.masks.config import Config
from jevo.experiments.masks.search import Data
from jevo.experiments.searcher import Searcher, ascending
from jevo.networks import Network
from jevo.training.perturbation import Estimate, node_perturbation, weight_noise
from jevo.types import Key, Member

MEANS = {"mask": (0.0, 1.0), "flip": (-1.0, 1.0)}
"""What a weight is multiplied with where its bit is zero, and one."""


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

    def estimate(key: Key, scores: Member, data: Data, generation: jax.Array, chunk: int) -> Estimate:
        x, y = config.batch(data.task, generation)

        def mean(weight: jax.Array, score: jax.Array) -> jax.Array:
            ones = jnp.where(score > 0, 1 - config.flips, config.flips)
            return weight * (zero + (one - zero) * ones)

        variance = jax.tree.map(lambda weight: config.flips * ((one - zero) * weight) ** 2, data.weights)
        found = node_perturbation(
            network.apply,
            jax.tree.map(mean, data.weights, scores),
            x,
            lambda logits: config.objective_by_example(logits, y),
            key,
            noise=weight_noise(network.apply, variance, x),
            pairs=config.population // 2,
        )
        uphill = jax.tree.map(lambda weight, change: (one - zero) * weight * change, data.weights, found.gradient)
        return found._replace(gradient=uphill)

    def init(key: Key, data: Data) -> Member:
        arrays, treedef = jax.tree.flatten(data.weights)
        keys = treedef.unflatten(jax.random.split(key, len(arrays)))
        middle = jax.scipy.stats.norm.ppf(config.density)
        return jax.tree.map(lambda key, weight: middle + jax.random.normal(key, weight.shape), keys, data.weights)

    def mask(scores: Member) -> Member:
        return jax.tree.map(lambda score: bits.pack(score > 0), scores)

    return ascending(init, estimate, optimizer, genome=mask)
