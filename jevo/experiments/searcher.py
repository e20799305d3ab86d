"""Searches as values: how one begins and goes on, and the programs of any of them, with a champion and perhaps a front.

What the experiments share whose members are scored by what a network makes of examples. What a genome is, on which
examples it is scored and what it is worth is theirs.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import genetics
from jevo import population as pop
from jevo.genetics import Algorithm, Search, State, update_champion
from jevo.genetics.selection import descending
from jevo.runs import Programs
from jevo.training import evaluate
from jevo.training.perturbation import Estimate
from jevo.types import Fitness, Key, Member, Mutate, Population

FRONT = 32
"""Members on the front that is kept, at most."""

More = Callable[[State, jax.Array], Population]
"""`(state, the order of its members, the fittest first) -> population`: others that stand for champion."""
Worth = Callable[[Member], jax.Array]
"""What a genome is worth, `genome -> float32 []`, higher is better."""
Breeding = Callable[[Any, jax.Array, int], Algorithm]
"""`(data, generation, members at once) -> algorithm`."""


class Cost(NamedTuple):
    """What a member should have little of, beside its fitness.

    Attributes:
        name: in the metrics of a generation.
        of: `genome -> float32 []`, from 0 to 1.
    """

    name: str
    of: Callable[[Member], jax.Array]


class Searcher(NamedTuple):
    """How a search begins, and goes on: pure functions of its key, so that a run resumes from its State alone.

    Attributes:
        start: `(key, data, members at once) -> State`.
        step: `(key, state, data, members at once) -> State`, a generation later.
        more: who stands for champion beside the best.
        cost: of a search of two objectives, the other one. The fitness of its State is a rank then, and its `own` has
            fitness and minus the cost, `[P, 2]`.
        genome: what is scored of a member, or of a whole population of them, and can be champion: all of it, unless
            members also have what they learn with.
    """

    start: Callable[[Key, Any, int], State]
    step: Callable[[Key, State, Any, int], State]
    more: More | None = None
    cost: Cost | None = None
    genome: Callable[[Any], Any] = lambda member: member

    def fitness(self, state: State) -> Fitness:
        """The fitness of the members of a State, `[P]`."""
        return state.fitness if self.cost is None else genetics.as_objectives(state.own)[:, 0]

    def best(self, state: State) -> Member:
        """The genome of the fittest."""
        return pop.take(self.genome(state.population), jnp.argmax(self.fitness(state)))


def bred(
    population: int,
    init: Callable[[Any], Callable[[Key], Member]],
    fitness: Callable[[Any, jax.Array], Worth],
    breeding: Breeding,
    more: More | None = None,
    cost: Cost | None = None,
    genome: Callable[[Any], Any] = lambda member: member,
) -> Searcher:
    """A search whose members are made by an algorithm, and scored.

    Args:
        population: members.
        init: makes what makes a fresh member, of the data.
        fitness: `(data, generation) -> what a genome is worth then`.
        breeding: the algorithm of each generation.
        more: who else stands for champion.
        cost: what is made small beside, by NSGA-II; all members must be scored every generation then.
        genome: what is scored of a member.
    """

    def score(
        data: Any, generation: jax.Array, members: Population, chunk: int, places: jax.Array | None = None
    ) -> tuple[Fitness, Any]:
        worth = fitness(data, generation)
        if cost is None:
            return evaluate(lambda member: worth(genome(member)), members, chunk, places), ()
        paid = cost.of
        both = lambda member: jnp.stack([worth(genome(member)), -paid(genome(member))])  # noqa: E731
        objectives = evaluate(both, members, chunk, places)
        return genetics.nsga2_fitness(objectives), objectives

    def start(key: Key, data: Any, chunk: int) -> State:
        generation = jnp.int32(0)
        members = pop.init(key, init(data), population, chunk)
        fitness, objectives = score(data, generation, members, chunk)
        state = breeding(data, generation, chunk).init(members, fitness)
        return state if cost is None else state._replace(own=objectives)

    def step(key: Key, state: State, data: Any, chunk: int) -> State:
        generation = state.generation + 1
        algorithm = breeding(data, generation, chunk)
        scored = lambda _, members, places: score(data, generation, members, chunk, places)  # noqa: E731
        if cost is not None:
            return genetics.generation(algorithm, scored, key, state, has_aux=True)
        return genetics.generation(algorithm, lambda *given: scored(*given)[0], key, state)

    return Searcher(start, step, more, cost, genome)


class Ascent(NamedTuple):
    """What a search that follows an estimate keeps beside its member.

    Attributes:
        params: what the estimates are about.
        optimizer: its state.
    """

    params: Member
    optimizer: optax.OptState


def ascending(
    init: Callable[[Key, Any], Member],
    estimate: Callable[[Key, Member, Any, jax.Array, int], Estimate],
    optimizer: optax.GradientTransformation,
    *,
    mutation: Mutate | None = None,
    genome: Callable[[Member], Member] = lambda params: params,
) -> Searcher:
    """A search in which one member learns from what noise about it does, such as node perturbation.

    Args:
        init: `(key, data) -> params`, the first ones.
        estimate: `(key, params, data, generation, members at once)` -> how they should change, and the fitness.
        optimizer: makes steps of it.
        mutation: of the params, after each step; None leaves them as they are.
        genome: of the params.
    """

    def advanced(key: Key, ascent: Ascent, data: Any, generation: jax.Array, chunk: int) -> State:
        key = jax.random.fold_in(key, generation)
        found = estimate(key, ascent.params, data, generation, chunk)
        downhill = jax.tree.map(jnp.negative, found.gradient)
        updates, state = optimizer.update(downhill, ascent.optimizer, ascent.params)
        params = optax.apply_updates(ascent.params, updates)
        if mutation is not None:
            params = mutation(jax.random.fold_in(jax.random.clone(key), 0), params)
        return State(pop.stack([genome(params)]), found.fitness[None], generation, Ascent(params, state))

    def start(key: Key, data: Any, chunk: int) -> State:
        first_key, key = jax.random.split(key)
        params = init(first_key, data)
        return advanced(key, Ascent(params, optimizer.init(params)), data, jnp.int32(0), chunk)

    def step(key: Key, state: State, data: Any, chunk: int) -> State:
        return advanced(key, state.own, data, state.generation + 1, chunk)

    return Searcher(start, step)


class Look(NamedTuple):
    """How members stand for champion, on validation data.

    Attributes:
        every: generations from one look to the next.
        last: the last generation, when there is always one.
        top: who are looked at: so many, the best.
        worth: `data -> what a genome is worth on validation data`.
        worst: of a front, what each objective is above, float32 `[2]`: where its area begins.
    """

    every: int
    last: int
    top: int
    worth: Callable[[Any], Worth]
    worst: tuple[float, float] = (0.0, -1.0)


def search(
    searcher: Searcher,
    start_key: Key,
    run_key: Key,
    look: Look,
    metrics: Callable[[Any, State, Member], Mapping[str, jax.Array]],
) -> Callable[[int], Programs]:
    """The programs of a search, for so many members at once.

    Args:
        searcher: how it goes on.
        start_key: of its beginning.
        run_key: root of all generations.
        look: when validation data are looked at, and how.
        metrics: `(data, state, the fittest genome) -> what else is said of a generation`.
    """

    def programs(chunk: int) -> Programs:
        def start(data: Any) -> Search:
            state = searcher.start(start_key, data, chunk)
            first = pop.take(searcher.genome(state.population), 0)
            front = () if searcher.cost is None else genetics.empty_archive(first, FRONT, 2)
            return Search(state, first, jnp.float32(-jnp.inf), jnp.int32(0), front)

        def step(search: Search, data: Any) -> tuple[Search, dict[str, jax.Array]]:
            state = searcher.step(run_key, search.state, data, chunk)
            due = (state.generation % look.every == 0) | (state.generation == look.last)
            so_far = search._replace(state=())  # A population that went both ways would be copied.
            found, validation = jax.lax.cond(
                due,
                lambda: _validated(searcher, look, so_far, state, data, chunk),
                lambda: (so_far, jnp.float32(jnp.nan)),
            )
            search = found._replace(state=state)
            fitness, best = searcher.fitness(state), searcher.best(state)
            said = {"best": jnp.max(fitness), "mean": jnp.mean(fitness), "validation": validation}
            if searcher.cost is not None:
                area = genetics.hypervolume(search.front.objectives, jnp.array(look.worst))
                said |= {searcher.cost.name: searcher.cost.of(best), "hypervolume": area}
            return search, {**said, **metrics(data, state, best)}

        return Programs(start, step)

    return programs


def _validated(
    searcher: Searcher, look: Look, search: Search, state: State, data: Any, chunk: int
) -> tuple[Search, jax.Array]:
    """Let the best members, and what comes of them, stand for champion on validation data, and for the front."""
    candidates = pop.take(searcher.genome(state.population), descending(state.fitness)[: look.top])
    if searcher.more is not None:
        candidates = pop.concat(candidates, searcher.more(state, descending(searcher.fitness(state))))
    scores = evaluate(look.worth(data), candidates, chunk)
    search = update_champion(search, candidates, scores, state.generation)
    if searcher.cost is not None:
        objectives = jnp.stack([scores, -jax.vmap(searcher.cost.of)(candidates)], axis=1)
        front = genetics.update_archive(search.front, candidates, objectives, state.generation)
        search = search._replace(front=front)
    return search, jnp.max(scores)
