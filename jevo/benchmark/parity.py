"""Random genomes trained mixed, and each alone by plain Flax and optax: do they learn the same?"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jevo.benchmark import figures
from jevo.data.datasets import load
from jevo.data.task import Task, to_device
from jevo.errors import InputError, suggestion
from jevo.hyperparams import SPACES, parse_space
from jevo.mixed import COSTS, Architecture, MixedTrainer, thread_executor
from jevo.mixed.layers import dropout_gain
from jevo.mixed.trainer import shuffled
from jevo.mixed.unpadded import first_weights, layer_key
from jevo.networks import ACTIVATIONS
from jevo.training.criterion import classification
from jevo.types import Member

OPTIMIZERS = {
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "sgd": optax.sgd,
    "adagrad": optax.adagrad,
    "adadelta": optax.adadelta,
    "adamax": optax.adamax,
    "nadam": optax.nadam,
}


@dataclass(frozen=True)
class Parity:
    """Compare the loss curves of random genomes, trained mixed and each alone by plain Flax and optax."""

    space: str = "mlp"
    """Built-in space: mlp, dense or cnn."""
    data: str = "digits"
    """Data set."""
    data_dir: Path | None = None
    """Folder of original data files. Unset: the environment's JEVO_DATA_DIR, else a download."""
    count: int = 40
    """Genomes."""
    epochs: int = 3
    """Epochs of training, of every genome [epochs]."""
    batch_size: int = 64
    """Train examples in a gradient step [examples]."""
    seed: int = 0
    """Of the genomes, and of their training."""
    workers: int = 2
    """Mixed programs that run at once."""
    out: Path = Path("runs/benchmark")
    """Folder for the JSON file."""


class Alone(nn.Module):
    """The network of one genome, as a user of Flax writes it.

    Attributes:
        of: the genome's network.
    """

    of: Architecture

    @nn.compact
    def __call__(self, x: jax.Array, gains: list[jax.Array] | None = None) -> jax.Array:
        """Logits of `x [batch, ...]`; hidden layers' outputs are multiplied by their gains, dropout's."""
        of = self.of
        gains = gains or [jnp.ones(())] * (len(of.conv) + len(of.dense))
        for i, conv in enumerate(of.conv):
            padding = "SAME" if conv.same else "VALID"
            x = nn.Conv(conv.units, (conv.kernel, conv.kernel), conv.stride, padding, name=f"conv_{i}")(x)
            x = ACTIVATIONS[of.activation[i]](x)
            x = (nn.max_pool(x, (2, 2), (2, 2)) if conv.pool else x) * gains[i]
        if of.conv:
            x = x.transpose(0, 3, 1, 2)
        x = x.reshape(x.shape[0], -1)
        for i, units in enumerate(of.dense):
            x = ACTIVATIONS[of.activation[len(of.conv) + i]](nn.Dense(units, name=f"dense_{i}")(x))
            x = x * gains[len(of.conv) + i]
        return nn.Dense(of.classes, name="output")(x)


def train_alone(of: Architecture, task: Task, batch_size: int, seed: int) -> tuple[list[Member], list[float]]:
    """Plain Flax and optax, one step after another, with the draws of mixed training.

    Returns:
        The params after each epoch, and its mean train loss.
    """
    batch_key, noise_key = jax.random.split(jax.random.key(seed))
    module, optimizer = Alone(of), OPTIMIZERS[of.optimizer](of.learning_rate)
    params: Any = first_weights(of, seed)
    state, examples = optimizer.init(params), len(task.train.y)
    steps = examples // batch_size

    def gains(count: jax.Array) -> list[jax.Array]:
        noise = jax.random.fold_in(noise_key, count)
        shapes = [(conv.units, *conv.pooled, batch_size) for conv in of.conv] + [(n, batch_size) for n in of.dense]
        drawn = [
            dropout_gain(layer_key(noise, name), shape, jnp.float32(rate))
            for name, shape, rate in zip(of.layers[:-1], shapes, of.dropout, strict=True)
        ]
        return [gain.transpose(3, 1, 2, 0) if gain.ndim == 4 else gain.T for gain in drawn]

    @jax.jit
    def step(params: Member, state: Any, x: jax.Array, y: jax.Array, count: jax.Array) -> Any:
        def loss(params: Member) -> jax.Array:
            logits: Any = module.apply({"params": params}, x, gains(count))
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    curve, found = [], []
    for epoch in range(of.epochs):
        order = np.asarray(shuffled(jax.random.fold_in(batch_key, epoch), examples))
        losses = []
        for i in range(steps):
            rows = order[i * batch_size : (i + 1) * batch_size]
            x, y = task.inputs(task.train.x[rows]), task.train.y[rows]
            params, state, value = step(params, state, x, y, jnp.int32(epoch * steps + i))
            losses.append(float(value))
        curve.append(statistics.fmean(losses))
        found.append(params)
    return found, curve


def measure(settings: Parity) -> dict[str, Any]:
    """Both curves of every genome, and how far apart they are at the most, relative to the loss."""
    if settings.space not in SPACES:
        raise InputError(f"space {settings.space!r} is unknown; {suggestion(settings.space, SPACES)}")
    dataset = load(settings.data, settings.data_dir)
    task, space = to_device(dataset), parse_space(SPACES[settings.space], settings.space)
    trainable = MixedTrainer(
        task,
        classification(len(dataset.classes)),
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        max_epochs=settings.epochs,
        patience=settings.epochs,
        seed=settings.seed,
        make_executor=thread_executor(settings.workers),
        costs=COSTS[jax.default_backend()],
    )
    keys = jax.random.split(jax.random.key(settings.seed), settings.count)
    drawn: list[Mapping[str, Any]] = [space.decode(space.init(key)) for key in keys]
    genomes = [{**genome, "epochs": settings.epochs} for genome in drawn]
    plan = trainable.plan(genomes)
    print(plan, flush=True)
    found = []
    for i, score in trainable.score(genomes, plan):
        mixed = score.details["curve"][0]
        _, alone = train_alone(trainable.architecture(genomes[i])[0], task, settings.batch_size, settings.seed)
        difference = max(abs(a / b - 1) for a, b in zip(mixed, alone, strict=True))
        found.append({"genome": genomes[i], "mixed": mixed, "alone": alone, "difference": difference})
    differences = [one["difference"] for one in found]
    return figures.record(
        f"parity-{settings.space}",
        settings,
        plan=str(plan),
        largest_difference=max(differences),
        median_difference=statistics.median(differences),
        genomes=found,
    )


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    print(
        f"{len(result['genomes'])} genomes: loss curves differ by {result['median_difference']:.1e} of the loss in the "
        f"median, by {result['largest_difference']:.1e} at the most"
    )
