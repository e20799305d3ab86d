"""The host's loop over genomes: a strategy asks for scores, a trainable gives them, and none is trained twice.

A strategy is a generator: it yields an `Ask` and is sent the scores. What it asks for depends on its key and on the
scores alone. So a search that was interrupted is simply done again, with the scores that are known already.

An ask may be halved: all of it is trained a little, the best of it goes on from there, and so on. That is done here, so
that every strategy can have it.
"""

import copy
import math
import reprlib
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jevo.errors import InputError, require
from jevo.hyperparams.space import Genome, identity
from jevo.types import Member


class Score(NamedTuple):
    """What training a genome gave.

    Attributes:
        value: higher is better; NaN for one that failed.
        spent: of training it from its start to here, in the trainable's unit: epochs, or calls of a function.
        seconds: of training.
        compile_s: of compiling, for it or for those in its batch.
        reason: why it failed, or nothing.
        details: what else there is to keep, as JSON can hold it.
        params: the weights with the best validation, or None.
    """

    value: float
    spent: float = 1.0
    seconds: float = 0.0
    compile_s: float = 0.0
    reason: str = ""
    details: Mapping[str, Any] = {}
    params: Member = None


@dataclass(frozen=True)
class Halving:
    """How an ask is halved (successive halving: Jamieson and Talwalkar, "Non-stochastic best arm identification and
    hyperparameter optimization", 2016).

    Attributes:
        rungs: how far genomes are trained, in the trainable's unit, ascending.
        factor: one genome of so many goes on to the next rung, rounded up.

    Raises:
        InputError: if the rungs do not ascend, or there are none, or the factor is below 2.

    >>> Halving.between(1, 30, 3)
    Halving(rungs=(1, 3, 10, 30), factor=3)
    """

    rungs: tuple[int, ...]
    factor: int = 3

    def __post_init__(self) -> None:
        ascending = [0, *self.rungs] == sorted({0, *self.rungs})
        takes = "whole numbers from 1, each above the one before"
        require(len(self.rungs) > 0 and ascending, "rungs of a halving", self.rungs, takes)
        require(self.factor >= 2, "factor of a halving", self.factor, "a whole number from 2")

    @classmethod
    def between(cls, first: int, last: int, factor: int) -> "Halving":
        """From `first` to `last`, each rung about `factor` times the one before.

        Raises:
            InputError: if `first` or `last` is below 1, or `factor` below 2.
        """
        require(min(first, last) >= 1, "rungs of a halving", f"{first} to {last}", "whole numbers from 1")
        require(factor >= 2, "factor of a halving", factor, "a whole number from 2")
        rungs = [last]
        while rungs[0] // factor >= first:
            rungs.insert(0, rungs[0] // factor)
        return cls(tuple(rungs), factor)

    def go_on(self, count: int) -> int:
        """How many of so many go on to the next rung."""
        return -(-count // self.factor)

    def cost(self, count: int) -> int:
        """What so many genomes cost, at the most.

        >>> Halving((1, 3, 9)).cost(9)  # 9 + 3 * 2 + 1 * 6
        21
        """
        spent = 0
        for rung, before in zip(self.rungs, (0, *self.rungs), strict=False):
            spent, count = spent + count * (rung - before), self.go_on(count)
        return spent

    @property
    def expected(self) -> int:
        """How far one of many that begin is trained in the mean, rounded up."""
        many = self.factor ** len(self.rungs)
        return -(-self.cost(many) // many)

    def affords(self, budget: float, most: int) -> int:
        """How many genomes a budget is enough for, `most` at the most; 1 at the least."""
        return next((count for count in range(most, 1, -1) if self.cost(count) <= budget), 1)


class Trainable(Protocol):
    """Whatever scores genomes. `from_function` makes one of a function."""

    def plan(self, genomes: Sequence[Genome], halving: Halving | None = None, rung: int = 0) -> Any:
        """How it will go about it, as a line of text (`str`) and for `score`: training them to their end, or to a rung
        of a halving, from where they were at the one before."""
        ...

    def score(self, genomes: Sequence[Genome], plan: Any, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
        """Scores as they come, each with the index of its genome; none for those in `skip`."""
        ...

    def forget(self, genome: Genome) -> None:
        """Told that a genome goes no further: what was kept for that need not be."""
        ...


class Proposal(NamedTuple):
    """A genome that a strategy wants scored, and the numbers of its parents among all that it has proposed."""

    genome: Genome
    parents: tuple[int, ...] = ()


Ranking = Callable[[Sequence[Score]], Sequence[float]]
"""What ranks scores beside each other: a number for each, higher is better."""


class Ask(NamedTuple):
    """One generation of a strategy.

    Attributes:
        proposals: what it wants scored.
        kept: numbers of earlier proposals that stay in the population beside them.
        halving: how the proposals are halved; None: each is trained to its end.
        undecided: whether the strategy may have them go on in its next ask, and decides that itself.
        fitness: of scores beside each other, by which those that go on are chosen; None: their value.
    """

    proposals: Sequence[Proposal]
    kept: Sequence[int] = ()
    halving: Halving | None = None
    undecided: bool = False
    fitness: Ranking | None = None


Strategy = Generator[Ask, Sequence[Score], None]
"""Sent the scores of the proposals, in their order, each of its last rung."""


class Trial(NamedTuple):
    """A proposal and its score.

    Attributes:
        number: among the proposals of the search, from 0.
        generation: that proposed it; the first is 0.
        genome: decoded.
        parents: numbers.
        score: of its training, at the last rung that it has reached.
        trained: whether it was trained for this proposal; otherwise its score was known.
        until: that rung, in the trainable's unit; None if it was trained to its end.
        rungs: values by rung, the first one first, the last one included; none if it was not halved.
    """

    number: int
    generation: int
    genome: Genome
    parents: tuple[int, ...]
    score: Score
    trained: bool
    until: int | None = None
    rungs: Mapping[int, float] = {}


class Generation(NamedTuple):
    """A generation that is done.

    Attributes:
        number: the first is 0.
        trials: of this generation.
        best, mean: score of its population, the members kept included; NaN if all failed.
        champion: number of the best trial so far; -1 if all failed.
        trained: genomes trained in it.
        spent: by the search up to here, what was known included, in the trainable's unit.
        plan: how, as a line of text, its first rung.
        undecided: whether the next one may train its genomes further.
    """

    number: int
    trials: Sequence[Trial]
    best: float
    mean: float
    champion: int
    trained: int
    spent: float
    plan: str
    undecided: bool = False


class KnownScore(NamedTuple):
    """A score, and where it was needed first: a genome that this generation itself has trained still belongs to its
    plan.

    Attributes:
        score: without the weights.
        search: its name.
        generation: of that search; the first is 0.
    """

    score: Score
    search: str
    generation: int


Known = MutableMapping[tuple[str, int | None], KnownScore]
"""Scores by `identity` of the genome, and how far it was trained (None: to its end)."""


class Callbacks(NamedTuple):
    """What is called as a search goes on. Each may raise, which ends the search; what is scored by then is known.

    To end it and have what it has found, `stop` says so: for a score that is good enough, for what was spent, or for a
    clock.

    >>> import jax
    >>> from jevo.hyperparams import parse_space, random_search
    >>> space = parse_space({"x": {"min": 0, "max": 99}}, "example")
    >>> strategy = random_search(space, jax.random.key(0), size=10, budget=100)
    >>> enough = Callbacks(stop=lambda generation: generation.best > 80)
    >>> trials, generations = search(strategy, from_function(lambda genome: genome["x"]), callbacks=enough)
    >>> len(generations) < 10, best_trial(trials).score.value > 80
    (True, True)

    Attributes:
        planned: `(generation, genomes to train, plan)`, before they are trained: of a halved one, for every rung.
        scored: `(trial)`, for each of them. Its score has the weights, unless it was trained before an interruption.
        done: `(generation)`, when all of it is scored.
        stop: `(generation)`, after `done`: whether the search ends there and returns what it has.
    """

    planned: Callable[[int, int, Any], None] = lambda generation, genomes, plan: None
    scored: Callable[[Trial], None] = lambda trial: None
    done: Callable[[Generation], None] = lambda generation: None
    stop: Callable[[Generation], bool] = lambda generation: False


def search(
    strategy: Strategy,
    trainable: Trainable,
    known: Known | None = None,
    name: str = "search",
    callbacks: Callbacks | None = None,
) -> tuple[list[Trial], list[Generation]]:
    """Run a strategy to its end, or until `callbacks.stop` says so.

    Args:
        strategy: asks.
        trainable: answers.
        known: scores, of this search when it was interrupted, and of others with the same trainable; new ones are
            added. Nothing that is in it is trained.
        name: of this search, in `known`.
        callbacks: called as it goes on.

    Returns:
        Every proposal with its score, and every generation.

    Raises:
        InputError: if the strategy asks for nothing; after the first generation, if every genome has failed.

    >>> import jax
    >>> from jevo.hyperparams import evolve, parse_space
    >>> space = parse_space({"x": {"min": 0, "max": 9}, "y": {"min": 0, "max": 9}}, "example")
    >>> strategy = evolve(space, jax.random.key(0), population=6, generations=3)
    >>> trials, generations = search(strategy, from_function(lambda genome: -abs(genome["x"] - genome["y"])))
    >>> len(trials), len(generations), best_trial(trials).score.value
    (18, 4, 0.0)
    """
    known, callbacks = {} if known is None else known, callbacks or Callbacks()
    trials: list[Trial] = []
    done: list[Generation] = []
    tally = Tally()
    if (ask := next(strategy, None)) is None:
        raise InputError(
            f"{name}: the strategy asks for nothing; its budget, or size of a generation, is to be above 0"
        )
    while True:
        first = len(trials)
        answer = _Answer(ask, trainable, known, (name, len(done)), first)
        found = answer.train(callbacks)
        trials += found
        for trial in found:
            tally.add(trial.genome, trial.score)
        done.append(_generation(len(done), trials, first, ask, len(answer.trained), tally.spent, answer.plan))
        callbacks.done(done[-1])
        if done[-1].champion < 0:
            # What fails every one of them, and none has ever succeeded, is no matter of genomes.
            raise InputError(
                f"{name}: all {len(trials):,} genomes so far failed, the first one for: {trials[0].score.reason}"
            )
        following = None
        if not callbacks.stop(done[-1]):
            with suppress(StopIteration):
                following = strategy.send([trial.score for trial in found])
        if ask.undecided:
            going = {identity(proposal.genome) for proposal in following.proposals} if following else set()
            for trial in found:
                if identity(trial.genome) not in going:
                    trainable.forget(trial.genome)
        if following is None:
            return trials, done
        ask = following


class _Answer:
    """The scores of an ask as they come.

    Attributes:
        values: of each genome by name, at the rungs that it has reached.
        trained: names of those that were trained for it.
        plan: of its first rung.
    """

    def __init__(self, ask: Ask, trainable: Trainable, known: Known, here: tuple[str, int], first: int):
        self._ask, self._trainable, self._known, self._here, self._first = ask, trainable, known, here, first
        self._names = [identity(proposal.genome) for proposal in ask.proposals]
        # Asked for twice in one generation, it is trained once: whoever is asked for first stands for the others.
        self._where = {name: self._names.index(name) for name in self._names}
        self._rungs: tuple[int | None, ...] = ask.halving.rungs if ask.halving else (None,)
        self._forgotten: set[str] = set()
        self.values: dict[str, list[float]] = {name: [] for name in self._where}
        self.trained: set[str] = set()
        self.plan = ""

    def train(self, callbacks: Callbacks) -> list[Trial]:
        """Train all of it, rung by rung."""
        alive = list(self._where)
        for rung in range(len(self._rungs)):
            last = rung + 1 == len(self._rungs)
            going = self._ask.halving.go_on(len(alive)) if self._ask.halving and not last else 0
            for _ in self._rung(rung, alive, callbacks):
                # Whoever cannot go on any more is forgotten at once: all of them together would fill the disk. Where
                # members are ranked beside each other, that is known at the end.
                if not self._ask.undecided and not self._ask.fitness:
                    self._forget(rung, alive, going)
            if not self._ask.undecided:
                self._forget(rung, alive, going)
            alive = self._ranked(rung, alive)[:going]
        ends = [self._rungs[len(self.values[name]) - 1] for name in self._names]
        return [self._trial(i, until) for i, until in enumerate(ends)]

    def _rung(self, rung: int, alive: Sequence[str], callbacks: Callbacks) -> Iterator[str]:
        """Train some to a rung; the name of each that was trained, as it has its score."""
        until, known = self._rungs[rung], self._known
        # Known from another generation or search, it is not trained at all.
        fresh = [n for n in alive if (n, until) not in known or known[n, until][1:] == self._here]
        self.trained.update(fresh)
        genomes = [self._genome(name) for name in fresh]
        plan = self._trainable.plan(genomes, self._ask.halving, rung)
        self.plan = self.plan or str(plan)
        callbacks.planned(self._here[1], len(fresh), plan)
        for name in alive:
            if name not in fresh:
                self.values[name].append(known[name, until].score.value)

        def scored(name: str, params: Member = None) -> str:
            self.values[name].append(known[name, until].score.value)
            trial = self._trial(self._where[name], until)
            callbacks.scored(trial._replace(score=trial.score._replace(params=params)))
            return name

        earlier = [i for i, name in enumerate(fresh) if (name, until) in known]
        for i in earlier:
            yield scored(fresh[i])
        for i, score in self._trainable.score(genomes, plan, earlier):
            # The weights are for the callback: all of them together would fill the memory.
            known[fresh[i], until] = KnownScore(score._replace(params=None), *self._here)
            yield scored(fresh[i], score.params)

    def _forget(self, rung: int, alive: Sequence[str], going: int) -> None:
        """Forget whoever is not among the best that have a score by now."""
        scored = {name for name in alive if len(self.values[name]) > rung}
        for name in scored - set(self._ranked(rung, alive)[:going]) - self._forgotten:
            self._forgotten.add(name)
            self._trainable.forget(self._genome(name))

    def _ranked(self, rung: int, alive: Sequence[str]) -> list[str]:
        """Those with a value at a rung, the best first, of equals the first; none that failed there."""
        there = [name for name in alive if len(self.values[name]) > rung and math.isfinite(self.values[name][rung])]
        at = [self.values[name][rung] for name in there]
        if self._ask.fitness and there:
            at = self._ask.fitness([self._known[name, self._rungs[rung]].score for name in there])
        return [there[i] for i in sorted(range(len(there)), key=lambda i: -at[i])]

    def _genome(self, name: str) -> Genome:
        return self._ask.proposals[self._where[name]].genome

    def _trial(self, i: int, until: int | None) -> Trial:
        name, (genome, parents) = self._names[i], self._ask.proposals[i]
        trained = i == self._where[name] and name in self.trained
        score, reached = self._known[name, until].score, zip(self._rungs, self.values[name], strict=False)
        rungs = {rung: value for rung, value in reached if rung is not None}
        return Trial(self._first + i, self._here[1], genome, tuple(parents), score, trained, until, rungs)


class Tally:
    """What the genomes of a search have cost so far: each counts once, as far as it was trained."""

    def __init__(self) -> None:
        self._of: dict[str, float] = {}

    def add(self, genome: Genome, score: Score) -> None:
        """Count a genome; again, if it was trained further."""
        name = identity(genome)
        self._of[name] = max(score.spent, self._of.get(name, 0.0))

    @property
    def spent(self) -> float:
        """By all of them, in the trainable's unit."""
        return sum(self._of.values())

    def __len__(self) -> int:
        return len(self._of)


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The best, and of equals the first; None if all failed."""
    alive = [trial for trial in trials if math.isfinite(trial.score.value)]
    return max(alive, key=lambda trial: trial.score.value, default=None)


def _generation(
    number: int, trials: Sequence[Trial], first: int, ask: Ask, trained: int, spent: float, plan: str
) -> Generation:
    population = [trials[i].score.value for i in ask.kept] + [trial.score.value for trial in trials[first:]]
    alive = [value for value in population if math.isfinite(value)]
    best = best_trial(trials)
    return Generation(
        number,
        trials[first:],
        max(alive, default=math.nan),
        float(np.mean(alive)) if alive else math.nan,
        best.number if best else -1,
        trained,
        spent,
        plan,
        ask.undecided,
    )


def from_function(function: Callable[..., Any], budgets: bool = False) -> Trainable:
    """A trainable that calls a function with one genome after another. An `Exception`, and a score that is no finite
    number, fail that genome alone, and say why.

    Args:
        function: `genome -> score`.
        budgets: whether it can be halved: then it is `(genome, until, state) -> (score, state)`, trains from a `state`
            that it gave before (None: from the start) until so many of its own units (None: to the end), and is
            taken to have spent `until` of them.
    """
    return _Function(function, budgets)


class _FunctionPlan(NamedTuple):
    genomes: int
    until: int | None

    def __str__(self) -> str:
        return f"{self.genomes} to score" + (f", to {self.until}" if self.until is not None else "")


class _Function:
    def __init__(self, function: Callable[..., Any], budgets: bool):
        self._function, self._budgets = function, budgets
        self._states: dict[str, Any] = {}

    def plan(self, genomes: Sequence[Genome], halving: Halving | None = None, rung: int = 0) -> _FunctionPlan:
        if halving and not self._budgets:
            raise InputError(
                "the search halves its genomes, but their function takes a genome alone; give from_function one that "
                "takes (genome, until, state), and budgets=True"
            )
        return _FunctionPlan(len(genomes), halving.rungs[rung] if halving else None)

    def score(
        self, genomes: Sequence[Genome], plan: _FunctionPlan, skip: Sequence[int] = ()
    ) -> Iterator[tuple[int, Score]]:
        for i in (i for i in range(len(genomes)) if i not in set(skip)):
            name, spent = identity(genomes[i]), float(plan.until or 1)
            try:
                # One of its own, which it may take apart.
                genome = copy.deepcopy(genomes[i])
                if self._budgets:
                    value, self._states[name] = self._function(genome, plan.until, self._states.get(name))
                else:
                    value = self._function(genome)
            except Exception as error:
                reason = f"{type(error).__name__}: {error} ({_place(error)})"
                yield i, Score(math.nan, spent, reason=reason)
                continue
            score, reason = _real(value)
            yield i, Score(score, spent, reason=reason)

    def forget(self, genome: Genome) -> None:
        self._states.pop(identity(genome), None)


def _place(error: Exception) -> str:
    """Where in the user's own file it was raised, or in a library that was called from there."""
    frames = traceback.extract_tb(error.__traceback__)[1:] or traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}"


def _real(value: Any) -> tuple[float, str]:
    """A score as a float, and why it is none: no number, or none that strategies, which count in float32, can hold."""
    try:
        array = np.asarray(value)
        number = float(array) if array.ndim == 0 and array.dtype.kind in "biuf" else None
    except Exception:  # Whatever an array may be made of.
        number = None
    if number is None:
        return math.nan, f"the score is {reprlib.repr(value)}, but takes one real number"
    most = float(np.finfo(np.float32).max)
    return (number, "") if abs(number) <= most else (math.nan, f"the score is {number}, no number that float32 has")
