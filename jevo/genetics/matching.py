"""Matching: which unit of one network corresponds to which of another.

Source: Ainsworth, Hayase and Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries", 2023 (weight
matching).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

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
            orders[i] = _assign(_similarity(first, renumbered(second, symmetries, rest), symmetry))
    return orders


def _is_chain(params: Member, symmetries: Sequence[Symmetry]) -> bool:
    """Whether units are those of one layer each, which feeds one other."""
    axes = [(place.path, place.axis % array_at(params, place).ndim) for symmetry in symmetries for place in symmetry]
    kernels = [sum(array_at(params, place).ndim > 1 for place in symmetry) for symmetry in symmetries]
    return all(number <= 2 for number in kernels) and len(set(axes)) == len(axes)


def _match_jointly(first: Member, second: Member, symmetries: Sequence[Symmetry]) -> list[jax.Array]:
    pair = _pair(first, second, symmetries)

    def sweep(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        orders, best, improved, sweeps = list(carry[0]), carry[1], jnp.array(False), carry[3]
        for i, symmetry in enumerate(symmetries):
            order = _assign(_products(pair, symmetry, orders))
            worth = _worth(pair, [*orders[:i], order, *orders[i + 1 :]])
            better = worth > best
            orders[i], best = jnp.where(better, order, orders[i]), jnp.where(better, worth, best)
            improved |= better
        return orders, best, improved, sweeps + 1

    def climbed(orders: list[jax.Array]) -> tuple[list[jax.Array], jax.Array]:
        start = orders, _worth(pair, orders), jnp.array(True), jnp.int32(0)
        orders, best, _, _ = jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < JOINT_SWEEPS), sweep, start)
        return orders, best

    as_they_are = [jnp.arange(units_of(first, symmetry), dtype=jnp.int32) for symmetry in symmetries]
    by_size = list(as_they_are)
    for i, symmetry in enumerate(symmetries):
        by_size[i] = _assign(_products(pair, symmetry, by_size, matched=i))
    orders, worth = jax.vmap(climbed)([jnp.stack(starts) for starts in zip(as_they_are, by_size, strict=True)])
    return [order[jnp.argmax(worth)] for order in orders]


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


def _assign(similarity: jax.Array) -> jax.Array:
    """The columns that, one for each row, have the largest sum: int32 `[units]`.

    Compiled, although SciPy on the host is twice as fast for strangers (and no faster for relatives, which most couples
    are): a program that calls the host is not kept on disk, and cannot be spread over devices.
    """
    # A diverged member has no best match; any will do, as it is about to be dropped, but the search must end.
    finite = jnp.where(jnp.isfinite(similarity).all(), jnp.clip(similarity, -1e30, 1e30), 0.0)
    rows, columns = optax.assignment.hungarian_algorithm(-finite)
    return jnp.zeros(len(finite), jnp.int32).at[rows].set(columns.astype(jnp.int32))
