"""How deep in a network its arrays are."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal

from jevo.networks.jaxprs import called
from jevo.networks.network import Network
from jevo.stateful import genome
from jevo.types import Member


def depths(network: Network, x: Any) -> Member:
    """For each array of the weights a number: 0 in the layer that a pass uses first, 1 in the last, even steps between.

    A layer is the arrays that share a parent in the tree, as for crossovers; so a normalisation is one of its own.

    Args:
        network: any.
        x: an example or more, `[n, ...]`, as `network.apply` takes them. Nothing is computed.

    Returns:
        Numbers of Python, in the form of the genome.
    """
    params = jax.eval_shape(network.init, jax.random.key(0))
    arrays, form = jax.tree.flatten(params)
    weights = genome(form.unflatten(range(len(arrays))))
    layers = {number: path[:-1] or path for path, number in jax.tree.leaves_with_path(weights)}
    used = _used(jax.make_jaxpr(network.apply)(params, x).jaxpr, len(arrays))
    # What no pass uses comes last.
    order = list(dict.fromkeys(layers[number] for number in [*used, *layers] if number in layers))
    return jax.tree.map(lambda number: order.index(layers[number]) / max(len(order) - 1, 1), weights)


def _used(program: Jaxpr, count: int) -> list[int]:
    """The first `count` arguments of a program, by number, in the order in which its equations first take them."""

    def walk(jaxpr: Jaxpr, arrays: dict[Any, int]) -> Iterator[int]:
        for equation in jaxpr.eqns:
            taken = {i: arrays[v] for i, v in enumerate(equation.invars) if not isinstance(v, Literal) and v in arrays}
            inner = called(equation)
            if inner is None:
                yield from taken.values()
            else:
                yield from walk(inner.jaxpr, {inner.jaxpr.invars[i]: number for i, number in taken.items()})

    return list(dict.fromkeys(walk(program, dict(zip(program.invars[:count], range(count), strict=True)))))
