"""Selection, crossover, mutation, the algorithm that puts them together, and evolution strategies."""

from jevo.genetics.algorithm import (
    Algorithm,
    Candidates,
    Evaluate,
    Learn,
    State,
    generation,
    genetic,
    lamarckian,
    random_search,
    replaced,
    scored,
)
from jevo.genetics.alignment import align, aligned, follow
from jevo.genetics.champion import Search, rounding, update_champion
from jevo.genetics.combine import chain, route
from jevo.genetics.crossover import CROSSOVERS, average, clone, one_point, uniform
from jevo.genetics.evosax import from_evosax
from jevo.genetics.mating import barrier, guarded
from jevo.genetics.mutation import flip, gaussian, perturb, prune, redraw, reset, step, zero
from jevo.genetics.selection import leaders, number_of, rank, roulette, shuffled, tournament, truncation
from jevo.genetics.strategies import (
    Bernoulli,
    Gaussian,
    bernoulli_es,
    centred_ranks,
    mode,
    open_es,
    pgpe,
    standardized,
)

__all__ = [
    "CROSSOVERS",
    "Algorithm",
    "Bernoulli",
    "Candidates",
    "Evaluate",
    "Gaussian",
    "Learn",
    "Search",
    "State",
    "align",
    "aligned",
    "average",
    "barrier",
    "bernoulli_es",
    "centred_ranks",
    "chain",
    "clone",
    "flip",
    "follow",
    "from_evosax",
    "gaussian",
    "generation",
    "genetic",
    "guarded",
    "lamarckian",
    "leaders",
    "mode",
    "number_of",
    "one_point",
    "open_es",
    "perturb",
    "pgpe",
    "prune",
    "random_search",
    "rank",
    "redraw",
    "replaced",
    "reset",
    "roulette",
    "rounding",
    "route",
    "scored",
    "shuffled",
    "standardized",
    "step",
    "tournament",
    "truncation",
    "uniform",
    "update_champion",
    "zero",
]
