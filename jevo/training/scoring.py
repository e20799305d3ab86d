"""Scoring a population a chunk at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo import devices
from jevo import population as pop
from jevo.programs import compiled, compiled_when_plain
from jevo.types import Member, Population

ROWS = 2048
"""Examples predicted at a time."""
UNROLLED = 16
"""The most members that a turn of the loop scores on a CPU."""
TURNS = 4
"""The fewest turns of that loop: a turn of many members takes longer to compile."""


@compiled_when_plain("score", "chunk")
def evaluate(
    score: Callable[[Member], Any], population: Population, chunk: int, places: jax.Array | None = None
) -> Any:
    """`score` of every member, `chunk` members at a time.

    Temporaries (unpacked weights, activations) exist for one chunk only. On the CPU each member of a chunk has
    operations of its own: its products then fit the cache, what is small of one member is computed beside the large
    products of the next, and a member's score is the same, bit for bit, whatever the chunk (a product of several
    members' weights side by side is summed in another order).

    Args:
        score: `member -> float32 []`, or a pytree of them.
        population: leaves `[P, ...]`.
        chunk: members at once, at most. On a CPU it is never more than sixteen, or a quarter of the population.
        places: int32 `[n]`, all different: which members to score; None for all of them.

    Returns:
        What `score` returns, each array with a leading axis `[P]`, or `[n]`.

    >>> import jax.numpy as jnp
    >>> evaluate(lambda member: -jnp.sum(member["w"] ** 2), {"w": jnp.ones((3, 2))}, chunk=2)
    Array([-2., -2., -2.], dtype=float32)
    """
    if places is not None:
        return _evaluate_some(score, population, chunk, places)
    if jax.default_backend() == "cpu":

        def in_turns(population: Population) -> Any:
            members = pop.size(population)
            unroll = devices.chunk_of(members, max(1, min(chunk, UNROLLED, members // TURNS)))

            def each(_: None, i: jax.Array) -> tuple[None, Any]:
                return None, score(pop.take(population, i))

            # By index: a scan over the population itself would copy it wherever the chunk does not divide it.
            return jax.lax.scan(each, None, jnp.arange(members), unroll=unroll)[1]

        return devices.over_devices(in_turns, population)
    return devices.in_chunks(score, population, chunk)


def _evaluate_some(score: Callable[[Member], Any], population: Population, chunk: int, places: jax.Array) -> Any:
    """`score` of the members at `places [n]`, each on the device that has it."""
    n, on_cpu = places.size, jax.default_backend() == "cpu"
    at_once = max(1, min(chunk, UNROLLED, n // TURNS) if on_cpu else min(chunk, n))
    wanted = jnp.zeros(pop.size(population), bool).at[places].set(True)

    def share(rows: tuple[Population, jax.Array]) -> Any:
        population, wanted = rows
        kinds = jax.eval_shape(score, jax.eval_shape(lambda: pop.take(population, 0)))
        empty = jax.tree.map(lambda kind: jnp.zeros((wanted.size, *kind.shape), kind.dtype), kinds)

        def step(found: Any, some: jax.Array) -> Any:
            if on_cpu:
                each = lambda _, i: (None, score(pop.take(population, i)))  # noqa: E731
                scores = jax.lax.scan(each, None, some, unroll=some.size)[1]
            else:
                scores = jax.vmap(score)(pop.take(population, some))
            return jax.tree.map(lambda leaf, new: leaf.at[some].set(new), found, scores)

        return devices.for_some(step, empty, wanted, at_once)

    return pop.take(devices.over_devices(share, (population, wanted)), places)


def examples(data: Any) -> int:
    """How many there are in a pytree of arrays `[n, ...]`.

    Raises:
        ValueError: if the arrays have not as many rows, or none: an index beyond the end of the shorter one would be
            taken for its last.
    """
    counts = sorted({jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)})
    if len(counts) != 1 or counts[0] in ((), (0,)):
        told = " and ".join(", ".join(f"{n:,}" for n in count) or "none, a number" for count in counts) or "no array"
        raise ValueError(f"the arrays of the examples have as many rows each, one at least; these have {told}")
    return counts[0][0]


@compiled_when_plain("score", "rows")
def mean_over_rows(score: Callable[[Any], Any], data: Any, rows: int = ROWS) -> Any:
    """The mean of `score` over all examples, computed `rows` at a time: activations exist for so many only.

    Args:
        score: `batch -> float32 []`, a mean over its rows, or a pytree of them.
        data: a pytree of arrays `[n, ...]`; a batch is `data` with fewer rows.
        rows: in a batch; the last one may be smaller.

    Raises:
        ValueError: if the arrays have not as many rows, or none.
    """
    n = examples(data)
    whole, rest = divmod(n, rows)
    total: Any = None
    # A part that is not there is not compiled, either.
    if whole:
        parts = jax.tree.map(lambda leaf: leaf[: whole * rows].reshape(whole, rows, *leaf.shape[1:]), data)
        total = jax.tree.map(lambda means: means.sum(axis=0) * (rows / n), jax.lax.map(score, parts))
    if rest:
        last = jax.tree.map(lambda mean: mean * (rest / n), score(jax.tree.map(lambda leaf: leaf[n - rest :], data)))
        total = last if total is None else jax.tree.map(jnp.add, total, last)
    return total


def in_rows(function: Callable[[jax.Array], jax.Array], x: Any) -> np.ndarray:
    """`function` of examples `x [n, ...]`, `ROWS` at a time: `[n, ...]`, on the host."""
    program = compiled(function)
    return np.concatenate([np.asarray(program(jnp.asarray(x[i : i + ROWS]))) for i in range(0, len(x), ROWS)])


def predict(logits: Callable[[jax.Array], jax.Array], x: np.ndarray) -> np.ndarray:
    """Class probabilities `[n, classes]` of examples `x [n, ...]`, `ROWS` at a time.

    Args:
        logits: one network, `[rows, ...] -> [rows, classes]`; normalisation included.
        x: examples as their data set has them.
    """
    return in_rows(lambda rows: jax.nn.softmax(logits(rows)), x)


def measure(probabilities: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """What predictions `[n, classes]` are worth against labels `[n]`: `accuracy`, and `loss` in nats."""
    picked = probabilities[np.arange(len(y)), y].astype(np.float64)
    return {
        "accuracy": float((probabilities.argmax(axis=1) == y).mean()),
        # A probability that underflowed to zero counts as the smallest float32, about 87 nats.
        "loss": float(-np.log(np.maximum(picked, np.finfo(np.float32).tiny)).mean()),
    }
