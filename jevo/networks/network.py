"""A network is a pair of pure functions over plain nested dicts; any Flax module becomes one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jevo.errors import InputError
from jevo.types import Key, Member, Symmetry


class Network(NamedTuple):
    """What the engine sees of a network.

    Attributes:
        init: `(key) -> params`, one member's weights: nested dicts of arrays.
        apply: `(params, x [batch, ...], key=None) -> y [batch, ...]`. With a key the network is training (dropout
            draws from it); without one it is not.
        symmetries: of each hidden layer, first to last, for aligned crossover; empty if unknown.
    """

    init: Callable[[Key], Member]
    apply: Callable[..., jax.Array]
    symmetries: tuple[Symmetry, ...] = ()


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

    Args:
        make: builds the module from `nnx.Rngs`, such as `lambda rngs: MyModule(64, rngs=rngs)`.

    Raises:
        TypeError: if the module holds state other than parameters and random streams (batch statistics, for
            one): a population has no place for it.

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
    found = sorted({f"{type(leaf).__name__} at {'.'.join(map(str, path))}" for path, leaf in nnx.to_flat_state(other)})
    if found:
        raise TypeError(
            f"a population of networks holds parameters only, but this module also has {', '.join(found)}; "
            "use layers without running statistics, such as LayerNorm or GroupNorm"
        )

    def init(key: Key) -> Member:
        return nnx.to_pure_dict(parts(key)[1])

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        # The module is built anew inside the trace, where its own initial weights are dead code.
        stream = jax.random.key(0) if key is None else key
        graph, template, random, _ = parts(stream)
        nnx.replace_by_pure_dict(template, params)
        module = nnx.merge(graph, template, random)
        if key is None:
            module.eval()
        else:
            module.train()
        return module(x)

    return Network(init, apply)


def to_nnx(make: Callable[[Any], Any], params: Member) -> Any:
    """A trained member as a Flax NNX module again, which is not training (`module.eval()`).

    Of a Linen module nothing has to be made: `module.apply({"params": params}, x)` takes a member as it is.

    Args:
        make: as for `from_nnx`.
        params: of the network that it gave; arrays of NumPy will do, too.

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

    module = make(nnx.Rngs(0))
    graph, state, rest = nnx.split(module, nnx.Param, ...)
    there = dict(jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state)))
    given = dict(jax.tree_util.tree_leaves_with_path(params))
    for path in {**there, **given}:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "it"
        said, takes = _described(given, path), _described(there, path)
        if said != takes:
            raise InputError(f"params are of another module: {name} is {said}, but the module has {takes}")
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, params))
    module = nnx.merge(graph, state, rest)
    module.eval()
    return module


def _described(leaves: Any, path: Any) -> str:
    """The dtype and shape of a leaf, if it is there."""
    leaf = leaves.get(path)
    return "missing" if leaf is None else f"{leaf.dtype} {list(leaf.shape)}"


def from_linen(module: Any, x: jax.Array) -> Network:
    """A network from a Flax Linen module.

    Args:
        module: the module; with a key, `apply` gives it the `dropout` stream. A module that takes `train` or
            `deterministic` should be wrapped in one that decides by `self.has_rng("dropout")`.
        x: an example input `[batch, ...]`, for its shape.

    A member is the module's own params again: `module.apply({"params": member}, x)`.

    Raises:
        TypeError: if the module has other collections than `params`.
    """
    found = sorted(set(jax.eval_shape(module.init, jax.random.key(0), x)) - {"params"})
    if found:
        raise TypeError(
            f"a population of networks holds parameters only, but this module also has {', '.join(found)}; "
            "use layers without running statistics, such as LayerNorm or GroupNorm"
        )

    def init(key: Key) -> Member:
        return dict(module.init(key, x).get("params", {}))

    def apply(params: Member, x: jax.Array, key: Key | None = None) -> jax.Array:
        return module.apply({"params": params}, x, rngs=None if key is None else {"dropout": key})

    return Network(init, apply)
