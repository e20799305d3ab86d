"""A network is a pair of pure functions over plain nested dicts; any Flax module becomes one."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jevo.errors import InputError
from jevo.networks.calls import arguments
from jevo.stateful import is_stateful
from jevo.types import Key, Member, Stateful, Symmetry


class Network(NamedTuple):
    """What the engine sees of a network.

    Attributes:
        init: `(key) -> params`, one member's weights: nested dicts of arrays. Of a network with state (the running
            statistics of batch normalisation, say) it is a `Stateful`, which has the weights as its `params`.
        apply: `(params, x [batch, ...], key=None) -> y [batch, ...]`; x and y may be pytrees. With a key the network is
            training (dropout draws from it, batch normalisation takes the statistics of the batch); without one it is
            not.
        symmetries: of each hidden layer, first to last, for aligned crossover; empty if unknown.
        update: of a network with state, `(params, x, key) -> (y, params)`: what `apply` gives with a key, and the
            member after it, whose state is another. None of a network without.
    """

    init: Callable[[Key], Member]
    apply: Callable[..., jax.Array]
    symmetries: tuple[Symmetry, ...] = ()
    update: Callable[..., tuple[jax.Array, Member]] | None = None


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "swish": jax.nn.swish,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
}


def from_nnx(make: Callable[[Any], Any]) -> Network:
    """A network from a Flax NNX module.

    Whatever variables it has beside parameters and random streams, such as `BatchStat`, are its state. Parameters that
    a pass overwrites (`SpectralNorm`) stay as they were: they change by training alone.

    Args:
        make: builds the module from `nnx.Rngs`, such as `lambda rngs: MyModule(64, rngs=rngs)`. Its `__call__` takes x,
            or, if it takes several inputs, the parts of x: of a tuple in their order, of a dict by their names. If it
            takes `train`, `training`, `is_training`, `deterministic` or `use_running_average`, it is told whether a key
            was given; the module is in `train()` or `eval()` mode in any case.

    Raises:
        TypeError: if the module holds variables that are no arrays; when called, if its inputs are others than x has.

    >>> from flax import nnx
    >>> network = from_nnx(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
    >>> params = network.init(jax.random.key(0))
    >>> network.apply(params, jnp.ones((3, 4))).shape
    (3, 2)
    """
    from flax import nnx

    def parts(key: Key) -> Any:
        return nnx.split(make(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)

    # Traced, not run: the structure is known without making an array.
    _, _, _, other = nnx.eval_shape(lambda: parts(jax.random.key(0)))
    places = [path for path, _ in nnx.to_flat_state(other)]
    _require_arrays({".".join(map(str, path)): _value(leaf) for path, leaf in nnx.to_flat_state(other)})

    def init(key: Key) -> Member:
        _, params, _, other = parts(key)
        params = nnx.to_pure_dict(params)
        return Stateful(params, _kept(other, places)) if places else params

    def passed(member: Member, x: Any, key: Key | None) -> tuple[Any, Any]:
        """The output, and the module after it."""
        # The module is built anew inside the trace, where its own initial weights are dead code.
        stream = jax.random.key(0) if key is None else key
        graph, template, random, other = parts(stream)
        nnx.replace_by_pure_dict(template, _params(member, bool(places)))
        module = nnx.merge(graph, template, random, _replaced(other, member.state) if places else other)
        if key is None:
            module.eval()
        else:
            module.train()
        inputs, named = arguments(module, x, key is not None)
        return module(*inputs, **named), module

    def apply(params: Member, x: Any, key: Key | None = None) -> Any:
        return passed(params, x, key)[0]

    def update(params: Member, x: Any, key: Key) -> tuple[Any, Member]:
        y, module = passed(params, x, key)
        return y, params._replace(state=_kept(nnx.state(module), places))

    return Network(init, apply, update=update if places else None)


def to_nnx(make: Callable[[Any], Any], params: Member) -> Any:
    """A trained member as a Flax NNX module again, which is not training (`module.eval()`).

    Of a Linen module nothing has to be made: `module.apply({"params": params}, x)` takes a member as it is.

    Args:
        make: as for `from_nnx`.
        params: of the network that it gave, with their state if it has one; arrays of NumPy will do, too.

    Raises:
        InputError: in one line, if they are not of such a module: by the first parameter that is missing, not the
            module's, or of another shape or dtype.

    >>> from flax import nnx
    >>> make = lambda rngs: nnx.Linear(4, 2, rngs=rngs)
    >>> params = from_nnx(make).init(jax.random.key(0))
    >>> to_nnx(make, params)(jnp.ones((3, 4))).shape
    (3, 2)
    """
    from flax import nnx

    graph, template, random, other = nnx.split(make(nnx.Rngs(0)), nnx.Param, nnx.RngState, ...)
    paths = [path for path, _ in nnx.to_flat_state(other)]
    weights, state = params if is_stateful(params) else (params, {})
    given = dict(jax.tree_util.tree_leaves_with_path(weights)) | dict(jax.tree_util.tree_leaves_with_path(state))
    there = dict(jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(template)))
    there |= dict(jax.tree_util.tree_leaves_with_path(_kept(other, paths)))
    for path in {**there, **given}:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "it"
        said, takes = _described(given, path), _described(there, path)
        if said != takes:
            raise InputError(f"params are of another module: {name} is {said}, but the module has {takes}")
    nnx.replace_by_pure_dict(template, jax.tree.map(jnp.asarray, weights))
    module = nnx.merge(graph, template, random, _replaced(other, jax.tree.map(jnp.asarray, state)))
    module.eval()
    return module


def _described(leaves: Any, path: Any) -> str:
    """The dtype and shape of a leaf, if it is there."""
    leaf = leaves.get(path)
    return "missing" if leaf is None else f"{leaf.dtype} {list(leaf.shape)}"


def from_linen(module: Any, x: Any) -> Network:
    """A network from a Flax Linen module.

    The collections that it has beside `params`, such as `batch_stats`, are its state.

    Args:
        module: the module; with a key, `apply` gives it the `dropout` stream. Its `__call__` takes x, or, if it takes
            several inputs, the parts of x: of a tuple in their order, of a dict by their names. If it takes `train`,
            `training`, `is_training`, `deterministic` or `use_running_average`, it is told whether a key was given;
            one that takes none of these may decide by `self.has_rng("dropout")`.
        x: an example input `[batch, ...]`, for its shape.

    A member is the module's own params again: `module.apply({"params": member}, x)`.

    Raises:
        TypeError: if the module changes its state also where it is not training; if its inputs are others than x has.
    """
    from flax.errors import ModifyScopeVariableError

    def variables(key: Key, x: Any) -> dict[str, Any]:
        inputs, named = arguments(module, x, False)
        return module.init(key, *inputs, **named)

    def kept(found: Any) -> dict[str, Any]:
        return {name: found[name] for name in collections}

    def passed(member: Member, x: Any, key: Key | None, changed: list[str] | bool = False) -> Any:
        inputs, named = arguments(module, x, key is not None)
        found = {"params": _params(member, bool(collections)), **(member.state if collections else {})}
        rngs = None if key is None else {"dropout": key}
        return module.apply(found, *inputs, rngs=rngs, mutable=changed, **named)

    collections = sorted(set(jax.eval_shape(variables, jax.random.key(0), x)) - {"params"})

    def init(key: Key) -> Member:
        made = variables(key, x)
        params = dict(made.get("params", {}))
        return Stateful(params, kept(made)) if collections else params

    def apply(params: Member, x: Any, key: Key | None = None) -> Any:
        return passed(params, x, key) if key is None or not collections else update(params, x, key)[0]

    def update(params: Member, x: Any, key: Key) -> tuple[Any, Member]:
        y, after = passed(params, x, key, collections)
        return y, params._replace(state={**params.state, **after})

    if collections:
        try:
            jax.eval_shape(lambda key, x: passed(init(key), x, None), jax.random.key(0), x)
        except ModifyScopeVariableError as error:
            raise TypeError(
                f"{type(module).__name__} changes its {', '.join(collections)} also where it is not training; "
                "have its __call__ take train, and pass use_running_average=not train on"
            ) from error
    return Network(init, apply, update=update if collections else None)


def _params(member: Member, stateful: bool) -> Member:
    """The weights of a member of a network that has state, or has none."""
    if is_stateful(member) is not stateful:
        has = "params and a state, as its init makes them" if stateful else "params alone"
        raise TypeError(f"this network's member is {has}, not {type(member).__name__}")
    return member.params if stateful else member


def _require_arrays(state: dict[str, Any]) -> None:
    for name, leaf in state.items():
        if not hasattr(leaf, "dtype") or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise TypeError(f"the state of a network is arrays of numbers, but this module's {name} is {leaf}")


def _kept(state: Any, paths: Sequence[Any]) -> Any:
    """The arrays at these paths of an NNX state, in nested dicts."""
    from flax import nnx

    found = dict(nnx.to_flat_state(state))
    return _nested({path: _value(found[path]) for path in paths})


def _replaced(state: Any, arrays: Any) -> Any:
    """The NNX state with these arrays, as `_kept` gave them."""
    from flax import nnx

    flat = _flat(arrays)

    def replaced(leaf: Any, array: Any) -> Any:
        return leaf.replace(array) if hasattr(leaf, "get_value") else array

    return nnx.from_flat_state([(path, replaced(leaf, flat[_names(path)])) for path, leaf in nnx.to_flat_state(state)])


def _value(leaf: Any) -> Any:
    """The array of an NNX variable, or of a module's that is none."""
    return leaf.get_value() if hasattr(leaf, "get_value") else leaf


def _names(path: tuple[Any, ...]) -> tuple[str | int, ...]:
    """A path whose parts are names; Flax has tuples among them."""
    return tuple(part if isinstance(part, str | int) else ".".join(map(str, part)) for part in path)


def _nested(arrays: dict[tuple[Any, ...], Any]) -> dict[Any, Any]:
    nested: dict[Any, Any] = {}
    for path, array in arrays.items():
        *names, last = _names(path)
        inner = nested
        for name in names:
            inner = inner.setdefault(name, {})
        inner[last] = array
    return nested


def _flat(nested: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    if not isinstance(nested, dict):
        return {path: nested}
    return {place: leaf for name, inner in nested.items() for place, leaf in _flat(inner, (*path, name)).items()}
