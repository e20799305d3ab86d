"""Multi-layer perceptrons of any depth, as plain functions."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jevo.networks.initializers import INITIALIZERS, Initializer
from jevo.networks.network import Network
from jevo.networks.renumbering import chain
from jevo.types import Key, Member


def mlp(
    sizes: Sequence[int],
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    *,
    bias: bool = True,
    kernel_init: Initializer = INITIALIZERS["he"],
    dropout: float = 0.0,
) -> Network:
    """A fully connected network; its output is linear (logits).

    Args:
        sizes: units of the input, of each hidden layer, and of the output.
        activation: after each hidden layer.
        bias: whether layers have biases, which start at zero.
        kernel_init: for the kernels `[in, out]`.
        dropout: probability that a hidden unit is dropped in training, for one example.

    `apply` flattens its input to `[batch, sizes[0]]`.

    >>> network = mlp([64, 32, 10])
    >>> network.apply(network.init(jax.random.key(0)), jnp.ones((5, 8, 8, 1))).shape
    (5, 10)
    """
    names = [f"layer_{i}" for i in range(len(sizes) - 1)]

    def init(key: Key) -> Member:
        params = {}
        for i, (name, layer_key) in enumerate(zip(names, jax.random.split(key, len(names)), strict=True)):
            params[name] = {"kernel": kernel_init(layer_key, (sizes[i], sizes[i + 1]), jnp.float32)}
            if bias:
                params[name]["bias"] = jnp.zeros(sizes[i + 1])
        return params

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for i, name in enumerate(names):
            x = x @ params[name]["kernel"]
            if bias:
                x = x + params[name]["bias"][None, :]
            if name != names[-1]:
                x = activation(x)
                if dropout and key is not None:
                    kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - dropout, x.shape)
                    x = jnp.where(kept, x / (1 - dropout), 0)
        return x

    return Network(init, apply, chain(names, bias))


def logistic(
    features: int, classes: int, *, bias: bool = True, kernel_init: Initializer = INITIALIZERS["he"]
) -> Network:
    """Logistic regression; for two classes with one output, so that the first class has logit zero."""
    if classes > 2:
        return mlp([features, classes], bias=bias, kernel_init=kernel_init)
    one = mlp([features, 1], bias=bias, kernel_init=kernel_init)

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return jnp.pad(one.apply(params, x), ((0, 0), (1, 0)))

    return Network(one.init, apply)
