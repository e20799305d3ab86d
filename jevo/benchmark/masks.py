"""Generations of masks over a frozen network."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo import bits, genetics
from jevo import population as pop
from jevo.benchmark import figures
from jevo.benchmark.mask_peers import PEERS, Problem
from jevo.benchmark.timing import Times, compiled, in_turns, plain_product, plain_rate
from jevo.devices import needs
from jevo.networks import INITIALIZERS, masked, mlp
from jevo.training import evaluate, scaled_log_likelihood
from jevo.types import Fitness, Key, Member, Population

BREEDERS = 0.2
"""The share of a population that breeds."""


@dataclass(frozen=True)
class Masks:
    """Measure generations of masks over a frozen network without biases, on random examples."""

    populations: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Population sizes to measure."""
    compare: int = 100
    """Population at which what a user would do instead is measured beside; 0 for none."""
    images: int = 2000
    """Examples that score a generation."""
    sizes: tuple[int, ...] = (784, 100, 10)
    """Units of the input, the hidden layers and the output."""
    mates: int = 2
    """Parents of each child."""
    chunk: int = 16
    """Members bred and scored at once."""
    budget_s: float = 60.0
    """Seconds of timed calls: half of them for the populations, half for the comparison."""
    out: Path = Path("runs/benchmark")
    """Folder for the table as JSON, and the plot."""


def measure(settings: Masks) -> dict[str, Any]:
    """Member evaluations per second of whole generations: breeding, and scoring all.

    Raises:
        AssertionError: if a peer computes another fitness of the same masks.
    """
    half = settings.budget_s / 2
    rows = [_own(settings, size, half / len(settings.populations)) for size in settings.populations]
    if settings.compare:
        rows += _compared(settings, half)
    rate = rows[-1].pop("plain_matmul_flops_per_s")
    for row in rows:
        row.pop("plain_matmul_flops_per_s", None)
    return figures.result("masks", "member evaluations", settings, rows, plain_matmul_flops_per_s=rate)


def flops(settings: Masks, members: int) -> int:
    """Of scoring, by the plain count of its products."""
    return members * settings.images * 2 * sum(map(mul, settings.sizes, settings.sizes[1:]))


class Programs(NamedTuple):
    """What a search for masks over a frozen network is made of.

    Attributes:
        weights: the frozen ones.
        algorithm: breeds.
        start, generation: `start(key, x, y)` and `generation(key, state, x, y)`.
    """

    weights: Member
    algorithm: genetics.Algorithm
    start: Callable[[Key, jax.Array, jax.Array], genetics.State]
    generation: Callable[[Key, genetics.State, jax.Array, jax.Array], genetics.State]


def programs(settings: Masks, members: int, key: Key) -> Programs:
    """The programs of a search with so many members."""
    network = mlp(settings.sizes, bias=False, kernel_init=INITIALIZERS["signed_constant"])
    weights = network.init(key)
    over = masked(network, weights)
    algorithm = genetics.genetic(
        genetics.truncation(BREEDERS),
        genetics.uniform(),
        genetics.flip(2e-3),
        elites=min(2, members // 2),
        rescore=True,
        parents=settings.mates,
        chunk=settings.chunk,
    )

    def score(population: Population, x: jax.Array, y: jax.Array) -> Fitness:
        judge = lambda genome: scaled_log_likelihood(over.apply(genome, x), y, 2.0)  # noqa: E731
        return evaluate(judge, population, settings.chunk)

    def start(key: Key, x: jax.Array, y: jax.Array) -> genetics.State:
        population = pop.init(key, over.init, members, settings.chunk)
        return algorithm.init(population, score(population, x, y))

    def generation(key: Key, state: genetics.State, x: jax.Array, y: jax.Array) -> genetics.State:
        return genetics.generation(algorithm, genetics.scored(lambda members: score(members, x, y)), key, state)

    return Programs(weights, algorithm, start, generation)


class Generations:
    """A population of masks, its programs, and their calls."""

    def __init__(self, settings: Masks, members: int):
        keys = jax.random.split(jax.random.key(0), 6)
        self.weights, algorithm, start, generation = programs(settings, members, keys[0])
        self.x = jax.random.normal(keys[1], (settings.images, settings.sizes[0]))
        self.y = jax.random.randint(keys[2], (settings.images,), 0, settings.sizes[-1])
        self.state = jax.block_until_ready(jax.jit(start)(keys[3], self.x, self.y))
        # As numbers to compare with: the state itself is given away to the first generation.
        self.first = jax.tree.map(np.asarray, self.state)
        self.program, self.compile_s = compiled(generation, keys[4], self.state, self.x, self.y, donate_argnums=1)
        self._ask, _ = compiled(algorithm.ask, keys[5], self.state)
        self._key, self._ask_key = keys[4], keys[5]

    def generation(self) -> Any:
        """A whole generation."""
        self.state = self.program(self._key, self.state, self.x, self.y)
        return self.state

    def breeding(self) -> Any:
        """Breeding alone."""
        return self._ask(self._ask_key, self.state)

    @property
    def genome_bytes(self) -> int:
        """Of all packed genomes."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state.population))


def _own(settings: Masks, members: int, budget_s: float) -> dict[str, Any]:
    own = Generations(settings, members)
    calls = {"generation": own.generation, "breeding": own.breeding, "plain": plain_product()}
    return _row(settings, own, members, in_turns(calls, budget_s))


def _row(settings: Masks, own: Generations, members: int, times: dict[str, Times]) -> dict[str, Any]:
    rate = plain_rate(times["plain"])
    return figures.row(
        figures.OWN,
        members,
        members,
        times["generation"],
        flops=flops(settings, members),
        rate=rate,
        breeding_share=times["breeding"].median / times["generation"].median,
        compile_s=own.compile_s,
        bytes_per_member=needs(own.program) / members,
        genome_bytes_per_member=own.genome_bytes / members,
        plain_matmul_flops_per_s=rate,
    )


def _compared(settings: Masks, budget_s: float) -> list[dict[str, Any]]:
    own = Generations(settings, settings.compare)
    layers = [layer["kernel"] for layer in own.weights.values()]
    genomes = jax.tree.leaves(own.first.population, is_leaf=bits.is_bits)
    masks = [np.asarray(jax.vmap(bits.unpack)(jax.tree.map(jnp.asarray, genome))) for genome in genomes]
    problem = Problem([np.asarray(w) for w in layers], masks, np.asarray(own.x), np.asarray(own.y))
    peers = {name: peer for name, make in PEERS.items() if (peer := make(problem))}
    for name, peer in peers.items():
        np.testing.assert_allclose(peer.fitness(), own.first.fitness, rtol=1e-3, atol=1e-4, err_msg=name)
    calls = {"generation": own.generation, "breeding": own.breeding, "plain": plain_product()}
    times = in_turns(calls, budget_s, {name: peer.generation for name, peer in peers.items()})
    row = _row(settings, own, settings.compare, times)
    needed = {"flops": flops(settings, settings.compare), "rate": row["plain_matmul_flops_per_s"]}
    others = [figures.row(name, settings.compare, settings.compare, times[name], **needed) for name in peers]
    return [*others, row]
