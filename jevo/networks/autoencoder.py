"""Autoencoders with tied weights: the decoder uses the encoder's matrices, transposed.

One layer and a stack of layers are the same kind of thing, so that a layer can be trained alone.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jevo.networks.initializers import INITIALIZERS, Initializer
from jevo.networks.network import Network
from jevo.types import Axis, Key, Member, Symmetry


class Autoencoder(NamedTuple):
    """What the engine sees of an autoencoder.

    Attributes:
        init: `(key) -> params`.
        encode: `(params, x [batch, inputs]) -> features [batch, outputs]`.
        decode: `(params, features) -> x`, as it reconstructs it.
        symmetries: of each hidden layer, for aligned crossover.
    """

    init: Callable[[Key], Member]
    encode: Callable[[Member, jax.Array], jax.Array]
    decode: Callable[[Member, jax.Array], jax.Array]
    symmetries: tuple[Symmetry, ...] = ()


def tied(
    inputs: int,
    outputs: int,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    restore: Callable[[jax.Array], jax.Array] = lambda x: x,
    *,
    bias: bool = True,
    kernel_init: Initializer = INITIALIZERS["glorot"],
) -> Autoencoder:
    """One layer: `activation(x @ kernel + bias)`, and back `restore(h @ kernel.T + back)`.

    Args:
        inputs: units that it reads and reconstructs.
        outputs: units of its features.
        activation: of the features.
        restore: of the reconstruction.
        bias: whether it has the two biases, which start at zero.
        kernel_init: for the kernel `[inputs, outputs]`.

    >>> layer = tied(64, 16)
    >>> params = layer.init(jax.random.key(0))
    >>> layer.decode(params, layer.encode(params, jnp.ones((5, 64)))).shape
    (5, 64)
    """

    def init(key: Key) -> Member:
        params = {"kernel": kernel_init(key, (inputs, outputs), jnp.float32)}
        return params | ({"bias": jnp.zeros(outputs), "back": jnp.zeros(inputs)} if bias else {})

    def encode(params: Member, x: jax.Array) -> jax.Array:
        x = x @ params["kernel"]
        return activation(x + params["bias"][None, :] if bias else x)

    def decode(params: Member, features: jax.Array) -> jax.Array:
        x = features @ params["kernel"].T
        return restore(x + params["back"][None, :] if bias else x)

    own = [Axis(("kernel",), -1), *([Axis(("bias",), -1)] if bias else [])]
    return Autoencoder(init, encode, decode, (tuple(own),))


def stacked(layers: Sequence[Autoencoder]) -> Autoencoder:
    """Layers one upon another, with params `{"layer_0": ..., "layer_1": ...}`: decoding goes back through all of them.

    Args:
        layers: made by `tied`, first to last.
    """
    names = [f"layer_{i}" for i in range(len(layers))]

    def init(key: Key) -> Member:
        keys = jax.random.split(key, len(layers))
        return {name: layer.init(k) for name, layer, k in zip(names, layers, keys, strict=True)}

    def encode(params: Member, x: jax.Array) -> jax.Array:
        for name, layer in zip(names, layers, strict=True):
            x = layer.encode(params[name], x)
        return x

    def decode(params: Member, features: jax.Array) -> jax.Array:
        for name, layer in zip(names[::-1], layers[::-1], strict=True):
            features = layer.decode(params[name], features)
        return features

    units = [
        [Axis((name, *a.path), a.axis) for a in layer.symmetries[0]] for name, layer in zip(names, layers, strict=True)
    ]
    for (_, below), (following, above) in pairwise(zip(names, units, strict=True)):
        # A layer's units are the next one's inputs, and what it reconstructs.
        below.append(Axis((following, "kernel"), -2))
        if len(above) > 1:
            below.append(Axis((following, "back"), -1))
    return Autoencoder(init, encode, decode, tuple(map(tuple, units)))


def reconstruction(autoencoder: Autoencoder) -> Network:
    """The network that maps examples `[batch, ...]` to their reconstructions `[batch, inputs]`."""

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return autoencoder.decode(params, autoencoder.encode(params, x.reshape(x.shape[0], -1)))

    return Network(autoencoder.init, apply, autoencoder.symmetries)
