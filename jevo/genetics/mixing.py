"""Members that meet as they train: `(key, population) -> population`, written for all of them together.

Nobody is chosen and nobody replaced: each goes on, a little nearer to the others. `training.train` mixes every few
steps.
"""

import math
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

from jevo.bits import is_bits
from jevo.genetics.genes import Gene, require_kind, require_rate
from jevo.stateful import on_genomes
from jevo.types import Key, Mix, Population, Rate


def pull(rate: Rate) -> Mix:
    """Each member goes the share `rate` of its way to the mean of all, which stays where it is.

    PAPA takes a rate of .01 (its alpha is .99) every 10 gradient steps, and has it fall as the learning rate does:
    `rate * schedule(step)`, where the schedule is 1 at first. What comes out in the end is the mean.

    Source: Jolicoeur-Martineau et al., "PopulAtion Parameter Averaging (PAPA)", 2024 (arXiv 2304.03094).
    """
    require_rate("pull", rate)

    def change(genes: Gene) -> Gene:
        require_kind("pull", genes, ("float",))
        return (genes + rate * (jnp.mean(genes, axis=0, keepdims=True) - genes)).astype(genes.dtype)

    return on_genomes(lambda key, population: jax.tree.map(change, population, is_leaf=is_bits))


def exchange(rate: Any) -> Mix:
    """Each gene is, with probability `rate`, shuffled among all members: every such gene has an order of its own.

    No gene is lost, so that the mean of the members stays where it is. Only what is shuffled moves between devices.

    WASH shuffles after every gradient step, and layers near the input more than those near the output: of `L` layers
    number `l`, from 0, at `rate * (1 - l / (L - 1))`. What comes out in the end is the mean. WASH+Opt shuffles the
    optimizer's moments with the weights: `training.mixing(exchange(rate), moments=True)`. Members that begin with the
    same weights stay together at any rate; others come together only if each gene is shuffled many times.

    Args:
        rate: a probability, the same for all genes; or a pytree of them in the form of a genome, one for each array.
            It is no traced value: how much is drawn hangs on it. More genes than six standard deviations above the mean
            are not shuffled at once.

    Source: Fournier et al., "WASH: Train your Ensemble with Communication-Efficient Weight Shuffling, then Average",
    2024 (arXiv 2405.17517).
    """
    for each in jax.tree.leaves(rate):
        require_rate("exchange", each)

    @on_genomes
    def mix(key: Key, population: Population) -> Population:
        genes, treedef = jax.tree.flatten(population, is_leaf=is_bits)
        rates = [rate] * len(genes) if isinstance(rate, Real) else treedef.flatten_up_to(rate)
        keys = jax.random.split(key, max(len(genes), 1))
        return treedef.unflatten([_exchanged(*args) for args in zip(keys, map(float, rates), genes, strict=False)])

    return mix


def _exchanged(key: Key, rate: float, genes: Gene) -> Gene:
    """Genes `[P, ...]`, of which some are shuffled along the first axis."""
    require_kind("exchange", genes, ("float", "int", "bool"))
    members, size = genes.shape[0], math.prod(genes.shape[1:])
    if rate == 0 or members == 1:
        return genes
    gap_key, order_key = jax.random.split(key)
    # From one to the next is a geometric number: so many are drawn as are shuffled, not as there are.
    most = min(size, math.ceil(size * rate + 6 * math.sqrt(size * rate * (1 - rate))) + 6)
    gaps = jnp.minimum(jax.random.geometric(gap_key, rate, (most,)), size + 1)
    places = jnp.cumsum(gaps) - 1  # Those from `size` on are none.
    orders = jnp.argsort(jax.random.uniform(order_key, (members, most)), axis=0)
    flat = genes.reshape(members, size)
    moved = jnp.take_along_axis(flat[:, jnp.minimum(places, size - 1)], orders, axis=0)
    return flat.at[:, places].set(moved, mode="drop", unique_indices=True, indices_are_sorted=True).reshape(genes.shape)
