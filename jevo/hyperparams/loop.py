"""The host's loop over genomes: a strategy asks for scores, a trainable gives them, and none is trained twice.

A strategy is a generator: it yields an `Ask` and is sent the scores. What it asks for depends on its key and on the
scores alone. So a search that was interrupted is simply done again, with the scores that are known already.
"""

import math
import reprlib
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from jevo.errors import InputError
from jevo.hyperparams.space import Genome, identity
from jevo.types import Member


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
    """Whatever scores genomes. `from_function` makes one of a function."""

    def plan(self, genomes: Sequence[Genome]) -> Any:
        """How it will go about it, as a line of text (`str`) and for `score`."""
        ...

    def score(self, genomes: Sequence[Genome], plan: Any, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
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
        generation: that proposed it; the first is 0.
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
        number: the first is 0.
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


class Callbacks(NamedTuple):
    """What is called as a search goes on. Each may raise, which ends the search; what is scored by then is known.

    Attributes:
        planned: `(generation, genomes to train, plan)`, before they are trained.
        scored: `(trial)`, for each of them. Its score has the weights, unless it was trained before an interruption.
        done: `(generation)`, when all of it is scored.
    """

    planned: Callable[[int, int, Any], None] = lambda generation, genomes, plan: None
    scored: Callable[[Trial], None] = lambda trial: None
    done: Callable[[Generation], None] = lambda generation: None


def search(
    strategy: Strategy,
    trainable: Trainable,
    known: MutableMapping[str, KnownScore] | None = None,
    name: str = "search",
    callbacks: Callbacks | None = None,
) -> tuple[list[Trial], list[Generation]]:
    """Run a strategy to its end.

    Args:
        strategy: asks.
        trainable: answers.
        known: scores by `identity`, of this search when it was interrupted, and of others with the same trainable;
            new ones are added. Nothing that is in it is trained.
        name: of this search, in `known`.
        callbacks: called as it goes on.

    Returns:
        Every proposal with its score, and every generation.

    Raises:
        InputError: after the first generation, if every genome has failed.

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
    ask = next(strategy)
    while True:
        number, first = len(done), len(trials)
        here = (name, number)
        names = [identity(proposal.genome) for proposal in ask.proposals]
        # Asked for twice in one generation, it is trained once; known from another generation or search, not at all.
        fresh = [n for n in dict.fromkeys(names) if n not in known or (known[n].search, known[n].generation) == here]
        earlier = [i for i, n in enumerate(fresh) if n in known]
        where = [names.index(n) for n in fresh]
        genomes = [ask.proposals[i].genome for i in where]

        def trial(i: int, score: Score, ask: Ask = ask, first: int = first, where: Sequence[int] = where) -> Trial:
            genome, parents = ask.proposals[i]
            return Trial(first + i, len(done), genome, tuple(parents), score, i in where)

        plan = trainable.plan(genomes)
        callbacks.planned(number, len(fresh), plan)
        for i in earlier:
            callbacks.scored(trial(where[i], known[fresh[i]].score))
        for i, score in trainable.score(genomes, plan, earlier):
            # The weights are for the callback: all of them together would fill the memory.
            known[fresh[i]] = KnownScore(score._replace(params=None), *here)
            callbacks.scored(trial(where[i], score))
        trials += [trial(i, known[n].score) for i, n in enumerate(names)]
        done.append(_generation(number, trials, first, ask.kept, len(fresh), str(plan)))
        callbacks.done(done[-1])
        if done[-1].champion < 0:
            # What fails every one of them, and none has ever succeeded, is no matter of genomes.
            raise InputError(
                f"{name}: all {len(trials):,} genomes so far failed, the first one for: {trials[0].score.reason}"
            )
        try:
            ask = strategy.send([trial.score.value for trial in trials[first:]])
        except StopIteration:
            return trials, done


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """The best, and of equals the first; None if all failed."""
    alive = [trial for trial in trials if math.isfinite(trial.score.value)]
    return max(alive, key=lambda trial: trial.score.value, default=None)


def _generation(
    number: int, trials: Sequence[Trial], first: int, kept: Sequence[int], trained: int, plan: str
) -> Generation:
    population = [trials[i].score.value for i in kept] + [trial.score.value for trial in trials[first:]]
    alive = [value for value in population if math.isfinite(value)]
    best = best_trial(trials)
    return Generation(
        number,
        trials[first:],
        max(alive, default=math.nan),
        float(np.mean(alive)) if alive else math.nan,
        best.number if best else -1,
        trained,
        plan,
    )


def from_function(function: Callable[[Genome], float]) -> Trainable:
    """A trainable that calls a function with one genome after another. An `Exception`, and a score that is no finite
    number, fail that genome alone, and say why."""
    return _Function(function)


class _Function:
    def __init__(self, function: Callable[[Genome], float]):
        self._function = function

    def plan(self, genomes: Sequence[Genome]) -> str:
        return f"{len(genomes)} to score"

    def score(self, genomes: Sequence[Genome], plan: Any, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
        for i in (i for i in range(len(genomes)) if i not in set(skip)):
            try:
                value = self._function(genomes[i])
            except Exception as error:
                yield i, Score(math.nan, reason=f"{type(error).__name__}: {error} ({_place(error)})")
                continue
            score, reason = _real(value)
            yield i, Score(score, reason=reason)


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
