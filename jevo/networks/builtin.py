"""The built-in networks, from settings by name."""

import math
from typing import Any, Literal

from jevo.errors import InputError
from jevo.networks.convolutional import cnn
from jevo.networks.initializers import INITIALIZERS
from jevo.networks.network import ACTIVATIONS, Network
from jevo.networks.perceptron import mlp

Activation = Literal["relu", "sigmoid", "swish", "elu", "selu", "tanh", "linear"]
Weights = Literal[
    "signed_constant", "he", "he_uniform", "glorot", "glorot_uniform", "normal", "uniform",
    "binary", "ternary", "quaternary",
]  # fmt: skip


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    channels: tuple[int, ...] = (),
    hidden: tuple[int, ...] = (),
    activation: Activation = "relu",
    weights: Weights = "he",
    bias: bool = True,
    dropout: float = 0.0,
) -> Network:
    """A network for examples of `shape`: an MLP, or with channels a CNN.

    Args:
        shape: of one example, without the batch axis.
        outputs: units of the last layer.
        channels: of each 3x3 convolution, which a 2x2 max-pooling follows.
        hidden: units of each hidden dense layer.
        activation: after each hidden layer.
        weights: how kernels are drawn at first.
        bias: whether layers have biases.
        dropout: probability that a unit of a hidden dense layer is dropped in training.

    Raises:
        InputError: for convolutions over examples that are not images, or are too small.
    """
    sizes, function = (*hidden, outputs), ACTIVATIONS[activation]
    settings: Any = {"bias": bias, "kernel_init": INITIALIZERS[weights], "dropout": dropout}
    if not channels:
        return mlp([math.prod(shape), *sizes], function, **settings)
    if len(shape) != 3:
        raise InputError(f"setting channels is {channels}, but takes no convolutions, as these examples are not images")
    try:
        return cnn(shape, channels, sizes, function, **settings)
    except ValueError as error:
        raise InputError(f"setting channels is {channels}: {error}") from None
