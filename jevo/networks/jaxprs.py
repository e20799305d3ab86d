"""Programs of JAX, as those see them who walk through them equation by equation."""

from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr",
    "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
}  # fmt: skip
"""Primitives that are programs of their own, and where these are."""


def called(eqn: Any) -> ClosedJaxpr | None:
    """The program that an equation calls, with its own arguments and results; None if it is no such call."""
    inner = eqn.params.get(_CALLS.get(eqn.primitive.name, ""))
    return inner if inner is None or isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def live(jaxpr: Jaxpr) -> list[Any]:
    """The equations that the results of a program hang on, in order."""
    needed, kept = {v for v in jaxpr.outvars if not isinstance(v, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    return kept[::-1]
