"""Node perturbation against the gradient that it estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo.networks import mlp
from jevo.networks.linear import walk
from jevo.training import scaled_log_likelihood, scaled_log_likelihood_by_example
from jevo.training.perturbation import node_perturbation, relative_noise, twin_noise, weight_noise
from tests.marks import mostly_slow
from tests.test_linear import NETWORKS, random_params


def cosine(one, other):
    a, b = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)), float(jnp.linalg.norm(a) / jnp.linalg.norm(b))


def likelihood(y):
    return lambda z: jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=-1)[:, 0]


def twins(params, sigma):
    """Noise of twins that are as far from the params as each other: up by normal changes, and down by the same."""
    leaves, treedef = jax.tree.flatten(params)

    def draw(key):
        changes = [
            sigma * jax.random.normal(k, a.shape)
            for k, a in zip(jax.random.split(key, len(leaves)), leaves, strict=True)
        ]
        return tuple(
            treedef.unflatten([a + sign * change for a, change in zip(leaves, changes, strict=True)])
            for sign in (1, -1)
        )

    return twin_noise(draw, jax.tree.map(lambda leaf: jnp.full(leaf.shape, sigma**2), params))


NOISES = {"outputs": lambda params: relative_noise(0.05), "twins": lambda params: twins(params, 0.02)}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", mostly_slow(NETWORKS, "mlp", "tied"))
def test_the_estimate_goes_to_the_gradient_with_the_members(name, noise):
    init, apply, shape, _ = NETWORKS[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (100, *shape))
    y = jax.random.randint(jax.random.key(3), (100,), 0, 3)
    gradient = jax.grad(lambda params: likelihood(y)(apply(params, x)).mean())(params)
    near = []
    for pairs in (3, 24, 200):
        found = jax.jit(
            lambda params, key, pairs=pairs: node_perturbation(
                apply, params, x, likelihood(y), key, noise=NOISES[noise](params), pairs=pairs
            )
        )(params, jax.random.key(4))
        near.append(cosine(found.gradient, gradient))
        assert jax.tree.structure(found.gradient) == jax.tree.structure(params)
    angles = [angle for angle, _ in near]
    assert angles == sorted(angles)
    assert angles[-1] > 0.97
    assert near[-1][1] == pytest.approx(1, abs=0.08)


@pytest.mark.slow
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


@pytest.mark.slow
def test_noise_of_weights_is_as_large_as_changes_of_them_make_it():
    network = mlp([30, 20, 5])
    params, x = random_params(network.init), jax.random.normal(jax.random.key(2), (7, 30))
    variance = jax.tree.map(lambda leaf: jnp.abs(leaf) * 0.01, params)
    sizes = []
    noise = weight_noise(variance)

    def at(layer):
        middle, half = noise.ends(layer, None)
        np.testing.assert_array_equal(middle, layer.outputs)
        np.testing.assert_allclose(noise.variance(layer, middle), half**2, rtol=1e-6)
        sizes.append(half)
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


@pytest.mark.slow
def test_a_unit_adds_up_what_one_of_two_drawn_params_says_and_its_twin_the_other():
    """All preactivations of both members, against NumPy; at the second layer inputs differ."""
    network = mlp([7, 6, 3])
    params, x = random_params(network.init), jax.random.normal(jax.random.key(2), (50, 7))
    noise, drawn, seen = twins(params, 0.3), [], []

    def draw(key):
        drawn.append(noise.draw(key))
        return drawn[-1]

    def everything(params, x):
        one, two = params["layer_0"], params["layer_1"]
        hidden = x @ one["kernel"] + one["bias"][None]
        return jnp.concatenate([hidden, jax.nn.relu(hidden) @ two["kernel"] + two["bias"][None]], axis=1)

    def fitness(outputs):
        seen.append(outputs)
        return outputs.sum(axis=1)

    with jax.disable_jit():
        node_perturbation(everything, params, x, fitness, jax.random.key(4), noise=noise._replace(draw=draw), pairs=3)
    ups = []
    for pair, sets in enumerate(drawn):
        members = [np.asarray(outputs, np.float64) for outputs in seen[2 * pair : 2 * pair + 2]]
        inputs, start = [np.asarray(x, np.float64)] * 2, 0
        for layer, units in (("layer_0", 6), ("layer_1", 3)):
            own = [jax.tree.unflatten(jax.tree.structure(params), leaves)[layer] for leaves in sets]
            gives = [[a @ np.asarray(w["kernel"], np.float64) + np.asarray(w["bias"]) for w in own] for a in inputs]
            first, second = (member[:, start : start + units] for member in members)
            up = np.abs(first - gives[0][0]) < np.abs(first - gives[0][1])
            np.testing.assert_allclose(first, np.where(up, *gives[0]), atol=1e-5)
            np.testing.assert_allclose(second, np.where(up, *gives[1][::-1]), atol=1e-5)
            inputs, start = [np.maximum(member, 0) for member in (first, second)], start + units
            ups.append(up)
    # At even odds, anew for each example, unit and pair.
    assert np.concatenate(ups, axis=None).mean() == pytest.approx(0.5, abs=0.06)
    assert all(0.2 < up.mean(axis=0).min() <= up.mean(axis=0).max() < 0.8 for up in ups)
    assert (ups[0] != ups[2]).mean() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("noise", NOISES)
def test_of_a_linear_layer_the_estimate_is_the_gradient_in_the_mean(noise):
    network = mlp([5, 3])
    params, x = random_params(network.init), jax.random.normal(jax.random.key(2), (8, 5))
    slope = jax.random.normal(jax.random.key(3), (8, 3))

    def fitness(outputs):
        return (outputs * slope).sum(axis=1)

    def estimate(key):
        made = NOISES[noise](params)
        return node_perturbation(network.apply, params, x, fitness, key, noise=made, pairs=2).gradient

    with jax.debug_key_reuse(False):
        found = jax.vmap(estimate)(jax.random.split(jax.random.key(4), 2000))
    gradient = jax.grad(lambda params: fitness(network.apply(params, x)).mean())(params)

    def close(found, true):
        error = found.std(axis=0) / np.sqrt(2000)
        # The floor under the variance takes a thousandth, or somewhat more.
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - true), 4.5 * error + 0.005 * np.abs(true).max())

    jax.tree.map(close, found, gradient)


def mixed(y):
    return jax.nn.relu(jnp.roll(y, 1, axis=-1))


BETWEEN = {
    "mixed": mixed, "mixed, as one": jax.jit(mixed), "mixed, again": jax.checkpoint(mixed),
    "reversed": lambda y: jax.nn.relu(y[..., ::-1]), "summed": lambda y: jax.nn.relu(jnp.cumsum(y, axis=-1) / 2),
    "standardized, as one": jax.jit(lambda y: jax.nn.relu(jax.nn.standardize(y, axis=-1))),
    "squared": lambda y: y * y,
}  # fmt: skip


@pytest.mark.parametrize("name", mostly_slow(BETWEEN, "mixed, as one", "reversed"))
def test_any_function_may_be_between_layers(name):
    """Also one that units have together, and is a program of its own: nobody's credit goes to another."""
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"a": jax.random.normal(keys[0], (5, 8)) / 2, "b": jax.random.normal(keys[1], (8, 3)) / 2}
    x, target = jax.random.normal(keys[2], (16, 5)), jax.random.normal(keys[3], (16, 3))
    apply = lambda params, x: BETWEEN[name](x @ params["a"]) @ params["b"]  # noqa: E731
    fitness = lambda outputs: -((outputs - target) ** 2).sum(axis=1)  # noqa: E731
    estimate = jax.jit(
        lambda key: node_perturbation(apply, params, x, fitness, key, noise=relative_noise(0.02), pairs=1500).gradient
    )
    gradient = jax.grad(lambda params: fitness(apply(params, x)).mean())(params)
    angle, length = cosine(estimate(jax.random.key(9)), gradient)
    assert angle > 0.985
    assert length == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_params_of_half_precision_have_such_a_gradient(dtype):
    network = mlp([6, 5, 3])
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), random_params(network.init))
    x, y = jax.random.normal(jax.random.key(2), (60, 6), dtype), jnp.arange(60) % 3
    estimate = jax.jit(
        lambda key: (
            node_perturbation(
                network.apply, params, x, likelihood(y), key, noise=relative_noise(0.1), pairs=300
            ).gradient
        )
    )
    found = estimate(jax.random.key(4))
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    gradient = jax.grad(lambda params: likelihood(y)(network.apply(params, x)).mean())(params)
    found, gradient = (jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree) for tree in (found, gradient))
    assert cosine(found, gradient)[0] > 0.95


@pytest.mark.parametrize(
    "between",
    [
        lambda y: (y - y.mean(axis=0)[None]) / (y.std(axis=0)[None] + 1e-3), lambda y: y @ (y.T @ y), jnp.sort,
        lambda y: jax.nn.softmax(y, axis=0), lambda y: jnp.roll(y, 1, axis=0), lambda y: jnp.cumsum(y, axis=0),
        jax.jit(lambda y: y - y.max(axis=0)[None]),
    ],
)  # fmt: skip
def test_examples_that_have_a_part_in_each_others_outputs_are_refused(between):
    params = {"a": jnp.ones((4, 6)), "b": jnp.ones((6, 2))}
    apply = lambda params, x: between(x @ params["a"]) @ params["b"]  # noqa: E731
    estimate = lambda: node_perturbation(  # noqa: E731
        apply, params, jnp.ones((6, 4)), lambda z: z.sum(axis=1), jax.random.key(0), noise=relative_noise(0.1), pairs=2
    )
    if between is jnp.sort:  # Along the units.
        estimate()
        return
    with pytest.raises(ValueError, match="examples have a part in each other's outputs"):
        estimate()


def test_examples_that_share_an_axis_with_something_else_are_refused():
    with pytest.raises(ValueError, match="no axis of the 6 examples alone"):
        node_perturbation(
            lambda p, x: x.reshape(-1, 2) @ p["w"],
            {"w": jnp.ones((2, 2))}, jnp.ones((6, 4)), lambda z: z.sum(axis=1).reshape(6, -1).sum(axis=1),
            jax.random.key(0), noise=relative_noise(0.1), pairs=2,
        )  # fmt: skip
