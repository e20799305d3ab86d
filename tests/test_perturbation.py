"""Node perturbation against the gradient that it estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo.networks import mlp
from jevo.networks.linear import walk
from jevo.training import scaled_log_likelihood, scaled_log_likelihood_by_example
from jevo.training.perturbation import node_perturbation, relative_noise, weight_noise
from tests.test_linear import NETWORKS, random_params


def cosine(one, other):
    a, b = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)), float(jnp.linalg.norm(a) / jnp.linalg.norm(b))


def likelihood(y):
    return lambda z: jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=-1)[:, 0]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimate_goes_to_the_gradient_with_the_members(name):
    init, apply, shape, _ = NETWORKS[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (100, *shape))
    y = jax.random.randint(jax.random.key(3), (100,), 0, 3)
    gradient = jax.grad(lambda params: likelihood(y)(apply(params, x)).mean())(params)
    near = []
    for pairs in (3, 24, 200):
        found = jax.jit(
            lambda params, key, pairs=pairs: node_perturbation(
                apply, params, x, likelihood(y), key, noise=relative_noise(0.05), pairs=pairs
            )
        )(params, jax.random.key(4))
        near.append(cosine(found.gradient, gradient))
        assert jax.tree.structure(found.gradient) == jax.tree.structure(params)
    angles = [angle for angle, _ in near]
    assert angles == sorted(angles)
    assert angles[-1] > 0.97
    assert near[-1][1] == pytest.approx(1, abs=0.08)


def test_the_price_of_the_common_scale_is_part_of_each_examples_fitness():
    """Without it the estimate stays at an angle to the gradient, however many members there are."""
    network = mlp([20, 16, 4], bias=False)
    params, x = random_params(network.init), jax.random.normal(jax.random.key(2), (200, 20))
    y = jnp.argmax(x @ jax.random.normal(jax.random.key(3), (20, 4)), axis=1)

    def unpriced(z):
        return likelihood(y)(2.0 * z / jnp.std(z))

    gradient = jax.grad(lambda params: scaled_log_likelihood(network.apply(params, x), y, 2.0))(params)
    angles = {}
    for fitness in (lambda z: scaled_log_likelihood_by_example(z, y, 2.0), unpriced):
        for pairs in (10, 400):
            found = node_perturbation(
                network.apply, params, x, fitness, jax.random.key(4), noise=relative_noise(0.02), pairs=pairs
            )
            angles.setdefault(fitness is unpriced, []).append(cosine(found.gradient, gradient)[0])
    assert angles[False][0] < angles[False][1]
    assert angles[False][1] > 0.98
    assert angles[True][1] < 0.9


def test_noise_of_weights_is_as_large_as_changes_of_them_make_it():
    network = mlp([30, 20, 5])
    params, x = random_params(network.init), jax.random.normal(jax.random.key(2), (7, 30))
    variance = jax.tree.map(lambda leaf: jnp.abs(leaf) * 0.01, params)
    sizes = []
    noise = weight_noise(network.apply, variance, x)

    def at(layer):
        sizes.append(noise(layer, layer.outputs))
        keys = jax.random.split(jax.random.key(layer.number), 3000)
        name = f"layer_{layer.number}"

        def moved(key):
            one, two = jax.random.split(key)
            kernel, bias = (jnp.sqrt(variance[name][part]) for part in ("kernel", "bias"))
            change = kernel * jax.random.normal(one, kernel.shape), bias * jax.random.normal(two, bias.shape)
            change = change[0], change[1].reshape(layer.weight[1].shape)
            return layer.product(change, layer.inputs)

        np.testing.assert_allclose(jax.vmap(moved)(keys).std(axis=0), sizes[-1], rtol=0.1)
        return layer.outputs

    walk(network.apply, params, x, at)
    assert len(sizes) == 2


def test_examples_that_share_an_axis_with_something_else_are_refused():
    with pytest.raises(ValueError, match="no axis of the 6 examples alone"):
        node_perturbation(
            lambda p, x: x.reshape(-1, 2) @ p["w"],
            {"w": jnp.ones((2, 2))}, jnp.ones((6, 4)), lambda z: z.sum(axis=1).reshape(6, -1).sum(axis=1),
            jax.random.key(0), noise=relative_noise(0.1), pairs=2,
        )  # fmt: skip
