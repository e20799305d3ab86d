"""Timing that holds on a machine whose speed drifts: calls take turns, and the first ones do not count."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

MATMUL = 2048
"""Side of the square matrices whose plain product is the yardstick."""
MATMUL_FLOPS = 2 * MATMUL**3


def plain_product() -> Callable[[], jax.Array]:
    """A call of the plain product, to be timed beside what it is the yardstick of."""
    matrix, matmul = jax.random.normal(jax.random.key(0), (MATMUL, MATMUL)), jax.jit(jnp.dot)
    return lambda: matmul(matrix, matrix)


def in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each call, waited for; the first two rounds are dropped."""
    times = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds[2:]) for name, seconds in times.items()}


def show_plain(result: Mapping[str, Any]) -> None:
    """Print what the yardstick measured."""
    print(f"plain {MATMUL}^3 product  {result['plain_matmul_flops_per_s'] / 1e9:8.1f} GFLOP/s")
