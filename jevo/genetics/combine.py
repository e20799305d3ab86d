"""Operators out of operators, as in `optax.chain`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

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
    """An operator for each part of a member, a dict, a named tuple or a dataclass: mutations and crossovers alike.

    Parts that are not named stay as they are (a child gets the first parent's).

    Raises:
        KeyError: when called, if a name is not a part of the member.
        TypeError: when called, if the parts of the member have no names.

    >>> from jevo.genetics import flip, gaussian
    >>> mutate = route(mask=flip(0.01), lr=gaussian(0.1))
    """

    def operate(key: Key, *members: Member) -> Member:
        parts = [_parts(member) for member in members]
        unknown = sorted(operators.keys() - parts[0].keys())
        if unknown:
            raise KeyError(f"route names {', '.join(unknown)}, but the member has {', '.join(map(str, parts[0]))}")
        keys = jax.random.split(key, max(len(operators), 1))
        changed = {
            name: operator(keys[i], *(part[name] for part in parts))
            for i, (name, operator) in enumerate(operators.items())
        }
        first: Any = members[0]
        if isinstance(first, Mapping):
            return {**first, **changed}
        return first._replace(**changed) if hasattr(first, "_replace") else dataclasses.replace(first, **changed)

    return operate


def _parts(member: Any) -> Mapping[str, Any]:
    """The parts of a member by name."""
    if isinstance(member, Mapping):
        return member
    if hasattr(member, "_asdict"):
        return member._asdict()
    if dataclasses.is_dataclass(member):
        return {field.name: getattr(member, field.name) for field in dataclasses.fields(member)}
    raise TypeError(f"route takes members whose parts have names, not {type(member).__name__}")
