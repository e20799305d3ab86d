"""Optuna's samplers as strategies, to compare with on the very same trainable. Needs the extra `optuna`."""

import itertools
import math
from collections.abc import Generator, Sequence
from decimal import Decimal
from typing import Any

from jevo.errors import InputError, suggestion
from jevo.hyperparams.genes import Choice, Gene, LogInteger, Real, Scalar, rounded
from jevo.hyperparams.loop import Ask, Halving, Proposal, Score, Strategy, Tally
from jevo.hyperparams.space import Genome, Path, Space, flatten
from jevo.types import Member

REPEATS = 200
"""Trials in a row that may be proposals that were made before."""


def optuna_search(
    space: Space,
    sampler: str,
    seed: int,
    budget: float,
    population: int,
    halving: Halving | None = None,
    first: Sequence[Genome] = (),
) -> Strategy:
    """Optuna's `tpe` (one genome after another) or `nsga2` (a population at a time).

    Args:
        space: of the genomes.
        sampler: which.
        seed: of its draws.
        budget: to spend, in the trainable's unit (`Score.spent`). What it proposes again costs nothing.
        population: of nsga2, and of what tpe draws at random to begin with.
        halving: None: none. Otherwise tpe's genomes are trained from rung to rung until Optuna's own pruner for
            Hyperband, with these resources and this factor, stops them.
        first: genomes to begin with.

    Raises:
        InputError: if Optuna is not installed, or the sampler is unknown.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("Optuna is not installed; install jevo[optuna], or take control random") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {
        "tpe": (lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=population), 1),
        "nsga2": (lambda: optuna.samplers.NSGAIISampler(seed=seed, population_size=population), population),
    }
    if sampler not in samplers:
        raise InputError(f"sampler {sampler!r} is unknown; {suggestion(sampler, samplers)}")
    make, at_once = samplers[sampler]
    pruner = optuna.pruners.NopPruner()
    if halving:
        rungs, at_once = halving.rungs, 1
        pruner = optuna.pruners.HyperbandPruner(rungs[0], rungs[-1], halving.factor)
    # The pruner draws a trial's bracket from the name of the study.
    study = optuna.create_study(study_name=sampler, direction="maximize", sampler=make(), pruner=pruner)
    for genome in first:
        study.enqueue_trial({name: value for name, (value, _) in parameters(space, genome).items()})
    tally, repeated, dearest = Tally(), 0, 0.0
    while (left := budget - tally.spent) > 0 and repeated < REPEATS:
        count = min(at_once, max(int(left / dearest), 1)) if dearest else at_once
        trials = [study.ask() for _ in range(count)]
        genomes = [space.decode(_suggested(space, trial)) for trial in trials]
        before, known = tally.spent, len(tally)
        proposals = [Proposal(genome) for genome in genomes]
        if halving:
            scores = [(yield from _pruned(trials[0], proposals[0], halving))]
        else:
            scores = yield Ask(proposals)
        for trial, genome, score in zip(trials, genomes, scores, strict=True):
            tally.add(genome, score)
            if not math.isfinite(score.value):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            elif halving and score.spent < halving.rungs[-1] and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, score.value)
        repeated = repeated + count if len(tally) == known else 0
        dearest = max(dearest, (tally.spent - before) / count)


def _pruned(trial: Any, proposal: Proposal, halving: Halving) -> Generator[Ask, Sequence[Score], Score]:
    """Train a genome from rung to rung, until the study's pruner stops it; its last score."""
    score = Score(math.nan)
    for rung in halving.rungs:
        (score,) = yield Ask([proposal], (), Halving((rung,), halving.factor), undecided=rung < halving.rungs[-1])
        if not math.isfinite(score.value):
            break
        trial.report(score.value, rung)
        if trial.should_prune():
            break
    return score


def parameters(space: Space, genome: Genome) -> dict[str, tuple[Any, Any]]:
    """A genome as Optuna has it: `(value, distribution)` by name, of the genes that are active and vary.

    >>> from jevo.hyperparams import parse_space
    >>> momentum = {"values": [0.0, 0.9], "when": {"optimizer": "sgd"}}
    >>> space = parse_space({"optimizer": ["adam", "sgd"], "momentum": momentum}, "example")
    >>> list(parameters(space, {"optimizer": "adam"}))
    ['optimizer']
    >>> parameters(space, {"optimizer": "sgd", "momentum": 0.9})["momentum"]
    (0.9, FloatDistribution(high=0.9, log=False, low=0.0, step=0.9))
    """
    columns, found = flatten(genome), {}

    def choose(path: Path, gene: Gene) -> Scalar:
        value = columns[".".join((path[0], "0", path[2]) if path[1:2] == ("each",) else path)]
        if gene.varies:
            found[_name(path)] = value, _distribution(gene)
        return value

    space.built(choose)
    return found


def _suggested(space: Space, trial: Any) -> Member:
    """An encoded genome of what a trial suggests: each active gene by its name in a decoded genome, with its values.

    So the sampler sees the conditions, and Optuna's own plots have the genes as they are.
    """

    def choose(path: Path, gene: Gene) -> Scalar:
        if not gene.varies:
            return gene.decode(0)
        name, of = _name(path), _distribution(gene)
        if hasattr(of, "choices"):
            return trial.suggest_categorical(name, of.choices)
        if isinstance(of.low, int):
            return trial.suggest_int(name, of.low, of.high, step=of.step, log=of.log)
        number = trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)
        if isinstance(gene, Real):
            return rounded(number, gene.low, gene.high)
        return gene.values[round((number - of.low) / of.step)]

    return space.encode(space.built(choose))


def _name(path: Path) -> str:
    """What Optuna calls a gene; layers that share their genes have them once: conv.units."""
    return ".".join((path[0], path[2]) if path[1:2] == ("each",) else path)


def _distribution(gene: Gene) -> Any:
    """The values of a gene, as a distribution of Optuna's."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(gene, Real):
        return FloatDistribution(gene.low, gene.high, log=gene.log)
    if isinstance(gene, LogInteger):
        return IntDistribution(gene.low, gene.high, log=True)
    if (step := _step(gene)) is None:
        return CategoricalDistribution(gene.values)
    low, high = (float(gene.values[i] or 0) for i in (0, -1))
    if all(isinstance(value, int) for value in gene.values):
        return IntDistribution(int(low), int(high), step=int(step))
    return FloatDistribution(low, high, step=step)


def _step(gene: Choice) -> float | None:
    """From each value to the next, if these are numbers, at equal distances as they are written."""
    if not gene.ordered:
        return None
    numbers = [Decimal(str(value)) for value in gene.values]
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    # Optuna counts steps in float64.
    return float(*steps) if len(steps) == 1 and max(map(abs, numbers)) < 2**53 else None
