"""What an experiment is compared with: training by gradient. (Random search is `genetics.random_search`.)"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo.data.task import Task
from jevo.networks.network import Network
from jevo.training import accuracy, log_likelihood
from jevo.types import Key, Member

STEPS = 100
"""Gradient steps in one generation of gradient training: what a line of its metrics stands for."""


class Training(NamedTuple):
    """One network in training.

    Attributes:
        params, optimizer: as the last step left them.
        generation: int32 `[]`, of `STEPS` gradient steps each.
        champion: the params with the best validation accuracy so far.
        validation: float32 `[]`, that accuracy.
    """

    params: Member
    optimizer: Any
    generation: jax.Array
    champion: Member
    validation: jax.Array


def adam(
    network: Callable[[Any], Network], task: Callable[[Any], Task], key: Key, learning_rate: float, batch_size: int
) -> tuple[Callable[[Any], Training], Callable[[Training, Any], tuple[Training, dict[str, jax.Array]]]]:
    """Plain training of one network: `(start, step)`, as a Stage takes them.

    Args:
        network: what to train, made from the stage's data.
        task: where in the stage's data the examples are.
        key: of the first params and of the batches.
        learning_rate: of Adam.
        batch_size: train examples in a step, drawn with replacement.
    """
    optimizer = optax.adam(learning_rate)
    start_key, run_key = jax.random.split(key)

    def start(data: Any) -> Training:
        params = network(data).init(start_key)
        return Training(params, optimizer.init(params), jnp.int32(0), params, jnp.float32(-jnp.inf))

    def step(training: Training, data: Any) -> tuple[Training, dict[str, jax.Array]]:
        apply, examples = network(data).apply, task(data)

        def descend(i: jax.Array, loop: tuple[Member, Any, jax.Array]) -> tuple[Member, Any, jax.Array]:
            params, state, total = loop
            batch_key = jax.random.fold_in(run_key, training.generation * STEPS + i)
            rows = jax.random.randint(batch_key, (batch_size,), 0, len(examples.train.y))
            x, y = examples.inputs(examples.train.x[rows]), examples.train.y[rows]
            loss, gradient = jax.value_and_grad(lambda params: -log_likelihood(apply(params, x), y))(params)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, total + loss

        carry = (training.params, training.optimizer, jnp.float32(0))
        params, state, loss = jax.lax.fori_loop(0, STEPS, descend, carry)
        validation = accuracy(apply(params, examples.inputs(examples.validation.x)), examples.validation.y)
        better = validation > training.validation
        champion = jax.tree.map(lambda new, old: jnp.where(better, new, old), params, training.champion)
        fitness = -loss / STEPS
        after = Training(params, state, training.generation + 1, champion, jnp.maximum(validation, training.validation))
        return after, {"best": fitness, "mean": fitness, "validation": validation}

    return start, step


def straight_through(network: Network, weights: Member) -> Network:
    """`network` with frozen `weights` under a mask that gradients can train.

    The parameters are scores, uniform in 0.01..0.1 at first; a weight is kept where its score is positive, and the
    gradient reaches the score as though the mask were the score itself.

    Source: Bengio, Leonard and Courville, "Estimating or propagating gradients through stochastic neurons for
    conditional computation", 2013; the first scores are those of the published mask experiments.
    """

    def init(key: Key) -> Member:
        arrays, treedef = jax.tree.flatten(weights)
        keys = jax.random.split(key, len(arrays))
        scores = [jax.random.uniform(k, a.shape, a.dtype, 0.01, 0.1) for k, a in zip(keys, arrays, strict=True)]
        return treedef.unflatten(scores)

    def apply(scores: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        def through(weight: jax.Array, score: jax.Array) -> jax.Array:
            kept = (score > 0).astype(score.dtype)
            return weight * (score + jax.lax.stop_gradient(kept - score))

        return network.apply(jax.tree.map(through, weights, scores), x, key)

    return Network(init, apply)
