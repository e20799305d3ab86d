"""A population in training: each member's params and optimizer state, all advanced by one compiled program."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import devices, genetics
from jevo import population as pop
from jevo.programs import compiled_when_plain
from jevo.types import Cross, Key, Member, Population, Symmetry


class Learner(NamedTuple):
    """One member in training.

    Attributes:
        params: its weights.
        optimizer: its optax state. With `optax.inject_hyperparams` it holds the member's own learning rate and the
            like, as arrays that differ from member to member.
    """

    params: Member
    optimizer: Any


Loss = Callable[[Member, Any, Key], jax.Array]
"""`(params, batch, key) -> float32 []`; the key is for dropout."""


def learner(init: Callable[[Key], Member], optimizer: optax.GradientTransformation) -> Callable[[Key], Learner]:
    """Makes a fresh member: `key -> Learner`."""

    def fresh(key: Key) -> Learner:
        params = init(key)
        return Learner(params, optimizer.init(params))

    return fresh


def mating(cross: Cross, symmetries: Sequence[Symmetry] = ()) -> Cross:
    """A crossover of params as one of learners: moments are crossed as the params are, with the same draws.

    Args:
        cross: any crossover of params.
        symmetries: of the network, to renumber the other parents' hidden units to match the first's; none to leave
            them as they are.
    """
    params = operator.attrgetter("params")
    followed = genetics.follow(cross, params)
    return genetics.aligned(followed, symmetries, params) if symmetries else followed


def keep_zeros(name: str) -> optax.GradientTransformation:
    """Leaves weights that are exactly zero as they are, so that what is pruned stays pruned.

    Args:
        name: of the arrays that it is about, such as "kernel".
    """

    def change(path: tuple[Any, ...], update: jax.Array, array: jax.Array) -> jax.Array:
        return jnp.where(array == 0, 0, update) if path[-1] == jax.tree_util.DictKey(name) else update

    return optax.stateless(lambda updates, params: jax.tree.map_with_path(change, updates, params))


@compiled_when_plain("loss", "optimizer", "steps", "batch_size", "shared", "chunk")
def train(
    key: Key,
    population: Population,
    data: Any,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    batch_size: int | None = None,
    shared: bool = False,
    chunk: int = 8,
) -> tuple[Population, jax.Array]:
    """Train every member by the same number of gradient steps, none of which depends on another member.

    Args:
        key: of the batches, and of dropout.
        population: of `Learner`, `[P, ...]`.
        data: a pytree of arrays `[n, ...]`, the train examples.
        loss: of one member on one batch, which is `data` with `batch_size` rows.
        optimizer: any optax transformation.
        steps: gradient steps of each member.
        batch_size: rows in a step. An epoch is a new shuffle and drops what does not fill a batch. None: all rows,
            in order.
        shared: whether all members see the same batches. Otherwise each has shuffles of its own.
        chunk: members trained side by side. It bounds the memory of temporaries; it does not change who learns what.

    Returns:
        The population after the last step, and the losses before each: float32 `[P, steps]`. A member that
        diverges has NaN there from then on, and touches no other.
    """
    n = jax.tree.leaves(data)[0].shape[0]
    size = n if batch_size is None else min(batch_size, n)
    per_epoch = n // size
    members = pop.size(population)
    batch_key, member_key = jax.random.split(key)
    batch_keys = jnp.broadcast_to(batch_key, (members,)) if shared else jax.random.split(batch_key, members)

    def advance(member: tuple[Learner, Key, Key]) -> tuple[Learner, jax.Array]:
        learner, batch_key, noise_key = member

        def step(learner: Learner, now: tuple[jax.Array, jax.Array]) -> tuple[Learner, jax.Array]:
            index, rows = now
            batch = data if batch_size is None else jax.tree.map(lambda leaf: leaf[rows], data)
            noise = jax.random.fold_in(noise_key, index)
            value, gradient = jax.value_and_grad(loss)(learner.params, batch, noise)
            updates, state = optimizer.update(gradient, learner.optimizer, learner.params)
            return Learner(optax.apply_updates(learner.params, updates), state), value

        def epoch(learner: Learner, number: jax.Array, count: int) -> tuple[Learner, jax.Array]:
            if batch_size is None:
                rows = jnp.zeros((count, 0), jnp.int32)
            else:
                shuffled = jax.random.permutation(jax.random.fold_in(batch_key, number), n)
                rows = shuffled[: count * size].reshape(count, size)
            return jax.lax.scan(step, learner, (number * per_epoch + jnp.arange(count), rows))

        epochs, rest = divmod(steps, per_epoch)
        learner, losses = jax.lax.scan(lambda so_far, i: epoch(so_far, i, per_epoch), learner, jnp.arange(epochs))
        learner, last = epoch(learner, jnp.int32(epochs), rest)
        return learner, jnp.concatenate([losses.reshape(-1), last])

    keys = (batch_keys, jax.random.split(member_key, members))
    return devices.in_chunks(advance, (population, *keys), chunk)
