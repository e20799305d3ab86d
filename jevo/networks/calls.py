"""How a module is called: what its signature says of inputs, and of whether it is training."""

import inspect
from collections.abc import Mapping
from typing import Any

FLAGS = {
    "train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False,
}  # fmt: skip
"""Arguments that say whether a module is training, and what they are when it is."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_REPEATED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments(module: Any, x: Any, training: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module's `__call__` is given for inputs `x`: positions and names.

    A module of one input takes `x`, whatever pytree that is. One of several takes the parts of a tuple in their order,
    those of a dict or a named tuple by their names, and anything else as its first. Those of `FLAGS` that it takes are
    set.

    Raises:
        TypeError: if its inputs and the parts of `x` do not fit.
    """
    parameters = inspect.signature(module.__call__).parameters.values()
    flags = {p.name: FLAGS[p.name] == training for p in parameters if p.name in FLAGS and not _is_settled(module, p)}
    inputs = [p for p in parameters if p.name not in FLAGS and p.kind not in _REPEATED]
    if len(inputs) <= 1:
        return (x,), flags
    named = x if isinstance(x, Mapping) else x._asdict() if hasattr(x, "_asdict") else None
    if named is not None:
        given = (), {**named, **flags}
        has = ", ".join(map(str, named)) or "nothing"
    else:
        positions = tuple(x) if isinstance(x, tuple | list) else (x,)
        given, has = (positions, flags), f"{len(positions)} by position"
    try:
        inspect.signature(module.__call__).bind(*given[0], **given[1])
    except TypeError as error:
        takes = ", ".join(p.name if p.default is p.empty else f"{p.name} (or not)" for p in inputs)
        raise TypeError(
            f"{type(module).__name__} takes {takes}, but has {has}: {error}; give it a tuple, or a dict by these names"
        ) from None
    return given


def _is_settled(module: Any, flag: inspect.Parameter) -> bool:
    """Whether a flag that may be left out was given when the module was made: Linen's layers take it once only, and
    those of NNX are told by their mode."""
    layers = ("deterministic", "use_running_average")
    return flag.name in layers and flag.default is None and getattr(module, flag.name, None) is not None
