"""How parents make a child: `(key, first, second) -> child`, written for one pair.

All work on float, integer, bool and packed genes. A *layer* is the arrays that share a parent in the tree
(`{"layer_0": {"kernel", "bias"}}` is one layer); an array at the top of the tree is a layer of its own. A
*neuron* is one index of the last axis: a column of a kernel and its bias travel together.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jevo import bits
from jevo import population as pop
from jevo.bits import is_bits
from jevo.genetics.genes import Gate, Gene, gate, map_genes, pick, require_kind, require_rate
from jevo.stateful import on_genomes
from jevo.types import Cross, Key, Member, Rate

Grain = Literal["gene", "neuron", "layer"]


def uniform(rate: Rate = 0.5, per: Grain = "gene") -> Cross:
    """Each gene (or neuron, or layer) is the second parent's with probability `rate`, else the first's.

    With more than two parents, a power of two, pairs are crossed until one child is left, all pairs of a round with
    the same draws. At rate 0.5 a gene then comes from any of the parents at equal odds, and n parents cost no more
    than log2(n) draws: the members' genes become one pool.

    Source: Syswerda, "Uniform crossover in genetic algorithms", 1989; Muehlenbein and Voigt, "Gene pool recombination
    in genetic algorithms", 1995.
    """
    if per not in get_args(Grain):
        raise ValueError(f"uniform crossover is per gene, neuron or layer, not per {per!r}")
    require_rate("uniform crossover", rate)

    @on_genomes
    def cross(key: Key, *parents: Member) -> Member:
        rounds = len(parents).bit_length() - 1
        if len(parents) != 2**rounds or not rounds:
            raise ValueError(f"uniform crossover takes 2, 4, 8, ... parents, not {len(parents)}")
        pop.require_alike(parents)
        for round_key in jax.random.split(key, rounds):
            gates = _draw(round_key, rate, per, parents[0])
            parents = tuple(_merge(gates, a, b) for a, b in zip(parents[::2], parents[1::2], strict=True))
        return parents[0]

    return cross


def one_point() -> Cross:
    """Genes before a random point are the first parent's, the rest the second's.

    All arrays are one string of genes, in the order of the tree; the point is uniform over its inner cuts.

    Source: Holland, "Adaptation in natural and artificial systems", 1975.
    """

    @on_genomes
    def cross(key: Key, first: Member, second: Member) -> Member:
        pop.require_alike([first, second])
        firsts, treedef = jax.tree.flatten(first, is_leaf=is_bits)
        sizes = [a.size for a in firsts]
        point = jax.random.randint(key, (), 1, max(sum(sizes), 2))
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return treedef.unflatten(
            [
                pick(_before(point - start, a), a, b)
                for start, a, b in zip(starts, firsts, treedef.flatten_up_to(second), strict=True)
            ]
        )

    return cross


def clone() -> Cross:
    """The first parent as it is: for truncation with mutated copies, as in population-based training."""
    return lambda key, first, *others: first


def average(weight: Rate | None = None) -> Cross:
    """The mean of all parents; or of two, weighted, `(1 - weight) * first + weight * second`.

    Discrete genes are rounded at random so that they have that mean: two integers to either neighbour, two
    bits that differ to the second parent's with probability `weight`.

    Source: Wortsman et al., "Model soups", 2022.
    """
    if weight is not None:
        require_rate("average", weight, "weight")

    def blend(weight: Rate, key: Key, a: Gene, b: Gene) -> Gene:
        if is_bits(a) or a.dtype == jnp.bool_:
            return pick(gate(key, weight, a), b, a)
        require_kind("average", a, ("int", "float"))
        if jnp.issubdtype(a.dtype, jnp.floating):
            return _between(a, (a + weight * (b - a)).astype(a.dtype), b)
        # The difference is split, not the sum, and found among integers: float32 keeps it exactly where it is small,
        # and nothing overflows. The child of a large one is rounded as float32 rounds, and stays between its parents.
        unsigned = jnp.dtype(f"uint{8 * a.dtype.itemsize}")
        low, high = jnp.minimum(a, b), jnp.maximum(a, b)
        distance = high.astype(unsigned) - low.astype(unsigned)
        shift = jnp.where(b >= a, weight, -weight) * distance.astype(jnp.float32)
        whole = jnp.floor(shift)
        moved = whole + jax.random.bernoulli(key, shift - whole)
        most = float(np.nextafter(np.float32(2.0 ** (8 * a.dtype.itemsize)), np.float32(0)))
        size = jnp.minimum(jnp.abs(moved), most).astype(unsigned)
        size = jnp.where(jnp.abs(moved) >= distance.astype(jnp.float32), distance, size)
        upwards, start = moved >= 0, a.astype(unsigned)
        return jnp.where(upwards, start + size, start - size).astype(a.dtype)

    @on_genomes
    def cross(key: Key, *parents: Member) -> Member:
        if weight is not None and len(parents) != 2:
            raise ValueError(f"a weighted average is of two parents, not {len(parents)}")
        pop.require_alike(parents)
        child = parents[0]
        # A running mean: parent number n moves it by one n-th of the way.
        for n, parent in enumerate(parents[1:], start=2):
            share = 1 / n if weight is None else weight
            child = map_genes(partial(blend, share), jax.random.fold_in(key, n), child, parent)
        return child

    return cross


CROSSOVERS: dict[str, Callable[..., Cross]] = {
    "uniform": uniform,
    "neuron": partial(uniform, per="neuron"),
    "layer": partial(uniform, per="layer"),
    "one_point": one_point,
    "average": average,
    "clone": clone,
}
"""By the names that settings give them; the first three take a rate."""


def _draw(key: Key, rate: Rate, per: Grain, member: Member) -> list[Gate]:
    """For each gene array of the member, a gate that opens with probability `rate` per gene, neuron or layer."""
    paths = jax.tree.flatten_with_path(member, is_leaf=is_bits)[0]
    if per == "gene":
        keys = jax.random.split(key, max(len(paths), 1))
        return [gate(keys[i], rate, genes) for i, (_, genes) in enumerate(paths)]
    # One draw a layer and width, so that all arrays of a layer agree about a neuron.
    layers = [path[:-1] if len(path) > 1 else path for path, _ in paths]
    widths = [genes.shape[-1:] if per == "neuron" else () for _, genes in paths]
    units = list(zip(layers, widths, strict=True))
    distinct = list(dict.fromkeys(units))
    keys = jax.random.split(key, max(len(distinct), 1))
    draws = {unit: jax.random.bernoulli(keys[i], rate, unit[1]) for i, unit in enumerate(distinct)}
    return [_spread(draws[unit], genes) for unit, (_, genes) in zip(units, paths, strict=True)]


def _between(a: Gene, moved: Gene, b: Gene) -> Gene:
    """A float's way from one parent to the other, no further: rounding, or a difference that no float holds, would
    otherwise take it beyond them. What is no number stays so."""
    return jnp.clip(moved, jnp.minimum(a, b), jnp.maximum(a, b))


def _spread(draw: jax.Array, genes: Gene) -> Gate:
    """A draw per layer `[]` or per neuron `[width]` as a gate for these genes."""
    if is_bits(genes) and draw.ndim:
        return bits.pack(jnp.broadcast_to(draw, genes.shape))
    return draw.reshape((1,) * (len(genes.shape) - 1) + draw.shape) if draw.ndim else draw


def _merge(gates: list[Gate], first: Member, second: Member) -> Member:
    """The second's genes where gates are open, else the first's."""
    firsts, treedef = jax.tree.flatten(first, is_leaf=is_bits)
    pairs = zip(gates, firsts, treedef.flatten_up_to(second), strict=True)
    return treedef.unflatten([pick(where, b, a) for where, a, b in pairs])


def _before(count: jax.Array, genes: Gene) -> Gate:
    """Open for the first `count` genes."""
    if is_bits(genes):
        return bits.prefix(genes.shape, count)
    return jnp.arange(genes.size).reshape(genes.shape) < count
