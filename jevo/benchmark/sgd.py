"""A gradient step of a population."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from operator import mul
from pathlib import Path
from typing import Any

import jax
import optax

from jevo import population as pop
from jevo.benchmark.timing import MATMUL_FLOPS, in_turns, plain_product, show_plain
from jevo.networks import mlp
from jevo.runs.record import device, versions
from jevo.training import Learner, learner, log_likelihood, train
from jevo.types import Key, Population


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


def measure(settings: Sgd) -> dict[str, Any]:
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

    calls = {
        "population": run_population,
        "loop": lambda: run_loop(lambda member, rows: plain_step(member, rows_of(rows))),
        "tight loop": lambda: run_loop(tight_step),
        "plain": plain_product(),
    }
    times = in_turns(calls, settings.repeats)
    weights = list(map(mul, settings.sizes, settings.sizes[1:]))
    # Forward, the gradient of the weights, and that of the inputs of all layers but the first.
    flops = members * steps * size * 2 * (3 * sum(weights) - weights[0])
    rate, trained = MATMUL_FLOPS / times["plain"], ("population", "loop", "tight loop")
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


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    show_plain(result)
    for name, seconds in result["seconds_per_member_step"].items():
        share = result["share_of_plain_matmul"][name]
        print(f"{name:11s} {seconds * 1e6:8.1f} us a member step  {share:.2f} of the plain rate")
    loop, tight = result["speed_against"].values()
    print(f"the population is {loop:.1f} times as fast as the loop, {tight:.1f} times as the tight one")
