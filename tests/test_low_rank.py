"""Changes of low rank against the weights that they stand for, and what they estimate against the gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo import genetics
from jevo.networks import mlp
from jevo.networks.linear import Factors, walk
from jevo.training.low_rank import low_rank_perturbation
from tests.marks import mostly_slow
from tests.test_linear import NETWORKS, random_params
from tests.test_perturbation import cosine, likelihood


def attention_like(params, x):
    """Kernels of three axes, and one whose product has it first."""
    heads = jnp.tanh(jnp.einsum("ni,ihd->nhd", x, params["in"]))
    out = jnp.einsum("nhd,hdo->no", heads, params["out"])
    return jax.lax.dot_general(params["last"], jnp.tanh(out), (((1,), (1,)), ((), ()))).T


def attention_init(key):
    shapes = {"in": (12, 2, 4), "out": (2, 4, 5), "last": (3, 5)}
    return {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(jax.random.split(key, 3), shapes.items(), strict=True)
    }


ALL = NETWORKS | {"heads": (attention_init, attention_like, (12,), 3)}


@pytest.mark.parametrize("rank", mostly_slow([1, 3], 3))
@pytest.mark.parametrize("name", mostly_slow(ALL, "mlp", "cnn", "heads"))
def test_factors_are_the_weight_that_they_stand_for(name, rank):
    """Layer by layer, of the same inputs: dense, of more axes, convolutions, transposed, with shapes and biases."""
    init, apply, shape, _ = ALL[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (6, *shape))
    seen = []

    def at(layer):
        weight, keys = layer.weight[0], jax.random.split(jax.random.key(layer.number), 2)
        axes = layer.contracted, tuple(i for i in range(weight.ndim) if i not in layer.contracted)
        factors = Factors(
            *(jax.random.normal(k, (*(weight.shape[i] for i in a), rank)) for k, a in zip(keys, axes, strict=True))
        )
        built = jnp.tensordot(*factors, axes=(-1, -1)).transpose(np.argsort([*axes[0], *axes[1]]))
        assert built.shape == weight.shape
        thin, whole = (layer.product((w, layer.weight[1]), layer.inputs) for w in (factors, built))
        np.testing.assert_allclose(thin, whole, rtol=1e-4, atol=1e-4)
        seen.append(layer.number)
        return layer.outputs

    walk(apply, params, x, at)
    assert len(seen) == ALL[name][3]


@pytest.mark.parametrize("name", mostly_slow(ALL, "mlp", "cnn", "heads"))
def test_a_pair_is_scored_and_credited_as_if_its_weights_were_built(name):
    """One pair's estimate is its change times what it gained: so it says the change, and the gain is that of two
    networks with whole weights. To the rounding of float32."""
    init, apply, shape, _ = ALL[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (6, *shape))
    fitness, sigma = (lambda y: jnp.sin(y).reshape(len(y), -1).sum(axis=1)), 0.1
    given = partial(low_rank_perturbation, apply, params, x, fitness, sigma=sigma, rank=2, pairs=1)
    change = given(jax.random.key(3), shaping=lambda found: jnp.float32([sigma, -sigma])).gradient
    scores = [
        fitness(apply(jax.tree.map(lambda p, c, s=sign: p + s * sigma * c, params, change), x)).mean()
        for sign in (1, -1)
    ]
    found = given(jax.random.key(3))
    np.testing.assert_allclose(found.fitness, np.mean(scores), rtol=1e-5, atol=1e-5)
    gain = (scores[0] - scores[1]) / (2 * sigma)
    expected = jax.tree.map(lambda leaf: gain * leaf, change)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3 * abs(gain)), found.gradient, expected
    )
    for leaf in jax.tree.leaves(change):
        matrix = leaf.reshape(-1, leaf.shape[-1])
        assert leaf.ndim < 2 or name == "heads" or np.linalg.matrix_rank(matrix, tol=1e-4) == min(2, *matrix.shape)


@pytest.mark.parametrize("name", mostly_slow(["mlp", "tied"], "tied"))
def test_the_estimate_goes_to_the_gradient_with_the_members(name):
    init, apply, shape, _ = NETWORKS[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (20, *shape))
    y = jax.random.randint(jax.random.key(3), (20,), 0, 3)
    gradient = jax.grad(lambda params: likelihood(y)(apply(params, x)).mean())(params)
    near = []
    for pairs in (4, 40, 400):
        found = jax.jit(
            lambda params, key, pairs=pairs: low_rank_perturbation(
                apply, params, x, likelihood(y), key, sigma=0.01, rank=1, pairs=pairs, chunk=10
            )
        )(params, jax.random.key(4))
        near.append(cosine(found.gradient, gradient))
    angles = [angle for angle, _ in near]
    assert angles == sorted(angles)
    assert angles[-1] > 0.75
    # A sum of so few is longer than what it estimates, by its error.
    assert near[-1][0] * near[-1][1] == pytest.approx(1, abs=0.25)


@pytest.mark.slow
def test_chunks_change_no_more_than_last_bits_and_ranks_may_count_for_fitness(key):
    network = mlp([12, 6, 3])
    params, x = random_params(network.init), jax.random.normal(jax.random.key(2), (20, 12))
    found = [
        low_rank_perturbation(
            network.apply, params, x, lambda y: y[:, 0], jax.random.clone(key),
            sigma=0.1, rank=2, pairs=7, chunk=chunk, shaping=genetics.centred_ranks,
        )
        for chunk in (1, 3, 100)
    ]  # fmt: skip
    for other in found[1:]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found[0], other)


def grouped(params, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, params["w"], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=2
    ).sum(axis=(1, 2))


def test_what_has_no_change_of_low_rank_is_named(key):
    given = partial(low_rank_perturbation, fitness=lambda y: y[:, 0], key=key, sigma=0.1, rank=1, pairs=2)
    with pytest.raises(ValueError, match="the weight \\['w'\\] takes no change of low rank"):
        given(grouped, {"w": jnp.ones((3, 3, 1, 4))}, jnp.ones((5, 4, 4, 2)))
    with pytest.raises(ValueError, match="the weight \\['w'\\] takes no change of low rank"):
        given(lambda p, x: x @ p["w"][:4], {"w": jnp.ones((6, 2))}, jnp.ones((5, 4)))
    with pytest.raises(ValueError, match="the weight \\['w'\\] takes no change of low rank"):
        given(lambda p, x: x @ p["w"] @ p["w"].reshape(2, 4), {"w": jnp.ones((4, 2))}, jnp.ones((5, 4)))
    with pytest.raises(ValueError, match="are the weight of one layer and the bias of another"):
        given(lambda p, x: x @ p["w"] + p["w"], {"w": jnp.ones((4, 4))}, jnp.ones((4, 4)))
    with pytest.raises(ValueError, match="the rank of a change is an integer, at least 1, not 0"):
        low_rank_perturbation(
            mlp([4, 3]).apply, {}, jnp.ones((5, 4)), lambda y: y[:, 0], jax.random.key(0), sigma=0.1, rank=0, pairs=1
        )


def test_params_of_half_precision_have_such_a_gradient():
    network = mlp([6, 5, 3])
    half = lambda tree, dtype: jax.tree.map(lambda leaf: leaf.astype(dtype), tree)  # noqa: E731
    params, x = (
        half(random_params(network.init), jnp.bfloat16),
        jax.random.normal(jax.random.key(2), (60, 6), jnp.bfloat16),
    )

    def fitness(outputs):
        return -jnp.square(outputs.astype(jnp.float32) - 1).mean(axis=1)

    estimate = jax.jit(
        lambda key: low_rank_perturbation(network.apply, params, x, fitness, key, sigma=0.1, rank=1, pairs=500).gradient
    )
    found = estimate(jax.random.key(4))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    gradient = jax.grad(lambda params: fitness(network.apply(params, x)).mean())(params)
    assert cosine(half(found, jnp.float32), half(gradient, jnp.float32))[0] > 0.9
