"""Running statistics of a child: its weights are new, so those of its parents say nothing of it."""

from typing import Any

import jax
import jax.numpy as jnp

from jevo.networks.network import Network
from jevo.stateful import is_stateful
from jevo.types import Key, Member, Mutate, Stateful

_EXACT = 1e-3
"""What a settled array may move in another pass, beside its largest number."""


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
        def passed(state: Any) -> Any:
            return update(member._replace(state=state), x, jax.random.clone(key))[1].state

        def elsewhere(value: Any) -> Any:
            """The state with other floats."""
            return jax.tree.map(lambda leaf, to: to if _is_float(leaf) else leaf, member.state, value)

        # A moving average that was nothing becomes (1 - momentum) * mean; of anything else, momentum * that is added.
        # All that takes time in these passes is the same, and is compiled once.
        once = passed(member.state)
        from_none = passed(elsewhere(jax.tree.map(jnp.zeros_like, member.state)))
        start = jax.tree.map(lambda leaf: 1 + jnp.abs(leaf), from_none)
        from_start = passed(elsewhere(start))
        settled = jax.tree.map(
            lambda none, some, start: none / (1 - (some - none) / start), from_none, from_start, start
        )
        again = passed(elsewhere(settled))

        def found(once: jax.Array, settled: jax.Array, again: jax.Array) -> jax.Array:
            if not _is_float(once):
                return once
            stays = jnp.max(jnp.abs(again - settled)) <= _EXACT * jnp.max(jnp.abs(settled))
            return jnp.where(stays, settled, once).astype(once.dtype)

        return member._replace(state=jax.tree.map(found, once, settled, again))

    def mutate(key: Key, member: Member) -> Member:
        nodes, treedef = jax.tree.flatten(member, is_leaf=is_stateful)
        if sum(map(is_stateful, nodes)) > 1:
            raise TypeError("a member has the states of several networks; route the recalibration of each to its own")
        return treedef.unflatten([anew(key, node) if is_stateful(node) else node for node in nodes])

    return mutate


def _is_float(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
