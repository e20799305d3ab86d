"""What a decoded genome says of a network: its layers with their true sizes, for examples of a given shape.

A genome holds `conv` and `dense`, lists of layers, and the settings of training. Whatever it leaves out has a default.
"""

import itertools
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from jevo.errors import InputError, suggestion
from jevo.hyperparams import Choice, Genome, Group, Space
from jevo.mixed.optimizers import LEARNING_RATES, OPTIMIZERS
from jevo.networks import Activation

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
    def weights(self) -> dict[str, int]:
        """How many weights each layer has, by its name; biases not counted."""
        inputs = [self.shape[-1], *(conv.units for conv in self.conv)]
        convs = [conv.kernel**2 * before * conv.units for conv, before in zip(self.conv, inputs, strict=False)]
        units = [self.flat, *self.dense, self.classes]
        denses = [before * after for before, after in itertools.pairwise(units)]
        return dict(zip(self.layers, [*convs, *denses], strict=True))

    @property
    def parameters(self) -> int:
        """All its numbers: weights and biases."""
        biases = sum(conv.units for conv in self.conv) + sum(self.dense) + self.classes
        return sum(self.weights.values()) + biases

    @property
    def flops(self) -> int:
        """Of the products of a forward pass of one example: two for each weight, at every place that it is used."""
        places = [math.prod(conv.output) for conv in self.conv]
        return sum(2 * n * p for n, p in itertools.zip_longest(self.weights.values(), places, fillvalue=1))

    @property
    def layers(self) -> list[str]:
        """The layers' names, the output's last."""
        convs, denses = (
            [f"{kind}_{i}" for i in range(len(of))] for kind, of in (("conv", self.conv), ("dense", self.dense))
        )
        return [*convs, *denses, "output"]


class Rule(NamedTuple):
    """What a gene may be: `holds` of a value, in words `takes`; one of `names`, if there are any."""

    holds: Callable[[Any], bool]
    takes: str
    names: Sequence[str] = ()


def _whole(most: int) -> Rule:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most

    return Rule(holds, f"a whole number from 1 to {most:,}")


def _between(low: float, high: float, takes: str) -> Rule:
    """Numbers from `low`, below `high`."""

    def holds(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high

    return Rule(holds, takes)


def _one_of(names: Sequence[str]) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}", names)


def _or_null(rule: Rule) -> Rule:
    """For a gene that may be null, and then is left out: its default is what one expects of that."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.takes}, or null", rule.names)


_SIZE = _whole(2**31 - 1)
_LAYER = {
    "units": _SIZE,
    "dropout": _or_null(_between(0, 1, "a share from 0, below 1")),
    "activation": _one_of(ACTIVATION_NAMES),
}
GENES: dict[str, dict[str, Rule]] = {
    "conv": {**_LAYER, "kernel": _SIZE, "stride": _SIZE, "padding": _one_of(("same", "valid"))},
    "dense": _LAYER,
    "": {
        "optimizer": _one_of(tuple(OPTIMIZERS)),
        "lr": _or_null(_between(1e-38, 3.4e38, "a number > 0")),
        "weight_decay": _or_null(_between(0, 3.4e38, "a number >= 0")),
        "epochs": _or_null(_whole(1_000_000)),
    },
}
"""What a genome may hold, by group."""


def check_genes(space: Space) -> None:
    """Raise an InputError if a space has a gene, or any value of one, that no network is built from."""
    loose = {name: gene for name, gene in space.genes.items() if not isinstance(gene, Group)}
    groups = {name: gene for name, gene in space.genes.items() if isinstance(gene, Group)}
    for group, genes in {"": loose, **{name: of.genes for name, of in groups.items()}}.items():
        if group not in GENES:
            raise InputError(f"space has the group {group[:40]}, but a network has conv and dense")
        for name, gene in genes.items():
            where = f"{group}." if group else ""
            if name not in GENES[group]:
                raise InputError(f"space has the gene {where}{name[:40]}; {suggestion(name[:40], GENES[group])}")
            for value in gene.values if isinstance(gene, Choice) else (gene.low, gene.high):
                _require(group, name, value, f"{where}{name}")
    for group, of in groups.items():
        if "units" not in of.genes:
            raise InputError(f"space has the group {group} without units")
        if "units" in of.conditions:
            raise InputError(
                f"gene {group}.units has the condition {dict(of.conditions['units'])}, but every layer takes units; "
                "give the condition to the group"
            )


def _require(group: str, name: str, value: Any, where: str) -> Any:
    """A value of a gene, or an InputError that names the gene and what it takes."""
    rule = GENES[group][name]
    if not rule.holds(value):
        near = f"; {suggestion(value[:40], rule.names)}" if rule.names and isinstance(value, str) else ""
        raise InputError(f"gene {where} is {reprlib.repr(value)}{near or f', but takes {rule.takes}'}")
    return value


def largest(space: Space, shape: tuple[int, ...], classes: int) -> dict[str, int]:
    """Weights of each layer of the largest network that a space has, by the layer's name; where genes have conditions,
    of one at least as large.

    Args:
        space: that `check_genes` has let pass.
        shape: of an example.
        classes: of the output.

    Raises:
        InputError: if it has convolutions, and examples are not images.
    """

    def layers(name: str) -> tuple[dict[str, Any], list[int]]:
        """A layer with the most of all, and how many of them there may be."""
        group = space.genes.get(name)
        if not isinstance(group, Group):
            return {}, [0]
        genes = {}
        for gene, most in {"units": max, "kernel": max, "stride": min}.items():
            if gene in group.genes:
                values: Any = group.genes[gene].values  # pyright: ignore[reportAttributeAccessIssue]
                # Without the gene, the layer has its default.
                genes[gene] = most([*values, *([_KERNEL[gene]] if gene in group.conditions else [])])
        return genes, sorted({*group.counts, *([0] if name in space.conditions else [])})

    conv, convs = layers("conv")
    dense, denses = layers("dense")
    # Fewer convolutions shrink an image less, and a network without dense layers has a larger output.
    found = [
        architecture({"conv": [conv] * i, "dense": [dense] * j}, shape, classes, 1)[0].weights
        for i in convs
        for j in {denses[0], denses[-1]}
    ]
    return max(found, key=lambda weights: sum(weights.values()))


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
    genome = _without_nulls("", genome)
    genome |= {group: [_without_nulls(group, layer) for layer in genome.get(group, [])] for group in ("conv", "dense")}
    for group in ("conv", "dense"):
        for i, layer in enumerate(genome[group]):
            for name in ("units", *layer):
                _require(group, name, layer.get(name), f"{group}.{i}.{name}")
    optimizer = _require("", "optimizer", genome.get("optimizer", "adam"), "optimizer")
    settings = {"lr": LEARNING_RATES[optimizer], "weight_decay": 0.0, "epochs": epochs}
    settings = {name: _require("", name, genome.get(name, or_else), name) for name, or_else in settings.items()}
    conv, repairs = _convolutions(genome["conv"], shape)
    hidden = [*genome["conv"], *genome["dense"]]
    return Architecture(
        tuple(shape),
        classes,
        tuple(conv),
        tuple(layer["units"] for layer in genome["dense"]),
        tuple(layer.get("activation", "relu") for layer in hidden),
        tuple(float(layer.get("dropout", 0.0)) for layer in hidden),
        optimizer,
        float(settings["lr"]),
        float(settings["weight_decay"]),
        settings["epochs"],
    ), repairs


def _without_nulls(group: str, genes: Mapping[str, Any]) -> dict[str, Any]:
    """The genes of a genome, or of a layer, less those that are null as they may be."""
    rules = GENES[group]
    return {
        name: value
        for name, value in genes.items()
        if value is not None or name not in rules or not rules[name].holds(None)
    }


def _convolutions(layers: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> tuple[list[Conv], list[str]]:
    if layers:
        _require_images(shape)
    image: tuple[int, int] = (shape[0], shape[1]) if layers else (0, 0)
    convs, repairs = [], []
    for i, layer in enumerate(layers):
        kernel, stride, padding = (layer.get(name, or_else) for name, or_else in _KERNEL.items())
        if padding == "valid" and kernel > min(image):
            padding = "same"
            repairs.append(f"conv.{i}.padding same: a {kernel}x{kernel} kernel in an image {image[0]}x{image[1]}")
        conv = Conv(kernel, stride, padding == "same", layer["units"], False, image)
        if (i + 1) % POOL_EVERY == 0 or i + 1 == len(layers):
            if min(conv.output) >= 2:
                conv = conv._replace(pool=True)
            else:
                repairs.append(f"conv.{i} not pooled: its output is {conv.output[0]}x{conv.output[1]}")
        convs.append(conv)
        image = conv.pooled
    return convs, repairs


_KERNEL: dict[str, Any] = {"kernel": 3, "stride": 1, "padding": "same"}


def _require_images(shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise InputError("space has convolutions, but these examples are not images; use the space mlp or dense")
