"""The settings of the mask experiment."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from jevo.errors import require
from jevo.experiments.forward import ForwardConfig
from jevo.networks import MaskKind, Weights

BREEDING = (
    "breeders", "parents", "selection", "tournament_size", "crossover", "mutation", "mutation_rate",
    "final_mutation_rate", "redraw_ones", "consensus", "objectives", "thinning",
)  # fmt: skip
"""Settings that only the genetic search reads."""
GENETIC = {"search": "genetic", "population": 100, "generations": 500, "images": 2000}


@dataclass(frozen=True, kw_only=True)
class Config(ForwardConfig):
    """Evolve which weights of a frozen random network to keep, against random search at equal evaluations."""

    presets: ClassVar = {
        "default": {},
        "genetic": GENETIC,
        "distribution": {
            "search": "distribution", "population": 100, "generations": 1000, "images": 2000, "learning_rate": 110.0,
            "flips": 0.005,
        },
        "faithful": GENETIC | {
            "generations": 999, "fitness": "accuracy", "batches": "fixed", "first_image": 5000, "density": 0.9,
            "breeders": 17, "parents": 2, "crossover": "layer", "mutation": "redraw", "mutation_rate": 0.05,
            "final_mutation_rate": 0.05, "redraw_ones": 0.7, "consensus": 0,
        },
        "pareto": GENETIC | {"objectives": ("fitness", "kept"), "elites": 0.5, "validate_top": 32},
        "smoke": GENETIC | {
            "population": 20, "generations": 6, "hidden": (8,), "validate_every": 2, "checkpoint_every": 2,
            "reference_steps": 100,
        },
    }  # fmt: skip
    recipes: ClassVar = {
        "default": "node perturbation of one mask: the best one found",
        "genetic": "a population of masks, bred: fitness is all that it sees",
        "distribution": "a probability for each bit; fitness is all that it sees, too",
        "faithful": "the recipe as published",
        "pareto": "genetic, for two objectives: fitness, and few weights kept",
        "smoke": "a run of seconds, to see that all works",
    }
    common: ClassVar = ForwardConfig.common | {"mutation_rate", "objectives", "breeders", "flips"}
    examples: ClassVar = (
        "",
        "--preset genetic --generations 1000 --seed 1",
        "--data mnist --data-dir FOLDER --hidden 300 100 --reference",
        "--data my.npz --network my_net.py:make",
    )
    least_population: ClassVar = 1
    renamed: ClassVar = {
        "mates": "parents", "rate": "mutation_rate", "final_rate": "final_mutation_rate", "entrants": "tournament_size",
    }  # fmt: skip

    search: Literal["perturbation", "genetic", "distribution"] = "perturbation"
    """How masks are sought. perturbation: node perturbation of one, which takes no derivative, but reads the fitness of
    each example and what each layer adds up; genetic: many, bred; distribution: a probability for each bit. The last
    two see no more than each member's fitness, and have presets of their names."""
    population: int = 20
    """Members of the population."""
    objectives: tuple[Literal["fitness", "kept"], ...] = ("fitness",)
    """What the genetic search is after: fitness, or fitness kept. The latter also makes the share of weights kept as
    small as can be, by NSGA-II: members are ranked by front, and on a front the least crowded first. NSGA-II's elites
    are 0.5 (half of the population survive, half are children), as the preset pareto has it; all are scored every
    generation, and the result is a front. For masks that drop weights."""
    thinning: float = 0.01
    """Of fitness kept: the share of its weights that a child drops beside its mutation, at most; in the last fifth of
    the generations it grows geometrically to 1, for a long front. Each child draws its own, from a thirtieth of that,
    evenly by the logarithm."""
    weights: Weights = "signed_constant"
    """How the frozen weights are drawn."""
    mask: MaskKind = "mask"
    """What a bit does to its weight: mask (keep or drop), mask_rs (and rescale), flip (sign), mask_flip (both)."""
    density: float = 0.5
    """Probability that a bit of the first population is one. Of fitness kept, random search draws it for each
    member, evenly from 0 to 1."""
    selection: Literal["truncation", "tournament", "rank", "roulette"] = "truncation"
    """How parents are selected; only truncation looks at breeders."""
    tournament_size: int = 3
    """Members of which a tournament's best one breeds."""
    parents: int = 16
    """Parents of each child: 2, or a larger power of two for a crossover other than one_point."""
    crossover: Literal["uniform", "neuron", "layer", "one_point"] = "uniform"
    """What a child takes whole from any parent, at even odds: each bit, neuron or layer; one_point cuts the string of
    all bits once."""
    mutation: Literal["flip", "redraw"] = "flip"
    """What mutation does to a bit: invert it, or draw it anew."""
    mutation_rate: float = 3e-3
    """Probability that a bit mutates, at the first generation."""
    final_mutation_rate: float = 2e-4
    """The same at the last generation; the rate falls geometrically between."""
    redraw_ones: float = 0.5
    """Probability that a redrawn bit is one."""
    flips: float = 0.01
    """How unsure bits stay. Of node perturbation, whose noise is that of masks whose bits are flipped with this
    probability; of a distribution, the least probability of a one and of a zero."""
    learning_rate: float = 0.1
    """The first learning rate. Of node perturbation Adam's, of a distribution that of plain ascent."""
    noise: Literal["units", "masks"] = "units"
    """Of node perturbation, what its members are. units: noise on what each unit adds up, of the size that flipped bits
    would give; masks: each unit and example adds up by one of two masks, with bits flipped. That is two products for
    each layer, so a member counts as two evaluations then. They do well with --flips 0.05 and --learning-rate 0.15."""
    consensus: int = 20
    """Best members whose majority, bit by bit, is another candidate; 0 for none."""

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings that these others leave without effect."""
        names = {
            "perturbation": BREEDING,
            "genetic": ("flips", "learning_rate", "noise", "schedule"),
            "distribution": (*BREEDING, "noise"),
        }
        takes = f"effect only with another search, and this one is {self.search}; see --search, and --preset genetic"
        return {**super().unread, **dict.fromkeys(names.get(self.search, ()), takes)}

    @property
    def scheduled(self) -> str:
        """What of these settings is planned over the whole run."""
        if self.search != "genetic" or self.reference:
            return super().scheduled
        if len(self.objectives) > 1:
            return "its thinning grows in the last fifth of the generations"
        if self.mutation_rate != self.final_mutation_rate:
            return "its mutation_rate falls over them all; with as large a final_mutation_rate it can"
        return ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.tournament_size >= 1, "tournament_size", self.tournament_size, "at least 1")
        even = self.search == "genetic" or self.population % 2 == 0
        require(even, "population", self.population, f"an even number for the search {self.search}: members are pairs")
        if self.search == "distribution":
            require(0.001 <= self.flips < 0.5, "flips", self.flips, "0.001 or more, and below 0.5 for a distribution")
            require(0 < self.density < 1, "density", self.density, "a share between 0 and 1 for a distribution")
        if self.noise == "masks":
            require(self.flips <= 0.5, "flips", self.flips, "0.5 at most with --noise masks")
        if self.search == "perturbation":
            require(
                self.mask in ("mask", "flip"),
                "mask",
                self.mask,
                "mask or flip for node perturbation, or another search",
            )
            require(0 < self.density < 1, "density", self.density, "a share between 0 and 1 for node perturbation")
        plain = self.search == "genetic" and self.mask != "flip"
        takes = "fitness, or fitness kept" if plain else "fitness alone where a mask drops nothing"
        allowed = [("fitness",), ("fitness", "kept")] if plain else [("fitness",)]
        require(self.objectives in allowed, "objectives", " ".join(self.objectives), takes)
        require(0 < self.thinning <= 1, "thinning", self.thinning, "a share above 0, up to 1")
        require(0 < self.flips < 1, "flips", self.flips, "a probability between 0 and 1")
        require(0 < self.learning_rate <= 1e3, "learning_rate", self.learning_rate, "a number from 0 to 1,000")
        for name in ("density", "mutation_rate", "final_mutation_rate", "redraw_ones"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability between 0 and 1")
        require(self.consensus >= 0, "consensus", self.consensus, "a number of members, or 0")
        require(
            self.selection != "tournament" or self.tournament_size <= self.population,
            "tournament_size", self.tournament_size, f"at most the population of {self.population}",
        )  # fmt: skip

    @property
    def passes(self) -> int:
        """Forward passes that a member of the search costs, each an evaluation."""
        return 2 if self.noise == "masks" else 1

    @property
    def rescored(self) -> bool:
        """Whether all members are scored every generation."""
        # Of the other searches all members are new then, and those of the control are as many.
        return self.batches == "rotating" or self.search != "genetic" or len(self.objectives) > 1
