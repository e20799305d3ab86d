"""The settings of the autoencoder experiment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from jevo.errors import require
from jevo.genetics import number_of
from jevo.networks import Weights
from jevo.runs import BreedingConfig

PUBLISHED = (784, 500, 250, 100, 50)
"""Units of the published autoencoder, the inputs first."""

UNREAD = (
    "breeders", "parents", "crossover", "crossover_rate", "align", "steps", "batch_size", "restarts", "input_noise",
)  # fmt: skip
"""Settings that node perturbation does not read: nothing breeds, nor takes a gradient step."""

Method = Literal["ga", "perturbation", "ga-sgd", "sgd-layerwise", "sgd-joint"]
Rival = Literal["sgd-layerwise", "sgd-joint", "long-run"]

RIVALS: Mapping[str, tuple[str, ...]] = {
    "ga": ("random-search",),
    "perturbation": ("random-search",),
    "ga-sgd": ("sgd-layerwise", "sgd-joint"),
    "sgd-layerwise": ("sgd-joint",),
    "sgd-joint": ("sgd-layerwise",),
}
"""With whom each method competes unless the settings say: its control first, then the references."""
PRUNED, FINE_TUNED = "pruned", "fine-tuned"
"""What a rival's name ends with whose champion has lost weights, and has learnt since."""


@dataclass(frozen=True, kw_only=True)
class Config(BreedingConfig):
    """Evolve a tied autoencoder one weight matrix at a time; a support vector machine then reads its features."""

    presets: ClassVar = {
        "default": {},
        "faithful": {
            "crossover": "uniform", "crossover_rate": 0.2, "mutation": "random", "mutation_rate": 0.01, "prune": False,
            "schedule": "constant",
        },
        "ga": {
            "method": "ga", "population": 50, "generations": 150, "images": 500, "crossover": "uniform",
            "mutation": "random", "mutation_rate": 0.01, "checkpoint_every": 25,
        },
        "perturbation": {
            "method": "perturbation", "population": 10, "generations": 754, "images": 500, "mutation_rate": 1e-3,
            "lr": 1e-3, "validate_every": 25, "checkpoint_every": 50,
        },
        "pareto": {
            "method": "ga", "objectives": ("fitness", "zeros"), "population": 50, "generations": 150, "images": 500,
            "crossover": "uniform", "mutation": "random", "mutation_rate": 0.01, "validate_every": 10,
            "validate_top": 25, "checkpoint_every": 25,
        },
        "smoke": {
            "population": 6, "generations": 3, "shape": (64, 8, 4), "steps": 4, "images": 50, "svm_samples": 100,
            "checkpoint_every": 2, "sparse_rivals": False,
        },
    }  # fmt: skip
    recipes: ClassVar = {
        "default": "gradient steps of the better half, whose offspring replace the worse half",
        "faithful": "the recipe as published",
        "ga": "no gradient: a genetic algorithm alone",
        "perturbation": "no gradient: node perturbation of one network",
        "pareto": "ga, for two objectives: RMSE, and many zeros",
        "smoke": "a run of seconds, to see that all works",
    }
    groups: ClassVar = {
        "network": ("shape", "activation", "output", "bias", "weights", "target"),
        **BreedingConfig.groups,
    }
    common: ClassVar = BreedingConfig.common - {"goal"} | {
        "method", "population", "generations", "images", "steps", "lr", "mutation_rate", "crossover", "shape",
        "activation", "svm_samples",
    }  # fmt: skip
    examples: ClassVar = (
        "",
        "--data mnist --data-dir FOLDER",
        "--preset perturbation --shape 64 32 --activation tanh",
        "--preset pareto --data my.npz",
    )
    files: ClassVar = ("svm.skops",)
    renamed: ClassVar = {
        "mate": "crossover", "mate_rate": "crossover_rate", "erase": "mutation", "zero": "mutation_rate",
    }  # fmt: skip

    checkpoint_every: int = 5
    """Generations from one checkpoint to the next: what a crash can lose [generations]."""
    method: Method = "ga-sgd"
    """ga: no gradient (start from the preset ga). perturbation: no gradient either; one network learns by node
    perturbation, which reads the error of each example and what each layer adds up (start from the preset
    perturbation). ga-sgd: each generation the elites take gradient steps, and their offspring replace the others.
    sgd-layerwise, sgd-joint: restarts trained one layer at a time, or all at once."""
    objectives: tuple[Literal["fitness", "zeros"], ...] = ("fitness",)
    """What the method ga is after: fitness, which is 1 / RMSE, or fitness zeros, which also makes as many weights zero
    as can be, by NSGA-II: members are ranked by front, and on a front the least crowded first. The result is a front of
    whole autoencoders, so all layers are bred at once, for as many generations as their phases have together."""
    shape: tuple[int, ...] = ()
    """Units of every layer, the inputs first. Unset: 784 500 250 100 50 for 784 inputs, else four layers that fall
    geometrically to 50, or to half of the inputs if that is fewer."""
    activation: tuple[Literal["relu", "tanh", "sigmoid"], ...] = ("relu",)
    """Of the features: one for all layers, or one for each."""
    output: Literal["linear", "sigmoid"] = "linear"
    """Of the first layer's reconstruction, which is the image."""
    bias: bool = True
    """Whether layers have biases."""
    weights: Weights = "glorot"
    """How the first weights are drawn."""
    target: Literal["input", "image"] = "input"
    """What a layer is to reconstruct: its own input, or the image through the frozen decoder below it."""
    population: int = 10
    """Members of the population."""
    breeders: int | float = 0.5
    """The best members, which breed: a number of them, or a share of the population."""
    elites: int | float = 0.5
    """The best members, which survive, and under ga-sgd take gradient steps: a number of them, or a share."""
    generations: int = 40
    """Generations of each layer's phase, after its first population [generations]."""
    images: int = 2000
    """Train examples that score a generation, the next ones every generation; all of them if there are fewer."""
    validate_every: int = 1
    """Generations from one look at the validation set to the next [generations]."""
    validate_top: int = 1
    """Members that are candidates for champion, and for the front if there is one, then: the best."""
    mutation: Literal["smallest", "random"] = "smallest"
    """Which weights of a child become zero: the smallest ones, or any."""
    mutation_rate: float = 0.02
    """Share of a child's weights that becomes zero; under perturbation, of the network's in every generation. Under
    smallest it is drawn from 0 to twice this."""
    crossover: Literal["average", "uniform", "neuron"] = "average"
    """How parents make a child: their mean; or each weight or neuron from any."""
    crossover_rate: float = 0.5
    """Probability that uniform or neuron take the second parent's."""
    align: bool = False
    """Renumber the second parent's units to match the first's, under ga-sgd."""
    guard: bool = False
    """A child that is worse than the mean of its parents (by more than rounding) gives its place to a copy of the
    better one, under ga-sgd."""
    prune: bool = True
    """A weight that is exactly zero stays zero in training, under ga-sgd and perturbation."""
    noise: float = 0.1
    """Standard deviation of perturbation's noise on a layer's outputs, as a share of their root mean square."""
    restarts: int = 0
    """Networks that sgd-layerwise and sgd-joint train side by side; the best one counts. 0: as many as the population,
    or half as many if the gradient steps of a generation cannot be shared out evenly."""
    steps: int = 40
    """Gradient steps of a member in training in a generation [steps]."""
    batch_size: int = 100
    """Train examples in a gradient step [examples]."""
    lr: float = 2e-3
    """Learning rate of Adam."""
    tune_lr: tuple[float, ...] = ()
    """Learning rates that every phase of every contestant is run at: it goes on from what validation data prefer, and
    all budgets are so many times as large. Unset: lr alone."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate goes over a phase: to zero by a half cosine, or not at all."""
    input_noise: float = 0.0
    """Share of a layer's inputs that are zero in a gradient step, drawn anew for each; what it is to reconstruct has
    them all."""
    rivals: tuple[Rival, ...] = ()
    """Who competes at as many gradient steps, the control first: sgd-layerwise and sgd-joint, the best of restarts
    trained one layer at a time or all at once; long-run, one network that has a layer's steps to itself. Unset:
    sgd-layerwise sgd-joint."""
    sparse_rivals: bool = True
    """Judge every rival of ga-sgd with as many zeros in each layer as the search's champion has, too: its smallest
    weights go; as it is then, and fine-tuned while zeros stay zero."""
    fine_tuning: int = 2
    """Generations of a layer's fine-tuning, with the gradient steps of as many of its phase, beyond the budget of the
    others; by one network, at the same learning rate and schedule [generations]."""
    svm_samples: int = 0
    """Train examples that the support vector machine is fitted on; 0 for all [examples]."""

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings that these others leave without effect."""
        found: dict[str, str] = {}
        if self.method in ("ga", "perturbation"):
            steps = f"effect only with a method that takes gradient steps, and this one is {self.method}"
            found |= dict.fromkeys(("rivals", "tune_lr", "input_noise"), steps)
        elif self.tune_lr:
            found["lr"] = "effect only without tune_lr"
        if self.method != "ga-sgd":
            found |= dict.fromkeys(("guard", "fine_tuning"), "effect only with --method ga-sgd")
        elif not self.sparse_rivals:
            found["fine_tuning"] = "effect only with sparse_rivals"
        if self.method == "perturbation":
            found |= dict.fromkeys(UNREAD, "effect only with another method, and this one is perturbation")
        else:
            found["noise"] = "effect only with --method perturbation (see --preset perturbation)"
        return found

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("generations", "images", "steps", "batch_size", "validate_every", "validate_top", "fine_tuning"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        total = self.generations * self.steps
        require(total < 2**31, "generations x steps", total, f"a number below {2**31:,}")
        require(
            not self.shape or (len(self.shape) > 1 and min(self.shape) >= 1),
            "shape", self.shape, "the number of inputs and of each layer's units, such as 784 500 250 100 50",
        )  # fmt: skip
        require(
            len(self.activation) in (1, self.layers),
            "activation", self.activation, f"one for all layers, or one for each of the {self.layers}",
        )  # fmt: skip
        for name in ("mutation_rate", "crossover_rate"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a probability between 0 and 1")
        if self.method == "perturbation":
            require(self.population % 2 == 0, "population", self.population, "an even number: members are pairs")
        require(0 < self.noise <= 10, "noise", self.noise, "a number above 0, up to 10")
        allowed = [("fitness",), ("fitness", "zeros")] if self.method == "ga" else [("fitness",)]
        takes = "fitness, or fitness zeros" if self.method == "ga" else "fitness alone with another method than ga"
        require(self.objectives in allowed, "objectives", " ".join(self.objectives), takes)
        require(self.lr > 0, "lr", self.lr, "a number > 0")
        takes = "different numbers > 0, such as 0.0005 0.002 0.008"
        apart = len(set(self.tune_lr)) == len(self.tune_lr)
        require(apart and min(self.tune_lr, default=1) > 0, "tune_lr", self.tune_lr, takes)
        require(0 <= self.input_noise < 1, "input_noise", self.input_noise, "a share from 0 to below 1")
        takes = f"different ones, and not {self.method}, which is the experiment's own"
        apart = len({self.method, *self.rivals}) == 1 + len(self.rivals)
        require(apart, "rivals", " ".join(self.rivals), takes)
        require(self.learners >= 1, "elites", self.elites, "at least 1")
        require(self.lucky == 0 or self.method == "ga", "lucky", self.lucky, "0: without steps a member has no place")
        require(self.svm_samples >= 0, "svm_samples", self.svm_samples, "a number of examples, or 0 for all")
        require(
            self.restarts >= 0 and (self.learners * self.steps) % self.networks == 0,
            "restarts", self.restarts, f"a divisor of the {self.learners * self.steps} gradient steps of a generation",
        )  # fmt: skip

    def at_once(self, method: str) -> bool:
        """Whether a method, or a rival of one, has one phase for all layers together."""
        return method.startswith("sgd-joint") or len(self.objectives) > 1

    @property
    def contestants(self) -> list[str]:
        """Who competes, by name: the method, its control, then references."""
        rivals = self.rivals or RIVALS[self.method]
        sparse = rivals if self.sparse_rivals and self.method == "ga-sgd" else ()
        return [self.method, *rivals, *(f"{rival}-{how}" for rival in sparse for how in (PRUNED, FINE_TUNED))]

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates that every phase is run at."""
        return self.tune_lr or (self.lr,)

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.shape or PUBLISHED) - 1

    @property
    def learners(self) -> int:
        """Members that take gradient steps in a generation of ga-sgd: the elites."""
        return number_of(self.elites, self.population)

    @property
    def networks(self) -> int:
        """Networks that a method without mating trains."""
        even = (self.learners * self.steps) % self.population == 0
        return self.restarts or (self.population if even else self.learners)


def rival_of(name: str, ending: str) -> str:
    """Whose champion a contestant with this ending (`PRUNED`, `FINE_TUNED`) has; "" if it has another."""
    return name.removesuffix(f"-{ending}") if name.endswith(f"-{ending}") else ""


def widths(config: Config, inputs: int) -> tuple[int, ...]:
    """Units of every layer of an autoencoder for so many inputs, the inputs first.

    Raises:
        InputError: if the shape that the settings give begins with another number.
    """
    if config.shape:
        require(config.shape[0] == inputs, "shape", config.shape, f"the {inputs} inputs of these data first")
        return config.shape
    if inputs == PUBLISHED[0]:
        return PUBLISHED
    last = min(PUBLISHED[-1], math.ceil(inputs / 2))
    return (inputs, *(round(inputs * (last / inputs) ** (i / config.layers)) for i in range(1, config.layers + 1)))
