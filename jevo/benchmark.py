"""What a generation of masks costs on this device.

    python -m jevo.benchmark --population 100 --images 2000

Times are medians; compiling is apart, the first two calls are dropped, and every call is waited for.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jevo import genetics
from jevo import population as pop
from jevo.networks import INITIALIZERS, masked, mlp
from jevo.runs.command import plain_errors
from jevo.runs.config import parse
from jevo.runs.record import device, versions, write_whole
from jevo.training import evaluate, scaled_log_likelihood
from jevo.types import Key, Population

MATMUL = 2048
"""Side of the square matrices whose plain product is the yardstick."""


@dataclass(frozen=True)
class Settings:
    """Measure a generation of masks over a frozen network without biases, on random examples."""

    population: int = 100
    """Members of the population."""
    images: int = 2000
    """Examples that score a generation."""
    sizes: tuple[int, ...] = (784, 100, 10)
    """Units of the input, the hidden layers and the output."""
    mates: int = 2
    """Parents of each child."""
    chunk: int = 16
    """Members bred at once."""
    repeats: int = 9
    """Timed calls of each program; the plain product is timed before and after each."""
    out: Path | None = None
    """JSON file to write."""


def measure(settings: Settings) -> dict[str, Any]:
    """Times in seconds, the shares of the plain matmul rate, and the peak memory of this process in bytes."""
    keys = jax.random.split(jax.random.key(0), 5)
    network = mlp(settings.sizes, bias=False, kernel_init=INITIALIZERS["signed_constant"])
    weights = network.init(keys[0])
    over = masked(network, weights)
    x = jax.random.normal(keys[1], (settings.images, settings.sizes[0]))
    y = jax.random.randint(keys[2], (settings.images,), 0, settings.sizes[-1])
    algorithm = genetics.genetic(
        genetics.truncation(0.2),
        genetics.uniform(),
        genetics.flip(2e-3),
        survivors=2,
        rescore=True,
        parents=settings.mates,
        batch_size=settings.chunk,
    )

    def score(population: Population, x: jax.Array, y: jax.Array) -> jax.Array:
        return evaluate(lambda genome: scaled_log_likelihood(over.apply(genome, x), y, 2.0), population, settings.chunk)

    def generation(key: Key, state: genetics.State, x: jax.Array, y: jax.Array) -> genetics.State:
        return genetics.generation(algorithm, lambda _, members: (members, score(members, x, y)), key, state)

    def start(key: Key) -> genetics.State:
        population = pop.init(key, over.init, settings.population, settings.chunk)
        return algorithm.init(population, jnp.zeros(settings.population))

    state = jax.block_until_ready(jax.jit(start)(keys[3]))
    genome_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state.population))
    matrix = jax.random.normal(keys[4], (MATMUL, MATMUL))
    matmul = jax.jit(jnp.dot)
    program = jax.jit(generation, donate_argnums=1)
    began = time.perf_counter()
    compiled = program.lower(keys[3], state, x, y).compile()
    compile_s = time.perf_counter() - began

    def step() -> Any:
        nonlocal state
        state = compiled(keys[3], state, x, y)
        return state

    def timed(call: Callable[[], Any]) -> tuple[float, float]:
        return _median(call, settings.repeats, lambda: matmul(matrix, matrix))

    generation_s, first = timed(step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    scoring, breeding = jax.jit(score), jax.jit(algorithm.ask)
    scoring_s, second = timed(lambda: scoring(state.population, x, y))
    breeding_s, _ = timed(lambda: breeding(keys[4], state))
    flops = settings.population * settings.images * 2 * sum(map(mul, settings.sizes, settings.sizes[1:]))
    return {
        "settings": {**asdict(settings), "out": None},
        "seconds": {"generation": generation_s, "scoring": scoring_s, "breeding": breeding_s, "compile": compile_s},
        "plain_matmul_flops_per_s": 2 * MATMUL**3 / second,
        "share_of_plain_matmul": {
            "generation": flops / generation_s / (2 * MATMUL**3 / first),
            "scoring": flops / scoring_s / (2 * MATMUL**3 / second),
        },
        "breeding_share_of_generation": breeding_s / generation_s,
        "population_bytes": genome_bytes,
        "peak_bytes_of_generations": peak,
        "device": device(),
        "versions": versions(),
    }


def _median(call: Callable[[], Any], repeats: int, yardstick: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of a call, and of the yardstick, which takes turns with it since a machine's speed drifts."""
    times, yard = [], []
    for _ in range(repeats + 2):
        for function, seconds in ((yardstick, yard), (call, times), (yardstick, yard)):
            began = time.perf_counter()
            jax.block_until_ready(function())
            seconds.append(time.perf_counter() - began)
    return statistics.median(times[2:]), statistics.median(yard[4:])


def main() -> None:
    with plain_errors():
        settings = parse(Settings, sys.argv[1:])
        result = measure(settings)
        seconds, share = result["seconds"], result["share_of_plain_matmul"]
        peak_gb = result["peak_bytes_of_generations"] / 1e9
        print(f"plain {MATMUL}^3 product  {result['plain_matmul_flops_per_s'] / 1e9:8.1f} GFLOP/s")
        print(f"scoring     {seconds['scoring']:8.4f} s  {share['scoring']:.2f} of the plain rate")
        print(f"breeding    {seconds['breeding']:8.4f} s  {result['breeding_share_of_generation']:.2f} of a generation")
        print(f"generation  {seconds['generation']:8.4f} s  {share['generation']:.2f} of the plain rate")
        print(f"population  {result['population_bytes'] / 1e6:8.1f} MB, peak {peak_gb:.2f} GB")
        if settings.out:
            write_whole(settings.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
