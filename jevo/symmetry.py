"""Hidden units and where they run: a network's params with the units of its layers in another order."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jevo.types import Axis, Member, Symmetry


def units_of(params: Member, symmetry: Symmetry) -> int:
    """How many units a layer has."""
    return symmetry[0].units or array_at(params, symmetry[0]).shape[symmetry[0].axis]


def renumbered(params: Member, symmetries: Sequence[Symmetry], orders: Sequence[jax.Array]) -> Member:
    """The params with the units of each symmetry in an order of its own, int32 `[units]`."""
    arrays = arrays_of(params)
    for symmetry, order in zip(symmetries, orders, strict=True):
        for place in symmetry:
            arrays[place.path] = in_order(arrays[place.path], place, order)
    return jax.tree.unflatten(jax.tree.structure(params), list(arrays.values()))


def in_order(array: jax.Array, place: Axis, order: jax.Array) -> jax.Array:
    """An array with the units at this place in another order."""
    return jnp.take(blocks(array, place, order.size), order, axis=2).reshape(array.shape)


def blocks(array: jax.Array, place: Axis, units: int) -> jax.Array:
    """The array as `[before, blocks, units, after]`."""
    axis = place.axis % array.ndim
    before = int(np.prod(array.shape[:axis]))
    return array.reshape(before, array.shape[axis] // (units * place.inner), units, -1)


def array_at(params: Member, place: Axis) -> jax.Array:
    """The array that a place names."""
    return arrays_of(params)[place.path]


def arrays_of(params: Member) -> dict[tuple[str | int, ...], jax.Array]:
    """The arrays of params, whatever these are made of, by their paths, in the order of the leaves."""
    name = lambda key: next(getattr(key, of) for of in ("key", "idx", "name") if hasattr(key, of))  # noqa: E731
    return {tuple(map(name, keys)): leaf for keys, leaf in jax.tree.leaves_with_path(params)}
