"""Alignment: before two networks mate, the second's hidden units are renumbered to match the first's.

Two networks that compute alike may number their hidden units differently, and a child that takes unit 3 from each then
gets two strangers. Renumbering changes nothing that the second parent computes.

Source: Ainsworth, Hayase and Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries", 2023 (weight
matching); Uriot and Izzo, "Safe crossover of neural networks through neuron alignment", 2020.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jevo.genetics.matching import match
from jevo.symmetry import renumbered
from jevo.types import Cross, Key, Member, Symmetry


def aligned(
    cross: Cross, symmetries: Sequence[Symmetry], params: Callable[[Member], Any] = lambda member: member
) -> Cross:
    """`cross`, after the hidden units of every other parent are renumbered to match the first's.

    Args:
        cross: any crossover.
        symmetries: of the network, as `Network.symmetries` has them.
        params: finds the network's params in a member. What else in the member has their structure (an
            optimizer's moments) is renumbered with them.
    """
    if not symmetries:
        raise ValueError("aligned crossover needs the network's symmetries; this network has none")

    return lambda key, first, *others: cross(key, first, *(align(first, other, symmetries, params) for other in others))


def align(
    first: Member,
    other: Member,
    symmetries: Sequence[Symmetry],
    params: Callable[[Member], Any] = lambda member: member,
) -> Member:
    """The other member, its hidden units renumbered to match the first's; it computes what it did before."""
    return renumber(other, symmetries, match(params(first), params(other), symmetries), params(other))


def follow(cross: Cross, params: Callable[[Member], Any]) -> Cross:
    """A crossover of members that hold more than params.

    All that has the params' structure (an optimizer's moments) is crossed as the params are, with the same draws; the
    rest is the first parent's.
    """

    def operate(key: Key, *parents: Member) -> Member:
        # The draws are to be the same, so the key is used again on purpose.
        return _map_like(lambda *alike: cross(jax.random.clone(key), *alike), params(parents[0]), *parents)

    return operate


def renumber(member: Member, symmetries: Sequence[Symmetry], orders: Sequence[jax.Array], like: Member) -> Member:
    """The member with its hidden units in these orders, in all that has the structure of `like`, its params."""
    return _map_like(lambda tree: renumbered(tree, symmetries, orders), like, member)


def _map_like(function: Callable[..., Any], like: Member, first: Member, *others: Member) -> Member:
    """`function` of each subtree with the structure and shapes of `like`; what is left is the first's."""
    form = _form(like)

    def is_like(tree: Any) -> bool:
        return _form(tree) == form

    subtrees, treedef = jax.tree.flatten(first, is_leaf=is_like)
    rest = [treedef.flatten_up_to(other) for other in others]
    return treedef.unflatten(
        [function(*group) if is_like(group[0]) else group[0] for group in zip(subtrees, *rest, strict=True)]
    )


def _form(tree: Any) -> Any:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
