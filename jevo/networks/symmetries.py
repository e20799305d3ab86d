"""Which hidden units of a network may be renumbered, and that renumbering them changes nothing."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jevo.networks.network import Network
from jevo.stateful import genome, with_genome
from jevo.symmetry import array_at, renumbered, units_of
from jevo.types import Axis, Key, Member, Symmetry

Layer = str | tuple[str | int, ...]
"""Where a layer is in the params: its name, or the path of names to it."""

_TRIALS = 3
"""Random params that a symmetry is tried on."""
_TOLERANCE = 1e-4
"""What an output may change by, for rounding, beside the greatest of all outputs."""


def chain(layers: Sequence[Layer], bias: bool = True) -> tuple[Symmetry, ...]:
    """The symmetries of layers that feed one another, each `{"kernel" [..., in, out], "bias" [out]}`.

    >>> for symmetry in chain([("layers", 0), ("layers", 2)], bias=False):
    ...     print(symmetry)
    (Axis(path=('layers', 0, 'kernel'), axis=-1), Axis(path=('layers', 2, 'kernel'), axis=-2))
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
    shapes = genome(jax.eval_shape(network.init, jax.random.key(0)))
    symmetries = tuple(
        chain([layer, following], "bias" in _layer(shapes, layer))[0] for layer, following in pairwise(layers)
    )
    for layer, following, symmetry in zip(layers, layers[1:], symmetries, strict=False):
        units, last = units_of(shapes, symmetry), symmetry[-1]
        _layer(shapes, following)
        if array_at(shapes, last).shape[last.axis] % units:
            raise ValueError(
                f"layer {_words(layer)} has {units} units, which is no divisor of what {_words(following)} reads: "
                f"{array_at(shapes, last).shape[last.axis]}"
            )
        _require_unchanged(network, symmetry, x, units, layer, following)
    return symmetries


def _require_unchanged(
    network: Network, symmetry: Symmetry, x: jax.Array, units: int, layer: Layer, following: Layer
) -> None:
    told = units == 1
    for trial in range(_TRIALS):
        params_key, order_key = jax.random.split(jax.random.fold_in(jax.random.key(0), trial))
        member = _random_member(network, params_key)
        params = genome(member)
        order = jax.random.permutation(order_key, units)
        order = jnp.where((order == jnp.arange(units)).all(), jnp.roll(order, 1), order)
        with jax.default_matmul_precision("float32"):
            outputs = [
                _outputs(network.apply(with_genome(member, each), x))
                for each in (
                    params,
                    renumbered(params, [symmetry], [order]),
                    renumbered(params, [symmetry[:1]], [order]),  # Half of it: this must change the output.
                )
            ]
        as_it_was, with_all, with_half = outputs
        scale = max(float(np.abs(as_it_was).max()), 1e-30)
        if not np.abs(with_all - as_it_was).max() <= _TOLERANCE * scale:
            raise ValueError(
                f"renumbering the units of layer {_words(layer)} changes what the network computes: something between "
                f"it and {_words(following)} tells its units apart (a normalisation), or they lead elsewhere, too (a "
                "sum, a gate, shared weights); end the chain before it, or mate without alignment"
            )
        told |= bool(np.abs(with_half - as_it_was).max() > 10 * _TOLERANCE * scale)
    if not told:
        raise ValueError(
            f"the units of layer {_words(layer)} have no effect on the network's output for these examples, so nobody "
            "can tell whether they may be renumbered; give other examples"
        )


def _random_member(network: Network, key: Key) -> Member:
    """Params as they are made, with noise on each number: biases, and scales of normalisations, all differ."""
    init_key, noise_key = jax.random.split(key)
    member = network.init(init_key)
    params = genome(member)
    leaves, treedef = jax.tree.flatten(params)

    def noisy(key: Key, leaf: jax.Array) -> jax.Array:
        size = jnp.sqrt(jnp.mean(jnp.square(leaf)))
        return leaf + 0.3 * jnp.where(size > 0, size, 1.0) * jax.random.normal(key, leaf.shape, leaf.dtype)

    keys = jax.random.split(noise_key, max(1, len(leaves)))
    return with_genome(member, treedef.unflatten([noisy(*each) for each in zip(keys, leaves, strict=False)]))


def _outputs(tree: Any) -> np.ndarray:
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


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
