"""Hyperparameter genomes: what can be chosen, and how the choice is searched, for any function that scores a genome.

Nothing here trains a network: `jevo.mixed` does.
"""

from jevo.hyperparams.genes import Choice, LogInteger, Real
from jevo.hyperparams.loop import (
    Ask,
    Callbacks,
    Generation,
    Halving,
    Known,
    KnownScore,
    Proposal,
    Ranking,
    Score,
    Strategy,
    Tally,
    Trainable,
    Trial,
    best_trial,
    from_function,
    search,
)
from jevo.hyperparams.operators import redrawn, stepped
from jevo.hyperparams.optuna_strategy import optuna_search, parameters
from jevo.hyperparams.parsing import SPACES, parse_space
from jevo.hyperparams.space import Genome, Group, Space, flatten, identity
from jevo.hyperparams.strategies import Objectives, evolve, grid_search, hyperband, random_search

__all__ = [
    "SPACES",
    "Ask",
    "Callbacks",
    "Choice",
    "Generation",
    "Genome",
    "Group",
    "Halving",
    "Known",
    "KnownScore",
    "LogInteger",
    "Objectives",
    "Proposal",
    "Ranking",
    "Real",
    "Score",
    "Space",
    "Strategy",
    "Tally",
    "Trainable",
    "Trial",
    "best_trial",
    "evolve",
    "flatten",
    "from_function",
    "grid_search",
    "hyperband",
    "identity",
    "optuna_search",
    "parameters",
    "parse_space",
    "random_search",
    "redrawn",
    "search",
    "stepped",
]
