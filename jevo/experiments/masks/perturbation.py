"""Masks by node perturbation: a score for each weight, whose sign is its mask."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import bits
from jevo import population as pop
from jevo.bits import Bits
from jevo.experiments.forward import Searcher
from jevo.experiments.masks.config import Config
from jevo.experiments.masks.search import Data
from jevo.genetics import State
from jevo.networks import Network
from jevo.networks.masks import weigh
from jevo.training.perturbation import Noise, node_perturbation, twin_noise, weight_noise
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


def packed(theta: Member) -> Member:
    """The mask that scores stand for."""
    return jax.tree.map(lambda scores: bits.pack(scores > 0), theta)


def mask_twins(key: Key, mask: Member, flips: float) -> tuple[Member, Member]:
    """Two masks about one: in either a bit is flipped with probability `flips`, at most a half, and never in both."""
    masks, treedef = jax.tree.flatten(mask, is_leaf=bits.is_bits)

    def pair(key: Key, mask: Bits) -> tuple[Bits, Bits]:
        where_key, who_key = jax.random.split(key)
        changed = bits.flip(mask, bits.bernoulli(where_key, 2 * flips, mask.shape))
        who = bits.bernoulli(who_key, 0.5, mask.shape)
        return bits.select(who, changed, mask), bits.select(who, mask, changed)

    ones, others = zip(*map(pair, jax.random.split(key, len(masks)), masks), strict=True)
    return treedef.unflatten(ones), treedef.unflatten(others)


def noise(config: Config, weights: Member, theta: Member) -> Noise:
    """Noise as it comes of bits that are flipped, or as large."""
    zero, one = MEANS[config.mask]
    variance = jax.tree.map(lambda weight: config.flips * ((one - zero) * weight) ** 2, weights)
    if config.noise == "units":
        return weight_noise(variance)
    mask = packed(theta)

    def draw(key: Key) -> tuple[Member, Member]:
        up, down = mask_twins(key, mask, config.flips)
        return weigh(weights, up, config.mask), weigh(weights, down, config.mask)

    # Twins differ where either is flipped, so at twice the odds, and half of that is half of the weight.
    return twin_noise(draw, jax.tree.map(lambda each: each / 2, variance))


def perturbed(config: Config, network: Network) -> Searcher:
    """A search for one mask, in which a generation's members are noise about it.

    Each example and unit has noise, by flipping each bit with probability `flips`, or of the size that this would give;
    what it does to the fitness of the example, times what a weight adds to the unit, moves the weight's score by Adam.

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

        found = node_perturbation(
            network.apply,
            jax.tree.map(mean, data.weights, scores.theta),
            x,
            lambda logits: config.objective_by_example(logits, y),
            jax.random.fold_in(key, generation),
            noise=noise(config, data.weights, scores.theta),
            pairs=config.population // 2,
        )
        downhill = jax.tree.map(lambda weight, change: -(one - zero) * weight * change, data.weights, found.gradient)
        updates, state = optimizer.update(downhill, scores.optimizer)
        theta = optax.apply_updates(scores.theta, updates)
        return State(pop.stack([packed(theta)]), found.fitness[None], generation, Scores(theta, state))

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
