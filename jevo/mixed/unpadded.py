"""A network of its own true sizes: its weights before training, and what it computes, as jevo's other networks do."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jevo.mixed.architectures import Architecture
from jevo.networks import ACTIVATIONS, Network
from jevo.networks.convolutional import convolve_patches, max_pool
from jevo.types import Key, Member


def network(of: Architecture) -> Network:
    """The network alone, without padding: for use after training.

    Params are `{"conv_0": {"kernel" [k, k, in, out], "bias" [out]}, ..., "dense_0": {"kernel" [in, out], "bias"}, ...,
    "output": ...}`. The first dense layer reads what the convolutions give channel by channel, `[out, height, width]`
    flattened.

    >>> from jevo.mixed import architecture
    >>> found, _ = architecture({"dense": [{"units": 32}]}, (8, 8, 1), 10, epochs=3)
    >>> trained = network(found)
    >>> trained.apply(trained.init(jax.random.key(0)), jnp.ones((5, 8, 8, 1))).shape
    (5, 10)
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
                h = convolve_patches(h, kernel, convs[i].stride, convs[i].same) + bias[:, None, None, None]
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
