"""Mutations of encoded genomes."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp

from jevo.genetics.genes import map_genes
from jevo.hyperparams.genes import Choice, Gene, Real
from jevo.hyperparams.space import Space
from jevo.types import Key, Member, Mutate, Rate


def stepped(space: Space, rate: Rate, nominal: bool = True) -> Mutate:
    """Move each gene a little, with probability `rate`.

    A value of an ordered choice moves to a neighbour, up or down at even odds, and from an end inward; a `Real` moves
    by normal noise, a tenth of its range in standard deviation, reflected at the ends.

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
    """With probability `rate`, draw one gene anew among its other values: any that has more than one, at equal odds.

    Source: Harvey, neural-network-genetic-algorithm, 2017.
    """
    tree = space.tree()
    genes, treedef = jax.tree.flatten(tree)
    numbers = treedef.unflatten(itertools.accumulate(int(gene.varies) for gene in genes))
    count = sum(gene.varies for gene in genes)

    def change(chosen: jax.Array, key: Key, value: jax.Array, gene: Gene, number: int) -> jax.Array:
        return jnp.where(chosen == number, _other(key, value, gene), value) if gene.varies else value

    def mutate(key: Key, genome: Member) -> Member:
        where, which, fresh = jax.random.split(key, 3)
        # Genes that vary are numbered from 1: 0 is none of them.
        chosen = jax.random.bernoulli(where, rate) * jax.random.randint(which, (), 1, count + 1)
        return map_genes(partial(change, chosen), fresh, genome, tree, numbers)

    return mutate


def _other(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
    """Uniform over a gene's other values."""
    if isinstance(gene, Choice):
        return (value + jax.random.randint(key, (), 1, len(gene.values), jnp.int32)) % len(gene.values)
    return gene.draw(key)


def _moved(key: Key, value: jax.Array, gene: Gene) -> jax.Array:
    """A value near this one, or any other if there is no order."""
    if isinstance(gene, Real):
        there = jnp.mod(value + 0.1 * jax.random.normal(key, (), jnp.float32), 2)
        return 1 - jnp.abs(1 - there)
    if not gene.ordered:
        return _other(key, value, gene)
    last = len(gene.values) - 1
    there = value + jnp.where(jax.random.bernoulli(key), 1, -1)
    return jnp.where(value == 0, 1, jnp.where(value == last, last - 1, there))
