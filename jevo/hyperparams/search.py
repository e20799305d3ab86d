"""The host's loop over genomes: a strategy asks for scores, a trainable gives them, and none is trained twice.

A strategy is a generator: it yields an `Ask` and is sent the scores. What it asks for depends on its key and on the
scores alone. So a search that was interrupted is simply done again, with the scores that are known already.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jevo import genetics
from jevo import population as pop
from jevo.hyperparams.space import Space, identity
from jevo.types import Cross, Key, Member, Mutate

Genome = Mapping[str, Any]
"""A decoded genome."""


class Score(NamedTuple):
    """What training a genome gave.

    Attributes:
        value: higher is better; NaN for one that failed.
        seconds: of training.
        compile_s: of compiling, for it or for those in its batch.
        reason: why it failed, or nothing.
        details: what else there is to keep, as JSON can hold it.
        params: the weights with the best validation, or None.
    """

    value: float
    seconds: float = 0.0
    compile_s: float = 0.0
    reason: str = ""
    details: Mapping[str, Any] = {}
    params: Member = None


class Trainable(Protocol):
    """Whatever scores genomes. `each` makes one of a function."""

    def plan(self, genomes: Sequence[Genome]) -> Any:
        """How it will go about it, as a line of text (`str`) and for `score`."""
        ...

    def score(self, genomes: Sequence[Genome], by: Any, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
        """Scores as they come, each with the index of its genome; none for those in `skip`."""
        ...


class Proposal(NamedTuple):
    """A genome that a strategy wants scored, and the numbers of its parents among all that it has proposed."""

    genome: Genome
    parents: tuple[int, ...] = ()


class Ask(NamedTuple):
    """One generation of a strategy.

    Attributes:
        proposals: what it wants scored.
        kept: numbers of earlier proposals that stay in the population beside them.
    """

    proposals: Sequence[Proposal]
    kept: Sequence[int] = ()


Strategy = Generator[Ask, Sequence[float], None]
"""Sent the scores of the proposals, in their order; a proposal that failed has NaN."""


class Trial(NamedTuple):
    """A proposal and its score.

    Attributes:
        number: among the proposals of the search, from 0.
        generation: that proposed it, from 1.
        genome: decoded.
        parents: numbers.
        score: of its training.
        trained: whether it was trained for this proposal; otherwise its score was known.
    """

    number: int
    generation: int
    genome: Genome
    parents: tuple[int, ...]
    score: Score
    trained: bool


class Generation(NamedTuple):
    """A generation that is done.

    Attributes:
        number: from 1.
        trials: of this generation.
        best, mean: score of its population, the members kept included; NaN if all failed.
        champion: number of the best trial so far; -1 if all failed.
        trained: genomes trained in it.
        plan: how, as a line of text.
    """

    number: int
    trials: Sequence[Trial]
    best: float
    mean: float
    champion: int
    trained: int
    plan: str


class Known(NamedTuple):
    """A score, and where it was needed first: a genome that this generation itself has trained still belongs to its
    plan."""

    score: Score
    search: str
    generation: int


class Watch(NamedTuple):
    """Who wants to know. Each may raise, which ends the search; what is scored by then is known."""

    planned: Callable[[int, int, Any], None] = lambda generation, genomes, plan: None
    scored: Callable[[Trial], None] = lambda trial: None
    done: Callable[[Generation], None] = lambda generation: None


def search(
    strategy: Strategy,
    trainable: Trainable,
    known: MutableMapping[str, Known] | None = None,
    name: str = "search",
    watch: Watch | None = None,
) -> tuple[list[Trial], list[Generation]]:
    """Run a strategy to its end.

    Args:
        strategy: asks.
        trainable: answers.
        known: scores by `identity`, of this search when it was interrupted, and of others with the same trainable;
            new ones are added. Nothing that is in it is trained.
        name: of this search, in `known`.
        watch: who wants to know.

    Returns:
        Every proposal with its score, and every generation.

    >>> from jevo.hyperparams import each, evolve, parse_space
    >>> space = parse_space({"x": {"min": 0, "max": 9}, "y": {"min": 0, "max": 9}}, "example")
    >>> strategy = evolve(space, jax.random.key(0), population=6, generations=4)
    >>> trials, generations = search(strategy, each(lambda genome: -abs(genome["x"] - genome["y"])))
    >>> len(trials), len(generations), champion(trials).score.value
    (18, 4, 0.0)
    """
    known, watch = {} if known is None else known, watch or Watch()
    trials: list[Trial] = []
    done: list[Generation] = []
    ask = next(strategy)
    while True:
        generation = len(done) + 1
        first = len(trials)
        here = (name, generation)
        names = [identity(proposal.genome) for proposal in ask.proposals]
        # Asked for twice in one generation, it is trained once; known from another generation or search, not at all.
        fresh = [n for n in dict.fromkeys(names) if n not in known or (known[n].search, known[n].generation) == here]
        earlier = [i for i, n in enumerate(fresh) if n in known]
        where = [names.index(n) for n in fresh]

        def trial(i: int, score: Score, first: int = first, ask: Ask = ask, where: Sequence[int] = where) -> Trial:
            proposal = ask.proposals[i]
            parents = tuple(proposal.parents)
            return Trial(first + i, len(done) + 1, proposal.genome, parents, score, i in where)

        genomes = [ask.proposals[i].genome for i in where]
        by = trainable.plan(genomes)
        watch.planned(generation, len(fresh), by)
        for i in earlier:
            watch.scored(trial(where[i], known[fresh[i]].score))
        for i, score in trainable.score(genomes, by, earlier):
            # The weights are for who watches: all of them together would fill the memory.
            known[fresh[i]] = Known(score._replace(params=None), *here)
            watch.scored(trial(where[i], score))
        trials += [trial(i, known[n].score) for i, n in enumerate(names)]
        done.append(_generation(generation, trials, first, ask.kept, len(fresh), str(by)))
        watch.done(done[-1])
        try:
            ask = strategy.send([trial.score.value for trial in trials[first:]])
        except StopIteration:
            return trials, done


def champion(trials: Sequence[Trial]) -> Trial | None:
    """The best, and of equals the first; None if all failed."""
    alive = [trial for trial in trials if math.isfinite(trial.score.value)]
    return max(alive, key=lambda trial: trial.score.value, default=None)


def _generation(
    number: int, trials: Sequence[Trial], first: int, kept: Sequence[int], trained: int, plan: str
) -> Generation:
    population = [trials[i].score.value for i in kept] + [trial.score.value for trial in trials[first:]]
    alive = [value for value in population if math.isfinite(value)]
    best = champion(trials)
    return Generation(
        number,
        trials[first:],
        max(alive, default=math.nan),
        float(np.mean(alive)) if alive else math.nan,
        best.number if best else -1,
        trained,
        plan,
    )


def each(function: Callable[[Genome], float]) -> Trainable:
    """A trainable that calls a function with one genome after another. An `Exception` fails that genome alone."""

    class Each:
        def plan(self, genomes: Sequence[Genome]) -> str:
            return f"{len(genomes)} to score"

        def score(self, genomes: Sequence[Genome], by: Any, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
            for i in (i for i in range(len(genomes)) if i not in set(skip)):
                try:
                    yield i, Score(float(function(genomes[i])))
                except Exception as error:
                    yield i, Score(math.nan, reason=f"{type(error).__name__}: {error}")

    return Each()


def evolve(
    space: Space,
    key: Key,
    *,
    population: int,
    generations: int,
    keep: float = 0.25,
    lucky: int = 0,
    cross: Cross | None = None,
    mutate: Mutate | None = None,
    novel: bool = True,
) -> Strategy:
    """The genetic algorithm: `genetics.genetic` with its `ask` and `tell` called from the host.

    Args:
        space: of the genomes.
        key: of all draws.
        population: members.
        generations: the first, random one included.
        keep: share of the population that survives and breeds, the best.
        lucky: others, drawn at random, that survive and breed beside them.
        cross: of encoded genomes; each gene from either parent by default.
        mutate: of encoded genomes.
        novel: whether a child that was proposed before is mutated until it is new.
    """
    start_key, run_key, novel_key = jax.random.split(key, 3)
    best = max(1, round(keep * population))
    algorithm = genetics.genetic(
        genetics.truncation(best, lucky),
        cross or genetics.uniform(),
        mutate or (lambda key, member: member),
        survivors=best + lucky,
        lucky=lucky,
    )
    ask, change, init = (jax.jit(f) for f in (algorithm.ask, mutate or (lambda key, member: member), space.init))
    seen: set[str] = set()

    def new(key: Key, members: Sequence[Member], tries: int) -> list[Member]:
        """The members, each changed until it is one that was not seen before; drawn anew if that takes too long."""
        found = []
        for i, member in enumerate(members):
            for attempt in range(tries + 1):
                if identity(space.decode(member)) not in seen or not novel:
                    break
                again = jax.random.fold_in(jax.random.fold_in(key, i), attempt)
                member = init(again) if attempt >= tries // 2 else change(again, member)
                member = jax.device_get(member)
            seen.add(identity(space.decode(member)))
            found.append(member)
        return found

    def of(members: Sequence[Member], parents: Sequence[Sequence[int]]) -> list[Proposal]:
        return [
            Proposal(space.decode(member), tuple(dict.fromkeys(map(int, own))))
            for member, own in zip(members, parents, strict=True)
        ]

    first = jax.device_get(pop.init(start_key, space.init, population))
    members = new(novel_key, pop.unstack(first), 200)
    scores = yield Ask(of(members, [()] * population))
    state = algorithm.init(pop.stack(members), jnp.asarray(scores, jnp.float32))
    # Whose proposal each member of the State is.
    numbers = np.arange(population)
    proposed = population
    for generation in range(1, generations):
        candidates = jax.device_get(ask(jax.random.fold_in(run_key, generation), state))
        members = new(jax.random.fold_in(novel_key, generation), pop.unstack(candidates.members), 40)
        kept = numbers[candidates.kept]
        scores = yield Ask(of(members, numbers[candidates.parents].tolist()), list(dict.fromkeys(map(int, kept))))
        fitness = jnp.asarray(scores, jnp.float32)
        state = algorithm.tell(state, candidates._replace(members=pop.stack(members)), fitness)
        numbers = np.concatenate([kept, proposed + np.arange(len(members))])
        proposed += len(members)


def draw(space: Space, key: Key, sizes: Sequence[int], first: Sequence[Genome] = ()) -> Strategy:
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


def enumerate_all(space: Space, size: int) -> Strategy:
    """Brute force: every genome once, `size` in a generation.

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
