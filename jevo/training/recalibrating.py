"""Running statistics of a child: its weights are new, so those of its parents say nothing of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jevo.networks.network import Network
from jevo.stateful import is_stateful
from jevo.types import Key, Member, Mutate, Stateful

_EXACT = 1e-3
"""How near an array is to what a moving average would be, beside its largest number, to be taken for one."""


def recalibration(network: Network, x: Any) -> Mutate:
    """A mutation that estimates a member's state anew on a batch of examples, and leaves its weights as they are.

    Batch normalisation and whatever else keeps moving averages has the averages of this very batch afterwards, whatever
    their momentum and whatever they were. State that is no moving average (the vectors of spectral normalisation, a
    count) is what one training pass makes of it. Of a network without state it changes nothing.

    Args:
        network: whose members, or the members of whose learners, are mutated.
        x: the examples `[n, ...]`, as `network.apply` takes them; all of them are passed at once.

    Raises:
        TypeError: when called, if there are other networks' states in the member, too.

    Source: Jordan et al., "REPAIR: renormalizing permuted activations for interpolation repair", 2023.
    """
    update = network.update
    if update is None:
        return lambda key, member: member

    def anew(key: Key, member: Stateful) -> Stateful:
        old, treedef = jax.tree.flatten(member.state)

        def passed(state: list[jax.Array]) -> list[jax.Array]:
            given = member._replace(state=treedef.unflatten(state))
            return treedef.flatten_up_to(update(given, x, jax.random.clone(key))[1].state)

        # A moving average that was nothing becomes (1 - momentum) * mean; of what it was else, momentum times that is
        # added. What takes time in these passes is the same in all of them, and is computed once.
        once, none = passed(old), passed(_each(jnp.zeros_like, old))
        start = _each(lambda none: 1 + jnp.abs(none), none)
        momentum = _each(lambda some, none, start: (some - none) / start, passed(start), none, start)
        settled = _each(lambda none, momentum: none / (1 - momentum), none, momentum)

        def found(once: jax.Array, average: jax.Array, settled: jax.Array, again: jax.Array) -> jax.Array:
            return jnp.where(_near(average, once) & _near(again, settled), settled, once)

        average = _each(lambda old, none, momentum: momentum * old + none, old, none, momentum)
        state = _each(found, once, average, settled, passed(settled))
        return member._replace(state=treedef.unflatten(state))

    def mutate(key: Key, member: Member) -> Member:
        nodes, treedef = jax.tree.flatten(member, is_leaf=is_stateful)
        if sum(map(is_stateful, nodes)) > 1:
            raise TypeError("a member has the states of several networks; route the recalibration of each to its own")
        return treedef.unflatten([anew(key, node) if is_stateful(node) else node for node in nodes])

    return mutate


def _each(function: Callable[..., jax.Array], *arrays: list[jax.Array]) -> list[jax.Array]:
    """A function of one float array after another; what is of another type is as in the first of the lists."""
    return [
        function(*group) if jnp.issubdtype(group[0].dtype, jnp.floating) else group[0]
        for group in zip(*arrays, strict=True)
    ]


def _near(found: jax.Array, expected: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(found - expected)) <= _EXACT * jnp.max(jnp.abs(expected))
