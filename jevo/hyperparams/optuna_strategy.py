"""Optuna's samplers as strategies, to compare with on the very same trainable. Needs the extra `optuna`."""

import math
from typing import Any

import jax.numpy as jnp

from jevo.errors import InputError, suggestion
from jevo.hyperparams.genes import Choice
from jevo.hyperparams.loop import Ask, Proposal, Strategy
from jevo.hyperparams.space import Space, identity
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
