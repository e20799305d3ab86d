"""Who breeds: `(key, fitness [P], n) -> Breeders`, indices and never members.

Every operator draws *ranks* (0 is the best) and looks up who holds them, so a selection follows a permutation
of the population, and members that failed are never drawn while others are there.
"""

from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp

from jevo.errors import require_count
from jevo.types import Breeders, Fitness, Key, Select


def as_fitness(values: Any, members: int | None = None, of: str = "the population") -> Fitness:
    """Scores as float32 `[P]`, -inf where they are NaN.

    Args:
        values: one real number for each member.
        members: P, if it is known.
        of: words for the members.

    Raises:
        ValueError: if they have another shape, or are no real numbers.
    """
    fitness = jnp.asarray(values)
    if fitness.ndim != 1 or (members is not None and fitness.size != members):
        takes = "[P]" if members is None else f"[{members}]"
        raise ValueError(
            f"fitness has shape {list(fitness.shape)}, but takes one number for each member of {of}: {takes}"
        )
    if not (jnp.issubdtype(fitness.dtype, jnp.floating) or jnp.issubdtype(fitness.dtype, jnp.integer)):
        raise ValueError(f"fitness is {fitness.dtype}, but takes real numbers")
    return jnp.where(jnp.isnan(fitness), -jnp.inf, fitness).astype(jnp.float32)


def descending(fitness: Fitness) -> jax.Array:
    """Indices `[P]` from the best to the worst; ties keep their order and failed members come last.

    Raises:
        ValueError: if fitness is not one number for each member.
    """
    if fitness.ndim != 1:
        raise ValueError(f"fitness has shape {list(fitness.shape)}, but takes one number for each member: [P]")
    return jnp.argsort(fitness, descending=True, stable=True)


def alive(fitness: Fitness) -> jax.Array:
    """How many members have not failed, at least 1 (so that it bounds a rank): int32 `[]`."""
    return jnp.maximum(jnp.sum(fitness > -jnp.inf), 1)


def number_of(members: int | float, population: int) -> int:
    """Members, where a setting takes a number of them (int) or a share of the population (float in (0, 1]).

    A share is rounded, and is at least one member.

    Raises:
        ValueError: if it is neither.

    >>> number_of(3, 20), number_of(0.25, 20), number_of(0.01, 20)
    (3, 5, 1)
    """
    if isinstance(members, bool):
        raise ValueError(f"a number or a share of members is no {members}")
    if isinstance(members, Integral):
        members = int(members)
        if members < 0:
            raise ValueError(f"a number of members is 0 or more, not {members}")
        return members
    if not 0 < members <= 1:
        raise ValueError(f"a share of the population is in (0, 1], not {members}")
    return max(1, round(members * population))


def truncation(breeders: int | float, lucky: int = 0) -> Select:
    """Uniform among the best, and perhaps a few others.

    Args:
        breeders: how many of the best: a count (int), or a share of the population (float in (0, 1]).
        lucky: others that breed beside them, drawn at random each time.

    Source: Muehlenbein and Schlierkamp-Voosen, "Predictive models for the breeder genetic algorithm", 1993.
    """
    if number_of(breeders, 1) < 1:
        raise ValueError(f"truncation takes at least one breeder, not {breeders}")
    require_count(lucky, "lucky", 0)

    def select(key: Key, fitness: Fitness, n: int) -> Breeders:
        count = number_of(breeders, fitness.size)
        if not lucky:
            ranks = jax.random.randint(key, (n,), 0, jnp.minimum(count, alive(fitness)))
            return _breeders(descending(fitness)[:count], ranks)
        draw_key, lucky_key = jax.random.split(key)
        losers = jax.random.permutation(lucky_key, jnp.arange(min(count, fitness.size), fitness.size))[:lucky]
        breeding = jnp.concatenate([jnp.arange(min(count, fitness.size)), losers])
        # A failed member's place goes to the best one.
        pool = descending(fitness)[jnp.where(breeding < alive(fitness), breeding, 0)]
        return _breeders(pool, jax.random.randint(draw_key, (n,), 0, len(breeding)))

    return select


def leaders(breeders: int) -> Select:
    """The best `breeders` in turn, without a draw: ranks 0, 1, .., breeders - 1, 0, 1, and so on.

    With as many parents to a child, all of them are every child's parents.
    """
    require_count(breeders, "the number of leaders")

    def select(key: Key, fitness: Fitness, n: int) -> Breeders:
        return _breeders(descending(fitness)[:breeders], jnp.arange(n) % jnp.minimum(breeders, alive(fitness)))

    return select


def shuffled(breeders: int) -> Select:
    """The best `breeders` in random order, then again in another: all breed equally often.

    Neighbours differ, so a child of two has two parents if `breeders` is even, and nearly always if it is odd.
    """
    require_count(breeders, "the number of members that breed")

    def select(key: Key, fitness: Fitness, n: int) -> Breeders:
        orders = jax.vmap(lambda key: jax.random.permutation(key, breeders))(jax.random.split(key, -(-n // breeders)))
        drawn = orders.reshape(-1)[:n] % jnp.minimum(breeders, alive(fitness))
        return _breeders(descending(fitness)[:breeders], drawn)

    return select


def tournament(k: int) -> Select:
    """The best of `k` members drawn with replacement.

    Source: Goldberg and Deb, "A comparative analysis of selection schemes", 1991.
    """
    require_count(k, "the number of entrants of a tournament")

    def select(key: Key, fitness: Fitness, n: int) -> Breeders:
        ranks = jax.random.randint(key, (n, k), 0, alive(fitness))
        return _breeders(descending(fitness), ranks.min(axis=1))

    return select


def roulette() -> Select:
    """With probability proportional to the fitness above the worst living member's.

    The worst is the origin because a fitness may have any sign; with equal fitness all are equally likely.

    Source: Holland, "Adaptation in natural and artificial systems", 1975.
    """

    def select(key: Key, fitness: Fitness, n: int) -> Breeders:
        order = descending(fitness)
        ranked = fitness[order]
        living = jnp.arange(fitness.size) < alive(fitness)
        share = jnp.where(living, ranked - ranked[alive(fitness) - 1], 0.0)
        # "not > 0" also covers a population with nobody alive, whose differences are NaN.
        share = jnp.where(share.sum() > 0, share, living.astype(jnp.float32))
        return _breeders(order, jax.random.choice(key, fitness.size, (n,), p=share / share.sum()))

    return select


def rank(pressure: float = 2.0) -> Select:
    """With a probability that falls linearly with the rank.

    Args:
        pressure: offspring that the best member expects, from 1 (no selection) to 2 (the worst gets none).

    Source: Baker, "Adaptive selection methods for genetic algorithms", 1985.
    """
    if not 1 <= pressure <= 2:
        raise ValueError(f"the pressure of rank selection is between 1 and 2, not {pressure}")

    def select(key: Key, fitness: Fitness, n: int) -> Breeders:
        count = alive(fitness)
        ranks = jnp.arange(fitness.size)
        share = pressure - (2 * pressure - 2) * ranks / jnp.maximum(count - 1, 1)
        share = jnp.where(ranks < count, jnp.maximum(share, 0.0), 0.0)
        return _breeders(descending(fitness), jax.random.choice(key, fitness.size, (n,), p=share / share.sum()))

    return select


def _breeders(pool: jax.Array, drawn: jax.Array) -> Breeders:
    return Breeders(pool.astype(jnp.int32), drawn.astype(jnp.int32))
