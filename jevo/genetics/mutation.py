"""How a member changes at random: `(key, member) -> member`, written for one member.

A *rate* is the probability that a gene is touched; at rate 0 every operator is the identity. Rates may be traced,
so that a schedule can set them inside `jit`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jevo import bits
from jevo import population as pop
from jevo.bits import is_bits
from jevo.genetics.genes import Gene, gate, map_genes, pick, require_kind, require_rate, require_size
from jevo.stateful import genome, on_genomes
from jevo.types import Key, Member, Mutate, Rate


def flip(rate: Rate) -> Mutate:
    """Invert each bit or bool with probability `rate`."""
    require_rate("flip", rate)

    def change(key: Key, genes: Gene) -> Gene:
        require_kind("flip", genes, ("bits", "bool"))
        where = gate(key, rate, genes)
        return bits.flip(genes, where) if is_bits(genes) else genes ^ where

    return _each(change)


def redraw(rate: Rate, ones: Rate = 0.5) -> Mutate:
    """Draw each bit or bool anew with probability `rate`; it is then one with probability `ones`."""
    require_rate("redraw", rate)
    require_rate("redraw", ones, "share of ones")

    def change(key: Key, genes: Gene) -> Gene:
        require_kind("redraw", genes, ("bits", "bool"))
        where, fresh = jax.random.split(key)
        return pick(gate(where, rate, genes), gate(fresh, ones, genes), genes)

    return _each(change)


def reset(rate: Rate, fresh: Callable[[Key], Member]) -> Mutate:
    """Replace each gene with probability `rate` by that of a fresh member.

    Args:
        rate: per gene.
        fresh: makes a member of the same structure, such as `Network.init`.
    """
    require_rate("reset", rate)

    @on_genomes
    def mutate(key: Key, member: Member) -> Member:
        where, new = jax.random.split(key)
        made = genome(fresh(new))
        pop.require_alike([member, made])
        return map_genes(lambda key, old, new: pick(gate(key, rate, old), new, old), where, member, made)

    return mutate


def zero(rate: Rate) -> Mutate:
    """Set each gene to zero with probability `rate`.

    Source: David and Greental, "Genetic algorithms for evolving deep neural networks", 2014.
    """
    require_rate("zero", rate)
    return _each(lambda key, genes: pick(gate(key, rate, genes), jax.tree.map(jnp.zeros_like, genes), genes))


def prune(rate: Rate) -> Mutate:
    """Set the smallest of each array's nonzero floats to zero: a share of them drawn uniformly from 0 to `2 * rate`.

    So members of a population differ in how much they lose, and selection can tell.

    Source: Han et al., "Learning both weights and connections for efficient neural networks", 2015.
    """
    require_rate("prune", rate)

    def change(key: Key, genes: Gene) -> Gene:
        require_kind("prune", genes, ("float",))
        size = jnp.abs(genes)
        gone = jnp.sum(size == 0)
        goal = gone + 2 * rate * jax.random.uniform(key) * (genes.size - gone)

        def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds
            middle = (low + high) / 2
            fits = jnp.sum(size < middle) <= goal
            return jnp.where(fits, middle, low), jnp.where(fits, high, middle)

        # The largest threshold below which there are no more than the goal: halving finds it much faster than sorting.
        low, _ = jax.lax.fori_loop(0, 24, halve, (jnp.zeros_like(size.max()), size.max()))
        return jnp.where(size < low, 0, genes).astype(genes.dtype)

    return _each(change)


def gaussian(std: Rate, rate: Rate = 1.0) -> Mutate:
    """Add normal noise of this standard deviation to each float with probability `rate`."""
    require_size("gaussian", std, "standard deviation")
    require_rate("gaussian", rate)

    def change(key: Key, genes: Gene) -> Gene:
        require_kind("gaussian", genes, ("float",))
        where, noise = jax.random.split(key)
        moved = genes + std * jax.random.normal(noise, genes.shape, genes.dtype)
        return pick(gate(where, rate, genes), moved.astype(genes.dtype), genes)

    return _each(change)


def perturb(factor: float = 1.25, down: float | None = None) -> Mutate:
    """Multiply each float by `factor` or by `down`, at even odds: for what is positive, such as a learning rate.

    Args:
        factor: one of them.
        down: the other; None: to divide by `factor`. Population-based training takes 1.2 and .8.

    Source: Jaderberg et al., "Population based training of neural networks", 2017.
    """
    require_size("perturb", factor, "factor")
    if factor == 0:
        raise ValueError("perturb takes a factor above 0")
    other = 1 / factor if down is None else down
    require_size("perturb", other, "factor")

    def change(key: Key, genes: Gene) -> Gene:
        require_kind("perturb", genes, ("float",))
        up = jax.random.bernoulli(key, 0.5, genes.shape)
        return (genes * jnp.where(up, factor, other)).astype(genes.dtype)

    return _each(change)


def step(rate: Rate, size: Rate = 1) -> Mutate:
    """Move each number up or down by `size` with probability `rate`; integers stop at the ends of their type."""
    require_rate("step", rate)
    require_size("step", size, "size")

    def change(key: Key, genes: Gene) -> Gene:
        require_kind("step", genes, ("int", "float"))
        where, up = jax.random.split(key)
        upwards = jax.random.bernoulli(up, 0.5, genes.shape)
        if jnp.issubdtype(genes.dtype, jnp.integer):
            ends = jnp.iinfo(genes.dtype)
            by = jnp.clip(jnp.asarray(size), 0, min(ends.max, 2**31 - 1)).astype(genes.dtype)
            least, most = (np.array(end, genes.dtype) for end in (ends.min, ends.max))
            higher = jnp.where(genes > most - by, most, genes + by)
            lower = jnp.where(genes < least + by, least, genes - by)
            moved = jnp.where(upwards, higher, lower)
        else:
            moved = (genes + jnp.where(upwards, 1, -1) * size).astype(genes.dtype)
        return pick(gate(where, rate, genes), moved, genes)

    return _each(change)


def _each(change: Callable[[Key, Gene], Gene]) -> Mutate:
    return on_genomes(lambda key, member: map_genes(change, key, member))
