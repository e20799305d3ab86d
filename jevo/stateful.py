"""Members whose network keeps a state beside its weights: what of them is genome, and operators that see only that."""

from collections.abc import Callable
from typing import Any

import jax

from jevo.types import Key, Member, Stateful


def is_stateful(tree: Any) -> bool:
    """Whether this node of a member is a network's weights and state."""
    return isinstance(tree, Stateful)


def has_state(member: Member) -> bool:
    """Whether there is a state anywhere in a member, or a population."""
    return any(map(is_stateful, jax.tree.leaves(member, is_leaf=is_stateful)))


def genome(member: Member) -> Member:
    """The member, or population, with plain params in place of each `Stateful`; itself, if there is none.

    >>> genome({"net": Stateful({"w": 1.0}, {"mean": 2.0}), "rate": 3.0})
    {'net': {'w': 1.0}, 'rate': 3.0}
    """
    return jax.tree.map(lambda node: node.params if is_stateful(node) else node, member, is_leaf=is_stateful)


def with_genome(member: Member, changed: Member) -> Member:
    """The member with another genome, of the structure that `genome` gives, and the state that it had."""
    nodes, treedef = jax.tree.flatten(member, is_leaf=is_stateful)
    parts = treedef.flatten_up_to(changed)
    return treedef.unflatten(
        [node._replace(params=part) if is_stateful(node) else part for node, part in zip(nodes, parts, strict=True)]
    )


def with_state(member: Member, after: Member) -> Member:
    """The member with the state of another of the same structure."""
    nodes, treedef = jax.tree.flatten(member, is_leaf=is_stateful)
    others = treedef.flatten_up_to(after)
    return treedef.unflatten(
        [
            node._replace(state=other.state) if is_stateful(node) else node
            for node, other in zip(nodes, others, strict=True)
        ]
    )


def on_genomes(operate: Callable[..., Member]) -> Callable[..., Member]:
    """A crossover or mutation that changes genomes alone: what it makes has the state of the first of its members."""

    def operate_on_genomes(key: Key, *members: Member) -> Member:
        if not any(map(has_state, members)):
            return operate(key, *members)
        return with_genome(members[0], operate(key, *map(genome, members)))

    return operate_on_genomes
