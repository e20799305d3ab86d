"""Seven optimizers as one formula, whose coefficients are looked up by a traced index.

All share one state, two arrays for each weight and a count, and equal optax's step for step. A formula rather than a
branch: no array of weights passes through a conditional, which would copy it, and under `vmap` nothing is computed
seven times.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo.types import Member


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
    from_gradient: Any = 0.0
    numerator: Any = 1.0
    numerator_first: Any = 0.0
    divisor: Any = 0.0
    divisor_second: Any = 0.0
    root_second: Any = 0.0
    root: Any = 0.0


class _Rule(NamedTuple):
    """An optimizer: what does not change from step to step, and what is divided by what moments are short of.

    Attributes:
        fixed: the coefficients without corrections.
        first, ahead: of `from_first`, over 1 - 0.9^t and over 1 - 0.9^(t + 1).
        gradient: of `from_gradient`, over 1 - 0.9^t.
        second: of `root_second`, over 1 - 0.999^t.
    """

    fixed: Coefficients
    first: float = 0.0
    ahead: float = 0.0
    gradient: float = 0.0
    second: float = 0.0


_ADAM = Coefficients(keep_first=0.9, add_first=0.1, keep_second=0.999, add_square=0.001, divisor=1e-8)
_RULES = {
    "rmsprop": _Rule(Coefficients(keep_second=0.9, add_square=0.1, from_gradient=1.0, root_second=1.0, root=1e-8)),
    "adam": _Rule(_ADAM, first=1.0, second=1.0),
    "sgd": _Rule(Coefficients(from_gradient=1.0, divisor=1.0)),
    "adagrad": _Rule(Coefficients(add_square=1.0, from_gradient=1.0, root_second=1.0, root=1e-7)),
    "adadelta": _Rule(
        Coefficients(
            keep_first=0.9, add_step=0.1, keep_second=0.9, add_square=0.1, from_gradient=1.0, numerator=1e-6,
            numerator_first=1.0, root_second=1.0, root=1e-6,
        )
    ),
    "adamax": _Rule(_ADAM._replace(add_square=0.0, divisor=0.0, maximum=1e-8, divisor_second=1.0), first=1.0),
    "nadam": _Rule(_ADAM, ahead=0.9, gradient=0.1, second=1.0),
}  # fmt: skip
OPTIMIZERS = tuple(_RULES)
"""Their names; an index is a position here."""
LEARNING_RATES = dict(zip(OPTIMIZERS, (1e-3, 1e-3, 1e-2, 1e-2, 1.0, 2e-3, 2e-3), strict=True))
"""Where a genome has no learning rate: Keras's defaults of the time of the published runs."""
ADAGRAD_START = 0.1
"""What adagrad's sums of squares begin at, as in optax."""


def start(shape: tuple[int, ...], optimizer: str) -> tuple[np.ndarray, np.ndarray]:
    """The two slots of an array of weights before the first step."""
    first_sum = ADAGRAD_START if optimizer == "adagrad" else 0.0
    return np.zeros(shape, np.float32), np.full(shape, first_sum, np.float32)


def coefficients(optimizer: jax.Array, count: jax.Array) -> Coefficients:
    """The formula of one step.

    Args:
        optimizer: int32 `[]`, an index into `OPTIMIZERS`.
        count: int32 `[]`, 1 for the first step.
    """
    # One look-up in one array of constants: a table of traced scalars would take longer to compile than all the rest.
    table = np.asarray([[*rule.fixed, *rule[1:]] for rule in _RULES.values()], np.float32)
    *fixed, first, ahead, gradient, second = jnp.asarray(table)[optimizer]
    time, by = count.astype(jnp.float32), Coefficients(*fixed)
    short, shorter = 1 - 0.9**time, 1 - 0.9 ** (time + 1)
    return by._replace(
        from_first=by.from_first + first / short + ahead / shorter,
        from_gradient=by.from_gradient + gradient / short,
        root_second=by.root_second + second / (1 - 0.999**time),
    )


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
