"""Selection, crossover, mutation, and the algorithm that puts them together."""

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
from jevo.genetics.mating import barrier, guarded
from jevo.genetics.mutation import flip, gaussian, perturb, prune, redraw, reset, step, zero
from jevo.genetics.pareto import (
    Archive,
    as_objectives,
    crowding,
    empty_archive,
    fronts,
    hypervolume,
    nsga2_fitness,
    update_archive,
)
from jevo.genetics.selection import leaders, number_of, rank, roulette, shuffled, tournament, truncation

__all__ = [
    "CROSSOVERS",
    "Algorithm",
    "Archive",
    "Candidates",
    "Evaluate",
    "Learn",
    "Search",
    "State",
    "align",
    "aligned",
    "as_objectives",
    "average",
    "barrier",
    "chain",
    "clone",
    "crowding",
    "empty_archive",
    "flip",
    "follow",
    "fronts",
    "gaussian",
    "generation",
    "genetic",
    "guarded",
    "hypervolume",
    "lamarckian",
    "leaders",
    "nsga2_fitness",
    "number_of",
    "one_point",
    "perturb",
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
    "step",
    "tournament",
    "truncation",
    "uniform",
    "update_archive",
    "update_champion",
    "zero",
]
