"""More than one objective: who dominates whom, and the one number a member by which any selection becomes NSGA-II's.

Objectives are float32 `[P, K]`, all of them higher is better, as fitness is: what should be small enters as its
negative. A member one of whose objectives is NaN or -inf has failed. One member dominates another if it is nowhere
worse and somewhere better; those whom nobody dominates are the front.

Source: Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jevo import bits
from jevo import population as pop
from jevo.errors import require_count
from jevo.programs import compiled_when_plain
from jevo.types import Fitness, Member, Population


@compiled_when_plain()
def nsga2_fitness(objectives: jax.Array) -> Fitness:
    """One number a member, in whose descending order NSGA-II ranks: by front, and in a front the least crowded first.

    It is minus the number of members that are better, and -inf for one that failed, so any selection can be used. With
    half of a population surviving (`elites=0.5`), half of it children, and all of them ranked together, the algorithm
    is NSGA-II. Such a rank is among the others of its generation, and children change that of survivors, so these have
    to be scored again: `rescore=True`. The published (N + N) is a population of 2 N.

    Args:
        objectives: float32 `[P, K]`, higher is better; P at most 2^24, beyond which a float32 does not count.

    Returns:
        float32 `[P]`.

    Raises:
        ValueError: if objectives are not real numbers `[P, K]`.

    >>> from jevo.genetics import average, gaussian, generation, genetic, tournament
    >>> def objectives(member):  # Schaffer's problem: the best compromises are x from 0 to 2.
    ...     return jnp.stack([-(member["x"] ** 2), -((member["x"] - 2) ** 2)])
    >>> def evaluate(key, members, places):
    ...     return nsga2_fitness(jax.vmap(objectives)(members))
    >>> algorithm = genetic(tournament(2), average(), gaussian(0.1), elites=0.5, rescore=True)
    >>> members = {"x": jnp.linspace(-10.0, 10.0, 20)}
    >>> state = algorithm.init(members, evaluate(None, members, None))
    >>> step = jax.jit(lambda state: generation(algorithm, evaluate, jax.random.key(0), state))
    >>> for _ in range(20):
    ...     state = step(state)
    >>> front = state.population["x"][state.fitness > -10]
    >>> bool(front.min() > -0.1), bool(front.max() < 2.1), bool(front.max() - front.min() > 1.5)
    (True, True, True)
    """
    values = as_objectives(objectives)
    ranks = fronts(values)
    distances = crowding(values, ranks)
    order = jnp.lexsort((-distances, ranks))
    places = jnp.arange(ranks.size, dtype=jnp.int32)
    differs = _differs(ranks[order]) | _differs(distances[order])
    better = jax.lax.cummax(jnp.where(differs, places, 0))
    fitness = jnp.zeros(ranks.size, jnp.float32).at[order].set(-better.astype(jnp.float32))
    return jnp.where(_alive(values), fitness, -jnp.inf)


@compiled_when_plain()
def fronts(objectives: jax.Array) -> jax.Array:
    """The front that each member is on: 0 if nobody dominates it, 1 if only members of front 0 do, and so on.

    Members that failed are on a front of their own, after all others. Who dominates whom is kept in P^2 bits (2 MB for
    4,096 members; P^2 booleans while they are found), and a front takes one pass over them.

    Args:
        objectives: float32 `[P, K]`, higher is better.

    Returns:
        int32 `[P]`.

    Raises:
        ValueError: if objectives are not real numbers `[P, K]`.

    >>> fronts(jnp.array([[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [0.0, 0.0], [jnp.nan, 9.0]]))
    Array([0, 0, 1, 2, 3], dtype=int32)
    """
    values = as_objectives(objectives)

    def dominating(one: jax.Array) -> jax.Array:
        return bits.pack(jnp.all(values >= one[None, :], axis=1) & jnp.any(values > one[None, :], axis=1)).words

    dominators = jax.vmap(dominating)(values)

    def peel(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        ranks, left, front = carry
        dominated = jnp.any(dominators & bits.pack(left).words[None, :] != 0, axis=1)
        return jnp.where(left & ~dominated, front, ranks), left & dominated, front + 1

    size = values.shape[0]
    first = jnp.zeros(size, jnp.int32), jnp.ones(size, bool), jnp.int32(0)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), peel, first)[0]


@compiled_when_plain()
def crowding(objectives: jax.Array, fronts: jax.Array) -> jax.Array:
    """The crowding distance of each member on its front: how far its two neighbours there are from each other.

    In every objective that is as a share of what the front spans, and these are added up. The ends of a front have inf.
    Of members with equal objectives the first one counts, and the others have 0, as has one that failed; an objective
    that does not vary on a front adds nothing there.

    Args:
        objectives: float32 `[P, K]`, higher is better.
        fronts: int32 `[P]`, as `fronts` finds them.

    Returns:
        float32 `[P]`, 0 to K, or inf.

    Raises:
        ValueError: if objectives are not real numbers `[P, K]`.

    >>> points = jnp.array([[0.0, 4.0], [1.0, 3.0], [1.0, 3.0], [4.0, 0.0]])
    >>> crowding(points, fronts(points))
    Array([inf,  2.,  0., inf], dtype=float32)
    """
    values = as_objectives(objectives)
    size = values.shape[0]
    counts = _alive(values) & _first_of_equals(values)
    group = jnp.where(counts, fronts, size)  # The last one is of those who do not count.
    on_front = jax.ops.segment_sum(counts.astype(jnp.int32), group, size + 1)[group]

    def along(values: jax.Array) -> jax.Array:
        order = jnp.lexsort((values, group))
        ordered, groups = values[order], group[order]
        first = _differs(groups)
        end = first | jnp.roll(first, -1)
        span = (jax.ops.segment_max(values, group, size + 1) - jax.ops.segment_min(values, group, size + 1))[groups]
        gaps = jnp.nan_to_num((jnp.roll(ordered, -1) - jnp.roll(ordered, 1)) / span)
        return jnp.zeros(size).at[order].set(jnp.where(span > 0, jnp.where(end, jnp.inf, gaps), 0.0))

    distances = jax.vmap(along, in_axes=1, out_axes=1)(values).sum(axis=1)
    return jnp.where(counts, jnp.where(on_front == 1, jnp.inf, distances), 0.0)


@compiled_when_plain()
def hypervolume(objectives: jax.Array, reference: jax.Array) -> jax.Array:
    """The area that members dominate, of two objectives, above a point of reference: of two fronts, the better one's is
    larger.

    Args:
        objectives: float32 `[P, 2]`, higher is better. Who is not above the reference in both adds nothing.
        reference: float32 `[2]`.

    Returns:
        float32 `[]`.

    Raises:
        ValueError: if there are not two objectives.

    Source: Zitzler and Thiele, "Multiobjective optimization using evolutionary algorithms", 1998.

    >>> float(hypervolume(jnp.array([[1.0, 3.0], [2.0, 1.0]]), jnp.zeros(2)))
    4.0
    """
    values = as_objectives(objectives)
    if values.shape[1] != 2:
        raise ValueError(f"the hypervolume is that of two objectives, not {values.shape[1]}")
    above = jnp.maximum(values - reference[None, :], 0.0)
    wide, high = above[jnp.argsort(above[:, 0], descending=True)].T
    reached = jax.lax.cummax(high)
    return jnp.sum(wide * jnp.diff(reached, prepend=0.0))


class Archive(NamedTuple):
    """Members none of which dominates another, the best that were seen: a front, in so many places.

    Attributes:
        members: leaves `[N, ...]`.
        objectives: float32 `[N, K]`, higher is better; -inf at a place that is empty.
        found: int32 `[N]`, when each was found, in the search's own unit of time.
    """

    members: Population
    objectives: jax.Array
    found: jax.Array


def empty_archive(member: Member, size: int, objectives: int) -> Archive:
    """An archive with nobody in it.

    Args:
        member: of the structure, shapes and types of those to come.
        size: N, the most members that it holds.
        objectives: K, how many there are.
    """
    require_count(size, "the size of an archive")
    require_count(objectives, "the number of objectives")
    members = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *jnp.shape(leaf))), member)
    return Archive(members, jnp.full((size, objectives), -jnp.inf), jnp.zeros(size, jnp.int32))


@compiled_when_plain()
def update_archive(archive: Archive, members: Population, objectives: jax.Array, found: jax.Array) -> Archive:
    """The archive after these members were seen.

    Of equals the first one stays. Where there is no room for all, the most crowded one goes, time and again.

    Args:
        archive: as it was.
        members: leaves `[n, ...]`.
        objectives: of each, float32 `[n, K]`; one that failed does not enter.
        found: int32 `[]`, what time it is.

    Raises:
        ValueError: if objectives are not real numbers `[n, K]`.
    """
    size, new = archive.found.size, as_objectives(objectives)
    everybody = pop.concat(archive.members, members)
    values = jnp.concatenate([archive.objectives, new])
    times = jnp.concatenate([archive.found, jnp.broadcast_to(found, new.shape[:1])])
    stays = (fronts(values) == 0) & _first_of_equals(values) & _alive(values)

    def without_most_crowded(stays: jax.Array) -> jax.Array:
        distances = crowding(jnp.where(stays[:, None], values, -jnp.inf), jnp.zeros(stays.size, jnp.int32))
        return stays.at[jnp.lexsort((distances, ~stays))[0]].set(False)

    stays = jax.lax.while_loop(lambda stays: jnp.sum(stays) > size, without_most_crowded, stays)
    places = jnp.argsort(~stays, stable=True)[:size]
    kept = jnp.where(stays[places, None], values[places], -jnp.inf)
    return Archive(pop.take(everybody, places), kept, times[places])


def as_objectives(values: Any) -> jax.Array:
    """Objectives as float32 `[P, K]`, all -inf for a member that failed.

    Raises:
        ValueError: if they have another shape, or are no real numbers.
    """
    objectives = jnp.asarray(values)
    if objectives.ndim != 2 or not objectives.size:
        raise ValueError(f"objectives have shape {list(objectives.shape)}, but take one row for each member: [P, K]")
    if not (jnp.issubdtype(objectives.dtype, jnp.floating) or jnp.issubdtype(objectives.dtype, jnp.integer)):
        raise ValueError(f"objectives are {objectives.dtype}, but take real numbers")
    objectives = objectives.astype(jnp.float32)
    return jnp.where(_alive(objectives)[:, None], objectives, -jnp.inf)


def _alive(objectives: jax.Array) -> jax.Array:
    """Who has not failed, bool `[P]`."""
    return jnp.all(objectives > -jnp.inf, axis=1)  # NaN is not greater either.


def _first_of_equals(values: jax.Array) -> jax.Array:
    """Who is the first one with its objectives, bool `[P]`."""
    order = jnp.lexsort(tuple(values.T))
    return jnp.zeros(order.size, bool).at[order].set(jnp.any(jax.vmap(_differs, 1, 1)(values[order]), axis=1))


def _differs(ordered: jax.Array) -> jax.Array:
    """Where a number is another than the one before, bool `[n]`; the first one is."""
    return jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
