"""Populations: members stacked into one pytree whose every leaf is `[P, ...]`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jevo.types import Key, Member, Population

AXIS = "population"
"""The axis of a mesh that members are spread over."""

_MESH: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


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

    def mapped(some: Any) -> Any:
        return jax.lax.map(function, some, batch_size=chunk_of(_length(some), batch_size))

    return over_devices(mapped, arguments)


def extended(population: Population, function: Callable[[Any], Any], arguments: Any, batch_size: int) -> Population:
    """`population`, then `function` of every element of `arguments`, `batch_size` elements at a time.

    As `concat(population, in_chunks(...))`, but every member is written where it stays.

    Args:
        population: leaves `[m, ...]`; m may be 0.
        function: of one element; makes a member.
        arguments: a pytree of `[n, ...]`.
        batch_size: at most so many at a time.

    Returns:
        Leaves `[m + n, ...]`.
    """
    m, n = size(population), _length(arguments)
    if _MESH.get():
        # Each device makes the members of its own places, among them, if they are the first, those that are there.
        places = jnp.arange(m + n)
        made = in_chunks(function, take(arguments, jnp.maximum(places - m, 0)), batch_size)
        old = take(population, jnp.minimum(places, m - 1)) if m else made
        kept = lambda leaf: (places < m).reshape(-1, *[1] * (leaf.ndim - 1))  # noqa: E731
        return jax.tree.map(lambda new, old: jnp.where(kept(new), old, new), made, old)
    chunk = chunk_of(n, batch_size)

    # The last chunk is moved back to the end: where it overlaps, the same members are made once more.
    starts = jnp.minimum(jnp.arange(-(-n // chunk)) * chunk, n - chunk)
    chunks = take(arguments, starts[:, None] + jnp.arange(chunk)[None, :])

    def write(whole: Population, start_and_some: Any) -> tuple[Population, None]:
        start, some = start_and_some
        made = jax.vmap(function)(some)
        placed = jax.tree.map(
            lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, m + start, 0), whole, made
        )
        return placed, None

    empty = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, n), *[(0, 0)] * (leaf.ndim - 1)]), population)
    return jax.lax.scan(write, empty, (starts, chunks))[0]


@contextmanager
def spread(mesh: Mesh | None) -> Iterator[None]:
    """Programs traced inside give each device of `mesh` its own share of a population's members.

    Args:
        mesh: with the one axis `AXIS`; None for a single device.
    """
    token = _MESH.set(mesh if mesh and mesh.size > 1 else None)
    try:
        yield
    finally:
        _MESH.reset(token)


def over_devices(program: Callable[[Any], Any], arguments: Any) -> Any:
    """`program` of `arguments`, each device computing its own share of them.

    Args:
        program: `[n, ...] -> [n, ...]`, each row a function of the same row alone, and of what the program closes over
            (which every device then has whole).
        arguments: a pytree of `[n, ...]`. Where n does not divide evenly, the last row is computed again for the
            places that are left over, and dropped.
    """
    mesh, n = _MESH.get(), _length(arguments)
    if mesh is None:
        return program(arguments)
    places = -(-n // mesh.size) * mesh.size
    if places > n:
        arguments = take(arguments, jnp.minimum(jnp.arange(places), n - 1))
    rows = PartitionSpec(AXIS)
    # Nothing is said of what varies over devices: rows do, and there is nothing else.
    found = jax.shard_map(program, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)(arguments)
    return jax.tree.map(lambda leaf: leaf[:n], found) if places > n else found


def replicated(mesh: Mesh | None) -> NamedSharding | None:
    """Where an array is that every device of a mesh has whole; None where there is one device."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def bare(tree: Any) -> Any:
    """Shapes and dtypes of a pytree of arrays, to lower a program from.

    Where arrays are is told apart: part of a traced array's type, it would forbid to index into one that a device's
    share of the work closes over.
    """
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), tree)


class Limit:
    """How many members a program may hold at once, and the most that one has asked for since."""

    def __init__(self, members: int):
        self.members, self.asked = members, 0


_LIMIT: ContextVar[Limit | None] = ContextVar("limit", default=None)


@contextmanager
def limited(members: int) -> Iterator[Limit]:
    """Programs traced inside take no more than so many members at once, whatever chunk they are told to take."""
    limit = Limit(members)
    token = _LIMIT.set(limit)
    try:
        yield limit
    finally:
        _LIMIT.reset(token)


def chunk_of(n: int, at_most: int) -> int:
    """How many of `n` to take at once: `at_most`, or as few as half of that if it then divides `n`."""
    limit = _LIMIT.get() or Limit(sys.maxsize)
    at_most = min(at_most, n, limit.members)
    limit.asked = max(limit.asked, at_most)
    return next((chunk for chunk in range(at_most, at_most // 2, -1) if n % chunk == 0), at_most)


def _length(arguments: Any) -> int:
    return jax.tree.leaves(arguments)[0].shape[0]


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
