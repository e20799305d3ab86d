"""The assignment problem: each row gets a column of its own, at the least cost in all.

Prices of columns are bid up until nearly every row has the column that is cheapest to it; each row that is left then
takes the shortest path of swaps to a column that nobody has. Both look at all rows at once, where the Hungarian
algorithm takes them one after another: that is ten times as many steps, each of which waits for the last.

Sources: Bertsekas, "The auction algorithm", 1988 (bids); Jonker and Volgenant, "A shortest augmenting path algorithm
for dense and sparse linear assignment problems", 1987 (bids first, then paths); Bellman, "On a routing problem", 1958
(paths from all rows at once).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

ROUNDS = 10
"""Of bids at most. More leave fewer rows for paths, each of which costs what some six rounds do."""
LEVELS = 27
"""Bits of a whole number that a cost is rounded to: finer than float32. A column that nobody has keeps its first price,
so no other falls below that by more than the range of costs, and no path is longer than four times it: nothing
overflows."""
FAR = 2**30
"""Larger than any cost, and the length of any path."""


class Held(NamedTuple):
    """Who has what, of `n` rows and as many columns.

    Attributes:
        prices: of columns, int32 `[n]`. Every row has a column that is cheapest to it, its price deducted, or none.
        rows: that have the columns, int32 `[n]`; n for a column that nobody has.
        columns: that the rows have, int32 `[n]`; n for a row that has none.
    """

    prices: jax.Array
    rows: jax.Array
    columns: jax.Array


@jax.custom_batching.custom_vmap
def assign(cost: jax.Array) -> jax.Array:
    """The columns that, one for each row, have the least sum of costs: int32 `[n]`.

    Costs are compared to a 2^27th of their range, which is finer than float32 has them, and from there exactly: the
    same on any device, and whatever else is solved beside it.

    Args:
        cost: finite, `[n, n]`.

    Example:
        >>> assign(jnp.array([[1.0, 2.0], [1.0, 9.0]]))
        Array([1, 0], dtype=int32)
    """
    return _solved(cost)


@assign.def_vmap
def _(size: int, batched: list[bool], costs: jax.Array) -> tuple[jax.Array, bool]:
    # Side by side all would wait for the slowest, which only many cores make up for.
    if jax.default_backend() == "cpu":
        return jax.lax.map(assign, costs), True
    return jax.vmap(_solved)(costs), True


def _solved(cost: jax.Array) -> jax.Array:
    n = len(cost)
    if n == 1:
        return jnp.zeros(1, jnp.int32)
    costs = _whole(cost)
    transposed = costs.T  # Least elements of rows are found along its first axis, which is quicker.
    nobody = jnp.full(n, n, jnp.int32)
    held = _bid(transposed, Held(costs.min(axis=0), nobody, nobody))
    return jax.lax.while_loop(_are_some_left, lambda held: _swapped(costs, transposed, held), held).columns


def _whole(cost: jax.Array) -> jax.Array:
    """Whole numbers from 0 up to 2^27, in proportion to what costs have above the least."""
    above = cost - cost.min()
    _, exponent = jnp.frexp(jnp.maximum(above.max(), 1e-30))
    return jnp.round(jnp.ldexp(above, LEVELS - exponent)).astype(jnp.int32)


def _are_some_left(held: Held) -> jax.Array:
    return (held.columns == len(held.columns)).any()


def _first(where: jax.Array) -> jax.Array:
    """The first index along the first axis at which it is true, `n` if there is none; `argmax` is many times slower."""
    return jnp.where(where, jax.lax.broadcasted_iota(jnp.int32, where.shape, 0), len(where)).min(axis=0)


def _bid(transposed: jax.Array, held: Held) -> Held:
    """Each row that has no column bids for its cheapest by what it is worth more to it than the next; the highest bid
    has it, and who had it before has none."""
    n = len(transposed)
    numbers = jnp.arange(n, dtype=jnp.int32)

    def turn(carry: tuple[Held, jax.Array]) -> tuple[Held, jax.Array]:
        (prices, rows, columns), rounds = carry
        reduced = transposed - prices[:, None]
        least = reduced.min(axis=0)
        cheapest = _first(reduced == least[None])
        next_least = jnp.where(numbers[:, None] == cheapest[None], FAR, reduced).min(axis=0)
        bids = jnp.where(columns == n, next_least - least, -1)
        offered = jnp.where(cheapest[:, None] == numbers[None], bids[:, None], -1)
        highest = offered.max(axis=0)
        rows = jnp.where(highest < 0, rows, _first(offered == highest[None]))
        prices = jnp.where(highest < 0, prices, prices - highest)
        return Held(prices, rows, _inverse(rows)), rounds + 1

    more = lambda carry: _are_some_left(carry[0]) & (carry[1] < ROUNDS)  # noqa: E731
    return jax.lax.while_loop(more, turn, (held, jnp.int32(0)))[0]


def _inverse(rows: jax.Array) -> jax.Array:
    n = len(rows)
    return jnp.full(n + 1, n, jnp.int32).at[rows].set(jnp.arange(n, dtype=jnp.int32))[:n]


def _swapped(costs: jax.Array, transposed: jax.Array, held: Held) -> Held:
    """One more row has a column, by the shortest path: it takes one from a row, which takes one from another, and so on
    to a column that nobody had."""
    (prices, rows, columns), n = held, len(costs)
    numbers = jnp.arange(n, dtype=jnp.int32)
    starts, ends = columns == n, rows == n
    # Of a batch, some may be done already: they take no steps.
    is_due, own = starts.any(), jnp.minimum(columns, n - 1)
    least = jnp.where(starts, (transposed - prices[:, None]).min(axis=0), costs[numbers, own] - prices[own])

    def leaving(lengths: jax.Array) -> jax.Array:
        """Length of the path to a row, less the least that it pays: at its own column, or where it begins."""
        return jnp.where(starts, 0, lengths[own]) - least

    def lengthen(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        lengths, when, _, step = carry
        found = (leaving(lengths)[:, None] + costs).min(axis=0) - prices
        shorter = found < lengths
        # What is not shorter than a path to an end can not be part of a shorter one.
        goes_on = (shorter & (found < jnp.where(ends, found, FAR).min())).any()
        return jnp.minimum(lengths, found), jnp.where(shorter, step, when), goes_on, step + 1

    far = jnp.full(n, FAR, jnp.int32)
    # `when`: the step that found a path. The one before it on the path was found earlier, which tells it from a circle.
    lengths, when, *_ = jax.lax.while_loop(lambda carry: carry[2], lengthen, (far, far, is_due, jnp.int32(0)))
    at_ends = jnp.where(ends, lengths, FAR)
    shortest = at_ends.min()
    away, earlier = leaving(jnp.minimum(lengths, shortest + 1)), jnp.where(starts, -1, when[own])

    def back(carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        column, rows, columns, _ = carry
        came = (away + transposed[column] - prices[column] == lengths[column]) & (earlier < when[column])
        row = jnp.minimum(_first(came), n - 1)
        had = columns[row]
        return had, jnp.where(numbers == column, row, rows), jnp.where(numbers == row, column, columns), had < n

    end = jnp.minimum(_first(at_ends == shortest), n - 1)
    _, rows, columns, _ = jax.lax.while_loop(lambda carry: carry[3], back, (end, rows, columns, is_due))
    return Held(prices + jnp.minimum(lengths - shortest, 0), rows, columns)
