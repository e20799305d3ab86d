"""Strategies: the genetic algorithm, random search and grid search."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jevo import genetics
from jevo import population as pop
from jevo.hyperparams.loop import Ask, Proposal, Strategy
from jevo.hyperparams.space import Genome, Space, identity
from jevo.types import Cross, Key, Member, Mutate

FIRST_TRIES, TRIES = 200, 40
"""How often a member of the first population, and a child, is changed until it is one that was not proposed before."""


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
    """
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
    members = renewed(novel_key, members, FIRST_TRIES)
    scores = yield Ask(_proposals(space, members, [()] * population))
    state = algorithm.init(pop.stack(members), jnp.asarray(scores, jnp.float32))
    # Whose proposal each member of the State is.
    numbers = np.arange(population)
    proposed = population
    for generation in range(1, generations + 1):
        candidates = jax.device_get(ask(jax.random.fold_in(run_key, generation), state))
        members = renewed(jax.random.fold_in(novel_key, generation), pop.unstack(candidates.members), TRIES)
        kept = np.delete(numbers, candidates.places)
        proposals = _proposals(space, members, numbers[candidates.parents].tolist())
        scores = yield Ask(proposals, list(dict.fromkeys(map(int, kept))))
        fitness = jnp.asarray(scores, jnp.float32)
        state = algorithm.tell(state, candidates._replace(members=pop.stack(members)), fitness)
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


def random_search(space: Space, key: Key, sizes: Sequence[int], first: Sequence[Genome] = ()) -> Strategy:
    """Random search: genomes that were not proposed before, as long as there are any.

    Args:
        space: of the genomes.
        key: of all draws.
        sizes: how many in each generation.
        first: genomes to begin with, in place of as many draws.
    """
    init = jax.jit(space.init)
    seen: set[str] = set()
    queue, drawn, total = list(first), 0, space.size()
    for size in sizes:
        found = []
        while len(found) < size and len(seen) < total:
            if queue:
                genome = queue.pop(0)
            else:
                genome = space.decode(jax.device_get(init(jax.random.fold_in(key, drawn))))
                drawn += 1
            if identity(genome) not in seen:
                seen.add(identity(genome))
                found.append(Proposal(genome))
        if found:
            yield Ask(found)


def grid_search(space: Space, size: int) -> Strategy:
    """Every genome once, `size` in a generation.

    Raises:
        InputError: if there are infinitely many, naming the gene.
    """
    found: list[Proposal] = []
    for genome in space.genomes():
        found.append(Proposal(genome))
        if len(found) == size:
            yield Ask(found)
            found = []
    if found:
        yield Ask(found)
