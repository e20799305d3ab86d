"""What a decoded genome says of a network: its layers with their true sizes, for examples of a given shape.

A genome holds `conv` and `dense`, lists of layers, and the settings of training. Whatever it leaves out has a default.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jevo.hyperparams.optimizers import LEARNING_RATES, OPTIMIZERS
from jevo.hyperparams.space import Group, Space
from jevo.networks import ACTIVATIONS, Activation, Network
from jevo.networks.cnn import max_pool
from jevo.runs.config import suggestion
from jevo.types import InputError, Key, Member

POOL_EVERY = 3
"""Convolutions from one 2x2 max-pooling to the next; one follows the last, too."""
NAMES = get_args(Activation)
"""Activations; an index is a position here."""


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


def architecture(
    genome: Mapping[str, Any], shape: tuple[int, ...], classes: int, epochs: int
) -> tuple[Architecture, list[str]]:
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
        raise InputError("space has convolutions, but these examples are not images; use --space mlp or dense")
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


def network(of: Architecture) -> Network:
    """The network alone, without padding: for use after training.

    Params are `{"conv_0": {"kernel" [k, k, in, out], "bias" [out]}, ..., "dense_0": {"kernel" [in, out], "bias"}, ...,
    "output": ...}`. The first dense layer reads what the convolutions give channel by channel, `[out, height, width]`
    flattened.
    """
    convs, functions = of.conv, [ACTIVATIONS[name] for name in of.activation]

    def init(key: Key) -> Member:
        fresh, shapes = jax.nn.initializers.glorot_uniform(), kernel_shapes(of)
        keys = jax.random.split(key, len(shapes))
        return {
            name: {"kernel": fresh(keys[i], shape), "bias": jnp.zeros(shape[-1])}
            for i, (name, shape) in enumerate(shapes.items())
        }

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        h = channels_first(x, bool(convs))
        for i, name in enumerate(of.layers):
            kernel, bias = params[name]["kernel"], params[name]["bias"]
            if i < len(convs):
                h = convolve(h, kernel, convs[i].stride, convs[i].same) + bias[:, None, None, None]
            else:
                h = kernel.T @ h.reshape(-1, h.shape[-1]) + bias[:, None]
            if i < len(functions):
                h = functions[i](h)
            if i < len(convs) and convs[i].pool:
                h = max_pool(h)
        return h.T

    return Network(init, apply)


def kernel_shapes(of: Architecture) -> dict[str, tuple[int, ...]]:
    """The kernels' shapes by layer."""
    channels = [of.shape[-1], *(conv.units for conv in of.conv)]
    widths = [of.flat, *of.dense, of.classes]
    shapes: list[tuple[int, ...]] = [(c.kernel, c.kernel, channels[i], c.units) for i, c in enumerate(of.conv)]
    shapes += [(widths[i], widths[i + 1]) for i in range(len(widths) - 1)]
    return dict(zip(of.layers, shapes, strict=True))


def layer_key(key: Key, name: str) -> Key:
    """A layer's own key: the same whatever other layers there are."""
    kind, _, number = name.partition("_")
    return jax.random.fold_in(key, {"conv": 0, "dense": 1000, "output": 2000}[kind] + int(number or 0))


def first_weights(of: Architecture, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """The network's weights before training, by Glorot's uniform initialisation; biases are zero.

    Drawn on the host: in a compiled program, random numbers of two dimensions that do not depend on padding would take
    a quarter of the time that compiling takes.
    """
    params = {}
    for name, shape in kernel_shapes(of).items():
        taps, (fan_in, fan_out) = math.prod(shape[:-2]), shape[-2:]
        limit = math.sqrt(6 / (taps * (fan_in + fan_out)))
        draws = np.random.default_rng([seed, *name.encode()]).random(shape, np.float32)
        params[name] = {"kernel": (2 * draws - 1) * np.float32(limit), "bias": np.zeros(shape[-1], np.float32)}
    return params


def channels_first(x: jax.Array, images: bool) -> jax.Array:
    """Examples `[batch, ...]` as the layers read them: `[channels, height, width, batch]` or `[features, batch]`."""
    return x.transpose(3, 1, 2, 0) if images else x.reshape(x.shape[0], -1).T


def convolve(x: jax.Array, kernel: jax.Array, stride: int, same: bool) -> jax.Array:
    """`x [in, height, width, batch]` with `kernel [k, k, in, out]`: `[out, height', width', batch]`.

    As a product of the kernel and patches on every device: with a kernel for each member, XLA's own convolution is
    slow on the CPU and becomes a grouped one on a GPU.
    """
    size, outputs = kernel.shape[0], kernel.shape[-1]
    (top, bottom), (left, right) = (edges(n, size, stride, same) for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    x = jnp.concatenate([_every(x, 2, i, size, stride) for i in range(size)])
    x = jnp.concatenate([_every(x, 1, i, size, stride) for i in range(size)])
    return (kernel.reshape(-1, outputs).T @ x.reshape(len(x), -1)).reshape(outputs, *x.shape[1:])


def edges(size: int, kernel: Any, stride: int, same: bool) -> Any:
    """Zeros before and after an image `size` wide, as XLA and TensorFlow have them."""
    if not same:
        return 0, 0
    missing = (-(-size // stride) - 1) * stride + kernel - size
    total = max(missing, 0) if isinstance(missing, int) else jnp.maximum(missing, 0)
    return total // 2, total - total // 2


def _every(x: jax.Array, axis: int, first: int, kernel: int, stride: int) -> jax.Array:
    return jax.lax.slice_in_dim(x, first, x.shape[axis] - kernel + 1 + first, stride, axis)
