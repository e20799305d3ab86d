"""Breeding of networks whose genome is their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from jevo import genetics
from jevo import population as pop
from jevo.benchmark import figures
from jevo.benchmark.timing import Call, compiled, in_turns
from jevo.devices import needs
from jevo.networks import mlp
from jevo.types import Member


@dataclass(frozen=True)
class Mating:
    """Measure how fast networks mate: a child is the mean of two parents drawn from the better half."""

    populations: tuple[int, ...] = (4, 16, 64, 256, 1024)
    """Population sizes to measure."""
    compare: int = 64
    """Population at which what a user would do instead is measured beside; 0 for none."""
    align: bool = True
    """First renumber the second parent's hidden units to match the first's."""
    sizes: tuple[int, ...] = (784, 100, 10)
    """Units of the input, the hidden layers and the output."""
    chunk: int = 8
    """Children bred at once."""
    budget_s: float = 60.0
    """Seconds of timed calls: half of them for the populations, half for the comparison."""
    out: Path = Path("runs/benchmark")
    """Folder for the table as JSON, and the plot."""


def measure(settings: Mating) -> dict[str, Any]:
    """Children per second.

    Raises:
        AssertionError: if a peer makes other children of the same parents.
    """
    half = settings.budget_s / 2
    rows = []
    for members in settings.populations:
        own = Breeding(settings, members)
        rows.append(_row(own, in_turns({"breed": own.breed}, half / len(settings.populations))["breed"]))
    if settings.compare:
        own = Breeding(settings, settings.compare)
        peers = {name: make(own) for name, make in PEERS.items() if name != "a NumPy loop" or len(settings.sizes) == 3}
        for name, call in peers.items():
            for made, expected in zip(jax.tree.leaves(call()), jax.tree.leaves(own.children), strict=True):
                np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6, err_msg=name)
        times = in_turns({"breed": own.breed}, half, peers)
        rows += [figures.row(name, settings.compare, settings.compare, times[name]) for name in peers]
        rows.append(_row(own, times["breed"]))
    return figures.result("mating", "children", settings, rows)


class Breeding:
    """A scored population of networks, its program, and the children it makes."""

    def __init__(self, settings: Mating, members: int):
        keys = jax.random.split(jax.random.key(0), 3)
        network = mlp(settings.sizes)
        mean = genetics.average()
        self.align = settings.align
        self.cross = genetics.aligned(mean, network.symmetries) if settings.align else mean
        population = jax.jit(lambda key: pop.init(key, network.init, members, settings.chunk))(keys[0])
        self.state = genetics.State(population, jax.random.normal(keys[1], (members,)), jnp.int32(0))
        algorithm = genetics.genetic(genetics.truncation(0.5), self.cross, elites=0, chunk=settings.chunk)
        self.program, self.compile_s = compiled(algorithm.ask, keys[2], self.state)
        self._key = keys[2]
        candidates = self.breed()
        self.children, self.parents = candidates.members, candidates.parents

    def breed(self) -> genetics.Candidates:
        """As many children as there are members."""
        return self.program(self._key, self.state)


def _row(own: Breeding, times: Any) -> dict[str, Any]:
    members = own.state.fitness.size
    figure = {"compile_s": own.compile_s, "bytes_per_member": needs(own.program) / members}
    return figures.row(figures.OWN, members, members, times, **figure)


def numpy_loop(own: Breeding) -> Call:
    """NumPy and SciPy, one child after another."""
    parents = np.asarray(own.parents)
    stacked = jax.tree.map(np.asarray, own.state.population)

    def matched(first: Member, second: Member) -> Member:
        (kernel, bias), (following, last) = ([layer["kernel"], layer["bias"]] for layer in second.values())
        (own_kernel, own_bias), (own_following, _) = ([layer["kernel"], layer["bias"]] for layer in first.values())
        similarity = own_kernel.T @ kernel + np.outer(own_bias, bias) + own_following @ following.T
        order = linear_sum_assignment(similarity, maximize=True)[1]
        names = list(second)
        return {
            names[0]: {"kernel": kernel[:, order], "bias": bias[order]},
            names[1]: {"kernel": following[order], "bias": last},
        }

    def child(i: int) -> Member:
        first, second = (pop.take(stacked, parent) for parent in parents[i])
        if own.align:
            second = matched(first, second)
        return jax.tree.map(lambda a, b: (a + b) / 2, first, second)

    def call() -> Member:
        children = [child(i) for i in range(len(parents))]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *children)

    return call


def jax_loop(own: Breeding) -> Call:
    """A Python loop over a jitted child."""
    members, parents = pop.unstack(own.state.population), np.asarray(own.parents)
    cross = jax.jit(own.cross)
    keys = list(jax.random.split(jax.random.key(1), len(parents)))

    def call() -> Any:
        children = [cross(key, members[a], members[b]) for key, (a, b) in zip(keys, parents, strict=True)]
        return pop.stack(children)

    return call


def jax_vmap(own: Breeding) -> Call:
    """One jitted vmap over all children."""
    keys = jax.random.split(jax.random.key(1), len(own.parents))

    def together(population: Any, parents: jax.Array, keys: jax.Array) -> Any:
        return jax.vmap(own.cross)(keys, *(pop.take(population, parents[:, i]) for i in range(2)))

    program = jax.jit(together)
    return lambda: program(own.state.population, own.parents, keys)


PEERS: dict[str, Callable[[Breeding], Call]] = {
    "a NumPy loop": numpy_loop,
    "a Python loop of jitted calls": jax_loop,
    "a naive vmap": jax_vmap,
}
"""By name; the NumPy loop knows networks of one hidden layer."""
