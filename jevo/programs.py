"""Functions that are called in two ways: within a user's program, of which they become a part, or plainly.

A plain call of loops and maps would compile them anew each time, since each call makes functions of its own. So it runs
as one program, which is compiled once for what it says.
"""

import functools
import hashlib
import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer, eval_jaxpr
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jevo.devices import without_explicit_axes
from jevo.kept import Kept

Function = TypeVar("Function", bound=Callable[..., Any])

_EMPTY = CellType()
"""A variable of a closure that has no value yet."""

_LIBRARIES = tuple({path for path in map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")) if path})
"""Folders of Python's own files, and of what is installed beside them."""

_ADDRESS = re.compile(r"0x[0-9a-f]+")

CALLS_THE_HOST = ("callback", "host_transfer")
"""Words in the text of a program that calls functions of Python: it does not say which, so it is not kept."""

_compiled: Kept[jax.stages.Compiled] = Kept(256)


def within(*trees: Any) -> bool:
    """Whether a program is being traced, or one of these arrays is a value of a transformation."""
    # While one is traced, whatever is computed is a part of it, also of known numbers.
    return any(isinstance(leaf, Tracer) for leaf in (jnp.add(0, 0), *jax.tree.leaves(trees)))


def compiled_when_plain(*static: str) -> Callable[[Function], Function]:
    """A function that is a program of its own wherever it is called with arrays, and not within another.

    A plain call traces it anew, so that whatever its functions read (a global, an attribute, a list in a closure) is
    read as it is now; only the compiler's work, which is nearly all, is kept, by the program's own text. Arrays that it
    closes over are arguments of that program: other values in them compile nothing.

    Args:
        static: names of the arguments that are no arrays: functions, numbers, texts.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            given = signature.bind(*arguments, **named).arguments
            arrays = {name: value for name, value in given.items() if name not in static}
            if within(arrays) or jax.config.jax_disable_jit:  # type: ignore[attr-defined]
                return function(*arguments, **named)
            rest = {name: value for name, value in given.items() if name in static}
            return without_explicit_axes(compiled(lambda arrays: function(**arrays, **rest)), arrays)

        return call  # type: ignore[return-value]

    return decorate


def compiled(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` of a pytree of arrays, as a program that is compiled unless one that says the same was.

    It is traced once for arguments of the same shapes, so it is for one use: whatever it reads is as it was then.
    """
    programs: dict[Any, Callable[[Any], Any]] = {}

    def call(arrays: Any) -> Any:
        leaves, tree = jax.tree.flatten(arrays)
        kind = tree, tuple((jax.typeof(leaf), getattr(leaf, "sharding", None)) for leaf in leaves)
        if kind not in programs:
            programs[kind] = _program(function, arrays)
        return programs[kind](leaves)

    return call


def _program(function: Callable[[Any], Any], arrays: Any) -> Callable[[list[Any]], Any]:
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(arrays)
    if within(traced.consts):  # It closes over values of a transformation (vmap, grad), of which it is a part.
        return lambda leaves: function(jax.tree.unflatten(jax.tree.structure(arrays), leaves))
    values = traced.consts, jax.tree.leaves(arrays)
    # What is not used is kept: else the text would not say which of the arguments are.
    run = jax.jit(lambda consts, leaves: eval_jaxpr(traced.jaxpr, consts, *leaves), keep_unused=True)
    lowered = run.lower(*values)
    restored = jax.tree.structure(shapes).unflatten
    program = _compiled_once(lowered, values)
    return lambda leaves: restored(program(traced.consts, leaves))


def _compiled_once(lowered: jax.stages.Lowered, values: Any) -> jax.stages.Compiled:
    text = lowered.as_text()
    if any(word in text for word in CALLS_THE_HOST):
        return lowered.compile()
    # The text says all but where arguments are.
    places = tuple(getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(values))
    program = hashlib.sha256(text.encode()).digest(), places
    if (found := _compiled.get(program)) is None:
        found = lowered.compile()
        _compiled.keep(program, found)
    return found


class Closed(NamedTuple):
    """A function as a program, and apart from it the arrays that it closes over.

    Attributes:
        jaxpr: the program.
        names: of the arrays: digests of what is in them.
        arrays: by these names.
        result: the shapes and dtypes of what it gives.
        digest: of the program.
    """

    jaxpr: Jaxpr
    names: list[str]
    arrays: dict[str, Any]
    result: Any
    digest: str

    def __call__(self, arrays: Mapping[str, Any], *arguments: Any) -> Any:
        """What the function gives; the arrays that it closes over are taken from `arrays`, if they are there."""
        given = {**self.arrays, **arrays}
        found = eval_jaxpr(self.jaxpr, [given[name] for name in self.names], *jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(self.result), found)


def closed(function: Callable[..., Any], *arguments: Any) -> Closed:
    """A function of arguments of these shapes, traced: what it is known by does not depend on the process."""
    traced, result = jax.make_jaxpr(function, return_shape=True)(*arguments)
    said = hashlib.sha256(_ADDRESS.sub("", str(traced.jaxpr)).encode())
    for array in _hidden(traced.jaxpr):
        said.update(_digest(array).encode())
    for function in _called_back(traced.jaxpr):
        said.update(fingerprint(function).encode())
    names = [_digest(const) for const in traced.consts]
    return Closed(traced.jaxpr, names, dict(zip(names, traced.consts, strict=True)), result, said.hexdigest())


def _hidden(jaxpr: Jaxpr) -> Iterator[Any]:
    """The arrays in a program that its text leaves out."""
    for equation in _equations(jaxpr):
        yield from (var.val for var in equation.invars if isinstance(var, Literal) and jnp.ndim(var.val))
        for value in _params(equation):
            if isinstance(value, ClosedJaxpr):
                yield from value.consts
            elif isinstance(value, np.ndarray | jax.Array) and value.ndim:
                yield value


def _called_back(jaxpr: Jaxpr) -> Iterator[Any]:
    """The functions of Python that a program calls for what they give: its text has their names alone."""
    for equation in _equations(jaxpr):
        callback = equation.params.get("callback")
        if callback is not None and equation.outvars:
            yield getattr(callback, "callback_func", callback)


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """All equations of a program, and of those in it."""
    for equation in jaxpr.eqns:
        yield equation
        for program in programs_in(equation):
            yield from _equations(program)


def programs_in(equation: Any) -> list[Jaxpr]:
    """The programs that an equation has as params: what it calls, repeats or chooses from."""
    return [
        value.jaxpr if isinstance(value, ClosedJaxpr) else value
        for value in _params(equation)
        if isinstance(value, Jaxpr | ClosedJaxpr)
    ]


def _params(equation: Any) -> list[Any]:
    return jax.tree.leaves(equation.params, is_leaf=lambda value: isinstance(value, Jaxpr | ClosedJaxpr))


def fingerprint(thing: Any, known: dict[int, tuple[Any, str]] | None = None) -> str:
    """What a function of Python does, as a text that is the same in another process: of its code, and of the numbers,
    texts, arrays and functions that it closes over or has by name, and theirs. Of other objects, of their class and
    what is in them.

    What a library has by name is not looked into, and what else a function reads (a file, a clock) cannot be.

    Args:
        thing: the function.
        known: what was found on the way here, by `id`; kept, so that no other thing gets the same.

    >>> make = lambda factor: lambda x: factor * x
    >>> fingerprint(make(2)) == fingerprint(make(2)), fingerprint(make(2)) == fingerprint(make(3))
    (True, False)
    """
    if isinstance(thing, str | bytes | bool | int | float | complex | None):
        return repr(thing)
    known = {} if known is None else known
    if id(thing) not in known:
        known[id(thing)] = thing, "itself"
        text = " ".join(fingerprint(part, known) for part in _parts(thing, known))
        known[id(thing)] = thing, hashlib.sha256(text.encode()).hexdigest()
    return known[id(thing)][1]


def _parts(thing: Any, known: dict[int, tuple[Any, str]]) -> Iterable[Any]:
    """What an object's fingerprint is made of."""
    if isinstance(thing, np.ndarray | jax.Array):
        # Of objects it would be their addresses.
        return [_digest(thing)] if thing.dtype != object else [thing.shape, thing.ravel().tolist()]
    if isinstance(thing, Mapping):
        return [part for item in thing.items() for part in item]
    if isinstance(thing, set | frozenset):
        # In no order: what one of them has in common with another is not known to it.
        return sorted(fingerprint(part, dict(known)) for part in thing)
    if isinstance(thing, list | tuple):
        return thing
    if isinstance(thing, CodeType):
        return [thing.co_code, thing.co_names, thing.co_consts]
    if isinstance(thing, FunctionType):
        cells = [cell.cell_contents for cell in thing.__closure__ or () if cell != _EMPTY]
        around = {} if _of_library(thing) else thing.__globals__
        named = {name: around[name] for name in thing.__code__.co_names if name in around}
        return [thing.__code__, thing.__defaults__, thing.__kwdefaults__, cells, named]
    if isinstance(thing, MethodType):
        return [thing.__func__, thing.__self__]
    if isinstance(thing, functools.partial):
        return [thing.func, thing.args, thing.keywords]
    if isinstance(thing, type):
        own = {} if _of_library(thing) else {name: part for name, part in vars(thing).items() if callable(part)}
        return [thing.__qualname__, own, () if _of_library(thing) else thing.__bases__]
    if isinstance(thing, ModuleType):
        return [thing.__name__]
    slots = [vars(each).get("__slots__", ()) for each in type(thing).__mro__]
    names = [name for some in slots for name in ([some] if isinstance(some, str) else some)]
    own = {name: getattr(thing, name) for name in names if hasattr(thing, name)}
    return [type(thing), getattr(thing, "__name__", ""), getattr(thing, "__dict__", {}), own]


def _of_library(thing: Any) -> bool:
    """Whether a function or class is in a file of Python's own, or of what is installed beside it; or in none."""
    name = getattr(thing, "__module__", None)
    file = getattr(sys.modules.get(name or ""), "__file__", None) or ""
    return name != "__main__" and (not file or file.startswith(_LIBRARIES))


def _digest(array: Any) -> str:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    raw = np.asarray(array)
    return hashlib.sha256(f"{raw.dtype} {raw.shape}".encode() + raw.tobytes()).hexdigest()
