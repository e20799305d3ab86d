"""Search by generations: pure functions over a State, in the manner of optax and blackjax.

    state = algorithm.init(population, fitness)
    state = generation(algorithm, evaluate, key, state)

or, where somebody else scores (a host, a cluster, a training that changes members), its view in two steps:

    candidates = algorithm.ask(key, state)          # breeds what is to be scored, and only that
    fitness = ...                                   # score candidates.members
    state = algorithm.tell(state, candidates, fitness)

Anything with these three functions is an algorithm, and runs in the same loop: of a distribution, say, that draws its
candidates and learns from their scores, and keeps its numbers in `State.own`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jevo import population as pop
from jevo.errors import require_count
from jevo.genetics.selection import as_fitness, descending, number_of
from jevo.programs import compiled_when_plain
from jevo.types import Cross, Fitness, Key, Member, Mutate, Population, Select


class State(NamedTuple):
    """A scored population.

    Attributes:
        population: leaves `[P, ...]`.
        fitness: float32 `[P]`; -inf for a member that failed, or was never scored.
        generation: int32 `[]`, completed generations; 0 for the first population.
        own: a pytree of arrays that an algorithm keeps beside the population (a mean, moments, an archive).
    """

    population: Population
    fitness: Fitness
    generation: jax.Array
    own: Any = ()


class Candidates(NamedTuple):
    """What a generation scores, where it comes from and where it goes.

    Whatever else belongs to a member (trained weights, optimizer state, lineage) moves by the same indices.

    Attributes:
        members: population of `n` candidates.
        parents: int32 `[n, parents]`, indices into the State that bred them; -1 for a member made from nothing. A
            survivor that is scored again is its own parent.
        places: int32 `[n]`, all different: whose place in the State each takes. Who is at no such place survives, with
            the fitness it has.
        own: a pytree of arrays that `ask` leaves for `tell`.
    """

    members: Population
    parents: jax.Array
    places: jax.Array
    own: Any = ()


class Algorithm(NamedTuple):
    """Pure functions.

    Attributes:
        init: `(population, fitness) -> State`.
        ask: `(key, state) -> Candidates`.
        tell: `(state, candidates, fitness) -> State`.
        breed: `(key, state) -> (state, places)`, or None: `ask`, and what `tell` does to the population, in one step
            and in place; the fitness at `places` is yet to be found, or all of it where they are None.
    """

    init: Callable[[Population, Fitness], State]
    ask: Callable[[Key, State], Candidates]
    tell: Callable[[State, Candidates, Fitness], State]
    breed: Callable[[Key, State], tuple[State, jax.Array | None]] | None = None


Evaluate = Callable[[Key, Population, jax.Array | None], Fitness]
"""`(key, population, places) -> fitness [n]` of the members at `places [n]`, or of all where that is None."""


Learn = Callable[[Key, Population], tuple[Population, Fitness]]
"""`(key, population) -> (population, fitness)`: all members after they have learnt, and their scores then."""


def scored(score: Callable[[Population], Fitness]) -> Evaluate:
    """A scoring of whole populations that draws nothing, as `generation` takes it."""
    taken = compiled_when_plain()(pop.take)
    return lambda _, population, places: score(population if places is None else taken(population, places))


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
) -> Algorithm:
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

    def children(key: Key, state: State, n: int) -> _Children:
        select_key, child_key = jax.random.split(key)
        pool, drawn = selection(select_key, state.fitness, n * parents)
        drawn = drawn.reshape(n, parents)

        def child(key_and_parents: tuple[Key, jax.Array], breeders: Population) -> Member:
            key, positions = key_and_parents
            cross_key, mutate_key = jax.random.split(key)
            made = crossover(cross_key, *(pop.take(breeders, positions[i]) for i in range(parents)))
            return made if mutation is None else mutation(mutate_key, made)

        breeders = pop.take(state.population, pool)
        return _Children(child, (jax.random.split(child_key, n), drawn), (breeders,), pool[drawn])

    return _generational(children, elites, lucky, rescore, chunk)


def random_search(
    init: Callable[[Key], Member], *, elites: int | float = 1, rescore: bool = False, chunk: int = 64
) -> Algorithm:
    """The control: fresh members each generation, beside the best `elites` so far.

    It scores exactly as many members as `genetic` with as many survivors and the same `rescore`.
    """

    def children(key: Key, state: State, n: int) -> _Children:
        return _Children(init, jax.random.split(key, n), (), jnp.full((n, 2), -1, jnp.int32))

    return _generational(children, elites, 0, rescore, chunk)


def generation(
    algorithm: Algorithm, evaluate: Callable[..., Any], key: Key, state: State, has_aux: bool = False
) -> State:
    """One generation: `ask`, score, `tell`, without a copy of the population where the algorithm can breed in place.

    Args:
        algorithm: such as `genetic` or `random_search`.
        evaluate: scores members, as `Evaluate` says.
        key: the run's root key, the same every generation; this one's is `fold_in(key, state.generation)`, so a
            run resumes from its seed and its State alone.
        state: as the last generation left it.
        has_aux: whether `evaluate` returns `(fitness, aux)`: a pytree of arrays with a row for each member it scores,
            such as the objectives that a fitness was made of. They take their places in `State.own`, `[P, ...]`.
    """
    ask_key, evaluate_key = jax.random.split(jax.random.fold_in(key, state.generation))

    def evaluated(members: Population, places: jax.Array | None) -> tuple[Fitness, Any]:
        found = evaluate(evaluate_key, members, places)
        return found if has_aux else (found, None)

    if algorithm.breed is None:
        candidates = algorithm.ask(ask_key, state)
        fitness, aux = evaluated(candidates.members, None)
        state, places = algorithm.tell(state, candidates, fitness), candidates.places
    else:
        state, places = algorithm.breed(ask_key, state)
        fitness, aux = evaluated(state.population, places)
        state = _scored(state, places, fitness)
    if not has_aux:
        return state
    placed = lambda old, new: new if places is None else old.at[places].set(new)  # noqa: E731
    return state._replace(own=jax.tree.map(placed, state.own, aux))


def lamarckian(algorithm: Algorithm, learn: Learn, key: Key, state: State) -> State:
    """One generation whose candidates learn before they are scored, and pass on what they have learnt.

    Args:
        algorithm: such as `genetic`; `rescore=True` has survivors go on learning.
        learn: trains and scores candidates.
        key: the run's root key, as `generation` takes it.
        state: as the last generation left it.
    """
    ask_key, learn_key = jax.random.split(jax.random.fold_in(key, state.generation))
    candidates = algorithm.ask(ask_key, state)
    members, fitness = learn(learn_key, candidates.members)
    return algorithm.tell(state, candidates._replace(members=members), fitness)


@compiled_when_plain()
def _scored(state: State, places: jax.Array | None, fitness: Fitness) -> State:
    if places is not None:
        fitness = state.fitness.at[places].set(as_fitness(fitness, places.size, "the candidates"))
    return replaced(state, state.population, fitness)


def replaced(state: State, population: Population, fitness: Fitness) -> State:
    """The State a generation later, all of whose members are others, or have other scores: after they have learnt.

    Raises:
        ValueError: if fitness is not one number for each member.
    """
    return state._replace(
        population=population, fitness=as_fitness(fitness, pop.size(population)), generation=state.generation + 1
    )


class _Children(NamedTuple):
    """Children to be made: `make` of each of the `arguments [n, ...]` and of what they share; and their parents, int32
    `[n, k]`."""

    make: Callable[..., Member]
    arguments: Any
    shared: tuple[Any, ...]
    parents: jax.Array


class _Plan(NamedTuple):
    """What is bred, and where it goes.

    Attributes:
        children: to be made.
        survivors: int32 `[P - n]`, the places of those who stay.
        places: int32 `[n]`, those of the children.
    """

    children: _Children
    survivors: jax.Array
    places: jax.Array


def _generational(
    children: Callable[[Key, State, int], _Children], elites: int | float, lucky: int, rescore: bool, chunk: int
) -> Algorithm:
    number_of(elites, 1)  # It says what it cannot be.
    require_count(lucky, "lucky, a number of members,", 0)
    require_count(chunk, "chunk, the number of children made at once,")

    @compiled_when_plain()
    def init(population: Population, fitness: Fitness) -> State:
        return State(population, as_fitness(fitness, pop.size(population)), jnp.zeros((), jnp.int32))

    def planned(key: Key, state: State) -> _Plan:
        size = pop.size(state.population)
        as_fitness(state.fitness, size)
        best = number_of(elites, size)
        if best + lucky >= size:
            raise ValueError(f"{best + lucky} survivors leave no place for a child in a population of {size}")
        lucky_key, breed_key = jax.random.split(key)
        survivors, places = _survivors(lucky_key, state.fitness, best, lucky)
        return _Plan(children(breed_key, state, places.size), survivors, places)

    @compiled_when_plain()
    def ask(key: Key, state: State) -> Candidates:
        made, survivors, places = planned(key, state)
        again = survivors if rescore else survivors[:0]
        members = pop.extended(pop.take(state.population, again), made.make, made.arguments, chunk, *made.shared)
        own = jnp.repeat(again[:, None], made.parents.shape[1], axis=1)
        return Candidates(members, jnp.concatenate([own, made.parents]), jnp.concatenate([again, places]))

    @compiled_when_plain()
    def tell(state: State, candidates: Candidates, fitness: Fitness) -> State:
        members, places = candidates.members, candidates.places
        fitness = as_fitness(fitness, pop.size(members), "the candidates")
        size = pop.size(state.population)
        expected = size if rescore else size - number_of(elites, size) - lucky
        if not pop.size(members) == places.size == expected:
            raise ValueError(
                f"{pop.size(members)} candidates for {places.size} places are not the {expected} of a state of {size} "
                "members; tell what ask has given for it"
            )
        population = jax.tree.map(lambda old, new: old.at[places].set(new), state.population, members)
        return replaced(state, population, state.fitness.at[places].set(fitness))

    @compiled_when_plain()
    def breed(key: Key, state: State) -> tuple[State, jax.Array | None]:
        made, _, places = planned(key, state)
        population = pop.written(state.population, places, made.make, made.arguments, chunk, *made.shared)
        return state._replace(population=population), None if rescore else places

    return Algorithm(init, ask, tell, breed)


def _survivors(key: Key, fitness: Fitness, elites: int, lucky: int) -> tuple[jax.Array, jax.Array]:
    """Where the best and some random others are, int32 `[elites + lucky]`, and where all the rest are.

    One who has failed is a survivor only where there are not enough others.
    """
    order = descending(fitness).astype(jnp.int32)
    ranks = jnp.arange(fitness.size)
    stays = ranks < elites
    if lucky:
        ticket = jnp.where(fitness[order] > -jnp.inf, jax.random.uniform(key, fitness.shape), -1.0)
        stays = stays.at[jax.lax.top_k(jnp.where(stays, -2.0, ticket), lucky)[1]].set(True)
    order = order[jnp.argsort(~stays, stable=True)]
    return order[: elites + lucky], order[elites + lucky :]
