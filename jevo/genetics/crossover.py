"""How two parents make a child: `(key, first, second) -> child`, written for one pair.

All work on float, integer, bool and packed genes. A *layer* is the arrays that share a parent in the tree
(`{"layer_0": {"kernel", "bias"}}` is one layer); an array at the top of the tree is a layer of its own. A
*neuron* is one index of the last axis: a column of a kernel and its bias travel together.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jevo import bits
from jevo.bits import is_bits
from jevo.genetics.genes import Gate, Gene, gate, map_genes, pick
from jevo.types import Cross, Key, Member, Rate

Grain = Literal["gene", "neuron", "layer"]


def uniform(rate: Rate = 0.5, per: Grain = "gene") -> Cross:
    """Each gene (or neuron, or layer) is the second parent's with probability `rate`, else the first's.

    Source: Syswerda, "Uniform crossover in genetic algorithms", 1989.
    """
    if per == "gene":
        return lambda key, first, second: map_genes(
            lambda key, a, b: pick(gate(key, rate, a), b, a), key, first, second
        )
    if per not in ("neuron", "layer"):
        raise ValueError(f"uniform crossover is per gene, neuron or layer, not per {per!r}")

    def cross(key: Key, first: Member, second: Member) -> Member:
        paths, treedef = jax.tree.flatten_with_path(first, is_leaf=is_bits)
        layers = [path[:-1] if len(path) > 1 else path for path, _ in paths]
        # One draw a layer and width, so that all arrays of a layer agree about a neuron.
        units = [(layer, _width(a) if per == "neuron" else ()) for layer, (_, a) in zip(layers, paths, strict=True)]
        distinct = list(dict.fromkeys(units))
        keys = jax.random.split(key, max(len(distinct), 1))
        draws = {
            unit: jax.random.bernoulli(keys[i], rate, unit[1]) for i, unit in enumerate(distinct)
        }
        seconds = treedef.flatten_up_to(second)
        return treedef.unflatten(
            [
                pick(_spread(draws[unit], a), b, a)
                for unit, (_, a), b in zip(units, paths, seconds, strict=True)
            ]
        )

    return cross


def one_point() -> Cross:
    """Genes before a random point are the first parent's, the rest the second's.

    All arrays are one string of genes, in the order of the tree; the point is uniform over its inner cuts.

    Source: Holland, "Adaptation in natural and artificial systems", 1975.
    """

    def cross(key: Key, first: Member, second: Member) -> Member:
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


def average(weight: Rate = 0.5) -> Cross:
    """The weighted mean, `(1 - weight) * first + weight * second`.

    Discrete genes are rounded at random so that they have that mean: two integers to either neighbour, two
    bits that differ to the second parent's with probability `weight`.
    """

    def blend(key: Key, a: Gene, b: Gene) -> Gene:
        if is_bits(a) or a.dtype == jnp.bool_:
            return pick(gate(key, weight, a), b, a)
        if jnp.issubdtype(a.dtype, jnp.floating):
            return (a + weight * (b - a)).astype(a.dtype)
        # The difference is split, not the sum: a float32 keeps the small number exactly.
        shift = weight * (b - a).astype(jnp.float32)
        whole = jnp.floor(shift)
        up = jax.random.bernoulli(key, shift - whole)
        return a + whole.astype(a.dtype) + up.astype(a.dtype)

    return lambda key, first, second: map_genes(blend, key, first, second)


def _width(genes: Gene) -> tuple[int, ...]:
    return genes.shape[-1:]


def _spread(draw: jax.Array, genes: Gene) -> Gate:
    """A draw per layer `[]` or per neuron `[width]` as a gate for these genes."""
    if is_bits(genes) and draw.ndim:
        return bits.pack(jnp.broadcast_to(draw, genes.shape))
    return draw


def _before(count: jax.Array, genes: Gene) -> Gate:
    """Open for the first `count` genes."""
    if is_bits(genes):
        return bits.prefix(genes.shape, count)
    return jnp.arange(genes.size).reshape(genes.shape) < count
