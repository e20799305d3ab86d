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
import optax

from jevo.genetics.matching import match
from jevo.stateful import has_state, on_genomes
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

    return on_genomes(
        lambda key, first, *others: cross(key, first, *(align(first, other, symmetries, params) for other in others))
    )


def align(
    first: Member,
    other: Member,
    symmetries: Sequence[Symmetry],
    params: Callable[[Member], Any] = lambda member: member,
) -> Member:
    """The other member, its hidden units renumbered to match the first's; it computes what it did before.

    Raises:
        TypeError: for members with state, whose running statistics would stay in their order.
    """
    if has_state(first) or has_state(other):
        raise TypeError("align renumbers params alone; of members with state, give it what jevo.stateful.genome takes")
    return renumber(other, symmetries, match(params(first), params(other), symmetries), params(other))


def follow(cross: Cross, params: Callable[[Member], Any]) -> Cross:
    """A crossover of members that hold more than params.

    All that has the params' structure (an optimizer's moments) is crossed as the params are, with the same draws, also
    where it is for some of the params only (`optax.multi_transform`, `optax.masked`); the rest is the first parent's.
    """

    @on_genomes
    def operate(key: Key, *parents: Member) -> Member:
        # The draws are to be the same, so the key is used again on purpose.
        return _map_like(lambda *alike: cross(jax.random.clone(key), *alike), list(map(params, parents)), parents)

    return operate


def renumber(member: Member, symmetries: Sequence[Symmetry], orders: Sequence[jax.Array], like: Member) -> Member:
    """The member with its hidden units in these orders, in all that has the structure of `like`, its params."""
    return _map_like(lambda tree: renumbered(tree, symmetries, orders), [like], [member])


def _map_like(function: Callable[..., Any], likes: Sequence[Member], members: Sequence[Member]) -> Member:
    """`function` of each subtree of the members that is like their params, `likes`; what is left is the first's."""
    whole = lambda tree: _whole(tree, likes[0]) is not None  # noqa: E731
    subtrees, treedef = jax.tree.flatten(members[0], is_leaf=whole)
    rest = [treedef.flatten_up_to(other) for other in members[1:]]

    def mapped(*group: Any) -> Any:
        if not whole(group[0]):
            return group[0]
        made = function(*(_whole(tree, like) for tree, like in zip(group, likes, strict=True)))
        nodes, treedef = jax.tree.flatten(group[0], is_leaf=_is_absent)
        parts = treedef.flatten_up_to(made)
        return treedef.unflatten([node if _is_absent(node) else part for node, part in zip(nodes, parts, strict=True)])

    return treedef.unflatten([mapped(*group) for group in zip(subtrees, *rest, strict=True)])


def _whole(tree: Any, like: Member) -> Any:
    """A tree with the structure and shapes of params; where it lacks some of them, with those of `like` in their place.
    None if it is no such tree."""
    if _form(tree) == _form(like):
        return tree
    nodes, treedef = jax.tree.flatten(tree, is_leaf=_is_absent)
    if len({_is_absent(node) for node in nodes}) != 2:
        return None
    try:
        parts = treedef.flatten_up_to(like)
    except (KeyError, TypeError, ValueError):  # Another structure.
        return None
    whole = treedef.unflatten([part if _is_absent(node) else node for node, part in zip(nodes, parts, strict=True)])
    return whole if _form(whole) == _form(like) else None


def _is_absent(tree: Any) -> bool:
    """Whether optax has this in place of params that a transformation is not for."""
    return isinstance(tree, optax.MaskedNode)


def _form(tree: Any) -> Any:
    return jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
