"""Seven optimizers as one formula, whose coefficients are looked up by a traced index.

All share one state, two arrays for each weight and a count, and equal optax's step for step. A formula rather than a
branch: no array of weights passes through a conditional, which would copy it, and under `vmap` nothing is computed
seven times.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jevo.types import Member

OPTIMIZERS = ("rmsprop", "adam", "sgd", "adagrad", "adadelta", "adamax", "nadam")
"""Their names; an index is a position here."""
LEARNING_RATES = dict(zip(OPTIMIZERS, (1e-3, 1e-3, 1e-2, 1e-2, 1.0, 2e-3, 2e-3), strict=True))
"""Where a genome has no learning rate: Keras's defaults of the time of the published runs."""
ADAGRAD_START = 0.1
"""What adagrad's sums of squares begin at, as in optax."""


class Coefficients(NamedTuple):
    """One optimizer's formula at one step, float32 `[]` each. With the gradient g and the slots m and v:

    m' = keep_first * m + add_first * g                     v' = keep_second * v + add_square * g^2
    step = (from_first * m' + from_gradient * g) * sqrt(numerator + numerator_first * m)
           / (divisor + divisor_second * v' + sqrt(root_second * v' + root))
    m' += add_step * step^2

    and with `maximum` above zero, v' = max(keep_second * v, |g| + maximum) instead.
    """

    keep_first: Any = 1.0
    add_first: Any = 0.0
    add_step: Any = 0.0
    keep_second: Any = 1.0
    add_square: Any = 0.0
    maximum: Any = 0.0
    from_first: Any = 0.0
    from_gradient: Any = 1.0
    numerator: Any = 1.0
    numerator_first: Any = 0.0
    divisor: Any = 0.0
    divisor_second: Any = 0.0
    root_second: Any = 0.0
    root: Any = 0.0


def start(shape: tuple[int, ...], optimizer: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two slots of an array of weights before the first step."""
    first_sum = jnp.where(optimizer == OPTIMIZERS.index("adagrad"), ADAGRAD_START, 0.0)
    return jnp.zeros(shape), jnp.full(shape, first_sum)


def coefficients(optimizer: jax.Array, count: jax.Array) -> Coefficients:
    """The formula of one step.

    Args:
        optimizer: int32 `[]`, an index into `OPTIMIZERS`.
        count: int32 `[]`, 1 for the first step.
    """
    time = count.astype(jnp.float32)
    first, second, ahead = 1 / (1 - 0.9**time), 1 / (1 - 0.999**time), 1 / (1 - 0.9 ** (time + 1))
    moments: dict[str, Any] = {"keep_first": 0.9, "add_first": 0.1, "keep_second": 0.999}
    squares: dict[str, Any] = {**moments, "add_square": 0.001, "divisor": 1e-8, "root_second": second}
    known = {
        "rmsprop": Coefficients(keep_second=0.9, add_square=0.1, root_second=1.0, root=1e-8),
        "adam": Coefficients(**squares, from_first=first, from_gradient=0.0),
        "sgd": Coefficients(divisor=1.0),
        "adagrad": Coefficients(add_square=1.0, root_second=1.0, root=1e-7),
        "adadelta": Coefficients(
            keep_first=0.9, add_step=0.1, keep_second=0.9, add_square=0.1, numerator=1e-6, numerator_first=1.0,
            root_second=1.0, root=1e-6,
        ),
        "adamax": Coefficients(**moments, maximum=1e-8, from_first=first, from_gradient=0.0, divisor_second=1.0),
        "nadam": Coefficients(**squares, from_first=0.9 * ahead, from_gradient=0.1 * first),
    }  # fmt: skip
    table = [jnp.stack([jnp.asarray(value, jnp.float32) for value in known[name]]) for name in OPTIMIZERS]
    return Coefficients(*jnp.stack(table)[optimizer])


def update(
    by: Coefficients,
    learning_rate: jax.Array,
    weight_decay: jax.Array,
    gradient: jax.Array,
    first: jax.Array,
    second: jax.Array,
    weights: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step of one array of weights.

    Args:
        by: the formula of this step.
        learning_rate: float32 `[]`.
        weight_decay: float32 `[]`, decoupled: a step takes `learning_rate * weight_decay` of every weight.
        gradient, first, second, weights: arrays of one shape.

    Returns:
        The weights and the two slots. A weight that is zero and has never had a gradient stays zero.
    """
    moved = by.keep_first * first + by.add_first * gradient
    summed = by.keep_second * second + by.add_square * gradient**2
    second = jnp.where(by.maximum > 0, jnp.maximum(by.keep_second * second, jnp.abs(gradient) + by.maximum), summed)
    numerator = (by.from_first * moved + by.from_gradient * gradient) * jnp.sqrt(
        by.numerator + by.numerator_first * first
    )
    step = numerator / (by.divisor + by.divisor_second * second + jnp.sqrt(by.root_second * second + by.root))
    return weights - learning_rate * (step + weight_decay * weights), moved + by.add_step * step**2, second


class Slots(NamedTuple):
    """A layer's weights and their optimizer's state.

    Attributes:
        params: arrays by name.
        moments: the two slots, each like the params.
    """

    params: Member
    moments: tuple[Member, Member]
