"""The settings of the hybrid experiment."""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

from jevo.errors import require
from jevo.networks import Activation, Weights
from jevo.runs import BreedingConfig
from jevo.runs.own import TAKES, is_own

BUILT_IN = ("logistic", "mlp", "cnn")

MIXED = {"papa": (10, 0.01), "wash": (1, 0.01)}
"""Crossovers that mix members as they train: every how many steps, and at what rate. papa's are the published ones; of
wash the rate hangs on the length of a run, and was chosen on validation data of digits."""
BREEDING: tuple[str, ...] = ("breeders", "parents", "elites", "lucky", "selection", "align", "guard")
"""Settings of those that replace members by children."""
MIXING: tuple[str, ...] = ("mix_every", "mix_rate", "mix_moments")
"""Settings of those that mix them."""
RULES: Mapping[str, Mapping[str, Any]] = {
    "papa": {"crossover": "papa", "consensus": True},
    "wash": {"crossover": "wash", "consensus": True},
    "pbt": {
        "crossover": "clone", "breeders": 0.2, "elites": 0.8, "lucky": 0, "selection": "truncation", "consensus": False,
        "lr_spread": 3.0,
    },
}  # fmt: skip
"""Rivals at their published settings; whoever is not here differs from the search in its crossover alone."""


class Point(NamedTuple):
    """What is tuned.

    Attributes:
        lr: learning rate.
        smoothing: of labels.
    """

    lr: Any
    smoothing: Any


@dataclass(frozen=True, kw_only=True)
class Config(BreedingConfig):
    """Train a population by gradient and mate it every cycle, against restarts at equal gradient steps."""

    presets: ClassVar = {
        "default": {},
        "faithful": {
            "network": "logistic", "bias": False, "weights": "uniform", "positive": "1", "center": 50.0, "scale": 50.0,
            "loss": "squared", "fitness": "train", "optimizer": "sgd", "lr": 1e-3, "schedule": "constant",
            "batch_size": 0, "breeders": 4, "selection": "truncation", "crossover": "uniform", "align": False,
            "guard": False, "consensus": False,
        },
        "smoke": {
            "population": 6, "cycles": 3, "steps": 6, "legs": 2, "hidden": (8,), "repeats": 2, "checkpoint_every": 2,
        },
    }  # fmt: skip
    recipes: ClassVar = {
        "default": "an MLP; a child is the mean of two parents whose hidden units are matched",
        "faithful": "the recipe as published",
        "smoke": "a run of seconds, to see that all works",
    }
    groups: ClassVar = {
        "network": (
            "network", "start", "hidden", "channels", "activation", "weights", "bias", "dropout", "positive", "center",
            "scale",
        ),
        **BreedingConfig.groups,
    }  # fmt: skip
    common: ClassVar = BreedingConfig.common | {
        "population", "cycles", "steps", "repeats", "network", "hidden", "channels", "optimizer", "lr", "batch_size",
        "crossover", "rivals",
    }  # fmt: skip
    examples: ClassVar = (
        "",
        "--data mnist --data-dir FOLDER --repeats 5",
        "--network cnn --channels 8 16 --crossover clone",
        "--data my.csv --label price --goal regression --network my_net.py:make",
    )
    longer: ClassVar = "cycles"
    renamed: ClassVar = {"members": "population", "mate": "crossover", "keep": "breeders"}

    checkpoint_every: int = 5
    """Legs from one checkpoint to the next: what a crash can lose [legs]."""
    population: int = 10
    """Networks of the population."""
    breeders: int | float = 1.0
    """The best members, which mate: a number of them (4), or a share of the population (0.25; 1.0 for all)."""
    elites: int | float = 0
    """The best members, which go on as they are: a number of them, or a share; the others are replaced by children."""
    cycles: int = 10
    """Cycles of training; the population mates between them [cycles]."""
    steps: int = 600
    """Gradient steps of each member in a cycle [steps]."""
    legs: int = 3
    """Parts of a cycle: after each the networks are scored, and the run can stop and go on."""
    repeats: int = 1
    """Seeds to run side by side as one batch: seed, seed + 1, and so on."""
    network: str = "mlp"
    """logistic, mlp, cnn, or one of your own: FILE.py:NAME or package.module:NAME. Logistic regression; dense layers;
    convolutions and then dense layers; a function or class that takes shape, outputs, and rngs for Flax NNX."""
    start: str = ""
    """A finished run, or a champion.safetensors, whose weights all members and both controls begin with."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden dense layer of mlp and cnn."""
    channels: tuple[int, ...] = (8, 16)
    """Channels of the 3x3 convolutions of cnn, each with a 2x2 max-pooling."""
    activation: Activation = "relu"
    """After each hidden layer."""
    weights: Weights = "he"
    """How the first weights are drawn."""
    bias: bool = True
    """Whether layers have biases."""
    dropout: float = 0.0
    """Probability that a unit of a hidden dense layer is dropped in training."""
    positive: str = ""
    """Class to tell from all others; unset: tell every class from every other."""
    center: float | None = None
    """Subtracted from every input feature. Unset: its mean over the train examples."""
    scale: float | None = None
    """Divides every input feature then. Unset: the standard deviation over the train examples."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """What gradients descend. squared: summed over the batch, and reported as mean |y - p|."""
    smoothing: float = 0.0
    """Share of each label that is spread over all classes in training, with cross_entropy."""
    fitness: Literal["validation", "train"] = "validation"
    """Examples whose loss decides who mates."""
    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "adagrad", "momentum", "sgd"] = "adam"
    """Optimizer of every member."""
    lr: float = 2e-3
    """Learning rate."""
    lr_spread: float = 1.0
    """Members' learning rates are drawn between lr / lr_spread and lr * lr_spread."""
    weight_decay: float = 0.0
    """Decoupled decay of adamw: a step takes lr * weight_decay of every weight."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate goes over the whole run: to zero by a half cosine, or not at all."""
    batch_size: int = 64
    """Train examples in a gradient step; 0 for all of them [examples]."""
    shared_batches: bool = False
    """All members of a seed see the same batches; otherwise each has shuffles of its own."""
    crossover: Literal["average", "uniform", "neuron", "layer", "soup", "clone", "papa", "wash"] = "average"
    """How parents make a child: their mean; each weight, neuron or layer from any; soup: the mean of all breeders;
    clone: a copy of one, with its learning rate times 1.2 or .8. Or no children: papa pulls all towards their mean as
    they train, wash shuffles weights among them."""
    rivals: tuple[Literal["papa", "wash", "pbt", "average", "uniform", "neuron", "layer", "soup", "clone"], ...] = ()
    """Other ways to mate, which compete beside the controls at as many gradient steps: papa, wash and pbt
    (population-based training) as published, others as these settings have it but for the crossover."""
    mix_every: int | None = None
    """Gradient steps from one mix of papa or wash to the next [steps]. Unset: 10 and 1, as published."""
    mix_rate: float | None = None
    """papa: share of its way to the mean that a member goes at first; it falls as lr does. wash: share of the first
    layer's weights that are shuffled; the last layer's are not, and it falls evenly between. Unset: .01 for both."""
    mix_moments: bool = False
    """wash shuffles the optimizer's moments with the weights."""
    tune_lr: tuple[float, ...] = ()
    """Learning rates to choose from, in place of lr. Every contestant runs at each point of the grid of these and
    tune_smoothing, and chooses one for each seed, by validation loss."""
    tune_smoothing: tuple[float, ...] = ()
    """Shares of label smoothing to choose from, in place of smoothing."""
    selection: Literal["shuffled", "truncation"] = "shuffled"
    """Breeders mate in turn, each as often and with another; or every parent is drawn among them."""
    align: bool = True
    """Renumber the other parents' hidden units to match the first's."""
    guard: bool = True
    """A child that is worse than the mean of its parents (by more than rounding) gives its place to a copy of the
    better one. A clone keeps its place."""
    consensus: bool = True
    """After each leg, the mean of all members stands for champion beside them; it can win once they have mated."""

    @property
    def unread(self) -> Mapping[str, str]:
        """Settings that these others leave without effect."""
        described = ("hidden", "channels", "activation", "weights", "bias", "dropout") if is_own(self.network) else ()
        found: dict[str, str] = dict.fromkeys(described, "its default: it has no effect on a network of your own")
        rules = {self.crossover, *self.rivals}
        if not rules - set(RULES):
            found |= dict.fromkeys(BREEDING, "its default: nobody here breeds by it")
        if not rules & set(MIXED):
            found |= dict.fromkeys(MIXING, "its default: it has no effect without papa or wash")
        elif set(MIXED) <= rules:
            found["mix_rate"] = "its default, where papa and wash both compete: each has its own"
        if rules & set(MIXED) and "wash" not in rules:
            found["mix_moments"] = "its default: it has no effect without wash"
        for name in ("lr", "smoothing"):
            if getattr(self, f"tune_{name}"):
                found[name] = f"its default: tune_{name} has it"
        if self.loss != "cross_entropy":
            found["tune_smoothing"] = "nothing: it has no effect without cross_entropy"
        return found

    @property
    def mixes(self) -> bool:
        """Whether members are mixed as they train, and not replaced by children."""
        return self.crossover in MIXED

    @property
    def mix(self) -> tuple[int, float]:
        """Every how many steps they are mixed, and at what rate."""
        every, rate = MIXED[self.crossover]
        return self.mix_every or every, rate if self.mix_rate is None else self.mix_rate

    @property
    def matches(self) -> bool:
        """Whether units are matched before weights are averaged or crossed."""
        return self.align and not self.mixes

    @property
    def points(self) -> list[Point]:
        """The grid from which contestants choose: one point, where nothing is tuned."""
        return [
            Point(*both)
            for both in itertools.product(self.tune_lr or (self.lr,), self.tune_smoothing or (self.smoothing,))
        ]

    @property
    def tuned(self) -> bool:
        """Whether there is something to choose."""
        return bool(self.tune_lr or self.tune_smoothing)

    def rival(self, name: str) -> Self:
        """The settings of a rival."""
        rule = RULES.get(name, {"crossover": name})
        without = BREEDING if name in MIXED else MIXING
        if name == "papa":
            without += ("mix_moments",)
        usual = {setting: getattr(type(self), setting) for setting in without}
        given = {} if self.lr_spread == 1 else {"lr_spread": self.lr_spread}
        return dataclasses.replace(self, rivals=(), **{**usual, **rule, **given})

    @property
    def scheduled(self) -> str:
        """What of these settings is planned over the whole run."""
        constant = self.schedule == "constant"
        return "" if constant else "its lr falls to zero by the last cycle; with --schedule constant it can"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cycles", "steps", "legs", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.repeats <= 1000, "repeats", self.repeats, "at most 1,000")
        require(self.steps % self.legs == 0, "legs", self.legs, f"a divisor of the {self.steps} steps of a cycle")
        total = self.cycles * self.steps
        require(total < 2**31, "cycles x steps", total, f"a number below {2**31:,}")
        if not is_own(self.network):
            require(self.network in BUILT_IN, "network", self.network, f"{', '.join(BUILT_IN)}, or {TAKES}")
        require(all(n >= 1 for n in self.hidden), "hidden", self.hidden, "widths >= 1")
        require(
            all(n >= 1 for n in self.channels) and (self.network != "cnn" or bool(self.channels)),
            "channels", self.channels, "widths >= 1, and for a cnn at least one",
        )  # fmt: skip
        for name in ("dropout", "smoothing"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a share from 0, below 1")
        require(self.lr > 0, "lr", self.lr, "a number > 0")
        require(self.lr_spread >= 1, "lr_spread", self.lr_spread, "a factor >= 1")
        require(
            self.weight_decay == 0 or (self.optimizer == "adamw" and self.weight_decay > 0),
            "weight_decay", self.weight_decay, "0, or with the optimizer adamw a number > 0",
        )  # fmt: skip
        require(self.center is None or abs(self.center) <= 1e30, "center", self.center, "a number from -1e30 to 1e30")
        require(self.scale is None or 1e-30 <= self.scale <= 1e30, "scale", self.scale, "a number from 1e-30 to 1e30")
        require(all(lr > 0 for lr in self.tune_lr), "tune_lr", self.tune_lr, "numbers > 0")
        require(
            all(0 <= share < 1 for share in self.tune_smoothing),
            "tune_smoothing", self.tune_smoothing, "shares from 0, below 1",
        )  # fmt: skip
        for name in ("tune_lr", "tune_smoothing", "rivals"):
            values = getattr(self, name)
            require(len(set(values)) == len(values), name, values, "each value once")
        rows = self.repeats * len(self.points)
        require(rows <= 1000, "repeats x points of the grid", rows, "at most 1,000")
        require(
            self.crossover not in self.rivals,
            "rivals",
            self.rivals,
            f"other crossovers than the search's {self.crossover}",
        )
        require(self.mix_every is None or self.mix_every >= 1, "mix_every", self.mix_every, "at least 1 step")
        require(self.mix_rate is None or 0 <= self.mix_rate <= 1, "mix_rate", self.mix_rate, "a share from 0 to 1")
        for name in {self.crossover, *self.rivals} & set(MIXED):
            every, leg = self.mix_every or MIXED[name][0], self.steps // self.legs
            require(leg % every == 0, "mix_every", every, f"for {name} a divisor of the {leg} steps of a leg")
        for name in self.rivals:
            self.rival(name)  # It says what it cannot be.
        require(self.batch_size >= 0, "batch_size", self.batch_size, "a number of examples, or 0 for all")
