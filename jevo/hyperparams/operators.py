"""Mutations of encoded genomes."""

from functools import partial

import jax
import jax.numpy as jnp

from jevo.genetics.genes import map_genes
from jevo.hyperparams.genes import Choice, Gene
from jevo.hyperparams.space import Space
from jevo.types import Key, Member, Mutate, Rate


def stepped(space: Space, rate: Rate, nominal: bool = True) -> Mutate:
    """Move each gene a little, with probability `rate`.

    A value of an ordered choice moves to a neighbour, up or down at even odds, and from an end inward; a number in a
    range moves by normal noise, a tenth of the range in standard deviation, reflected at the ends. Genes that are not
    active move, too, unseen until they are.

    Args:
        space: of the genomes.
        rate: per gene.
        nominal: whether a choice without order is drawn anew among its other values, or else left alone.
    """

    def change(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
        keeps = isinstance(gene, Choice) and not gene.ordered and not nominal
        if keeps or not gene.varies:
            return value
        where, move = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(where, rate), _moved(move, value, gene), value)

    tree = space.tree()
    return lambda key, genome: map_genes(change, key, genome, tree)


def redrawn(space: Space, rate: Rate) -> Mutate:
    """With probability `rate`, draw one gene anew among its other values: any that is active and has more than one, at
    equal odds. A number in a range is drawn from all of it, and a `LogInteger` of a few may come out as it was.

    Source: Harvey, neural-network-genetic-algorithm, 2017.
    """
    tree = space.tree()
    genes, treedef = jax.tree.flatten(tree)

    def change(chosen: jax.Array, key: Key, value: jax.Array, gene: Gene, number: jax.Array) -> jax.Array:
        return jnp.where(chosen == number, _other(key, value, gene), value) if gene.varies else value

    def mutate(key: Key, genome: Member) -> Member:
        where, which, fresh = jax.random.split(key, 3)
        may = [active & gene.varies for active, gene in zip(jax.tree.leaves(space.active(genome)), genes, strict=True)]
        # Genes that may be chosen are numbered from 1: 0 is none of them, and -1 all others.
        numbers = jnp.where(jnp.stack(may), jnp.cumsum(jnp.stack(may), dtype=jnp.int32), -1)
        chosen = jax.random.bernoulli(where, rate) * jax.random.randint(which, (), 1, numbers.max() + 1)
        return map_genes(partial(change, chosen), fresh, genome, tree, treedef.unflatten(numbers))

    return mutate


def _other(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
    """Uniform over a gene's other values."""
    if isinstance(gene, Choice):
        return (value + jax.random.randint(key, (), 1, len(gene.values), jnp.int32)) % len(gene.values)
    return gene.draw(key)


def _moved(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
    """A value near this one, or any other if there is no order."""
    if not isinstance(gene, Choice):
        there = jnp.mod(value + 0.1 * jax.random.normal(key, (), jnp.float32), 2)
        return 1 - jnp.abs(1 - there)
    if not gene.ordered:
        return _other(key, value, gene)
    last = len(gene.values) - 1
    there = value + jnp.where(jax.random.bernoulli(key), 1, -1)
    return jnp.where(value == 0, 1, jnp.where(value == last, last - 1, there))
