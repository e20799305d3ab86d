"""Initial weights, by name.

Each is `(key, shape, dtype) -> array`, as in `jax.nn.initializers`, for kernels `[..., in, out]`; the fan-in is
the product of all axes but the last.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.nn import initializers

from jevo.types import Key

Initializer = Callable[..., jax.Array]


def signed_constant(key: Key, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    """+-sqrt(2 / fan_in), the sign by a fair coin: a He initialisation that keeps only signs."""
    return levels(-1.0, 1.0)(key, shape, dtype) * _he_scale(shape)


def ternary(key: Key, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    """-1, 0 or 1, equally likely, times sqrt(2 / fan_in)."""
    return levels(-1.0, 0.0, 1.0)(key, shape, dtype) * _he_scale(shape)


def quaternary(key: Key, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    """-2, -1, 1 or 2, equally likely, times sqrt(2 / fan_in)."""
    return levels(-2.0, -1.0, 1.0, 2.0)(key, shape, dtype) * _he_scale(shape)


def levels(*values: float) -> Initializer:
    """One of these values for each weight, equally likely, not scaled."""

    def init(key: Key, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
        return jax.random.choice(key, jnp.asarray(values, dtype), tuple(shape))

    return init


def normal(key: Key, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    """Normal with mean 0.1 and standard deviation 0.05, as in the published mask experiments."""
    return 0.1 + 0.05 * jax.random.normal(key, tuple(shape), dtype)


def uniform(key: Key, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    """Uniform between -1 and 1."""
    return jax.random.uniform(key, tuple(shape), dtype, -1.0, 1.0)


INITIALIZERS: dict[str, Initializer] = {
    "signed_constant": signed_constant,
    "he": initializers.he_normal(),
    "he_uniform": initializers.he_uniform(),
    "glorot": initializers.glorot_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "normal": normal,
    "uniform": uniform,
    "binary": levels(-1.0, 1.0),
    "ternary": ternary,
    "quaternary": quaternary,
}


def _he_scale(shape: Sequence[int]) -> float:
    return math.sqrt(2 / math.prod(shape[:-1]))
