"""Populations: members stacked into one pytree whose every leaf is `[P, ...]`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jevo.types import Key, Member, Population


def init(key: Key, member: Callable[[Key], Member], size: int, batch_size: int = 64) -> Population:
    """A population of `size` members, each from its own key.

    Members are made `batch_size` at a time, which bounds the memory of temporaries and never changes the
    result.

    >>> import jax
    >>> init(jax.random.key(0), lambda key: {"w": jax.random.normal(key, (3,))}, 5)["w"].shape
    (5, 3)
    """
    return in_chunks(member, jax.random.split(key, size), batch_size)


def in_chunks(function: Callable[[Any], Any], arguments: Any, batch_size: int) -> Any:
    """`function` of every element of `arguments`, `batch_size` elements at a time: vectorised, and in bounded memory.

    Args:
        function: of one element: a pytree without the leading axis.
        arguments: a pytree of `[n, ...]`.
        batch_size: at most so many at a time. A somewhat smaller chunk is taken if it divides `n`, since the chunk
            that is left over is a second program to compile.

    Returns:
        The results, stacked `[n, ...]`.
    """
    n = jax.tree.leaves(arguments)[0].shape[0]
    whole = next((chunk for chunk in range(min(batch_size, n), batch_size // 2, -1) if n % chunk == 0), None)
    return jax.lax.map(function, arguments, batch_size=whole or min(batch_size, n))


def size(population: Population) -> int:
    """P, the number of members.

    Raises:
        ValueError: if the leaves disagree, or there are none.
    """
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(population)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(f"a population's leaves share one leading axis, these have {sorted(sizes)}")
    return int(sizes.pop()[0])


def take(population: Population, indices: int | jax.Array) -> Member | Population:
    """The members at `indices`: one member for a scalar, a population for `[n]`."""
    return jax.tree.map(lambda leaf: leaf[indices], population)


def concat(*populations: Population) -> Population:
    """One population of all members, in order."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *populations)


def stack(members: Sequence[Member]) -> Population:
    """A population from single members.

    >>> size(stack([{"w": jnp.zeros(3)}, {"w": jnp.ones(3)}]))
    2
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def unstack(population: Population) -> list[Member]:
    """The single members, in order."""
    return [take(population, i) for i in range(size(population))]
