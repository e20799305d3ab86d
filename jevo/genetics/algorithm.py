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
from jevo.errors import require_count
from jevo.genetics.selection import alive, as_fitness, descending, number_of
from jevo.programs import compiled_when_plain
from jevo.types import Cross, Fitness, Key, Member, Mutate, Population, Select


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


def scored(score: Callable[[Population], Fitness]) -> Evaluate:
    """A scoring that changes no member and draws nothing, as `generation` takes it."""
    return lambda _, members: (members, score(members))


def genetic(
    selection: Select,
    crossover: Cross,
    mutation: Mutate | None = None,
    *,
    elites: int | float,
    lucky: int = 0,
    parents: int = 2,
    rescore: bool = False,
    chunk: int = 64,
) -> GeneticAlgorithm:
    """A generational algorithm with elites.

    Each generation keeps its best members and perhaps others drawn at random, and fills the other places with children
    of selected parents.

    Args:
        selection: which members breed. All parents of a child are drawn by it, independently.
        crossover: makes a child of its parents.
        mutation: changes the child; None leaves it as it is.
        elites: the best members, which survive: a number of them (int), or a share of the population (float in (0, 1]).
        lucky: others drawn at random, which survive beside them; elites + lucky < P.
        parents: of each child; `uniform` takes 2, 4, 8, ..., the other crossovers 2.
        rescore: score survivors again each generation, for a fitness that is noisy (a new batch of data each
            generation) or a scoring that changes members. All P are then candidates, survivors first.
        chunk: children bred at once. It bounds the memory of temporaries and never changes a result.

    Operators may close over traced values, so `genetic` can be called inside `jit` with a rate that follows
    the generation.

    >>> from jevo.genetics import flip, truncation, uniform
    >>> algorithm = genetic(truncation(17), uniform(per="layer"), flip(0.01), elites=2)
    """

    require_count(parents, "the number of a child's parents")
    require_count(chunk, "chunk, the number of children bred at once,")

    def breed(key: Key, state: State, n: int, beside: Population) -> tuple[Population, jax.Array]:
        select_key, child_key = jax.random.split(key)
        chosen = selection(select_key, state.fitness, n * parents).reshape(n, parents).astype(jnp.int32)

        def child(key_and_parents: tuple[Key, jax.Array]) -> Member:
            key, indices = key_and_parents
            cross_key, mutate_key = jax.random.split(key)
            # Parents are gathered here, a chunk at a time, never as a whole population.
            members = (pop.take(state.population, indices[i]) for i in range(parents))
            made = crossover(cross_key, *members)
            return made if mutation is None else mutation(mutate_key, made)

        keys = jax.random.split(child_key, n)
        return pop.extended(beside, child, (keys, chosen), chunk), chosen

    return _generational(breed, elites, lucky, rescore)


def random_search(
    init: Callable[[Key], Member], *, elites: int | float = 1, rescore: bool = False, chunk: int = 64
) -> GeneticAlgorithm:
    """The control: fresh members each generation, beside the best `elites` so far.

    It scores exactly as many members as `genetic` with as many survivors and the same `rescore`.
    """

    require_count(chunk, "chunk, the number of members made at once,")

    def breed(key: Key, state: State, n: int, beside: Population) -> tuple[Population, jax.Array]:
        return pop.extended(beside, init, jax.random.split(key, n), chunk), jnp.full((n, 2), -1, jnp.int32)

    return _generational(breed, elites, 0, rescore)


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


def _generational(
    breed: Callable[[Key, State, int, Population], tuple[Population, jax.Array]],
    elites: int | float,
    lucky: int,
    rescore: bool,
) -> GeneticAlgorithm:
    number_of(elites, 1)  # It says what it cannot be.
    require_count(lucky, "lucky, a number of members,", 0)

    @compiled_when_plain()
    def init(population: Population, fitness: Fitness) -> State:
        return State(population, as_fitness(fitness, pop.size(population)), jnp.zeros((), jnp.int32))

    def children(size: int) -> int:
        survivors = number_of(elites, size) + lucky
        if survivors >= size:
            raise ValueError(f"{survivors} survivors leave no place for a child in a population of {size}")
        return size - survivors

    @compiled_when_plain()
    def ask(key: Key, state: State) -> Candidates:
        size = pop.size(state.population)
        as_fitness(state.fitness, size)
        best, n = number_of(elites, size), children(size)
        lucky_key, breed_key = jax.random.split(key)
        kept = _survivors(lucky_key, state.fitness, best, lucky)
        again, kept = (kept, kept[:0]) if rescore else (kept[:0], kept)
        members, parents = breed(breed_key, state, n, pop.take(state.population, again))
        own = jnp.repeat(again[:, None], parents.shape[1], axis=1)
        return Candidates(members, jnp.concatenate([own, parents]), kept)

    @compiled_when_plain()
    def tell(state: State, candidates: Candidates, fitness: Fitness) -> State:
        population = candidates.members
        fitness = as_fitness(fitness, pop.size(population), "the candidates")
        size = pop.size(state.population)
        if pop.size(population) + candidates.kept.size != size:
            raise ValueError(
                f"{pop.size(population)} candidates and {candidates.kept.size} survivors are not the {size} members of "
                "the state; tell what ask has given for it"
            )
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
