"""Evolution strategies whose members' weights are never built: each is the common one and a change of low rank.

A member costs a forward pass and a thin product at each layer; at the first, where inputs are the same for all, members
share the product with the common weight. Nothing is kept of a change but the key that it is drawn from.

Source: Sarkar et al., "Evolution strategies at the hyperscale" (EGGROLL), 2025.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jevo.errors import require_count
from jevo.networks.linear import Factors, Layer, walk
from jevo.training.perturbation import Estimate
from jevo.types import Fitness, Key, Member


def low_rank_perturbation(
    apply: Callable[[Member, jax.Array], jax.Array],
    params: Member,
    x: jax.Array,
    fitness: Callable[[jax.Array], jax.Array],
    key: Key,
    *,
    sigma: float | jax.Array,
    rank: int,
    pairs: int,
    shaping: Callable[[Fitness], jax.Array] = lambda fitness: fitness,
    chunk: int = 4,
) -> Estimate:
    """How the params should change, by `2 * pairs` members in antithetic pairs.

    A member's weight is `W + sigma / sqrt(rank) * A B^T`, or less, A `[inputs, rank]` and B `[outputs, rank]` being
    standard normal; of a convolution the inputs are height, width and channels together. Its bias is changed by plain
    noise. A weight that several layers take, transposed or not, is changed once, and alike in all of them.

    Args:
        apply: a network of linear layers with any functions between: `(params, x [n, ...]) -> outputs [n, ...]`.
        params: of it.
        x: examples `[n, ...]`.
        fitness: `outputs -> float32 [n]` of each example; a member's is their mean.
        key: of the changes.
        sigma: standard deviation of each weight's change.
        rank: of the change; 1 is often enough, since the sum over members has any.
        pairs: members are run in pairs, with opposite changes.
        shaping: what members count for, `[2 * pairs] -> [2 * pairs]`, such as `genetics.centred_ranks`. The gradient is
            that of the fitness only as it is.
        chunk: pairs run at once.

    Raises:
        ValueError: if a number is out of its range, or naming params that are no weights or biases of linear layers, or
            weights of convolutions in groups, or used in two ways.

    >>> from jevo.networks import mlp
    >>> network, x = mlp([4, 3, 2]), jnp.ones((5, 4))
    >>> params = network.init(jax.random.key(0))
    >>> found = low_rank_perturbation(
    ...     network.apply, params, x, lambda y: -y.sum(axis=1), jax.random.key(1), sigma=0.1, rank=1, pairs=8
    ... )
    >>> found.gradient["layer_1"]["bias"].shape
    (2,)
    """
    require_count(rank, "the rank of a change")
    require_count(pairs, "the number of pairs")
    require_count(chunk, "chunk, the number of pairs run at once,")
    if isinstance(sigma, int | float) and not sigma > 0:
        raise ValueError(f"sigma is a number above 0, not {sigma}")
    leaves, treedef = jax.tree.flatten(params)
    clean, layout = _clean(apply, params, x)
    keys = jax.random.split(key, pairs)

    def changes(key: Key) -> list[Any]:
        """Of each of the params: a matrix's two factors, or plain noise."""
        made: list[Any] = []
        for i, (own, leaf) in enumerate(zip(jax.random.split(key, len(leaves)), leaves, strict=True)):
            if (matrix := layout.matrices[i]) is None:
                made.append(jax.random.normal(own, leaf.shape, leaf.dtype))
                continue
            one, other = jax.random.split(own)
            rows, columns = matrix.places.shape
            first = jax.random.normal(one, (rows, rank), leaf.dtype) / math.sqrt(rank)
            made.append((first, jax.random.normal(other, (columns, rank), leaf.dtype)))
        return made

    def scores(key: Key) -> jax.Array:
        made = changes(key)

        def member(sign: float) -> jax.Array:
            def moved(layer: Layer) -> jax.Array:
                weight, bias = layer.sources
                one, other = made[weight.leaf][:: -1 if layout.transposed[layer.number] else 1]
                shape, (contracted, free) = layer.weight[0].shape, _axes(layer)
                factors = Factors(
                    one.reshape(*(shape[i] for i in contracted), rank), other.reshape(*(shape[i] for i in free), rank)
                )
                noise = None if bias is None else bias.moved(made[bias.leaf])
                outputs = clean[layer.number] if layer.first else layer.outputs
                return outputs + sign * sigma * layer.product((factors, noise), layer.inputs)

            return jnp.mean(fitness(walk(apply, params, x, moved)))

        return jnp.stack([member(1.0), member(-1.0)])

    found = jax.lax.map(scores, keys, batch_size=min(chunk, pairs))
    weights = shaping(found.reshape(-1)).reshape(pairs, 2)
    gains = (weights[:, 0] - weights[:, 1]) / (2 * pairs * sigma)

    def added(total: list[jax.Array], some: tuple[Key, jax.Array]) -> tuple[list[jax.Array], None]:
        key, gain = some
        # Drawn once more, so that none has to be kept. Small numbers add up, in more digits than bfloat16 has.
        news = [
            gain * (made.astype(jnp.float32) if layout.matrices[i] is None else _product(*made))
            for i, made in enumerate(changes(jax.random.clone(key)))
        ]
        return [old + new for old, new in zip(total, news, strict=True)], None

    matrices = [layout.matrices[i] for i in range(len(leaves))]
    start = [
        jnp.zeros(leaf.shape if matrix is None else matrix.places.shape, jnp.float32)
        for leaf, matrix in zip(leaves, matrices, strict=True)
    ]
    sums, _ = jax.lax.scan(added, start, (keys, gains), unroll=min(4, pairs))
    gradient = [
        one.astype(leaf.dtype) if matrix is None else matrix.restored(one).astype(leaf.dtype)
        for one, matrix, leaf in zip(sums, matrices, leaves, strict=True)
    ]
    return Estimate(treedef.unflatten(gradient), jnp.mean(found))


def _product(contracted: jax.Array, free: jax.Array) -> jax.Array:
    return jnp.matmul(contracted, free.T, preferred_element_type=jnp.float32)


class _Matrix(NamedTuple):
    """A weight as its layer's product has it.

    Attributes:
        places: int `[contracted, free]`, where in the array of the params each number is.
        restored: makes such an array of a matrix.
    """

    places: np.ndarray
    restored: Callable[[jax.Array], jax.Array]


class _Layout(NamedTuple):
    """How changes are given.

    Attributes:
        matrices: of each of the params by number: as its first layer has it, or None for a bias.
        transposed: of each layer, whether it has it the other way round.
    """

    matrices: dict[int, _Matrix | None]
    transposed: list[bool]


def _clean(
    apply: Callable[[Member, jax.Array], jax.Array], params: Member, x: jax.Array
) -> tuple[list[jax.Array], _Layout]:
    """What each layer gives without changes, and how its weight is to be changed.

    Raises:
        ValueError: naming params that have a layer of another kind, or that layers do not agree on.
    """
    paths, _ = jax.tree.flatten_with_path(params)
    outputs: list[jax.Array] = []
    layout = _Layout({}, [])

    def noted(layer: Layer) -> jax.Array:
        weight, bias = layer.sources
        name = lambda source: jax.tree_util.keystr(paths[source.leaf][0])  # noqa: E731
        matrix = _matrix(layer, paths[weight.leaf][1])
        first = layout.matrices.setdefault(weight.leaf, matrix)
        alike = first and matrix and [np.array_equal(first.places, own) for own in (matrix.places, matrix.places.T)]
        if not alike or not any(alike):
            raise ValueError(
                f"the weight {name(weight)} takes no change of low rank: a layer has it in groups, in part or as a "
                "vector, or two layers have it otherwise than as each other's transpose"
            )
        if bias is not None and layout.matrices.setdefault(bias.leaf, None) is not None:
            raise ValueError(f"the params {name(bias)} are the weight of one layer and the bias of another")
        layout.transposed.append(not alike[0])
        outputs.append(layer.outputs)
        return outputs[-1]

    walk(apply, params, x, noted)
    return outputs, layout


def _axes(layer: Layer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of a layer's weight that its product sums over, and the others."""
    contracted = layer.contracted or ()
    return contracted, tuple(axis for axis in range(layer.weight[0].ndim) if axis not in contracted)


def _matrix(layer: Layer, leaf: jax.Array) -> _Matrix | None:
    """The weight of a layer, if it is a matrix of all numbers of an array of the params."""
    contracted, free = _axes(layer)
    if not contracted or not free:
        return None
    shape, moved = layer.weight[0].shape, layer.sources[0].moved
    with jax.ensure_compile_time_eval():
        taken = np.asarray(moved(jnp.arange(leaf.size).reshape(leaf.shape)))
    if not np.array_equal(np.sort(taken.ravel()), np.arange(leaf.size)):
        return None
    order = (*contracted, *free)
    places = taken.transpose(order).reshape(math.prod(shape[i] for i in contracted), -1)

    def restored(matrix: jax.Array) -> jax.Array:
        own = matrix.reshape([shape[i] for i in order]).transpose(np.argsort(order))
        # Numbers are only moved, so the transpose of that moves them back.
        whole = jax.eval_shape(moved, leaf)
        return jax.linear_transpose(moved, leaf)(own.astype(whole.dtype))[0]

    return _Matrix(places, restored)
