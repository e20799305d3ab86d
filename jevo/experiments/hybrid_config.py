"""The settings of the hybrid experiment."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jevo.networks import Activation, Weights
from jevo.runs.config import RunConfig, require


@dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    """Train a population by gradient and mate it every cycle, against restarts at equal gradient steps."""

    presets: ClassVar = {
        "default": {},
        "faithful": {
            "network": "logistic", "bias": False, "weights": "uniform", "positive": "1", "center": 50.0, "scale": 50.0,
            "loss": "squared", "fitness": "train", "optimizer": "sgd", "lr": 1e-3, "schedule": "constant",
            "batch_size": 0, "keep": 4, "parents": "drawn", "mate": "uniform", "align": False, "guard": False,
            "consensus": False,
        },
    }  # fmt: skip

    checkpoint_every: int = 5
    """Legs from one checkpoint to the next: what a crash can lose [legs]."""
    members: int = 10
    """Networks of the population."""
    cycles: int = 10
    """Cycles of training; the population mates between them [cycles]."""
    steps: int = 600
    """Gradient steps of each member in a cycle [steps]."""
    legs: int = 3
    """Parts of a cycle: after each the networks are scored, and the run can stop and go on."""
    repeats: int = 1
    """Seeds to run side by side as one batch: seed, seed + 1, and so on."""
    network: Literal["logistic", "mlp", "cnn"] = "mlp"
    """Logistic regression, dense layers, or convolutions and then dense layers."""
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
    mate: Literal["average", "uniform", "neuron", "layer", "soup", "clone"] = "average"
    """How two parents make a child: their mean; each weight, neuron or layer from either; soup: the mean of all `keep`
    parents; clone: a copy of one, with its learning rate perturbed."""
    align: bool = True
    """Renumber the other parents' hidden units to match the first's."""
    guard: bool = True
    """A child that is worse than the mean of its parents, by more than rounding, gives its place to a copy of the better
    one. A clone keeps its place."""
    keep: int = 0
    """Best members that mate; 0 for all."""
    parents: Literal["in_turn", "drawn"] = "in_turn"
    """Those who mate do so in turn, each as often and with another; or every parent is drawn among them."""
    elites: int = 0
    """Best members that go on as they are; the others are replaced by children."""
    consensus: bool = True
    """After each leg, the mean of all members stands for champion beside them; it can win once they have mated."""
    chunk: int = 0
    """Members trained or bred side by side, of all seeds together, at most; 0 for what suits the device, and less where
    its memory is short."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("members", "cycles", "steps", "legs", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.chunk >= 0, "chunk", self.chunk, "a number of members, or 0")
        require(self.members >= 2, "members", self.members, "at least 2: a member mates with another")
        require(self.steps % self.legs == 0, "legs", self.legs, f"a divisor of the {self.steps} steps of a cycle")
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
        require(self.scale is None or self.scale > 0, "scale", self.scale, "a number > 0")
        require(self.batch_size >= 0, "batch_size", self.batch_size, "a number of examples, or 0 for all")
        require(0 <= self.keep <= self.members, "keep", self.keep, f"0 for all, or up to the {self.members} members")
        require(
            0 <= self.elites < self.members,
            "elites", self.elites, f"0 to {self.members - 1}, fewer than the members",
        )  # fmt: skip
