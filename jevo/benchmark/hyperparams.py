"""Generations of genomes trained mixed, against one jitted program for each."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo.benchmark import figures
from jevo.benchmark.parity import OPTIMIZERS
from jevo.data.datasets import load
from jevo.data.task import Task, to_device
from jevo.errors import InputError
from jevo.hyperparams import SPACES, Score, identity, parse_space
from jevo.mixed import COSTS, Architecture, MixedTrainer, thread_executor
from jevo.networks import ACTIVATIONS, mlp
from jevo.training import accuracy, log_likelihood
from jevo.training.criterion import classification
from jevo.types import Key, Member


@dataclass(frozen=True)
class Hyperparams:
    """Measure generations of random genomes of the mlp space: trained mixed, and each by a program of its own."""

    data: str = "mnist[:5000]"
    """Data set."""
    data_dir: Path | None = None
    """Folder of original data files. Unset: the environment's JEVO_DATA_DIR, else a download."""
    population: int = 20
    """Genomes of a generation."""
    generations: int = 3
    """Generations, each of other genomes; the mixed programs of one serve the next."""
    epochs: int = 2
    """Epochs of training [epochs]."""
    batch_size: int = 128
    """Train examples in a gradient step [examples]."""
    seed: int = 0
    """Of the genomes."""
    workers: int = 2
    """Mixed programs that run at once."""
    out: Path = Path("runs/benchmark")
    """Folder for the JSON file."""


class Spent(NamedTuple):
    """Seconds of one generation: all of it, and what of it went to compiling (tracing included)."""

    total: float
    compiling: float


def measure(settings: Hyperparams) -> dict[str, Any]:
    """Seconds of every generation both ways, and how often the mixed one is faster.

    Raises:
        AssertionError: if the two ways do not learn alike.
    """
    dataset = load(settings.data, settings.data_dir)
    task, space = to_device(dataset), parse_space(SPACES["mlp"], "mlp")
    trainable = MixedTrainer(
        task,
        classification(len(dataset.classes)),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        max_epochs=settings.epochs,
        patience=settings.epochs,
        make_executor=thread_executor(settings.workers),
        costs=COSTS[jax.default_backend()],
    )
    key, seen = jax.random.key(settings.seed), set()
    generations = []
    for number in range(settings.generations):
        genomes: list[Any] = []
        while len(genomes) < settings.population:
            genome = space.decode(space.init(jax.random.fold_in(key, len(seen))))
            if identity(genome) in seen:
                raise InputError(f"setting seed is {settings.seed}, but draws a genome twice; give another")
            seen.add(identity(genome))
            genomes.append(genome)
        networks = [trainable.architecture(genome)[0] for genome in genomes]
        alone, losses = _alone(networks, task, settings)
        began = time.perf_counter()
        plan = trainable.plan(genomes)
        scores: list[Score] = [Score(0.0)] * len(genomes)
        for i, score in trainable.score(genomes, plan):
            scores[i] = score
        mixed = Spent(time.perf_counter() - began, sum(score.compile_s for score in scores))
        compared = [abs(score.details["curve"][0][-1] / loss - 1) for score, loss in zip(scores, losses, strict=True)]
        generations.append(
            {
                "alone": alone._asdict(),
                "mixed": mixed._asdict(),
                "faster": alone.total / mixed.total,
                "plan": str(plan),
                "median_difference_of_train_loss": statistics.median(compared),
            }
        )
        print(f"generation {number + 1}: {plan}", flush=True)
    return figures.record("hyperparams", settings, generations=generations)


def _alone(networks: Sequence[Architecture], task: Task, settings: Hyperparams) -> tuple[Spent, list[float]]:
    """Train each network by a jitted program of its own, as a user would; and the last train loss of each."""
    losses, compiling, began = [], 0.0, time.perf_counter()
    for of in networks:
        before = time.perf_counter()
        program = jax.jit(_program(of, settings)).lower(jax.random.key(0), task).compile()
        compiling += time.perf_counter() - before
        losses.append(float(program(jax.random.key(0), task)[1][-1]))
    return Spent(time.perf_counter() - began, compiling), losses


def _program(of: Architecture, settings: Hyperparams) -> Any:
    """Training of one network of fixed sizes: dropout, early stopping's best weights, validation after each epoch."""
    activation, drop = ACTIVATIONS[of.activation[0]], of.dropout[0]
    sizes = [of.flat, *of.dense, of.classes]
    net = mlp(sizes, activation, dropout=drop, kernel_init=jax.nn.initializers.glorot_uniform())
    optimizer = OPTIMIZERS[of.optimizer](of.learning_rate)

    def loss(params: Member, x: jax.Array, y: jax.Array, key: Key) -> jax.Array:
        return -log_likelihood(net.apply(params, x, key), y)

    def run(key: Key, task: Task) -> tuple[Any, jax.Array]:
        weight_key, batch_key, noise_key = jax.random.split(key, 3)
        n, size = len(task.train.y), settings.batch_size
        params = net.init(weight_key)

        def step(carry: Any, now: Any) -> Any:
            params, state = carry
            rows, count = now
            x, y = task.inputs(task.train.x[rows]), task.train.y[rows]
            value, gradient = jax.value_and_grad(loss)(params, x, y, jax.random.fold_in(noise_key, count))
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        def epoch(carry: Any, number: jax.Array) -> Any:
            params, state, best, kept = carry
            order = jax.random.permutation(jax.random.fold_in(batch_key, number), n)
            rows = order[: n // size * size].reshape(-1, size)
            counts = number * len(rows) + jnp.arange(len(rows))
            (params, state), values = jax.lax.scan(step, (params, state), (rows, counts))
            found = accuracy(net.apply(params, task.inputs(task.validation.x)), task.validation.y)
            kept = jax.tree.map(lambda new, old: jnp.where(found > best, new, old), params, kept)
            return (params, state, jnp.maximum(found, best), kept), values.mean()

        carry = (params, optimizer.init(params), jnp.float32(-1), params)
        (_, _, _, kept), curve = jax.lax.scan(epoch, carry, jnp.arange(settings.epochs))
        return kept, curve

    return run


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    for number, one in enumerate(result["generations"], start=1):
        alone, mixed = one["alone"], one["mixed"]
        print(
            f"generation {number}: alone {alone['total']:6.1f} s ({alone['compiling']:.1f} s compiling)  "
            f"mixed {mixed['total']:6.1f} s ({mixed['compiling']:.1f} s compiling)  {one['faster']:.1f} times as fast"
        )
