"""Optuna's samplers as strategies, to compare with on the very same trainable. Needs the extra `optuna`."""

import itertools
import math
from decimal import Decimal
from typing import Any

from jevo.errors import InputError, suggestion
from jevo.hyperparams.genes import Choice, Gene, LogInteger, Real, Scalar, rounded
from jevo.hyperparams.loop import Ask, Proposal, Strategy
from jevo.hyperparams.space import Path, Space, identity
from jevo.types import Member

TRIES = 10
"""How often as many trials as asked for may be proposals that were made before."""


def optuna_search(space: Space, sampler: str, seed: int, count: int, population: int) -> Strategy:
    """Optuna's `tpe` (one genome after another) or `nsga2` (a population at a time).

    Args:
        space: of the genomes.
        sampler: which.
        seed: of its draws.
        count: distinct genomes to propose; what it proposes again is answered, and not counted.
        population: of nsga2, and of what tpe draws at random to begin with.

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
    study = optuna.create_study(direction="maximize", sampler=make())
    seen: set[str] = set()
    for _ in range(TRIES * -(-count // at_once)):
        trials = [study.ask() for _ in range(min(at_once, count - len(seen)))]
        genomes = [space.decode(_suggested(space, trial)) for trial in trials]
        scores = yield Ask([Proposal(genome) for genome in genomes])
        for trial, score in zip(trials, scores, strict=True):
            if math.isfinite(score):
                study.tell(trial, score)
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        seen.update(map(identity, genomes))
        if len(seen) >= count:
            return


def _suggested(space: Space, trial: Any) -> Member:
    """An encoded genome of what a trial suggests: each active gene by its name in a decoded genome, with its values.

    So the sampler sees the conditions, and Optuna's own plots have the genes as they are.
    """

    def choose(path: Path, gene: Gene) -> Scalar:
        # Layers that share their genes have them once: conv.units.
        name = ".".join((path[0], path[2]) if path[1:2] == ("each",) else path)
        if not gene.varies:
            return gene.decode(0)
        if isinstance(gene, Real):
            return rounded(trial.suggest_float(name, gene.low, gene.high, log=gene.log), gene.low, gene.high)
        if isinstance(gene, LogInteger):
            return trial.suggest_int(name, gene.low, gene.high, log=True)
        if (step := _step(gene)) is None:
            return trial.suggest_categorical(name, gene.values)
        low, high = (float(gene.values[i] or 0) for i in (0, -1))
        if all(isinstance(value, int) for value in gene.values):
            return trial.suggest_int(name, int(low), int(high), step=int(step))
        return gene.values[round((trial.suggest_float(name, low, high, step=step) - low) / step)]

    return space.encode(space.built(choose))


def _step(gene: Choice) -> float | None:
    """From each value to the next, if these are numbers, at equal distances as they are written."""
    if not gene.ordered:
        return None
    numbers = [Decimal(str(value)) for value in gene.values]
    steps = {b - a for a, b in itertools.pairwise(numbers)}
    # Optuna counts steps in float64.
    return float(*steps) if len(steps) == 1 and max(map(abs, numbers)) < 2**53 else None
