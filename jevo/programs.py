"""Functions that are called in two ways: within a user's program, of which they become a part, or plainly.

A plain call of loops and maps would compile them anew each time, since each call makes functions of its own. So it runs
as one program, which is made once for what it is made of.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.core import Tracer

Function = TypeVar("Function", bound=Callable[..., Any])


def within(*trees: Any) -> bool:
    """Whether arrays among these are values of a program that is being traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def compiled_when_plain(*static: str) -> Callable[[Function], Function]:
    """A function that is a program of its own wherever it is called with arrays, and not within another.

    Args:
        static: names of the arguments that are no arrays: functions, numbers, texts. A plain call with the same ones as
            before compiles nothing; one that cannot be told from others (not hashable) is run step by step.
    """

    def decorate(function: Function) -> Function:
        program, signature = jax.jit(function, static_argnames=static), inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            given = signature.bind(*arguments, **named).arguments
            if within([value for name, value in given.items() if name not in static]):
                return function(*arguments, **named)
            try:
                hash(tuple(given.get(name) for name in static))
            except TypeError:
                return function(*arguments, **named)
            return program(*arguments, **named)

        return call  # type: ignore[return-value]

    return decorate
