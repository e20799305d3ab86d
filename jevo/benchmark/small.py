"""A small population of small networks: what a generation costs beyond its arithmetic."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from jevo import genetics
from jevo import population as pop
from jevo.benchmark import figures
from jevo.benchmark.timing import Call, compiled, in_turns
from jevo.networks import mlp
from jevo.training import evaluate, log_likelihood
from jevo.types import Fitness, Key, Population

STD = 0.02
"""Standard deviation of the noise that a child gets."""
UNJITTED = 2
"""Generations in a call without jit: it is that slow."""


@dataclass(frozen=True)
class Small:
    """Measure generations of a small population of networks on digits: many in one call, and one call for each."""

    population: int = 32
    """Members of the population."""
    hidden: int = 32
    """Units of the hidden layer."""
    images: int = 64
    """Examples that score a generation."""
    block: int = 64
    """Generations in one call."""
    budget_s: float = 60.0
    """Seconds of timed calls."""
    out: Path = Path("runs/benchmark")
    """Folder for the table as JSON, and the plot."""


class Setup(NamedTuple):
    """What all of them run.

    Attributes:
        settings: of the benchmark.
        algorithm: the genetic algorithm.
        score: of a population, `[P]`.
        state: the first population, scored.
        key: of the run.
    """

    settings: Small
    algorithm: genetics.Algorithm
    score: Callable[[Population], Fitness]
    state: genetics.State
    key: Key


def measure(settings: Small) -> dict[str, Any]:
    """Generations per second."""
    x, y = load_digits(return_X_y=True)
    x, y = jnp.asarray(x[: settings.images] / 16, jnp.float32), jnp.asarray(y[: settings.images], jnp.int32)
    network = mlp([64, settings.hidden, 10])

    def score(members: Population) -> Fitness:
        return evaluate(lambda params: log_likelihood(network.apply(params, x), y), members, settings.population)

    algorithm = genetics.genetic(genetics.truncation(0.25), genetics.uniform(), genetics.gaussian(STD), elites=2)
    keys = jax.random.split(jax.random.key(0))
    members = jax.jit(lambda key: pop.init(key, network.init, settings.population))(keys[0])
    setup = Setup(settings, algorithm, score, algorithm.init(members, jax.jit(score)(members)), keys[1])

    def block(key: Key, state: genetics.State) -> tuple[genetics.State, jax.Array]:
        def body(i: jax.Array, loop: tuple[genetics.State, jax.Array]) -> tuple[genetics.State, jax.Array]:
            state, best = loop
            state = _generation(setup, key, state)
            return state, best.at[i].set(state.fitness.max())

        return jax.lax.fori_loop(0, settings.block, body, (state, jnp.zeros(settings.block)))

    program, compile_s = compiled(block, setup.key, setup.state)
    peers = {name: make(setup) for name, make in PEERS.items()}
    # Those that share jevo's algorithm find the same in every generation.
    expected = program(setup.key, setup.state)[1]
    for name in ("a jitted call for each generation", "ask and tell without jit"):
        found = peers[name]()
        np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-4, atol=1e-5, err_msg=name)
    times = in_turns({figures.OWN: lambda: program(setup.key, setup.state)}, settings.budget_s, peers)
    done = {name: UNJITTED if name == "ask and tell without jit" else settings.block for name in PEERS}
    rows = [figures.row(name, settings.population, done[name], times[name]) for name in PEERS]
    rows.append(figures.row(figures.OWN, settings.population, settings.block, times[figures.OWN], compile_s=compile_s))
    return figures.result("small", "generations", settings, rows)


def jitted(setup: Setup) -> Call:
    """One jitted call for each generation, whose best fitness is fetched, as a loop that shows its progress does."""
    program = jax.jit(lambda key, state: _generation(setup, key, state))

    def call() -> list[float]:
        state, best = setup.state, []
        for _ in range(setup.settings.block):
            state = program(setup.key, state)
            best.append(jax.device_get(state.fitness).max())
        return best

    return call


def unjitted(setup: Setup) -> Call:
    """Ask and tell as they come, and a jitted score."""
    score = jax.jit(setup.score)

    def call() -> list[float]:
        state, best = setup.state, []
        for _ in range(UNJITTED):
            ask_key, _ = jax.random.split(jax.random.fold_in(setup.key, state.generation))
            candidates = setup.algorithm.ask(ask_key, state)
            state = setup.algorithm.tell(state, candidates, score(candidates.members))
            best.append(jax.device_get(state.fitness).max())
        return best

    return call


def host(setup: Setup) -> Call:
    """One call for each generation, a jitted vmap that scores; selection and mating in NumPy on the host."""
    score = jax.jit(jax.vmap(lambda member: setup.score(jax.tree.map(lambda leaf: leaf[None], member))[0]))
    first = jax.tree.map(np.asarray, setup.state.population)
    rng = np.random.default_rng(0)

    def call() -> Any:
        members = first
        for _ in range(setup.settings.block):
            fitness = np.asarray(score(members))
            order = np.argsort(-fitness)
            a, b = rng.choice(order[: len(order) // 4], (2, len(order)))

            def child(leaf: np.ndarray, a: np.ndarray = a, b: np.ndarray = b, order: Any = order) -> np.ndarray:
                new = np.where(rng.random(leaf.shape) < 0.5, leaf[a], leaf[b])
                new += STD * rng.standard_normal(leaf.shape, np.float32)
                new[:2] = leaf[order[:2]]
                return new

            members = jax.tree.map(child, members)
        return members

    return call


PEERS: dict[str, Callable[[Setup], Call]] = {
    "a jitted call for each generation": jitted,
    "a jitted score, NumPy breeds": host,
    "ask and tell without jit": unjitted,
}


def _generation(setup: Setup, key: Key, state: genetics.State) -> genetics.State:
    return genetics.generation(setup.algorithm, genetics.scored(setup.score), key, state)
