"""Hidden units and where they run: a network's params with the units of its layers in another order."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jevo.types import Axis, Member, Symmetry


def units_of(params: Member, symmetry: Symmetry) -> int:
    """How many units a layer has."""
    return array_at(params, symmetry[0]).shape[symmetry[0].axis]


def renumbered(params: Member, symmetries: Sequence[Symmetry], orders: Sequence[jax.Array]) -> Member:
    """The params with the units of each symmetry in an order of its own, int32 `[units]`."""
    for symmetry, order in zip(symmetries, orders, strict=True):
        for place in symmetry:
            array = array_at(params, place)
            split = blocks(array, place, order.size)
            params = _replaced(params, place, jnp.take(split, order, axis=2).reshape(array.shape))
    return params


def blocks(array: jax.Array, place: Axis, units: int) -> jax.Array:
    """The array as `[before, blocks, units, after]`."""
    axis = place.axis % array.ndim
    before = int(np.prod(array.shape[:axis]))
    return array.reshape(before, array.shape[axis] // units, units, -1)


def array_at(params: Member, place: Axis) -> jax.Array:
    """The array that a place names."""
    for name in place.path:
        params = params[name]
    return params


def _replaced(params: Member, place: Axis, array: jax.Array) -> Member:
    """A copy of the nested dicts with one array replaced."""
    name, *rest = place.path
    return {**params, name: _replaced(params[name], Axis(tuple(rest), place.axis), array) if rest else array}
