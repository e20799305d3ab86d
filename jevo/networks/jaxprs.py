"""Programs of JAX, as those see them who walk through them equation by equation."""

from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jevo.programs import programs_in

_CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr",
    "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
}  # fmt: skip
"""Primitives that are programs of their own, and where these are."""

ELEMENTWISE = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "clamp",
    "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2",
    "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt",
    "max", "min", "mul", "name", "ne", "neg", "nextafter", "not", "or", "population_count", "pow", "real",
    "reduce_precision", "rem", "round", "rsqrt", "select_n", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor",
)  # fmt: skip
"""Primitives of which a number of the result depends on the numbers at its own place alone."""


def called(eqn: Any) -> ClosedJaxpr | None:
    """The program that an equation calls, with its own arguments and results; None if it is no such call."""
    inner = eqn.params.get(_CALLS.get(eqn.primitive.name, ""))
    return inner if inner is None or isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def is_elementwise(eqn: Any) -> bool:
    """Whether a number of an equation's results depends, of each array that it takes, on the number at its own place
    alone, or on all of one that is a single number."""
    if (inner := called(eqn)) is not None:
        return all(map(is_elementwise, inner.jaxpr.eqns))
    single = eqn.primitive.name == "broadcast_in_dim" and not eqn.invars[0].aval.shape
    return single or eqn.primitive.name in ELEMENTWISE


def live(jaxpr: Jaxpr) -> list[Any]:
    """The equations that the results of a program hang on, in order."""
    needed, kept = {v for v in jaxpr.outvars if not isinstance(v, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if eqn.effects or any(v in needed for v in eqn.outvars):
            kept.append(eqn)
            needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    return kept[::-1]


_ALONG = {
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), "axis"),
    "argmax": "axes", "argmin": "axes", "concatenate": "dimension", "rev": "dimensions", "sort": "dimension",
}  # fmt: skip
"""The params of primitives that say along which axes they put numbers together; those of reductions are `axes`."""


def mixes(one: Jaxpr, more: Jaxpr) -> bool:
    """Whether a program puts examples together.

    Args:
        one: the program for some examples.
        more: the same for one more: an axis that has grown is theirs.
    """
    if [eqn.primitive for eqn in one.eqns] != [eqn.primitive for eqn in more.eqns]:
        return False  # Another program for another number: its axes are not to be compared.
    for eqn, other in zip(one.eqns, more.eqns, strict=True):
        if any(map(mixes, programs_in(eqn), programs_in(other))):
            return True
        name = eqn.primitive.name
        for place, (a, b) in enumerate(zip(eqn.invars, other.invars, strict=True)):
            shapes = getattr(a.aval, "shape", ()), getattr(b.aval, "shape", ())
            grown = {i for i, (m, n) in enumerate(zip(*shapes, strict=True)) if m != n}
            if name == "dot_general":
                summed = eqn.params["dimension_numbers"][0][place]
            elif name.startswith("reduce_"):
                summed = eqn.params.get("axes", ())
            else:
                summed = eqn.params.get(_ALONG.get(name, ""), ())
            if grown.intersection(np.atleast_1d(summed).tolist()):
                return True
    return False
