"""Masks by node perturbation: a score for each weight, whose sign is its mask."""

import jax
import jax.numpy as jnp
import optax

from jevo import bits
from jevo.bits import Bits
from jevo.experiments.masks.config import Config
from jevo.experiments.masks.search import Data
from jevo.experiments.searcher import Searcher, ascending
from jevo.networks import Network
from jevo.networks.masks import weigh
from jevo.training.criterion import Criterion
from jevo.training.perturbation import Estimate, Noise, node_perturbation, twin_noise, weight_noise
from jevo.types import Key, Member

MEANS = {"mask": (0.0, 1.0), "flip": (-1.0, 1.0)}
"""What a weight is multiplied with where its bit is zero, and one."""


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


def perturbed(config: Config, criterion: Criterion, network: Network) -> Searcher:
    """A search for one mask, in which a generation's members are noise about it.

    Each example and unit has noise, by flipping each bit with probability `flips`, or of the size that this would give;
    what it does to the fitness of the example, times what a weight adds to the unit, moves the weight's score by Adam.

    Args:
        config: says how.
        criterion: what outputs are for.
        network: without its mask.
    """
    optimizer = optax.adam(config.rate(config.generations + 1), b1=0.9, b2=0.99, eps=1e-12)
    zero, one = MEANS[config.mask]

    def estimate(key: Key, scores: Member, data: Data, generation: jax.Array, chunk: int) -> Estimate:
        x, y = config.batch(data.task, generation)

        def mean(weight: jax.Array, score: jax.Array) -> jax.Array:
            ones = jnp.where(score > 0, 1 - config.flips, config.flips)
            return weight * (zero + (one - zero) * ones)

        found = node_perturbation(
            network.apply,
            jax.tree.map(mean, data.weights, scores),
            x,
            lambda logits: config.objective_by_example(criterion, logits, y),
            key,
            noise=noise(config, data.weights, scores),
            pairs=config.population // 2,
        )
        # The products are rounded by the sign that Adam is given, downhill: what is recorded was computed so.
        uphill = jax.tree.map(lambda weight, change: -(-(one - zero) * weight * change), data.weights, found.gradient)
        return found._replace(gradient=uphill)

    def init(key: Key, data: Data) -> Member:
        arrays, treedef = jax.tree.flatten(data.weights)
        keys = treedef.unflatten(jax.random.split(key, len(arrays)))
        middle = jax.scipy.stats.norm.ppf(config.density)
        return jax.tree.map(lambda key, weight: middle + jax.random.normal(key, weight.shape), keys, data.weights)

    return ascending(init, estimate, optimizer, genome=packed)
