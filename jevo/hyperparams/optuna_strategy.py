"""Optuna's samplers as strategies, to compare with on the very same trainable. Needs the extra `optuna`."""

import math
from collections.abc import Generator, Sequence
from typing import Any

import jax.numpy as jnp

from jevo.errors import InputError, suggestion
from jevo.hyperparams.genes import Choice
from jevo.hyperparams.loop import Ask, Halving, Proposal, Score, Strategy, Tally
from jevo.hyperparams.space import Space
from jevo.types import Member

REPEATS = 200
"""Trials in a row that may be proposals that were made before."""


def optuna_search(
    space: Space, sampler: str, seed: int, budget: float, population: int, halving: Halving | None = None
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


def _suggested(space: Space, trial: Any) -> Member:
    """An encoded genome of what a trial suggests."""
    found: Member = {}
    for path, gene in space.leaves().items():
        name = ".".join(path)
        if not isinstance(gene, Choice):
            value = jnp.float32(trial.suggest_float(name, 0.0, 1.0))
        elif gene.ordered:
            value = jnp.int32(trial.suggest_int(name, 0, len(gene.values) - 1))
        else:
            value = jnp.int32(trial.suggest_categorical(name, list(range(len(gene.values)))))
        at = found
        for part in path[:-1]:
            at = at.setdefault(part, {})
        at[path[-1]] = value
    return found
