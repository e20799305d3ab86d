"""A generation of masks."""

import resource
import sys
import time
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jevo import genetics
from jevo import population as pop
from jevo.benchmark.timing import MATMUL_FLOPS, in_turns, plain_product, show_plain
from jevo.networks import INITIALIZERS, masked, mlp
from jevo.runs.record import device, versions
from jevo.training import evaluate, scaled_log_likelihood
from jevo.types import Key, Population


@dataclass(frozen=True)
class Masks:
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


def measure(settings: Masks) -> dict[str, Any]:
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
    plain = plain_product()
    program = jax.jit(generation, donate_argnums=1)
    began = time.perf_counter()
    compiled = program.lower(keys[3], state, x, y).compile()
    compile_s = time.perf_counter() - began

    def step() -> Any:
        nonlocal state
        state = compiled(keys[3], state, x, y)
        return state

    first = in_turns({"generation": step, "plain": plain}, settings.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    scoring, breeding = jax.jit(score), jax.jit(algorithm.ask)
    second = in_turns(
        {
            "scoring": lambda: scoring(state.population, x, y),
            "breeding": lambda: breeding(keys[4], state),
            "plain": plain,
        },
        settings.repeats,
    )
    flops = settings.population * settings.images * 2 * sum(map(mul, settings.sizes, settings.sizes[1:]))
    return {
        "settings": {**asdict(settings), "out": None},
        "seconds": {**first, **second, "compile": compile_s},
        "plain_matmul_flops_per_s": MATMUL_FLOPS / second["plain"],
        "share_of_plain_matmul": {
            "generation": flops / first["generation"] * first["plain"] / MATMUL_FLOPS,
            "scoring": flops / second["scoring"] * second["plain"] / MATMUL_FLOPS,
        },
        "breeding_share_of_generation": second["breeding"] / first["generation"],
        "population_bytes": genome_bytes,
        "peak_bytes_of_generations": peak,
        "device": device(),
        "versions": versions(),
    }


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    show_plain(result)
    seconds, share = result["seconds"], result["share_of_plain_matmul"]
    peak_gb = result["peak_bytes_of_generations"] / 1e9
    print(f"scoring     {seconds['scoring']:8.4f} s  {share['scoring']:.2f} of the plain rate")
    print(f"breeding    {seconds['breeding']:8.4f} s  {result['breeding_share_of_generation']:.2f} of a generation")
    print(f"generation  {seconds['generation']:8.4f} s  {share['generation']:.2f} of the plain rate")
    print(f"population  {result['population_bytes'] / 1e6:8.1f} MB, peak {peak_gb:.2f} GB")
