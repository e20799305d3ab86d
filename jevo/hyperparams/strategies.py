"""Strategies: the genetic algorithm, random search and grid search."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jevo import genetics
from jevo import population as pop
from jevo.errors import InputError
from jevo.hyperparams.loop import Ask, Halving, Proposal, Ranking, Score, Strategy, Tally
from jevo.hyperparams.space import Genome, Space, identity
from jevo.types import Cross, Key, Member, Mutate

Objectives = Callable[[Score], Sequence[float]]
"""What a score is worth in each respect, higher is better."""

FIRST_TRIES, TRIES = 200, 40
"""How often a member of the first population, and a child, is changed until it is one that was not proposed before."""

IN_VAIN = 10_000
"""How often random search draws in a row what it has proposed before, until it takes that for all there is."""


def evolve(
    space: Space,
    key: Key,
    *,
    population: int,
    generations: int,
    elites: int | float = 0.25,
    breeders: int | float = 0.25,
    lucky: int = 0,
    parents: int = 2,
    crossover: Cross | None = None,
    mutation: Mutate | None = None,
    novel: bool = True,
    first: Sequence[Genome] = (),
    halving: Halving | None = None,
    objectives: Objectives | None = None,
) -> Strategy:
    """The genetic algorithm: `genetics.genetic` with its `ask` and `tell` called from the host.

    Elites and breeders are a number of members (int), or a share of the population (float in (0, 1]).

    Args:
        space: of the genomes.
        key: of all draws.
        population: members.
        generations: bred after the first population, which is random.
        elites: the best, which survive.
        breeders: the best, which have children.
        lucky: others, drawn at random, that survive and breed beside the best.
        parents: of each child; `genetics.uniform` takes 2, 4, 8, ..., the other crossovers 2.
        crossover: of encoded genomes; each gene from either parent by default.
        mutation: of encoded genomes.
        novel: whether a child that was proposed before is mutated until it is new.
        first: genomes that the first population begins with; the rest of it is random.
        halving: of each generation's proposals: children start at the lowest rung, as in DEHB (arXiv 2105.09821). A
            member's fitness is its score at the last rung that it has reached.
        objectives: more than one, each higher is better, of a score: members are ranked as NSGA-II does
            (`genetics.nsga2_fitness`), whose elites are 0.5. None: its value alone.

    Raises:
        InputError: if one of `first` is no genome of the space, or they are more than the population.
    """
    if len(first) > population:
        raise InputError(f"first has {len(first):,} genomes, more than the population of {population:,}")
    start_key, run_key, novel_key = jax.random.split(key, 3)
    algorithm = genetics.genetic(
        genetics.truncation(breeders, lucky),
        crossover or genetics.uniform(),
        mutation,
        elites=elites,
        lucky=lucky,
        parents=parents,
    )
    ask = jax.jit(algorithm.ask)
    renewed = _renewal(space, mutation) if novel else lambda key, members, tries: members
    members = pop.unstack(jax.device_get(pop.init(start_key, space.init, population)))
    given = [jax.device_get(space.encode(genome)) for genome in first]
    members = renewed(novel_key, given + members[len(first) :], FIRST_TRIES)
    ranked = ranking(objectives) if objectives else None
    proposals = _proposals(space, members, [()] * population)
    for i, (genome, encoded) in enumerate(zip(first, given, strict=True)):
        # As it was given: of a number that is encoded and decoded again the last digits are others.
        if identity(proposals[i].genome) == identity(space.decode(encoded)):
            proposals[i] = Proposal(genome)
    scores: list[Score] = list((yield Ask(proposals, (), halving, fitness=ranked)))
    state = algorithm.init(pop.stack(members), _fitness(scores, ranked))
    # Whose proposal each member of the State is.
    numbers = np.arange(population)
    proposed = population
    for generation in range(1, generations + 1):
        candidates = jax.device_get(ask(jax.random.fold_in(run_key, generation), state))
        members = renewed(jax.random.fold_in(novel_key, generation), pop.unstack(candidates.members), TRIES)
        kept = np.delete(numbers, candidates.places)
        proposals = _proposals(space, members, numbers[candidates.parents].tolist())
        new = yield Ask(proposals, list(dict.fromkeys(map(int, kept))), halving, fitness=ranked)
        for place, score in zip(candidates.places, new, strict=True):
            scores[place] = score
        # Ranks are among all members: children change those of survivors.
        fitness = _fitness(scores, ranked)
        state = algorithm.tell(state, candidates._replace(members=pop.stack(members)), fitness[candidates.places])
        state = state._replace(fitness=fitness)
        numbers[candidates.places] = proposed + np.arange(len(members))
        proposed += len(members)


def _renewal(space: Space, mutation: Mutate | None) -> Callable[[Key, Sequence[Member], int], list[Member]]:
    """A function that remembers which genomes it has given: `(key, members, tries) -> members`, each mutated until it
    is a new one, and drawn anew if that takes too long."""
    init = jax.jit(space.init)
    change = jax.jit(mutation or (lambda key, member: member))
    seen: set[str] = set()

    def new(key: Key, member: Member, tries: int) -> Member:
        for attempt in range(tries + 1):
            if identity(space.decode(member)) not in seen:
                break
            again = jax.random.fold_in(key, attempt)
            member = jax.device_get(init(again) if attempt >= tries // 2 else change(again, member))
        seen.add(identity(space.decode(member)))
        return member

    return lambda key, members, tries: [new(jax.random.fold_in(key, i), one, tries) for i, one in enumerate(members)]


def _proposals(space: Space, members: Sequence[Member], parents: Sequence[Sequence[int]]) -> list[Proposal]:
    return [
        Proposal(space.decode(member), tuple(dict.fromkeys(map(int, own))))
        for member, own in zip(members, parents, strict=True)
    ]


def ranking(objectives: Objectives) -> Ranking:
    """What ranks scores beside each other by more than one objective, as NSGA-II does; -inf for one that failed."""

    def fitness(scores: Sequence[Score]) -> list[float]:
        values = [list(objectives(score)) if math.isfinite(score.value) else [] for score in scores]
        wide = max(map(len, values), default=0)
        rows = [row or [math.nan] * max(wide, 1) for row in values]
        return np.asarray(genetics.nsga2_fitness(jnp.asarray(rows, jnp.float32))).tolist()

    return fitness


def _fitness(scores: Sequence[Score], ranked: Ranking | None = None) -> jax.Array:
    return jnp.asarray(ranked(scores) if ranked else [score.value for score in scores], jnp.float32)


def random_search(
    space: Space,
    key: Key,
    size: int,
    budget: float,
    first: Sequence[Genome] = (),
    halving: Halving | None = None,
    objectives: Objectives | None = None,
) -> Strategy:
    """Random search: genomes that were not proposed before, as long as there are any.

    Args:
        space: of the genomes.
        key: of all draws.
        size: of a generation, at the most.
        budget: to spend, in the trainable's unit (`Score.spent`). It ends when that is spent, in generations of a size
            that does not overdraw it, as far as earlier ones tell, but for the last genome.
        first: genomes to begin with, in place of as many draws.
        halving: of every generation.
        objectives: as of `evolve`, for whoever goes on.
    """
    draw, fitness = fresh_genomes(space, key, first), objectives and ranking(objectives)
    yield from within(budget, size, lambda count: [Proposal(genome) for genome in draw(count)], halving, fitness)


def hyperband(
    space: Space,
    key: Key,
    budget: float,
    halving: Halving,
    first: Sequence[Genome] = (),
    objectives: Objectives | None = None,
) -> Strategy:
    """Random search in Hyperband's brackets (Li et al., "Hyperband", JMLR 2018): many genomes that start at the lowest
    rung, then fewer that start at the next, and so on to a few that are trained to the end, again and again.

    Args:
        space: of the genomes.
        key: of all draws.
        budget: to spend, as of `random_search`.
        halving: of the first bracket; those after it leave its lowest rungs out.
        first: genomes to begin with, in place of as many draws.
        objectives: as of `evolve`, for whoever goes on.
    """
    draw, tally = fresh_genomes(space, key, first), Tally()
    rungs, brackets, fitness = halving.rungs, len(halving.rungs), objectives and ranking(objectives)
    for bracket in itertools.cycle(range(brackets)):
        steps = brackets - bracket
        # As many as cost what any other bracket does.
        size = -(-brackets * halving.factor ** (steps - 1) // steps)
        own, left = replace(halving, rungs=rungs[bracket:]), budget - tally.spent
        if left <= 0 or not (genomes := draw(own.affords(left, size))):
            return
        proposals = [Proposal(genome) for genome in genomes]
        scores = yield Ask(proposals, (), own, fitness=fitness)
        for proposal, score in zip(proposals, scores, strict=True):
            tally.add(proposal.genome, score)


def within(
    budget: float,
    size: int,
    propose: Callable[[int], Sequence[Proposal]],
    halving: Halving | None = None,
    fitness: Ranking | None = None,
) -> Strategy:
    """A strategy that spends a budget in generations of at most `size`: `propose` gives as many proposals as it is
    asked for, or fewer, or none at its end. What one will cost is taken from the dearest generation so far."""
    tally, dearest = Tally(), 1.0
    while (left := budget - tally.spent) > 0:
        count = halving.affords(left, size) if halving else min(size, int(left / dearest))
        proposals = propose(max(count, 1))
        if not proposals:
            return
        before = tally.spent
        scores = yield Ask(proposals, (), halving, fitness=fitness)
        for proposal, score in zip(proposals, scores, strict=True):
            tally.add(proposal.genome, score)
        dearest = max(dearest, (tally.spent - before) / len(proposals))


def fresh_genomes(space: Space, key: Key, first: Sequence[Genome] = ()) -> Callable[[int], list[Genome]]:
    """`count -> genomes`, uniform, none of them given before; fewer where the space has no more, or seems to have
    none: of a range that float32 has few numbers in, nobody knows how many.

    Raises:
        InputError: if one of `first` is no genome of the space.
    """
    for genome in first:
        space.encode(genome)
    init = jax.jit(space.init)
    seen: set[str] = set()
    queue, numbers, total = list(first), itertools.count(), space.size()

    def draw(count: int) -> list[Genome]:
        found, in_vain = [], 0
        while len(found) < count and len(seen) < total and in_vain < IN_VAIN:
            genome = (
                queue.pop(0) if queue else space.decode(jax.device_get(init(jax.random.fold_in(key, next(numbers)))))
            )
            in_vain += 1
            if identity(genome) not in seen:
                seen.add(identity(genome))
                found.append(genome)
                in_vain = 0
        return found

    return draw


def grid_search(
    space: Space, size: int, halving: Halving | None = None, objectives: Objectives | None = None
) -> Strategy:
    """Every genome once, `size` in a generation; where it is halved, all of them in one, ranked by `objectives`.

    Raises:
        InputError: if there are infinitely many, naming the gene.
    """
    proposals, fitness = map(Proposal, space.genomes()), objectives and ranking(objectives)
    while found := list(proposals if halving else itertools.islice(proposals, size)):
        yield Ask(found, (), halving, fitness=fitness)
