"""Node perturbation: how to change weights, from what noise on the outputs of layers does to the fitness of examples.

No derivative of the network, its activations or the fitness is taken: members are only run, each with noise of its own
at every unit and example. It is no black box, though: it reads where the linear layers are, and a fitness for each
example. What a unit should have given is the fitness correlated with its noise; what its weights should be follows, as
the layer is linear.

Source: Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", 1992;
Flower and Jabri, "Summed weight neuron perturbation: an O(N) improvement over weight perturbation", 1992. Antithetic
pairs, noise as masks would give it, and masks in place of noise are this engine's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from jevo.networks.jaxprs import mixes
from jevo.networks.linear import Layer, walk
from jevo.types import Key, Member

_FLOOR = 1e-3
"""What is added to a unit's variance, as a share of the mean of its layer: of a unit that hardly moves, nobody can tell
what moving it does."""


class Noise(NamedTuple):
    """How the members of a pair differ: at a unit and an example, one has `middle + half`, the other `middle - half`.

    Which of the two has which is drawn at even odds, for each unit and example.

    Attributes:
        ends: `(layer, drawn) -> (middle, half)`, of the shape of its outputs.
        variance: `(layer, outputs)`, what `half**2` is in the mean where there is no noise before the layer.
        draw: `key -> drawn`, once for each pair; None if pairs draw nothing, and differ in who has which alone.
    """

    ends: Callable[[Layer, Any], tuple[jax.Array, jax.Array]]
    variance: Callable[[Layer, jax.Array], jax.Array]
    draw: Callable[[Key], Any] | None = None


class Estimate(NamedTuple):
    """What a population of perturbed members says.

    Attributes:
        gradient: of the mean fitness by the params, estimated; a pytree like these.
        fitness: float32 `[]`, the mean over members and examples.
    """

    gradient: Member
    fitness: jax.Array


def relative_noise(share: float) -> Noise:
    """Noise on what a layer gives, a share of the root mean square of its outputs."""
    return _on_outputs(lambda layer, outputs: jnp.full(outputs.shape, share * jnp.sqrt(jnp.mean(outputs**2))))


def weight_noise(variance: Member) -> Noise:
    """Noise on what a layer gives, as large as independent changes of the weights would make it.

    Args:
        variance: of each of the params, a pytree like these.
    """
    spread = jax.tree.leaves(variance)
    return _on_outputs(lambda layer, _: jnp.sqrt(layer.product(layer.taken(spread), layer.inputs**2)))


def _on_outputs(size: Callable[[Layer, jax.Array], jax.Array]) -> Noise:
    """Noise of a standard deviation, `(layer, outputs) -> size`, on what the params themselves give."""

    def ends(layer: Layer, drawn: Any) -> tuple[jax.Array, jax.Array]:
        outputs = layer.outputs
        return outputs, size(layer, outputs)

    return Noise(ends, lambda layer, outputs: size(layer, outputs) ** 2)


def twin_noise(draw: Callable[[Key], tuple[Member, Member]], variance: Member) -> Noise:
    """No noise but other params: each unit and example adds up what it would with one of two sets that a pair draws.

    So a unit never gives what no set of params that can be drawn would give. It costs two products a layer and member;
    where inputs are the same for all, a pair shares them.

    Args:
        draw: two sets of params, each a pytree like those of the network, which are their mean.
        variance: of half of the difference of the two, of each of the params.
    """
    spread = jax.tree.leaves(variance)

    def ends(layer: Layer, drawn: Any) -> tuple[jax.Array, jax.Array]:
        up, down = (layer.product(layer.taken(leaves), layer.inputs) for leaves in drawn)
        return (up + down) / 2, (up - down) / 2

    return Noise(
        ends,
        lambda layer, _: layer.product(layer.taken(spread), layer.inputs**2),
        lambda key: [jax.tree.leaves(params) for params in draw(key)],
    )


def node_perturbation(
    apply: Callable[[Member, jax.Array], jax.Array],
    params: Member,
    x: jax.Array,
    fitness: Callable[[jax.Array], jax.Array],
    key: Key,
    *,
    noise: Noise,
    pairs: int,
    unroll: int = 1,
) -> Estimate:
    """How the params should change, by `2 * pairs` members in antithetic pairs.

    Args:
        apply: a network of linear layers with any functions between, `(params, x [n, ...]) -> outputs [n, ...]`, which
            computes each example alone.
        params: of it.
        x: examples `[n, ...]`.
        fitness: of each example, `outputs -> float32 [n]`.
        key: of the noise.
        noise: what it is.
        pairs: members are run in pairs, with opposite noise.
        unroll: pairs in a turn of the loop.

    Raises:
        ValueError: if the network has params that are no weights or biases of linear layers, or examples have a part in
            each other's outputs.

    >>> from jevo.networks import mlp
    >>> network, x = mlp([4, 3, 2]), jnp.ones((5, 4))
    >>> params = network.init(jax.random.key(0))
    >>> found = node_perturbation(
    ...     network.apply, params, x, lambda y: -y.sum(axis=1), jax.random.key(1), noise=relative_noise(0.1), pairs=4
    ... )
    >>> found.gradient["layer_1"]["bias"].shape
    (2,)
    """
    axes = _batch_axes(apply, params, x)
    clean: list[tuple[Layer, jax.Array, jax.Array]] = []

    def recorded(layer: Layer) -> jax.Array:
        outputs = layer.outputs
        clean.append((layer, outputs, noise.variance(layer, outputs)))
        return outputs

    walk(apply, params, x, recorded)
    *layer_keys, draw_key = jax.random.split(key, len(clean) + 1)
    # A bit for each unit, example and pair: eight pairs share a draw.
    signs = [
        jax.random.bits(layer_key, (-(-pairs // 8), *outputs.shape), jnp.uint8)
        for layer_key, (_, outputs, _) in zip(layer_keys, clean, strict=True)
    ]

    def shared(drawn: Any) -> dict[int, tuple[jax.Array, jax.Array]]:
        """What is the same for both members: at layers whose inputs are."""
        return {layer.number: noise.ends(layer, drawn) for layer, _, _ in clean if layer.first}

    always = shared(None) if noise.draw is None else None

    def member(
        pair: jax.Array, positive: bool, drawn: Any, known: dict[int, tuple[jax.Array, jax.Array]]
    ) -> tuple[jax.Array, list[jax.Array], list[jax.Array]]:
        moves: list[jax.Array] = []
        activations: list[jax.Array] = []

        def moved(layer: Layer) -> jax.Array:
            middle, half = known[layer.number] if layer.first else noise.ends(layer, drawn)
            bit = (signs[layer.number][pair // 8] >> (pair % 8).astype(jnp.uint8)) & 1
            moves.append(jnp.where((bit == 1) == positive, half, -half))
            activations.append(middle + moves[-1])
            return activations[-1]

        def seen(number: int, values: jax.Array) -> None:
            activations[number] = values

        return fitness(walk(apply, params, x, moved, seen)), moves, activations

    def both(credits: list[jax.Array], pair: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        drawn = noise.draw(jax.random.fold_in(draw_key, pair)) if noise.draw else None
        known = shared(drawn) if always is None else always
        (up, ups, left), (down, downs, right) = (member(pair, positive, drawn, known) for positive in (True, False))
        gain = up - down
        # A unit that both saw alike had no part in it: a relu that is shut in either.
        news = [
            along(gain, outputs, axis) * jnp.where(one != other, a - b, 0.0)
            for axis, outputs, a, b, one, other in zip(axes, credits, ups, downs, left, right, strict=True)
        ]
        return [old + new for old, new in zip(credits, news, strict=True)], (up.mean() + down.mean()) / 2

    start = [jnp.zeros(outputs.shape) for _, outputs, _ in clean]
    credits, means = jax.lax.scan(both, start, jnp.arange(pairs), unroll=unroll)
    cotangents = [
        (credit / (pairs * len(x)) / _floored(4 * variance)).astype(outputs.dtype)
        for credit, (_, outputs, variance) in zip(credits, clean, strict=True)
    ]

    def products(params: Member) -> list[jax.Array]:
        """What each layer gives of the inputs that it has without noise: linear in the params."""
        found: list[jax.Array] = []

        def given(layer: Layer) -> jax.Array:
            known, outputs, _ = clean[layer.number]
            found.append(layer.product(layer.weight, known.inputs))
            return outputs

        walk(apply, params, x, given)
        return found

    return Estimate(jax.linear_transpose(products, params)(cotangents)[0], means.mean())


def along(values: jax.Array, like: jax.Array, axis: int) -> jax.Array:
    """Values `[n]` laid along an axis of an array of the rank of `like`."""
    return values.reshape([-1 if i == axis else 1 for i in range(like.ndim)])


def _floored(variance: jax.Array) -> jax.Array:
    return variance + _FLOOR * jnp.mean(variance) + 1e-12


def _batch_axes(apply: Callable[[Member, jax.Array], jax.Array], params: Member, x: jax.Array) -> list[int]:
    """Along which axis of each layer's outputs the examples lie: the one that grows with them.

    Raises:
        ValueError: if they share one with something else, or have a part in each other's outputs: what noise at one
            does to the fitness of others would be nobody's.
    """

    def traced(n: int) -> tuple[list[tuple[int, ...]], Jaxpr]:
        found: list[tuple[int, ...]] = []

        def noted(layer: Layer) -> jax.Array:
            outputs = layer.outputs
            found.append(outputs.shape)
            return outputs

        program = jax.make_jaxpr(lambda params, x: walk(apply, params, x, noted))(
            params, jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype)
        )
        return found, program.jaxpr

    (shapes, program), (larger, other) = traced(len(x)), traced(len(x) + 1)
    if mixes(program, other):
        raise ValueError(
            "examples have a part in each other's outputs (a mean over the batch, say); node perturbation takes a "
            "network that computes each example alone"
        )
    axes = []
    for one, more in zip(shapes, larger, strict=True):
        grown = [i for i, (a, b) in enumerate(zip(one, more, strict=True)) if a != b]
        if len(grown) != 1 or one[grown[0]] != len(x):
            raise ValueError(f"the outputs {list(one)} of a layer have no axis of the {len(x)} examples alone")
        axes.append(grown[0])
    return axes
