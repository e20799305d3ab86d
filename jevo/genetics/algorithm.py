"""The genetic algorithm: three pure functions over a State, in the manner of optax and blackjax.

    state = algorithm.init(population, fitness)
    candidates = algorithm.ask(key, state)          # breeds what is to be scored, and only that
    fitness = ...                                   # score candidates.members
    state = algorithm.tell(state, candidates, fitness)

State always holds a scored population.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jevo import population as pop
from jevo.genetics.selection import alive, descending
from jevo.types import Cross, Fitness, Key, Member, Mutate, Population, Select


TIE = 2.0**-18
"""The share of a score that is rounding: 32 units in the last place of a float32."""


class State(NamedTuple):
    """A scored population.

    Attributes:
        population: leaves `[P, ...]`.
        fitness: float32 `[P]`; -inf for a member that failed.
        generation: int32 `[]`, completed generations; 0 for the first population.
    """

    population: Population
    fitness: Fitness
    generation: jax.Array


class Search(NamedTuple):
    """A State, and the champion so far.

    Attributes:
        state: of the algorithm.
        champion: the member with the best validation so far.
        validation: float32 `[]`, its worth on validation data, higher is better; -inf before the first look.
        found: int32 `[]`, when it was found, in the search's own unit of time.
    """

    state: State
    champion: Member
    validation: jax.Array
    found: jax.Array


class Candidates(NamedTuple):
    """What a generation scores, and where it comes from.

    Whatever else belongs to a member (trained weights, optimizer state, lineage) moves by a gather with the
    same indices.

    Attributes:
        members: population of `n` candidates.
        parents: int32 `[n, parents]`, indices into the State that bred them; -1 for a member made from nothing. A
            survivor that is scored again is its own parent.
        kept: int32 `[P - n]`, indices into the State of the members that survive with the fitness they have.
    """

    members: Population
    parents: jax.Array
    kept: jax.Array


class GeneticAlgorithm(NamedTuple):
    """Pure functions: `init(population, fitness)`, `ask(key, state)`, `tell(state, candidates, fitness)`."""

    init: Callable[[Population, Fitness], State]
    ask: Callable[[Key, State], Candidates]
    tell: Callable[[State, Candidates, Fitness], State]


Evaluate = Callable[[Key, Population], tuple[Population, Fitness]]
"""`(key, population) -> (population, fitness)`. Scoring may also change members (it may train them)."""


def genetic(
    select: Select,
    cross: Cross,
    mutate: Mutate,
    *,
    survivors: int,
    lucky: int = 0,
    rescore: bool = False,
    parents: int = 2,
    batch_size: int = 64,
) -> GeneticAlgorithm:
    """A generational algorithm with elites.

    Each generation keeps `survivors` members, the best ones and `lucky` others drawn at random, and fills the
    other places with children of selected parents.

    Args:
        select: which members breed. All parents of a child are drawn by it, independently.
        cross: makes a child of its parents.
        mutate: changes the child.
        survivors: members that stay, the lucky ones included, 0 <= survivors < P.
        lucky: how many of the survivors are drawn from the losers.
        rescore: score survivors again each generation, for a fitness that is noisy (a new batch of data each
            generation) or a scoring that changes members. All P are then candidates, survivors first.
        parents: of each child; `uniform` takes 2, 4, 8, ..., the other crossovers 2.
        batch_size: children bred at a time. It bounds the memory of temporaries and never changes a result.

    Operators may close over traced values, so `genetic` can be called inside `jit` with a rate that follows
    the generation.

    >>> from jevo.genetics import flip, truncation, uniform
    >>> algorithm = genetic(truncation(17), uniform(per="layer"), flip(0.01), survivors=2)
    """

    def breed(key: Key, state: State, n: int, beside: Population) -> tuple[Population, jax.Array]:
        select_key, child_key = jax.random.split(key)
        chosen = select(select_key, state.fitness, n * parents).reshape(n, parents).astype(jnp.int32)

        def child(key_and_parents: tuple[Key, jax.Array]) -> Member:
            key, indices = key_and_parents
            cross_key, mutate_key = jax.random.split(key)
            # Parents are gathered here, a chunk at a time, never as a whole population.
            members = (pop.take(state.population, indices[i]) for i in range(parents))
            return mutate(mutate_key, cross(cross_key, *members))

        keys = jax.random.split(child_key, n)
        return pop.extended(beside, child, (keys, chosen), batch_size), chosen

    return _generational(breed, survivors, lucky, rescore)


def random_search(
    init: Callable[[Key], Member], *, survivors: int = 1, rescore: bool = False, batch_size: int = 64
) -> GeneticAlgorithm:
    """The control: fresh members each generation, beside the best `survivors` so far.

    It scores exactly as many members as `genetic` with the same `survivors` and `rescore`.
    """

    def breed(key: Key, state: State, n: int, beside: Population) -> tuple[Population, jax.Array]:
        return pop.extended(beside, init, jax.random.split(key, n), batch_size), jnp.full((n, 2), -1, jnp.int32)

    return _generational(breed, survivors, 0, rescore)


def generation(algorithm: GeneticAlgorithm, evaluate: Evaluate, key: Key, state: State) -> State:
    """One generation: ask, score, tell.

    Args:
        algorithm: from `genetic` or `random_search`.
        evaluate: scores the candidates.
        key: the run's root key, the same every generation; this one's is `fold_in(key, state.generation)`, so a
            run resumes from its seed and its State alone.
        state: as the last generation left it.
    """
    ask_key, evaluate_key = jax.random.split(jax.random.fold_in(key, state.generation))
    candidates = algorithm.ask(ask_key, state)
    members, fitness = evaluate(evaluate_key, candidates.members)
    return algorithm.tell(state, candidates._replace(members=members), fitness)


def rounding(fitness: Fitness) -> jax.Array:
    """What two programs that compute the same score may differ by: scores this near to each other are a tie.

    Where scores of two programs are compared (a child's with its parents', a champion's with a rival's), it says which
    differences count. Scores of one program, as a selection ranks them, are compared as they are; there, members that
    are equal bit for bit keep their order.
    """
    return jnp.where(jnp.isfinite(fitness), TIE * jnp.abs(fitness), 0.0)


def crown(search: Search, members: Population, validation: jax.Array, found: jax.Array) -> Search:
    """The search with a new champion, if one of these members is better than the old one by more than rounding.

    So of equals the first one found is the champion, whichever program scored them.

    Args:
        search: as it was.
        members: who stand for champion, `[n, ...]`.
        validation: of each, float32 `[n]`; one that is NaN does not win.
        found: int32 `[]`, what time it is.
    """
    best = jnp.argmax(jnp.where(jnp.isnan(validation), -jnp.inf, validation))
    better = validation[best] > search.validation + rounding(search.validation)
    new = (pop.take(members, best), validation[best], found)
    old = (search.champion, search.validation, search.found)
    return Search(search.state, *jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old))


def barrier(state: State, candidates: Candidates, fitness: Fitness) -> jax.Array:
    """How much worse each candidate is than its parents on the average, before it has learnt anything: `[n]`.

    Args:
        state: that bred the candidates.
        candidates: whose parents are members of the state.
        fitness: of the candidates as bred, `[n]`.
    """
    return jnp.mean(state.fitness[candidates.parents], axis=1) - fitness


def guarded(state: State, candidates: Candidates, fitness: Fitness) -> Candidates:
    """The candidates, where each with a barrier above rounding gives its place to a copy of its best parent.

    So a mating that does not work (of strangers, whose mean is no solution) costs nothing, and selects. A child that is
    as good as its parents keeps its place: a copy with other settings explores, whatever the last bits of its score.
    """
    parents = candidates.parents
    best = jnp.take_along_axis(parents, jnp.argmax(state.fitness[parents], axis=1)[:, None], axis=1)[:, 0]
    stays = barrier(state, candidates, fitness) <= rounding(fitness)
    members = jax.tree.map(
        lambda child, parent: jnp.where(stays.reshape(-1, *[1] * (child.ndim - 1)), child, parent),
        candidates.members,
        pop.take(state.population, best),
    )
    return candidates._replace(members=members)


def _generational(
    breed: Callable[[Key, State, int, Population], tuple[Population, jax.Array]],
    survivors: int,
    lucky: int,
    rescore: bool,
) -> GeneticAlgorithm:
    if not 0 <= lucky <= survivors:
        raise ValueError(f"lucky members are among the survivors: 0 <= lucky <= {survivors}, not {lucky}")

    def init(population: Population, fitness: Fitness) -> State:
        return State(population, _failed_last(fitness), jnp.zeros((), jnp.int32))

    def ask(key: Key, state: State) -> Candidates:
        size = state.fitness.size
        if survivors >= size:
            raise ValueError(f"{survivors} survivors leave no place for a child in a population of {size}")
        lucky_key, breed_key = jax.random.split(key)
        kept = _survivors(lucky_key, state.fitness, survivors - lucky, lucky)
        again, kept = (kept, kept[:0]) if rescore else (kept[:0], kept)
        members, parents = breed(breed_key, state, size - survivors, pop.take(state.population, again))
        own = jnp.repeat(again[:, None], parents.shape[1], axis=1)
        return Candidates(members, jnp.concatenate([own, parents]), kept)

    def tell(state: State, candidates: Candidates, fitness: Fitness) -> State:
        fitness = _failed_last(fitness)
        population = candidates.members
        if candidates.kept.size:
            population = pop.concat(pop.take(state.population, candidates.kept), population)
            fitness = jnp.concatenate([state.fitness[candidates.kept], fitness])
        return State(population, fitness, state.generation + 1)

    return GeneticAlgorithm(init, ask, tell)


def _survivors(key: Key, fitness: Fitness, elites: int, lucky: int) -> jax.Array:
    """Indices of the best and of some random others; a failed member's place goes to the best one."""
    order = descending(fitness)
    ranked = fitness[order]
    ranks = jnp.arange(elites)
    if lucky:
        in_draw = (jnp.arange(fitness.size) >= elites) & (ranked > -jnp.inf)
        ticket = jnp.where(in_draw, jax.random.uniform(key, ranked.shape), -1.0)
        ranks = jnp.concatenate([ranks, jax.lax.top_k(ticket, lucky)[1]])
    return order[jnp.where(ranks < alive(fitness), ranks, 0)].astype(jnp.int32)


def _failed_last(fitness: Fitness) -> Fitness:
    return jnp.where(jnp.isnan(fitness), -jnp.inf, fitness).astype(jnp.float32)
