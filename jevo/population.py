"""Populations: members stacked into one pytree whose every leaf is `[P, ...]`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jevo.devices import chunk_of, for_some, in_chunks, is_spread, over_devices
from jevo.programs import compiled_when_plain
from jevo.types import Key, Member, Population


@compiled_when_plain("member", "size", "chunk")
def init(key: Key, member: Callable[[Key], Member], size: int, chunk: int = 64) -> Population:
    """A population of `size` members, each from its own key.

    Members are made `chunk` at a time, which bounds the memory of temporaries and never changes the
    result.

    >>> import jax
    >>> init(jax.random.key(0), lambda key: {"w": jax.random.normal(key, (3,))}, 5)["w"].shape
    (5, 3)
    """
    return in_chunks(member, jax.random.split(key, size), chunk)


def extended(
    population: Population, function: Callable[..., Any], arguments: Any, chunk: int, *shared: Any
) -> Population:
    """`population`, then `function` of every element of `arguments`, `chunk` elements at a time.

    As `concat(population, in_chunks(...))`, but every member is written where it stays.

    Args:
        population: leaves `[m, ...]`; m may be 0.
        function: of one element, and of what is shared; makes a member.
        arguments: a pytree of `[n, ...]`.
        chunk: at most so many at a time.
        shared: as `devices.in_chunks` takes it.

    Returns:
        Leaves `[m + n, ...]`.
    """
    m, n = size(population), size(arguments)
    if is_spread():
        # Each device makes the members of its own places, among them, if they are the first, those that are there.
        places = jnp.arange(m + n)
        made = in_chunks(function, take(arguments, jnp.maximum(places - m, 0)), chunk, *shared)
        old = take(population, jnp.minimum(places, m - 1)) if m else made
        kept = lambda leaf: (places < m).reshape(-1, *[1] * (leaf.ndim - 1))  # noqa: E731
        return jax.tree.map(lambda new, old: jnp.where(kept(new), old, new), made, old)
    chunk = chunk_of(n, chunk)
    # The last chunk is moved back to the end: where it overlaps, the same members are made once more.
    starts = jnp.minimum(jnp.arange(-(-n // chunk)) * chunk, n - chunk)
    chunks = take(arguments, starts[:, None] + jnp.arange(chunk)[None, :])

    def write(whole: Population, start_and_some: Any) -> tuple[Population, None]:
        start, some = start_and_some
        made = jax.vmap(lambda one: function(one, *shared))(some)
        placed = jax.tree.map(
            lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, m + start, 0), whole, made
        )
        return placed, None

    empty = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, n), *[(0, 0)] * (leaf.ndim - 1)]), population)
    return jax.lax.scan(write, empty, (starts, chunks))[0]


def written(
    population: Population, places: jax.Array, function: Callable[..., Any], arguments: Any, chunk: int, *shared: Any
) -> Population:
    """`population`, with `function` of each element of `arguments` in place of the member that is there.

    What else is in the population stays where it is, on its device, and is not copied.

    Args:
        population: leaves `[P, ...]`.
        places: int32 `[n]`, all different.
        function: of one element, and of what is shared; makes a member.
        arguments: a pytree of `[n, ...]`.
        chunk: at most so many at a time.
        shared: as `devices.in_chunks` takes it.
    """
    n = size(arguments)
    # Each device goes through its own places: who is written there, n for nobody.
    number = jnp.full(size(population), n, jnp.int32).at[places].set(jnp.arange(n, dtype=jnp.int32))

    def share(rows: tuple[Population, jax.Array], arguments: Any, *shared: Any) -> Population:
        population, number = rows

        def write(whole: Population, some: jax.Array) -> Population:
            # Each turn takes other keys, which nobody who checks that none is used twice can see.
            made = jax.vmap(lambda one: function(one, *shared))(_cloned(take(arguments, number[some])))
            return jax.tree.map(lambda leaf, new: leaf.at[some].set(new), whole, made)

        return for_some(write, population, number < n, min(chunk, n))

    return over_devices(share, (population, number), arguments, *shared)


def _cloned(tree: Any) -> Any:
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.random.clone(leaf) if is_key(leaf) else leaf, tree)


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
    """One population of all members, in order.

    Raises:
        ValueError: if their members have not the same structure, shapes and types.
    """
    require_alike(populations, 1)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *populations)


def stack(members: Sequence[Member]) -> Population:
    """A population from single members.

    Raises:
        ValueError: if they have not the same structure, shapes and types.

    >>> size(stack([{"w": jnp.zeros(3)}, {"w": jnp.ones(3)}]))
    2
    """
    require_alike(members, 0)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def unstack(population: Population) -> list[Member]:
    """The single members, in order."""
    return [take(population, i) for i in range(size(population))]


def require_alike(trees: Sequence[Any], skip: int = 0) -> None:
    """Raise a ValueError unless pytrees have the same structure, and arrays of the same types and shapes, but for the
    first `skip` axes: put together, numbers of two types would silently become those of a third."""
    if not trees:
        raise ValueError("there is nothing to put together")
    first = jax.tree.structure(trees[0])
    forms = [[(jnp.shape(leaf)[skip:], jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)] for tree in trees]
    for tree, form in zip(trees[1:], forms[1:], strict=True):
        if jax.tree.structure(tree) != first:
            raise ValueError(f"members have other structures: {first} and {jax.tree.structure(tree)}")
        if form != forms[0]:
            one, other = next((a, b) for a, b in zip(forms[0], form, strict=True) if a != b)
            raise ValueError(f"members have other arrays: {one[1]} {list(one[0])} and {other[1]} {list(other[0])}")
