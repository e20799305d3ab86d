"""What a lower precision of products does to selection: do the same masks breed?"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from jevo import genetics, networks
from jevo import population as pop
from jevo.benchmark import figures
from jevo.data.datasets import load
from jevo.data.task import to_device
from jevo.networks import masked
from jevo.networks.masks import weigh
from jevo.training import evaluate, scaled_log_likelihood
from jevo.types import Fitness, Member, Population

BREEDERS = 0.2
"""The share of members that breeds."""


@dataclass(frozen=True)
class Precision:
    """Compare the fitness of masks by products of several precisions: of random masks, and of evolved ones.

    The operands of every product are rounded as the hardware rounds them, and sums are kept in float32, on any device.
    """

    data: str = "digits"
    """Data set of images."""
    data_dir: Path | None = None
    """Folder of original data files. Unset: the environment's JEVO_DATA_DIR, else a download."""
    population: int = 200
    """Members that are ranked."""
    images: int = 2000
    """Train examples that score them; all of them if there are fewer [examples]."""
    hidden: tuple[int, ...] = (100,)
    """Units of each hidden layer."""
    generations: int = 100
    """Generations that the evolved masks are the outcome of [generations]."""
    out: Path = Path("runs/benchmark")
    """Folder for the JSON file."""


def as_bfloat16(x: jax.Array) -> jax.Array:
    """Rounded to the eight significant bits of a bfloat16."""
    # Not by a cast there and back, which a compiler may leave out.
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)


def as_tensorfloat32(x: jax.Array) -> jax.Array:
    """Rounded to the eleven significant bits of a TensorFloat-32."""
    return jax.lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10)


def measure(settings: Precision) -> dict[str, Any]:
    """For each precision, how far members' fitness and their order move.

    Raises:
        AssertionError: if the integer product's fitness is not that of float32, but for the last bits.
    """
    dataset = load(settings.data, settings.data_dir)
    task, classes = to_device(dataset), len(dataset.classes)
    raw, y = task.train.x[: settings.images], task.train.y[: settings.images]
    x = task.inputs(raw).reshape(len(y), -1)
    build = partial(networks.build, hidden=settings.hidden, weights="signed_constant", bias=False)
    network = build(raw.shape[1:], classes)
    keys = jax.random.split(jax.random.key(0), 3)
    weights = network.init(keys[0])
    over = masked(network, weights)

    def logits(genome: Member, rounded: Callable[[jax.Array], jax.Array]) -> jax.Array:
        h, layers = x, list(weigh(weights, genome, "mask").values())
        for i, layer in enumerate(layers):
            h = jnp.dot(rounded(h), rounded(layer["kernel"]), precision="float32")
            h = jax.nn.relu(h) if i + 1 < len(layers) else h
        return h

    def by_integers(genome: Member) -> jax.Array:
        # A masked weight is -1, 0 or 1 times a constant and a pixel is a byte, so the first product is exact in int32;
        # the normalisation of the input is affine, and moves behind it.
        first, *rest = weigh(weights, genome, "mask").values()
        size = jnp.abs(next(iter(weights.values()))["kernel"]).max()
        signs = jnp.sign(first["kernel"]).astype(jnp.int8)
        # A byte is 0..255, an int8 is not: its upper bit is taken out, and comes back with the column's sum.
        pixels = raw.reshape(len(y), -1)
        low = (pixels.astype(jnp.int32) - 128).astype(jnp.int8)
        product = jnp.dot(low, signs, preferred_element_type=jnp.int32) + 128 * signs.astype(jnp.int32).sum(0)[None, :]
        mean = task.mean.reshape(1, -1) @ signs.astype(jnp.float32)
        h = (product.astype(jnp.float32) - mean) * (size / task.scale)
        for layer in rest:
            h = jax.nn.relu(h) @ layer["kernel"]
        return h

    ways: dict[str, Callable[[Member], jax.Array]] = {
        "tensorfloat32": lambda genome: logits(genome, as_tensorfloat32),
        "bfloat16": lambda genome: logits(genome, as_bfloat16),
    }
    if raw.dtype == jnp.uint8:
        ways["int8, first layer"] = by_integers

    def score(way: Callable[[Member], jax.Array], population: Population) -> Fitness:
        return evaluate(lambda genome: scaled_log_likelihood(way(genome), y, 2.0), population, 16)

    exact = jax.jit(lambda population: score(lambda genome: logits(genome, lambda a: a), population))
    algorithm = genetics.genetic(genetics.truncation(BREEDERS), genetics.uniform(), genetics.flip(1e-3), elites=2)
    random = jax.jit(lambda key: pop.init(key, over.init, settings.population))(keys[1])

    @jax.jit
    def evolve(population: Population) -> Population:
        def one(_: int, state: genetics.State) -> genetics.State:
            return genetics.generation(algorithm, genetics.scored(exact), keys[2], state)

        state = algorithm.init(population, exact(population))
        return jax.lax.fori_loop(0, settings.generations, one, state).population

    rows = []
    for name, population in (("random", random), ("evolved", evolve(random))):
        expected = np.asarray(exact(population))
        for way, of in ways.items():
            found = np.asarray(jax.jit(lambda population, of=of: score(of, population))(population))
            rows.append({"masks": name, "precision": way, **_compare(expected, found)})
            if way.startswith("int8"):
                np.testing.assert_allclose(found, expected, rtol=1e-4)
    return figures.record("precision", settings, rows=rows)


def _compare(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    breeders = max(1, int(BREEDERS * len(expected)))
    correlation: Any = spearmanr(expected, found)
    chosen, right = (set(np.argsort(-fitness)[:breeders].tolist()) for fitness in (found, expected))
    return {
        "largest_difference": float(np.abs(found - expected).max()),
        "standard_deviation_of_fitness": float(expected.std()),
        "rank_correlation": float(correlation.statistic),
        "same_parents": len(chosen & right) / breeders,
    }


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    for row in result["rows"]:
        print(
            f"{row['masks']:8s} {row['precision']:18s} rank correlation {row['rank_correlation']:.6f}, "
            f"{row['same_parents']:.0%} of the parents the same, fitness off by {row['largest_difference']:.1e} at the "
            f"most (its standard deviation is {row['standard_deviation_of_fitness']:.1e})"
        )
