"""A population in training: each member's params and optimizer state, all advanced by one compiled program."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jevo import devices, genetics
from jevo import population as pop
from jevo.errors import require_count
from jevo.programs import compiled_when_plain
from jevo.stateful import genome, has_state, with_genome, with_state
from jevo.training.scoring import examples
from jevo.types import Cross, Key, Member, Mix, Population, Symmetry


class Learner(NamedTuple):
    """One member in training.

    Attributes:
        params: what its network takes: its weights, or a `Stateful`.
        optimizer: its optax state, which is about the weights alone. With `optax.inject_hyperparams` it holds the
            member's own learning rate and the like, as arrays that differ from member to member.
    """

    params: Member
    optimizer: Any


Loss = Callable[[Member, Any, Key], Any]
"""`(params, batch, key) -> value`, float32 `[]`; the key is for dropout.

Of members with state it gives `(value, params)`, the latter as `Network.update` has them after the pass; with
`has_aux`, whatever else it gives comes last: `(value, aux)` or `(value, params, aux)`."""


def learner(init: Callable[[Key], Member], optimizer: optax.GradientTransformation) -> Callable[[Key], Learner]:
    """Makes a fresh member: `key -> Learner`."""

    def fresh(key: Key) -> Learner:
        params = init(key)
        return Learner(params, optimizer.init(genome(params)))

    return fresh


def mating(cross: Cross, symmetries: Sequence[Symmetry] = ()) -> Cross:
    """A crossover of params as one of learners: moments are crossed as the params are, with the same draws.

    A child of parents with state has the first one's, which is not that of its weights: `recalibration` is a mutation
    that estimates it anew.

    Args:
        cross: any crossover of params.
        symmetries: of the network, to renumber the other parents' hidden units to match the first's; none to leave
            them as they are.
    """
    params = operator.attrgetter("params")
    followed = genetics.follow(cross, params)
    return genetics.aligned(followed, symmetries, params) if symmetries else followed


def mixing(mix: Mix, moments: bool = False) -> Mix:
    """A mix of params as one of learners, for `train`.

    Members with state keep each its own, which is not that of their weights afterwards: `recalibration` estimates it
    anew.

    Args:
        mix: any of `genetics`, such as `pull` and `exchange`.
        moments: whether all in the optimizer's state that has the form of the params is mixed with them, with the same
            draws; otherwise each member keeps its own.
    """
    if moments:
        return genetics.follow(mix, operator.attrgetter("params"))
    return lambda key, learners: learners._replace(params=mix(key, learners.params))


def keep_zeros(name: str) -> optax.GradientTransformation:
    """Leaves weights that are exactly zero as they are, so that what is pruned stays pruned.

    Args:
        name: of the arrays that it is about, such as "kernel".
    """

    def change(path: tuple[Any, ...], update: jax.Array, array: jax.Array) -> jax.Array:
        return jnp.where(array == 0, 0, update) if path[-1] == jax.tree_util.DictKey(name) else update

    return optax.stateless(lambda updates, params: jax.tree.map_with_path(change, updates, params))


@compiled_when_plain("loss", "optimizer", "steps", "batch_size", "shared", "chunk", "has_aux", "mix", "every")
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
    chunk: int = 4,
    has_aux: bool = False,
    mix: Mix | None = None,
    every: int = 1,
) -> Any:
    """Train every member by the same number of gradient steps, none of which depends on another member.

    The steps are a loop of a length that is known only as it runs: no derivative can be taken backwards through it.

    Args:
        key: of the batches, and of dropout.
        population: of `Learner`, `[P, ...]`.
        data: a pytree of arrays `[n, ...]`, the train examples.
        loss: of one member on one batch, which is `data` with `batch_size` rows.
        optimizer: any optax transformation. One that takes extra arguments, such as `optax.lbfgs` or
            `optax.contrib.reduce_on_plateau`, is given `value`, `grad`, and `value_fn`, the loss on the batch as a
            function of the weights.
        steps: gradient steps of each member.
        batch_size: rows in a step. An epoch is a new shuffle and drops what does not fill a batch. None: all rows,
            in order.
        shared: whether all members see the same batches. Otherwise each has shuffles of its own.
        chunk: members trained side by side. It bounds the memory of temporaries; it does not change who learns what. A
            CPU is quickest where their params and moments fit its cache; an accelerator can take many more.
        has_aux: whether the loss also gives a pytree of arrays to be returned.
        mix: of learners, such as `mixing` makes: what members give to each other between two steps. Batches and dropout
            are as they are without.
        every: gradient steps from one mix to the next; what is left over at the end is not followed by one.

    Returns:
        The population after the last step, and the losses before each: float32 `[P, steps]`. A member that
        diverges has NaN there from then on, and touches no other unless they are mixed. With `has_aux` also what the
        loss gave beside, each array `[P, steps, ...]`.

    Raises:
        TypeError: if the loss gives something else than `Loss` says.
        ValueError: if `every` or `batch_size` is no number of such, or the arrays of the data have not as many rows.
    """
    require_count(every, "every, the steps from one mix to the next,")
    if batch_size is not None:
        require_count(batch_size, "batch_size, the rows in a step,")
    n = examples(data)
    size = n if batch_size is None else min(batch_size, n)
    per_epoch = n // size
    members = pop.size(population)
    extended = optax.with_extra_args_support(optimizer)
    batch_key, member_key = jax.random.split(key)
    batch_keys = jnp.broadcast_to(batch_key, (members,)) if shared else jax.random.split(batch_key, members)
    keys = (batch_keys, jax.random.split(member_key, members))
    unshuffled = jnp.zeros(1 if batch_size is None else n, jnp.int32)

    def step(learner: Learner, batch: Any, noise: Key) -> tuple[Learner, tuple[jax.Array, Any]]:
        weights = genome(learner.params)

        def given(weights: Member, noise: Key = noise) -> tuple[jax.Array, tuple[Member, Any]]:
            params = with_genome(learner.params, weights)
            return _taken(loss(params, batch, noise), params, has_aux)

        (value, (after, aux)), gradient = jax.value_and_grad(given, has_aux=True)(weights)
        # A search along a line sees the same dropout, and leaves the state as it is.
        again = lambda weights: given(weights, jax.random.clone(noise))[0]  # noqa: E731
        updates, state = extended.update(
            gradient, learner.optimizer, weights, value=value, grad=gradient, value_fn=again
        )
        params = with_genome(with_state(learner.params, after), optax.apply_updates(weights, updates))
        return Learner(params, state), (value, aux)

    def advance(member: tuple[Learner, jax.Array, Key, Key], first: jax.Array, count: int) -> Any:
        """One member after steps `first` to `first + count`: the learner, how its rows are shuffled, what was found."""
        learner, order, batch_key, noise_key = member

        def at(order: jax.Array, index: jax.Array) -> tuple[Any, Key]:
            """The batch and the key of a step."""
            batch = data
            if batch_size is not None:
                rows = jax.lax.dynamic_slice_in_dim(order, index % per_epoch * size, size)
                batch = jax.tree.map(lambda leaf: leaf[rows], data)
            return batch, jax.random.fold_in(noise_key, index)

        def epoch(carry: tuple[Learner, jax.Array, Any, jax.Array]) -> Any:
            """To the end of an epoch, or of the steps: a step that could also be the first of one would copy the order
            each time."""
            learner, order, found, index = carry
            if batch_size is not None:
                number, place = index // per_epoch, index % per_epoch
                shuffled = lambda: jax.random.permutation(jax.random.fold_in(batch_key, number), n)  # noqa: E731
                order = jax.lax.cond(place == 0, shuffled, lambda: order)
            until = jnp.minimum(index - index % per_epoch + per_epoch, first + count)

            def turn(index: jax.Array, carry: tuple[Learner, Any]) -> tuple[Learner, Any]:
                learner, some = step(carry[0], *at(order, index))
                return learner, jax.tree.map(lambda all_, new: all_.at[index - first].set(new), carry[1], some)

            learner, found = jax.lax.fori_loop(index, until, turn, (learner, found))
            return learner, order, found, until

        def seen(params: Member, order: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
            value, (_, aux) = _taken(loss(params, *at(order, index)), params, has_aux)
            return value, aux

        shapes = jax.eval_shape(seen, learner.params, order, first)
        found = jax.tree.map(lambda shape: jnp.zeros((count, *shape.shape), shape.dtype), shapes)
        start = learner, order, found, first
        return jax.lax.while_loop(lambda carry: carry[3] < first + count, epoch, start)[:3]

    if mix is None:

        def whole(member: tuple[Learner, Key, Key]) -> tuple[Learner, Any]:
            learner, _, found = advance((member[0], unshuffled, *member[1:]), jnp.int32(0), steps)
            return learner, found

        trained, (losses, aux) = devices.in_chunks(whole, (population, *keys), chunk)
        return (trained, losses, aux) if has_aux else (trained, losses)

    mix_key = jax.random.fold_in(jax.random.clone(key), 2)

    def together(so_far: tuple[Population, jax.Array], first: jax.Array, count: int) -> Any:
        """All members after steps `first` to `first + count`."""
        each = lambda member, first: advance(member, first, count)  # noqa: E731
        population, orders, found = devices.in_chunks(each, (*so_far, *keys), chunk, first)
        return (population, orders), found

    def round_(so_far: tuple[Population, jax.Array], number: jax.Array) -> Any:
        (population, orders), found = together(so_far, number * every, every)
        return (mix(jax.random.fold_in(mix_key, number), population), orders), found

    rounds, rest = divmod(steps, every)
    so_far = (population, jnp.broadcast_to(unshuffled, (members, *unshuffled.shape)))
    so_far, found = jax.lax.scan(round_, so_far, jnp.arange(rounds))
    found = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(members, rounds * every, *leaf.shape[3:]), found)
    if rest:
        so_far, last = together(so_far, jnp.int32(rounds * every), rest)
        found = jax.tree.map(lambda whole, last: jnp.concatenate([whole, last], axis=1), found, last)
    (trained, _), (losses, aux) = so_far, found
    return (trained, losses, aux) if has_aux else (trained, losses)


def _taken(found: Any, params: Member, has_aux: bool) -> tuple[jax.Array, tuple[Member, Any]]:
    """What a loss gives, as `(value, (params after the pass, aux))`."""
    stateful = has_state(params)
    names = ["value", *(["params"] if stateful else []), *(["aux"] if has_aux else [])]
    if len(names) == 1:
        return found, (params, ())
    if not isinstance(found, tuple) or len(found) != len(names):
        given = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
        why = "; those with state are updated by the pass: take y and params from Network.update" if stateful else ""
        raise TypeError(f"the loss of these members gives ({', '.join(names)}), not {given}{why}")
    value, *rest = found
    after, aux = (rest[0] if stateful else params), (rest[-1] if has_aux else ())
    if jax.tree.structure(after) != jax.tree.structure(params):
        raise TypeError("the params that a loss gives have another structure than those it was given")
    return value, (after, aux)
