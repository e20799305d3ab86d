"""Timing that holds on a machine whose speed drifts: calls take turns, and the first ones do not count."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MATMUL = 2048
"""Side of the square matrices whose plain product is the yardstick."""
DROPPED = 2
"""First rounds, which do not count."""
FEWEST, MOST = 3, 31
"""Rounds that count, however large or small the budget."""

Call = Callable[[], Any]
"""What is timed: it returns its arrays, which are waited for."""


class Times(NamedTuple):
    """Seconds of a call: the median and the quartiles of `rounds` calls."""

    median: float
    lower: float
    upper: float
    rounds: int


def plain_product() -> Call:
    """A call of the plain product, to be timed beside what it is the yardstick of."""
    matrix, matmul = jax.random.normal(jax.random.key(0), (MATMUL, MATMUL)), jax.jit(jnp.dot)
    return lambda: matmul(matrix, matrix)


def plain_rate(times: Times) -> float:
    """The rate of the plain product [FLOP/s]."""
    return 2 * MATMUL**3 / times.median


def compiled(function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[jax.stages.Compiled, float]:
    """`function` compiled for these arguments, and how many seconds that took."""
    began = time.perf_counter()
    program = jax.jit(function, **options).lower(*arguments).compile()
    return program, time.perf_counter() - began


def in_turns(calls: Mapping[str, Call], budget_s: float, peers: Mapping[str, Call] | None = None) -> dict[str, Times]:
    """Time calls in rounds, each waited for, until the budget is spent.

    Args:
        calls: by name. One that moves anything between host and device raises.
        peers: more calls, which may do that.
        budget_s: seconds for all of it; there are `FEWEST` rounds at least, and `MOST` at most.
    """
    peers = peers or {}
    seconds, began = {name: [] for name in [*calls, *peers]}, time.perf_counter()
    for number in range(DROPPED + MOST):
        for name, call in [*calls.items(), *peers.items()]:
            start = time.perf_counter()
            with jax.transfer_guard("disallow" if name in calls else "allow"):
                jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
        spent = time.perf_counter() - began
        if number + 1 >= DROPPED + FEWEST and spent * (number + 2) / (number + 1) > budget_s:
            break
    return {name: _summary(taken[DROPPED:]) for name, taken in seconds.items()}


def _summary(seconds: list[float]) -> Times:
    lower, median, upper = (float(q) for q in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return Times(median, lower, upper, len(seconds))
