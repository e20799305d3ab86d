"""What a decoded genome says of a network: its layers with their true sizes, for examples of a given shape.

A genome holds `conv` and `dense`, lists of layers, and the settings of training. Whatever it leaves out has a default.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from jevo.errors import InputError, suggestion
from jevo.hyperparams import Genome, Group, Space
from jevo.mixed.optimizers import LEARNING_RATES, OPTIMIZERS
from jevo.networks import ACTIVATIONS, Activation

POOL_EVERY = 3
"""Convolutions from one 2x2 max-pooling to the next; one follows the last, too."""
ACTIVATION_NAMES = get_args(Activation)
"""An index of an activation is a position here."""


class Conv(NamedTuple):
    """A convolution, its activation, perhaps a 2x2 max-pooling, and dropout.

    Attributes:
        kernel: height and width.
        stride: in both directions.
        same: whether zeros around the image make up for the kernel; then the output is ceil(size / stride) wide.
        units: output channels.
        pool: whether a pooling follows.
        image: height and width of its input.
    """

    kernel: int
    stride: int
    same: bool
    units: int
    pool: bool
    image: tuple[int, int]

    @property
    def output(self) -> tuple[int, int]:
        """Height and width before the pooling."""
        taken = 0 if self.same else self.kernel - 1
        height, width = (-(-(size - taken) // self.stride) for size in self.image)
        return height, width

    @property
    def pooled(self) -> tuple[int, int]:
        """Height and width of what the next layer sees."""
        height, width = self.output
        return (height // 2, width // 2) if self.pool else (height, width)


class Architecture(NamedTuple):
    """One genome's network and how it is trained.

    Attributes:
        shape: of an example.
        classes: of the output.
        conv: convolutions, first to last.
        dense: units of each hidden dense layer.
        activation: its name, for each convolution and each hidden dense layer.
        dropout: after each of them, the probability that a unit is dropped in training.
        optimizer: its name.
        learning_rate, weight_decay, epochs: of training.
    """

    shape: tuple[int, ...]
    classes: int
    conv: tuple[Conv, ...]
    dense: tuple[int, ...]
    activation: tuple[str, ...]
    dropout: tuple[float, ...]
    optimizer: str
    learning_rate: float
    weight_decay: float
    epochs: int

    @property
    def flat(self) -> int:
        """Features that the first dense layer reads."""
        if not self.conv:
            return math.prod(self.shape)
        return math.prod(self.conv[-1].pooled) * self.conv[-1].units

    @property
    def layers(self) -> list[str]:
        """The layers' names, the output's last."""
        convs, denses = (
            [f"{kind}_{i}" for i in range(len(of))] for kind, of in (("conv", self.conv), ("dense", self.dense))
        )
        return [*convs, *denses, "output"]


GENES = {
    "conv": ("units", "kernel", "stride", "padding", "dropout", "activation"),
    "dense": ("units", "dropout", "activation"),
    "": ("optimizer", "lr", "weight_decay", "epochs"),
}
"""What a genome may hold, by group."""


def check_genes(space: Space) -> None:
    """Raise an InputError if a space has a gene that no network is built from."""
    loose = [name for name, gene in space.genes.items() if not isinstance(gene, Group)]
    groups = {name: list(gene.genes) for name, gene in space.genes.items() if isinstance(gene, Group)}
    for group, genes in {"": loose, **groups}.items():
        if group not in GENES:
            raise InputError(f"space has the group {group}, but a network has conv and dense")
        for gene in genes:
            if gene not in GENES[group]:
                where = f"{group}." if group else ""
                raise InputError(f"space has the gene {where}{gene}; {suggestion(gene, GENES[group])}")
    for group, genes in groups.items():
        if "units" not in genes:
            raise InputError(f"space has the group {group} without units")


def architecture(genome: Genome, shape: tuple[int, ...], classes: int, epochs: int) -> tuple[Architecture, list[str]]:
    """The network that a decoded genome describes, and what had to be repaired.

    A padding `valid` becomes `same` where the kernel is larger than the image, and an image one pixel wide is not
    pooled: so every genome is some network.

    Args:
        genome: decoded.
        shape: of an example.
        classes: of the output.
        epochs: where the genome does not say.

    Raises:
        InputError: for a value that no network can have, naming the gene.

    >>> found, repairs = architecture({"dense": [{"units": 32}, {"units": 16}]}, (8, 8, 1), 10, epochs=3)
    >>> found.flat, found.dense, found.layers, found.optimizer, repairs
    (64, (32, 16), ['dense_0', 'dense_1', 'output'], 'adam', [])
    """
    conv, repairs = _convolutions(genome.get("conv", []), shape)
    hidden = [*genome.get("conv", []), *genome.get("dense", [])]
    dense = [_whole(layer.get("units"), f"dense.{i}.units") for i, layer in enumerate(genome.get("dense", []))]
    for layer in hidden:
        name = layer.get("activation", "relu")
        if name not in ACTIVATIONS:
            raise InputError(f"gene activation is {name!r}; {suggestion(str(name), ACTIVATIONS)}")
        if not 0 <= layer.get("dropout", 0.0) < 1:
            raise InputError(f"gene dropout is {layer['dropout']}, but takes a share from 0, below 1")
    optimizer = genome.get("optimizer", "adam")
    if optimizer not in OPTIMIZERS:
        raise InputError(f"gene optimizer is {optimizer!r}; {suggestion(str(optimizer), OPTIMIZERS)}")
    rate, decay = float(genome.get("lr", LEARNING_RATES[optimizer])), float(genome.get("weight_decay", 0.0))
    if not rate > 0 or decay < 0:
        raise InputError(f"genes lr and weight_decay are {rate} and {decay}, but take a number > 0 and one >= 0")
    return Architecture(
        tuple(shape),
        classes,
        tuple(conv),
        tuple(dense),
        tuple(layer.get("activation", "relu") for layer in hidden),
        tuple(float(layer.get("dropout", 0.0)) for layer in hidden),
        optimizer,
        rate,
        decay,
        _whole(genome.get("epochs", epochs), "epochs"),
    ), repairs


def _convolutions(layers: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> tuple[list[Conv], list[str]]:
    if layers and len(shape) != 3:
        raise InputError("space has convolutions, but these examples are not images; use the space mlp or dense")
    image: tuple[int, int] = (shape[0], shape[1]) if layers else (0, 0)
    convs, repairs = [], []
    for i, layer in enumerate(layers):
        kernel, stride = (_whole(layer.get(name, or_else), f"conv.{i}.{name}") for name, or_else in _KERNEL.items())
        padding = layer.get("padding", "same")
        if padding not in ("same", "valid"):
            raise InputError(f"gene conv.{i}.padding is {padding!r}, but takes same or valid")
        if padding == "valid" and kernel > min(image):
            padding = "same"
            repairs.append(f"conv.{i}.padding same: a {kernel}x{kernel} kernel in an image {image[0]}x{image[1]}")
        units = _whole(layer.get("units"), f"conv.{i}.units")
        conv = Conv(kernel, stride, padding == "same", units, False, image)
        if (i + 1) % POOL_EVERY == 0 or i + 1 == len(layers):
            if min(conv.output) >= 2:
                conv = conv._replace(pool=True)
            else:
                repairs.append(f"conv.{i} not pooled: its output is {conv.output[0]}x{conv.output[1]}")
        convs.append(conv)
        image = conv.pooled
    return convs, repairs


_KERNEL = {"kernel": 3, "stride": 1}


def _whole(value: Any, gene: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"gene {gene} is {value}, but takes a whole number from 1")
    return value
