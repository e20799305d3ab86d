"""The settings of the mask experiment."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jevo.errors import require
from jevo.networks import Activation, MaskKind, Weights
from jevo.runs import BreedingConfig

STEPS = 100
"""Gradient steps that a line of a reference's metrics stands for."""


@dataclass(frozen=True, kw_only=True)
class Config(BreedingConfig):
    """Evolve which weights of a frozen random network to keep, against random search at equal evaluations."""

    presets: ClassVar = {
        "default": {},
        "faithful": {
            "generations": 999, "fitness": "accuracy", "batches": "fixed", "first_image": 5000, "density": 0.9,
            "breeders": 17, "parents": 2, "crossover": "layer", "mutation": "redraw", "mutation_rate": 0.05,
            "final_mutation_rate": 0.05, "redraw_ones": 0.7, "consensus": 0,
        },
        "pareto": {
            "objectives": ("fitness", "kept"), "elites": 0.5, "validate_top": 32,
        },
        "smoke": {
            "population": 20, "generations": 6, "hidden": (8,), "validate_every": 2, "checkpoint_every": 2,
            "reference_steps": 100,
        },
    }  # fmt: skip
    least_population: ClassVar = 1
    renamed: ClassVar = {
        "mates": "parents", "rate": "mutation_rate", "final_rate": "final_mutation_rate", "entrants": "tournament_size",
    }  # fmt: skip

    search: Literal["genetic", "perturbation"] = "genetic"
    """How masks are sought: bred by a genetic algorithm, or one mask by node perturbation, which takes no derivative
    but reads the fitness of each example and what each layer adds up."""
    generations: int = 500
    """Generations after the first population [generations]."""
    images: int = 2000
    """Train examples that score a generation; all of them if there are fewer [examples]."""
    batches: Literal["rotating", "fixed"] = "rotating"
    """Which examples: the next ones every generation, or the same ones always."""
    first_image: int = 0
    """Where the examples of the first generation begin in the train set [index]."""
    fitness: Literal["likelihood", "accuracy"] = "likelihood"
    """What is maximised: the mean log-likelihood of logits brought to a fixed spread, or the accuracy."""
    objectives: tuple[Literal["fitness", "kept"], ...] = ("fitness",)
    """What the genetic search is after: fitness, or fitness kept, which also makes the share of weights kept as small
    as can be, by NSGA-II: members are ranked by front, and on a front the least crowded first. NSGA-II's elites are 0.5
    (half of the population survive, half are children), as the preset pareto has it; all are scored every generation,
    and the result is a front. For masks that drop weights."""
    thinning: float = 0.01
    """Of fitness kept: the share of its weights that a child drops beside its mutation, at most; in the last fifth of
    the generations it grows geometrically to 1, for a long front. Each child draws its own, from a thirtieth of that,
    evenly by the logarithm."""
    spread: float = 2.0
    """Standard deviation to which logits are brought for the likelihood."""
    channels: tuple[int, ...] = ()
    """Channels of 3x3 convolutions before the dense layers, each with a 2x2 max-pooling; none for an MLP."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden dense layer."""
    activation: Activation = "relu"
    """After each hidden layer."""
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
    """Of node perturbation: its noise is that of masks whose bits are flipped with this probability."""
    learning_rate: float = 0.1
    """Of node perturbation: Adam's, which falls to zero by the last generation."""
    validate_every: int = 10
    """Generations from one look at the validation set to the next [generations]."""
    validate_top: int = 5
    """Members that are candidates for champion, and for the front, then: the best."""
    consensus: int = 20
    """Best members whose majority, bit by bit, is another candidate; 0 for none."""
    reference: bool = False
    """Also train masks by straight-through gradient, and the weights themselves, as reference lines."""
    reference_steps: int = 3000
    """Gradient steps of each reference, in hundreds [steps]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("images", "validate_every", "validate_top", "tournament_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        if self.search == "perturbation":
            even = self.population % 2 == 0
            require(even, "population", self.population, "an even number for node perturbation: members are pairs")
            require(self.mask in ("mask", "flip"), "mask", self.mask, "mask or flip for node perturbation")
            require(0 < self.density < 1, "density", self.density, "a share between 0 and 1 for node perturbation")
        plain = self.search == "genetic" and self.mask != "flip"
        takes = (
            "fitness, or fitness kept" if plain else "fitness alone where nothing is bred (search) or dropped (mask)"
        )
        allowed = [("fitness",), ("fitness", "kept")] if plain else [("fitness",)]
        require(self.objectives in allowed, "objectives", " ".join(self.objectives), takes)
        require(0 < self.flips < 1, "flips", self.flips, "a probability between 0 and 1")
        require(0 < self.learning_rate <= 1e3, "learning_rate", self.learning_rate, "a number from 0 to 1,000")
        for name in ("density", "mutation_rate", "final_mutation_rate", "redraw_ones"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability between 0 and 1")
        require(0 < self.thinning <= 1, "thinning", self.thinning, "a share above 0, up to 1")
        require(self.consensus >= 0, "consensus", self.consensus, "a number of members, or 0")
        require(self.generations >= 1, "generations", self.generations, "at least 1")
        require(
            self.selection != "tournament" or self.tournament_size <= self.population,
            "tournament_size", self.tournament_size, f"at most the population of {self.population}",
        )  # fmt: skip
        require(self.first_image >= 0, "first_image", self.first_image, "an index >= 0")
        require(self.spread > 0, "spread", self.spread, "a number > 0")
        require(all(n >= 1 for n in self.hidden + self.channels), "hidden or channels", self.hidden, "widths >= 1")
        require(
            self.reference_steps >= STEPS and self.reference_steps % STEPS == 0,
            "reference_steps", self.reference_steps, f"a multiple of {STEPS}",
        )  # fmt: skip

    @property
    def rescored(self) -> bool:
        """Whether survivors are scored again every generation."""
        return self.batches == "rotating" or self.search == "perturbation" or len(self.objectives) > 1
