"""Operators out of operators, as in `optax.chain`."""

from collections.abc import Callable

import jax

from jevo.types import Key, Member, Mutate


def chain(*mutations: Mutate) -> Mutate:
    """One mutation after another, each with a key of its own.

    >>> from jevo.genetics import gaussian, zero
    >>> mutate = chain(zero(0.01), gaussian(0.02))
    """

    def mutate(key: Key, member: Member) -> Member:
        for operator, operator_key in zip(mutations, jax.random.split(key, max(len(mutations), 1)), strict=False):
            member = operator(operator_key, member)
        return member

    return mutate


def route(**operators: Callable[..., Member]) -> Callable[..., Member]:
    """An operator for each part of a member that is a dict: mutations and crossovers alike.

    Parts that are not named stay as they are (a child gets the first parent's).

    Raises:
        KeyError: when called, if a name is not a part of the member.

    >>> from jevo.genetics import flip, gaussian
    >>> mutate = route(mask=flip(0.01), lr=gaussian(0.1))
    """

    def operate(key: Key, *members: Member) -> Member:
        unknown = sorted(operators.keys() - members[0].keys())
        if unknown:
            raise KeyError(f"route names {', '.join(unknown)}, but the member has {', '.join(members[0])}")
        keys = jax.random.split(key, max(len(operators), 1))
        changed = {
            name: operator(keys[i], *(member[name] for member in members))
            for i, (name, operator) in enumerate(operators.items())
        }
        return {**members[0], **changed}

    return operate
