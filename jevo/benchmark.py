"""What a population costs on this device.

    python -m jevo.benchmark masks --population 100 --images 2000
    python -m jevo.benchmark sgd --population 64

Times are medians of calls that take turns, since a machine's speed drifts; compiling is apart, the first two calls are
dropped, and every call is waited for.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jevo import genetics
from jevo import population as pop
from jevo.data.files import write_whole
from jevo.networks import INITIALIZERS, masked, mlp
from jevo.runs.command import plain_errors
from jevo.runs.config import parse, suggestion
from jevo.runs.record import device, versions
from jevo.training import Learner, evaluate, learner, log_likelihood, scaled_log_likelihood, train
from jevo.types import InputError, Key, Population

MATMUL = 2048
"""Side of the square matrices whose plain product is the yardstick."""


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


@dataclass(frozen=True)
class Sgd:
    """Measure a gradient step of a population, against Python loops over one jitted step, on random examples."""

    population: int = 64
    """Members of the population."""
    sizes: tuple[int, ...] = (784, 100, 10)
    """Units of the input, the hidden layers and the output."""
    batch_size: int = 64
    """Examples in a step."""
    examples: int = 10_000
    """Train examples."""
    steps: int = 150
    """Gradient steps of each member in a timed call [steps]."""
    chunk: int = 8
    """Members trained side by side."""
    repeats: int = 9
    """Timed calls of each program."""
    out: Path | None = None
    """JSON file to write."""


def measure_masks(settings: Masks) -> dict[str, Any]:
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

    def plain() -> jax.Array:
        return matmul(matrix, matrix)

    first = _in_turns({"generation": step, "plain": plain}, settings.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    scoring, breeding = jax.jit(score), jax.jit(algorithm.ask)
    second = _in_turns(
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
        "plain_matmul_flops_per_s": 2 * MATMUL**3 / second["plain"],
        "share_of_plain_matmul": {
            "generation": flops / first["generation"] * first["plain"] / (2 * MATMUL**3),
            "scoring": flops / second["scoring"] * second["plain"] / (2 * MATMUL**3),
        },
        "breeding_share_of_generation": second["breeding"] / first["generation"],
        "population_bytes": genome_bytes,
        "peak_bytes_of_generations": peak,
        "device": device(),
        "versions": versions(),
    }


def measure_sgd(settings: Sgd) -> dict[str, Any]:
    """Seconds of a member's gradient step, and the shares of the plain matmul rate.

    The loop makes each batch by indexing and calls the jitted step with it. The tight loop does all a loop can: it
    indexes inside the step, and donates the member.
    """
    keys = jax.random.split(jax.random.key(0), 6)
    network = mlp(settings.sizes)
    data = (
        jax.random.normal(keys[0], (settings.examples, settings.sizes[0])),
        jax.random.randint(keys[1], (settings.examples,), 0, settings.sizes[-1]),
    )
    optimizer = optax.adam(1e-3)
    members, steps, size = settings.population, settings.steps, settings.batch_size

    def loss(params: Any, batch: Any, key: Key | None) -> jax.Array:
        return -log_likelihood(network.apply(params, batch[0]), batch[1])

    def population_steps(key: Key, population: Population) -> tuple[Population, jax.Array]:
        return train(key, population, data, loss, optimizer, steps=steps, batch_size=size, chunk=settings.chunk)

    def rows_of(rows: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf[rows], data)

    def one_step(member: Learner, batch: Any) -> tuple[Learner, jax.Array]:
        value, gradient = jax.value_and_grad(loss)(member.params, batch, None)
        updates, state = optimizer.update(gradient, member.optimizer, member.params)
        return Learner(optax.apply_updates(member.params, updates), state), value

    population = jax.jit(lambda key: pop.init(key, learner(network.init, optimizer), members))(keys[2])
    singles = pop.unstack(population)
    began = time.perf_counter()
    together = jax.jit(population_steps, donate_argnums=1).lower(keys[3], population).compile()
    compile_s = time.perf_counter() - began
    plain_step = jax.jit(one_step)
    tight_step = jax.jit(lambda member, rows: one_step(member, rows_of(rows)), donate_argnums=0)
    rows = list(jax.random.randint(keys[4], (steps, size), 0, settings.examples))

    def run_population() -> Any:
        nonlocal population
        population, losses = together(keys[3], population)
        return losses

    def run_loop(step: Callable[[Learner, Any], tuple[Learner, jax.Array]]) -> Any:
        for i in range(members):
            for batch in rows:
                singles[i], _ = step(singles[i], batch)
        return singles

    matrix = jax.random.normal(keys[5], (MATMUL, MATMUL))
    matmul = jax.jit(jnp.dot)
    calls = {
        "population": run_population,
        "loop": lambda: run_loop(lambda member, rows: plain_step(member, rows_of(rows))),
        "tight loop": lambda: run_loop(tight_step),
        "plain": lambda: matmul(matrix, matrix),
    }
    times = _in_turns(calls, settings.repeats)
    weights = list(map(mul, settings.sizes, settings.sizes[1:]))
    # Forward, the gradient of the weights, and that of the inputs of all layers but the first.
    flops = members * steps * size * 2 * (3 * sum(weights) - weights[0])
    rate, trained = 2 * MATMUL**3 / times["plain"], ("population", "loop", "tight loop")
    return {
        "settings": {**asdict(settings), "out": None},
        "seconds_per_member_step": {name: times[name] / (members * steps) for name in trained},
        "seconds": {"compile": compile_s},
        "speed_against": {name: times[name] / times["population"] for name in ("loop", "tight loop")},
        "plain_matmul_flops_per_s": rate,
        "share_of_plain_matmul": {name: flops / times[name] / rate for name in trained},
        "device": device(),
        "versions": versions(),
    }


def _in_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each call."""
    times = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds[2:]) for name, seconds in times.items()}


def _show_masks(result: dict[str, Any]) -> None:
    seconds, share = result["seconds"], result["share_of_plain_matmul"]
    peak_gb = result["peak_bytes_of_generations"] / 1e9
    print(f"scoring     {seconds['scoring']:8.4f} s  {share['scoring']:.2f} of the plain rate")
    print(f"breeding    {seconds['breeding']:8.4f} s  {result['breeding_share_of_generation']:.2f} of a generation")
    print(f"generation  {seconds['generation']:8.4f} s  {share['generation']:.2f} of the plain rate")
    print(f"population  {result['population_bytes'] / 1e6:8.1f} MB, peak {peak_gb:.2f} GB")


def _show_sgd(result: dict[str, Any]) -> None:
    for name, seconds in result["seconds_per_member_step"].items():
        share = result["share_of_plain_matmul"][name]
        print(f"{name:11s} {seconds * 1e6:8.1f} us a member step  {share:.2f} of the plain rate")
    loop, tight = result["speed_against"].values()
    print(f"the population is {loop:.1f} times as fast as the loop, {tight:.1f} times as the tight one")


def main() -> None:
    with plain_errors():
        what, *arguments = (
            sys.argv[1:] if sys.argv[1:2] and not sys.argv[1].startswith("-") else ["masks", *sys.argv[1:]]
        )
        if what == "masks":
            settings = parse(Masks, arguments)
            result, show = measure_masks(settings), _show_masks
        elif what == "sgd":
            settings = parse(Sgd, arguments)
            result, show = measure_sgd(settings), _show_sgd
        else:
            raise InputError(f"benchmark {what!r} is unknown; {suggestion(what, ('masks', 'sgd'))}")
        print(f"plain {MATMUL}^3 product  {result['plain_matmul_flops_per_s'] / 1e9:8.1f} GFLOP/s")
        show(result)
        if settings.out:
            write_whole(settings.out, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
