"""Which hidden units of a network may be renumbered, and that renumbering them changes nothing."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo.networks.network import Network
from jevo.networks.propagation import Propagation
from jevo.stateful import has_state
from jevo.symmetry import array_at, arrays_of, renumbered, units_of
from jevo.types import Axis, Member, Stateful, Symmetry

Layer = str | tuple[str | int, ...]
"""Where a layer is in the params: its name, or the path of names to it."""

_TRIALS = 3
"""Random params that a symmetry is tried on."""
_TOLERANCE = 1e-4
"""What an output may change by, for rounding, beside the greatest of all outputs."""


def symmetries(network: Network, x: Any) -> tuple[Symmetry, ...]:
    """The units of a network that may be renumbered, found in its program, and tried on an example.

    Which axes of its params run over the same units follows from what its program joins: products, convolutions,
    sums and gates, normalisations, reshapes, residual streams, heads of attention. Whatever tells units apart leaves
    them out, as does what is not known here. All that are found are tried: random params are renumbered, and the
    outputs held against each other; those that make a difference are left out, as are those that make none whatever
    is done to them.

    Units that go in blocks (heads of attention; channels of a group normalisation) are two symmetries: of the blocks,
    and of the units within all blocks alike.

    Args:
        network: its `init` and `apply`; params may be any pytree.
        x: examples `[batch, ...]` as the network takes them.

    Returns:
        In the order in which the program comes to them; empty if there are none.

    >>> from jevo.networks import mlp
    >>> network = mlp([4, 8, 2])
    >>> for axis in symmetries(network, jnp.ones((3, 4)))[0]:
    ...     print(axis.path, axis.axis)
    ('layer_0', 'kernel') -1
    ('layer_0', 'bias') -1
    ('layer_1', 'kernel') -2
    """
    made = jax.eval_shape(network.init, jax.random.key(0))
    if has_state(made):
        return _of_params(symmetries(_with_state(network), x), made._asdict())
    found = joined(network, x)
    if not found:
        return ()
    return tuple(symmetry for symmetry, tried in zip(found, _tried(network, x, found), strict=True) if all(tried))


def _with_state(network: Network) -> Network:
    """A network whose params are all that its members hold: what it has counted runs over the same units."""
    return Network(
        lambda key: network.init(key)._asdict(), lambda member, x, key=None: network.apply(Stateful(**member), x, key)
    )


def _of_params(found: Sequence[Symmetry], members: Member) -> tuple[Symmetry, ...]:
    """Symmetries of members with state as those of their params: the state of a child is estimated anew."""
    kept = []
    for symmetry in found:
        places = [place._replace(path=place.path[1:]) for place in symmetry if place.path[0] == "params"]
        if places:
            kept.append((places[0]._replace(units=units_of(members, symmetry)), *places[1:]))
    return tuple(kept)


def joined(network: Network, x: Any) -> list[Symmetry]:
    """The symmetries that follow from a network's program, not yet tried."""
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    traced = jax.make_jaxpr(network.apply)(shapes, x)
    walk = Propagation()
    leaves = arrays_of(shapes)
    forms = [walk.fresh(leaf) for leaf in leaves.values()]
    # What comes in and what goes out has an order of its own.
    walk.pin(*walk.run(traced.jaxpr, traced.consts, [*forms, *(walk.fresh(leaf, True) for leaf in jax.tree.leaves(x))]))

    places: dict[int, list[Axis]] = defaultdict(list)
    whole = set()
    by_id = {id(form): (path, form) for path, form in zip(leaves, forms, strict=True)}
    for path, form in (by_id[read] for read in walk.read if read in by_id):
        for i, axis in enumerate(form):
            parts = walk.axes.parts(axis)
            for k, part in enumerate(parts):
                if not walk.axes.pinned(part):
                    place = Axis(path, i - len(form), inner=walk.axes.size(parts[k + 1 :]))
                    places[part].append(place)
                    if len(parts) == 1:
                        whole.add(place)

    def ordered(part: int) -> Symmetry:
        # The first is as long as there are units, if any is.
        first, *rest = sorted(places[part], key=lambda place: place not in whole)
        return (first if first in whole else first._replace(units=walk.axes.size((part,))), *rest)

    return [ordered(part) for part in places]


def chain(layers: Sequence[Layer], bias: bool = True) -> tuple[Symmetry, ...]:
    """The symmetries of layers that feed one another, each `{"kernel" [..., in, out], "bias" [out]}`.

    >>> for symmetry in chain([("layers", 0), ("layers", 2)], bias=False):
    ...     print([(place.path, place.axis) for place in symmetry])
    [(('layers', 0, 'kernel'), -1), (('layers', 2, 'kernel'), -2)]
    """
    symmetries = []
    for path, following in pairwise(_path(layer) for layer in layers):
        own = [Axis((*path, "kernel"), -1), *([Axis((*path, "bias"), -1)] if bias else [])]
        symmetries.append((*own, Axis((*following, "kernel"), -2)))
    return tuple(symmetries)


def chain_symmetries(layers: Sequence[Layer], network: Network, x: jax.Array) -> tuple[Symmetry, ...]:
    """The symmetries of a network's layers that feed one another, tried on an example.

    It takes random params, so that no bias or scale is still what it was made as, renumbers the units of one layer
    after another, and holds the outputs against each other.

    Args:
        layers: where each is in the params, first to last. A layer is `{"kernel" [..., in, out]}`, perhaps with a
            `"bias" [out]`.
        network: that they are of.
        x: examples `[batch, ...]` as the network takes them.

    Raises:
        ValueError: naming the layer, if there is none there, or none that feeds the next one, or if renumbering its
            units changes what the network computes: what is between it and the next tells units apart, or they lead
            elsewhere, too.

    >>> from jevo.networks import mlp
    >>> len(chain_symmetries(["layer_0", "layer_1"], mlp([4, 8, 2]), jnp.ones((3, 4))))
    1
    """
    if len(layers) < 2:
        raise ValueError(f"a chain has at least two layers, not {len(layers)}")
    if has_state(jax.eval_shape(network.init, jax.random.key(0))):
        network = _as_made(network)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    found = tuple(
        chain([layer, following], "bias" in _layer(shapes, layer))[0] for layer, following in pairwise(layers)
    )
    for layer, following, symmetry in zip(layers, layers[1:], found, strict=False):
        units, last = units_of(shapes, symmetry), symmetry[-1]
        _layer(shapes, following)
        if array_at(shapes, last).shape[last.axis] % units:
            raise ValueError(
                f"layer {_words(layer)} has {units} units, which is no divisor of what {_words(following)} reads: "
                f"{array_at(shapes, last).shape[last.axis]}"
            )
    for layer, following, (unchanged, told) in zip(layers, layers[1:], _tried(network, x, found), strict=False):
        if not unchanged:
            raise ValueError(
                f"renumbering the units of layer {_words(layer)} changes what the network computes: something between "
                f"it and {_words(following)} tells its units apart (a normalisation), or they lead elsewhere, too (a "
                "sum, a gate, shared weights); end the chain before it, or mate without alignment"
            )
        if not told:
            raise ValueError(
                f"the units of layer {_words(layer)} have no effect on the network's output for these examples, so "
                "nobody can tell whether they may be renumbered; give other examples"
            )
    return found


def _as_made(network: Network) -> Network:
    """A network of params alone, whose state is as it was made."""
    state = network.init(jax.random.key(0)).state
    return Network(
        lambda key: network.init(key).params, lambda params, x, key=None: network.apply(Stateful(params, state), x, key)
    )


def _tried(network: Network, x: Any, found: Sequence[Symmetry]) -> list[tuple[bool, bool]]:
    """Of each symmetry, whether renumbering its units changes nothing, and whether renumbering half of it would."""

    @jax.jit
    def outputs(params: Member, orders: list[jax.Array], first_orders: list[jax.Array]) -> jax.Array:
        firsts, rests = [symmetry[:1] for symmetry in found], [symmetry[1:] for symmetry in found]
        params = renumbered(renumbered(params, firsts, first_orders), rests, orders)
        with jax.default_matmul_precision("float32"):
            leaves = jax.tree.leaves(network.apply(params, x))
        return jnp.concatenate([jnp.ravel(leaf).astype(jnp.float32) for leaf in leaves])

    made = jax.jit(network.init)(jax.random.key(0))
    unchanged, told = [True] * len(found), [False] * len(found)
    for trial in range(_TRIALS):
        rng = np.random.default_rng(trial)
        params = jax.tree.map(lambda leaf, rng=rng: _noisy(rng, leaf), made)
        as_they_were = [np.arange(units_of(params, symmetry), dtype=np.int32) for symmetry in found]
        were = np.asarray(outputs(params, as_they_were, as_they_were), np.float64)
        tolerance = _TOLERANCE * max(float(np.abs(were).max()), 1e-30)
        for i, own in enumerate(as_they_were):
            order = rng.permutation(own)
            order = np.roll(order, 1) if np.array_equal(order, own) else order
            orders = [*as_they_were[:i], order, *as_they_were[i + 1 :]]
            unchanged[i] &= bool(np.abs(np.asarray(outputs(params, orders, orders)) - were).max() <= tolerance)
            half = np.abs(np.asarray(outputs(params, as_they_were, orders)) - were).max()
            told[i] |= len(own) == 1 or bool(half > 10 * tolerance)
    return list(zip(unchanged, told, strict=True))


def _noisy(rng: np.random.Generator, leaf: jax.Array) -> Any:
    """With noise on each number, so that biases, and scales of normalisations, all differ; less of it than numbers are
    large, so that variances stay positive."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    numbers = np.asarray(leaf, np.float32)
    size = np.sqrt(np.mean(np.square(numbers))) or 1.0
    return (numbers + size * rng.uniform(-0.5, 0.5, leaf.shape)).astype(leaf.dtype)


def _layer(params: Member, layer: Layer) -> Any:
    """The arrays of a layer."""
    for name in _path(layer):
        if not isinstance(params, dict) or name not in params:
            there = ", ".join(map(repr, params)) if isinstance(params, dict) else "an array"
            raise ValueError(f"the network has no layer {_words(layer)}: no {name!r} among {there}")
        params = params[name]
    if not isinstance(params, dict) or "kernel" not in params:
        raise ValueError(f"layer {_words(layer)} has no kernel")
    return params


def _path(layer: Layer) -> tuple[str | int, ...]:
    return layer if isinstance(layer, tuple) else (layer,)


def _words(layer: Layer) -> str:
    return "/".join(map(str, _path(layer)))
