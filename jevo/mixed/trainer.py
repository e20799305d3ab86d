"""Training written for one member whose choices are traced values, so that one compiled program trains many.

A program has fixed, padded sizes. Within them a member's widths, kernels and depth, its activations, optimizer, dropout
and epochs are data: units beyond its own are masked, layers beyond its own are passed by. Its loss curve is the one it
would have alone, unpadded: its batches and its dropout are drawn by numbers that padding does not change.

The gradient is taken layer by layer, and each layer's weights move as soon as theirs is known. So no array of weights
passes through a conditional, which would copy it, and the gradient of one layer exists at a time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jevo.data.task import Task
from jevo.mixed.layers import Layer
from jevo.mixed.optimizers import Slots, coefficients
from jevo.mixed.programs import Choices, Program
from jevo.mixed.progress import Progress, Trained
from jevo.mixed.unpadded import channels_first
from jevo.training.criterion import Criterion
from jevo.types import Key, Member

ROWS = 1024
"""Examples scored at a time."""


def train(
    program: Program, criterion: Criterion, batch_size: int, patience: int
) -> Callable[[Key, Progress, Choices, Task], Progress]:
    """The training of one member: `(key, how far it is, choices, task) -> how far it is then`.

    It trains until `choices.epochs`, and stops for good when its train loss is not a finite number, or by its patience.
    In parts, each going on from the one before, it comes to the same as at once.

    Args:
        program: the sizes.
        criterion: what outputs are for.
        batch_size: train examples in a gradient step. An epoch is a new shuffle, and drops what does not fill a batch.
        patience: epochs without a better validation after which a member stops. Better is a higher score, or the
            same one with a lower loss.
    """
    layers = [Layer(program, number) for number in range(len(program.padded.layers))]

    def member(key: Key, before: Progress, chosen: Choices, task: Task) -> Progress:
        batch_key, noise_key = jax.random.split(key)
        examples = len(task.train.y)
        size = min(batch_size, examples)
        steps = examples // size

        def descend(weights: Sequence[Slots], rows: jax.Array, count: jax.Array) -> tuple[list[Slots], jax.Array]:
            x, y = task.inputs(task.train.x[rows]), task.train.y[rows]
            logits, passed = _forward(layers, weights, x, chosen, jax.random.fold_in(noise_key, count))
            loss, slope = jax.value_and_grad(lambda logits: -jnp.mean(criterion.reward(logits.T, y)))(logits)
            by, new = coefficients(chosen.optimizer, count + 1), list(weights)
            for layer in reversed(layers):

                def back(own: Slots, slope: jax.Array, layer: Layer = layer) -> tuple[Slots, jax.Array]:
                    return layer.backward(own, *passed[layer.number], slope, chosen, by)

                new[layer.number], slope = _if_present(layer, chosen, back, weights[layer.number], slope)
            return new, loss

        def epoch(state: tuple[Sequence[Slots], Trained]) -> tuple[Sequence[Slots], Trained]:
            weights, before = state
            rows = shuffled(jax.random.fold_in(batch_key, before.epochs), examples)

            def step(i: jax.Array, now: tuple[Sequence[Slots], jax.Array]) -> tuple[Sequence[Slots], jax.Array]:
                batch = jax.lax.dynamic_slice(rows, (i * size,), (size,))
                weights, loss = descend(now[0], batch, before.epochs * steps + i)
                return weights, now[1] + loss

            weights, total = jax.lax.fori_loop(0, steps, step, (weights, jnp.float32(0)))
            score, loss = _validate(layers, criterion, weights, chosen, task)
            better = (score > before.score) | ((score == before.score) & (loss < before.loss))
            found = (_params(layers, weights), score, loss, before.epochs + 1)
            kept = (before.params, before.score, before.loss, before.best)
            params, score, loss, best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, kept)
            curve = before.curve.at[before.epochs].set(total / steps)
            return weights, Trained(params, score, loss, before.epochs + 1, best, curve)

        def goes_on(state: tuple[Sequence[Slots], Trained]) -> jax.Array:
            _, so_far = state
            sound = jnp.isfinite(so_far.curve[jnp.maximum(so_far.epochs - 1, 0)])
            return sound & (so_far.epochs < chosen.epochs) & (so_far.epochs - so_far.best < patience)

        params, (first, second) = before.weights
        weights = [Slots(params[layer.name], (first[layer.name], second[layer.name])) for layer in layers]
        weights, so_far = jax.lax.while_loop(goes_on, epoch, (weights, before.so_far))
        moments = [{layer.name: own.moments[i] for layer, own in zip(layers, weights, strict=True)} for i in (0, 1)]
        return Progress(Slots(_params(layers, weights), (moments[0], moments[1])), so_far)

    return member


def shuffled(key: Key, examples: int) -> jax.Array:
    """The numbers of all examples in random order. One sort, where `jax.random.permutation` compiles several."""
    return jnp.argsort(jax.random.bits(key, (examples,)))


def _forward(
    layers: Sequence[Layer], weights: Sequence[Slots], x: jax.Array, chosen: Choices, noise: Key | None = None
) -> tuple[jax.Array, list[tuple[Any, Any, Any, Any]]]:
    """Logits `[classes, batch]`, and what the way back needs of each layer: its input, what it saw, `z` and gain."""
    h, passed = channels_first(x, bool(layers[0].conv)), []
    for layer in layers[:-1]:
        seen = layer.seen(h, chosen)

        def run(seen: jax.Array, z: Any, gain: Any, layer: Layer = layer) -> tuple[jax.Array, jax.Array, jax.Array]:
            z = layer.linear(weights[layer.number].params, seen, chosen)
            a = layer.shaped(z, chosen)
            gain = jnp.broadcast_to(layer.gain(a.shape, chosen, noise), a.shape)
            return a * gain, z, gain

        _, *blank = (jnp.zeros(like.shape) for like in jax.eval_shape(run, seen, None, None))
        out, *kept = _if_present(layer, chosen, run, seen, *blank)
        passed.append((h, seen, *kept))
        h = out
    seen = layers[-1].seen(h, chosen)
    passed.append((h, seen, seen, seen))
    return layers[-1].linear(weights[-1].params, seen, chosen), passed


def _if_present(layer: Layer, chosen: Choices, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function` of the arguments, which it returns anew; or these, for a layer that the member has not."""
    if not layer.optional:
        return function(*arguments)
    # A loop of one turn or none works in place: a conditional would copy what it hands through.
    return jax.lax.fori_loop(0, layer.present(chosen), lambda _, now: tuple(function(*now)), tuple(arguments))


def _validate(
    layers: Sequence[Layer], criterion: Criterion, weights: Sequence[Slots], chosen: Choices, task: Task
) -> tuple[jax.Array, jax.Array]:
    """The score and the loss on the validation set."""
    x, y = task.validation
    total, size = len(y), min(ROWS, len(y))

    def part(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # The last part begins early, so as to be as long as the others; what it has twice counts once.
        first = jnp.minimum(i * size, total - size)
        new = jnp.arange(size) + first >= i * size
        rows, labels = (jax.lax.dynamic_slice_in_dim(leaf, first, size) for leaf in (x, y))
        logits = _forward(layers, weights, task.inputs(rows), chosen)[0].T
        reward = criterion.reward(logits, labels)
        right = jnp.argmax(logits, axis=-1) == labels if criterion.classifies else False
        return sums[0] + jnp.sum(new & right), sums[1] - jnp.sum(jnp.where(new, reward, 0))

    right, loss = jax.lax.fori_loop(0, -(-total // size), part, (jnp.int32(0), jnp.float32(0)))
    return (right if criterion.classifies else -loss) / total, loss / total


def _params(layers: Sequence[Layer], weights: Sequence[Slots]) -> Member:
    return {layer.name: own.params for layer, own in zip(layers, weights, strict=True)}
