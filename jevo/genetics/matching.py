"""Matching: which unit of one network corresponds to which of another.

Source: Ainsworth, Hayase and Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries", 2023 (weight
matching).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jevo.genetics.assignment import assign
from jevo.symmetry import array_at, arrays_of, blocks, in_order, renumbered, units_of
from jevo.types import Axis, Member, Symmetry

SWEEPS = 3
"""Times that all layers of a chain are matched in turn; a single hidden layer needs one."""
JOINT_SWEEPS = 50
"""Times at most that all units of another network are, until nothing improves: it takes a few."""


def match(first: Member, second: Member, symmetries: Sequence[Symmetry]) -> list[jax.Array]:
    """For each symmetry, the order of the second's units that best matches the first's: int32 `[units]`.

    Unit `i` of the first corresponds to unit `order[i]` of the second. The orders maximise the inner product of all
    weights that enter and leave the units: in a chain of layers, one layer at a time; elsewhere (a residual stream that
    many layers read and write, heads of attention), one symmetry at a time until nothing improves, and from two
    starts: as they are, and matched by what says who is who before the others have been matched.
    """
    if not _is_chain(first, symmetries):
        return _match_jointly(first, second, symmetries)
    orders = [jnp.arange(units_of(first, symmetry), dtype=jnp.int32) for symmetry in symmetries]
    for _ in range(1 if len(symmetries) == 1 else SWEEPS):
        for i, symmetry in enumerate(symmetries):
            # The others as matched so far, this one as it came.
            rest = [jnp.arange(order.size) if i == j else order for j, order in enumerate(orders)]
            orders[i] = _assigned(_similarity(first, renumbered(second, symmetries, rest), symmetry))
    return orders


def _is_chain(params: Member, symmetries: Sequence[Symmetry]) -> bool:
    """Whether units are those of one layer each, which feeds one other."""
    axes = [(place.path, place.axis % array_at(params, place).ndim) for symmetry in symmetries for place in symmetry]
    kernels = [sum(array_at(params, place).ndim > 1 for place in symmetry) for symmetry in symmetries]
    return all(number <= 2 for number in kernels) and len(set(axes)) == len(axes)


def _match_jointly(first: Member, second: Member, symmetries: Sequence[Symmetry]) -> list[jax.Array]:
    pair, sizes = _pair(first, second, symmetries), [units_of(first, symmetry) for symmetry in symmetries]
    # All orders in one array, and the symmetries in a loop: the assignment, which takes long to compile, is compiled
    # once for each number of units.
    widest, distinct = max(sizes), sorted(set(sizes))
    cut = lambda orders: [order[:n] for order, n in zip(orders, sizes, strict=True)]  # noqa: E731
    as_they_are = jnp.tile(jnp.arange(widest, dtype=jnp.int32)[None], (len(sizes), 1))

    def assigned(i: jax.Array, orders: jax.Array, by_size: bool) -> jax.Array:
        """The orders, with the best of symmetry `i`."""

        def products(number: int) -> Callable[[jax.Array], jax.Array]:
            missing = (0, widest - sizes[number])
            matched = number if by_size else None
            return lambda orders: jnp.pad(_products(pair, symmetries[number], cut(orders), matched), (missing, missing))

        def assign_some(n: int) -> Callable[[jax.Array], jax.Array]:
            return lambda similarity: as_they_are[0].at[:n].set(_assigned(similarity[:n, :n]))

        similarity = jax.lax.switch(i, [products(number) for number in range(len(sizes))], orders)
        size = jnp.array([distinct.index(n) for n in sizes])[i]
        return orders.at[i].set(jax.lax.switch(size, [assign_some(n) for n in distinct], similarity))

    def improved(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        orders, best, any_yet = carry
        tried = assigned(i, orders, by_size=False)
        worth = _worth(pair, cut(tried))
        better = worth > best
        return jnp.where(better, tried, orders), jnp.where(better, worth, best), any_yet | better

    def sweep(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        orders, best, _, sweeps = carry
        return *jax.lax.fori_loop(0, len(sizes), improved, (orders, best, jnp.array(False))), sweeps + 1

    def climbed(orders: jax.Array) -> tuple[jax.Array, jax.Array]:
        start = orders, _worth(pair, cut(orders)), jnp.array(True), jnp.int32(0)
        orders, best, _, _ = jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < JOINT_SWEEPS), sweep, start)
        return orders, best

    by_size = jax.lax.fori_loop(0, len(sizes), lambda i, orders: assigned(i, orders, by_size=True), as_they_are)
    orders, worth = jax.vmap(climbed)(jnp.stack([as_they_are, by_size]))
    return cut(orders[jnp.argmax(worth)])


class _Pair(NamedTuple):
    """Two networks' arrays that units run along, and where these run: which symmetry's, and at what place."""

    arrays: dict[tuple[str | int, ...], tuple[jax.Array, jax.Array]]
    along: dict[tuple[str | int, ...], list[tuple[int, Axis]]]


def _pair(first: Member, second: Member, symmetries: Sequence[Symmetry]) -> _Pair:
    along: dict[tuple[str | int, ...], list[tuple[int, Axis]]] = {}
    for i, symmetry in enumerate(symmetries):
        for place in symmetry:
            along.setdefault(place.path, []).append((i, place))
    one, other = arrays_of(first), arrays_of(second)
    return _Pair({path: (one[path], other[path]) for path in along}, along)


def _worth(pair: _Pair, orders: Sequence[jax.Array]) -> jax.Array:
    """The inner product of the two networks' weights, with the second's units in these orders."""
    total = jnp.float32(0)
    for path, (one, other) in pair.arrays.items():
        for i, place in pair.along[path]:
            other = in_order(other, place, orders[i])
        total += jnp.vdot(one, other)
    return total


def _products(pair: _Pair, symmetry: Symmetry, orders: Sequence[jax.Array], matched: int | None = None) -> jax.Array:
    """Inner products `[units of the first, units of the second]` of the weights at a symmetry's axes, the second's
    other units in these orders. Given how many symmetries have been matched, from along the others it takes only what
    is the same in any order: sizes."""
    total = jnp.float32(0)
    for place in symmetry:
        (one, other), units = pair.arrays[place.path], 0
        unmatched = []
        for i, another in pair.along[place.path]:
            if another is place:
                units = orders[i].size
            elif matched is not None and i >= matched:
                unmatched.append((another, orders[i].size))
            else:
                other = in_order(other, another, orders[i])
        if unmatched:
            one, other = _sizes(one, unmatched), _sizes(other, unmatched)
        total += jnp.einsum("abuc,abvc->uv", blocks(one, place, units), blocks(other, place, units))
    return total


def _sizes(array: jax.Array, along: Sequence[tuple[Axis, int]]) -> jax.Array:
    """The root of the mean square over the units along some axes, in the place of each of them."""
    array = jnp.square(array)
    for place, units in along:
        split = blocks(array, place, units)
        array = jnp.broadcast_to(split.mean(axis=2, keepdims=True), split.shape).reshape(array.shape)
    return jnp.sqrt(array)


def _similarity(first: Member, second: Member, symmetry: Symmetry) -> jax.Array:
    """Inner products `[units of the first, units of the second]` of the weights at this symmetry's axes."""
    units, total = units_of(first, symmetry), 0.0
    for place in symmetry:
        a, b = (blocks(array_at(member, place), place, units) for member in (first, second))
        total = total + jnp.einsum("abuc,abvc->uv", a, b)
    return total  # type: ignore[return-value]


def _assigned(similarity: jax.Array) -> jax.Array:
    """The columns that, one for each row, have the largest sum: int32 `[units]`."""
    # A diverged member has no best match; any will do, as it is about to be dropped, but the search must end.
    finite = jnp.where(jnp.isfinite(similarity).all(), jnp.clip(similarity, -1e30, 1e30), 0.0)
    return assign(-finite)
