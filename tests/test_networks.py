"""Networks against NumPy and Flax."""

from collections import namedtuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jevo import bits
from jevo.errors import InputError
from jevo.networks import ACTIVATIONS, INITIALIZERS, build, cnn, from_linen, from_nnx, logistic, masked, mlp
from jevo.networks.calls import FLAGS
from jevo.networks.convolutional import convolve, convolve_patches, max_pool
from jevo.networks.masks import density, weigh
from jevo.training import (
    absolute_error,
    accuracy,
    log_likelihood,
    mean_over_rows,
    measure,
    predict,
    scaled_log_likelihood,
    smoothed_log_likelihood,
    squared_error,
)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_mlp_is_what_numpy_computes(key):
    keys = jax.random.split(key, 2)
    network = mlp([6, 5, 4, 3], jnp.tanh)
    params = jax.tree.map(lambda leaf: leaf + 0.1, network.init(keys[0]))
    x = np.asarray(jax.random.normal(keys[1], (7, 2, 3)))
    hidden = x.reshape(7, 6)
    for i in range(3):
        layer = params[f"layer_{i}"]
        hidden = hidden @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        if i < 2:
            hidden = np.tanh(hidden)
    np.testing.assert_allclose(network.apply(params, x), hidden, rtol=1e-5, atol=1e-6)


def test_cnn_is_what_flax_computes(key):
    class Reference(nn.Module):
        @nn.compact
        def __call__(self, x):
            for channels in (4, 6):
                x = nn.max_pool(nn.relu(nn.Conv(channels, (3, 3))(x)), (2, 2), (2, 2))
            x = nn.relu(nn.Dense(5)(x.reshape(x.shape[0], -1)))
            return nn.Dense(3)(x)

    keys = jax.random.split(key, 2)
    network = cnn((9, 8, 2), [4, 6], [5, 3])
    params = jax.tree.map(lambda leaf: leaf + 0.01, network.init(keys[0]))
    x = jax.random.normal(keys[1], (5, 9, 8, 2))
    names = {"conv_0": "Conv_0", "conv_1": "Conv_1", "layer_0": "Dense_0", "layer_1": "Dense_1"}
    flax = {"params": {names[name]: layer for name, layer in params.items()}}
    np.testing.assert_allclose(network.apply(params, x), Reference().apply(flax, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("image", [(8, 8), (7, 10), (5, 3)])
def test_convolution_and_pooling_are_what_xla_computes(image, size, inputs, key, monkeypatch):
    """Values and gradients, on both paths, whatever the device of this test."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (3, *image, inputs))
    kernel = jax.random.normal(keys[1], (size, size, inputs, 4))
    weights = jax.random.normal(keys[2], (3, image[0] // 2, image[1] // 2, 4))

    def ours(x, kernel):
        return max_pool(convolve(x.transpose(3, 1, 2, 0), kernel)).transpose(3, 1, 2, 0)

    def reference(x, kernel):
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def value_and_gradients(function):
        def both(x, kernel):
            value, back = jax.vjp(function, x, kernel)
            return value, back(weights)

        return jax.jit(both)(x, kernel)

    expected = value_and_gradients(reference)
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), value_and_gradients(ours), expected
        )


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_patches_are_what_xla_convolves(size, stride, same, key):
    keys = jax.random.split(key)
    x, kernel = jax.random.normal(keys[0], (2, 7, 10, 3)), jax.random.normal(keys[1], (size, size, 2, 4))
    padding, order = "SAME" if same else "VALID", ("CHWN", "HWIO", "CHWN")
    expected = jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=order)
    np.testing.assert_allclose(convolve_patches(x, kernel, stride, same), expected, rtol=1e-5, atol=1e-4)


def test_a_cnn_needs_an_image_to_pool():
    with pytest.raises(ValueError, match="3 poolings need an image of at least 8x8, not 7x9"):
        cnn((7, 9, 1), [1, 1, 1], [2])


def test_logistic_regression_is_a_sigmoid_of_one_output(key):
    keys = jax.random.split(key, 2)
    network = logistic(5, 2)
    params = jax.tree.map(lambda leaf: leaf + 0.1, network.init(keys[0]))
    layer = params["layer_0"]
    assert (layer["kernel"].shape, layer["bias"].shape) == ((5, 1), (1,))
    x = np.asarray(jax.random.normal(keys[1], (7, 5)))
    p = 1 / (1 + np.exp(-(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))))
    np.testing.assert_allclose(jax.nn.softmax(network.apply(params, x)), np.hstack([1 - p, p]), rtol=1e-5)
    three = logistic(5, 3).init(jax.random.key(1))
    same(three, mlp([5, 3]).init(jax.random.key(1)))
    same(logistic(5, 3).apply(three, x), mlp([5, 3]).apply(three, x))


def test_settings_by_name_build_the_same_networks():
    image, common = (4, 6, 2), {"bias": False}
    named = {"hidden": (5,), "activation": "tanh", "weights": "glorot", **common}
    direct = {"activation": jnp.tanh, "kernel_init": INITIALIZERS["glorot"], **common}
    for built, expected in (
        (build(image, 3, **named), mlp([48, 5, 3], **direct)),
        (build(image, 3, channels=(4,), **named), cnn(image, [4], [5, 3], **direct)),
    ):
        params = built.init(jax.random.key(0))
        same(params, expected.init(jax.random.key(0)))
        x = jnp.linspace(-1, 1, 96).reshape(2, *image)
        same(built.apply(params, x), expected.apply(params, x))
        assert built.symmetries == expected.symmetries


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((64,), (4,), r"^setting channels is \(4,\).*not images$"),
        ((7, 9, 1), (1, 1, 1), r"^setting channels is \(1, 1, 1\): 3 poolings need .* 8x8, not 7x9$"),
    ],
)
def test_convolutions_that_do_not_fit_are_named_by_their_setting(shape, channels, message):
    with pytest.raises(InputError, match=message):
        build(shape, 10, channels=channels)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_are_seeded_and_scaled(name):
    init, fan_in = INITIALIZERS[name], 3 * 3 * 50
    weights, again, other = (np.asarray(init(jax.random.key(seed), (3, 3, 50, 200), jnp.float32)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(again, weights)
    assert not np.array_equal(other, weights)
    he = np.sqrt(2 / fan_in)
    levels = {
        "signed_constant": [-he, he],
        "binary": [-1, 1],
        "ternary": [-he, 0, he],
        "quaternary": [-2 * he, -he, he, 2 * he],
    }
    if name in levels:
        found, counts = np.unique(weights, return_counts=True)
        np.testing.assert_allclose(found, levels[name], rtol=1e-6)
        np.testing.assert_allclose(counts / weights.size, 1 / len(found), rtol=0.02)
    mean, std = {"normal": (0.1, 0.05), "uniform": (0, np.sqrt(1 / 3)), "he": (0, he), "he_uniform": (0, he)}.get(
        name, (0, None)
    )
    assert weights.mean() == pytest.approx(mean, abs=0.01 * max(1, weights.std()))
    if std:
        assert weights.std() == pytest.approx(std, rel=0.02)


def test_activations():
    x = jnp.linspace(-3, 3, 7)
    expected = {
        "relu": np.maximum(x, 0),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "swish": x / (1 + np.exp(-x)),
        "elu": np.where(x > 0, x, np.exp(x) - 1),
        "selu": 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
        "tanh": np.tanh(x),
        "linear": x,
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](x), values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["mask", "mask_rs", "flip", "mask_flip"])
def test_masked_networks_are_what_numpy_computes(kind, key):
    keys = jax.random.split(key, 3)
    network = mlp([12, 7, 3], bias=False)
    weights = network.init(keys[0])
    over = masked(network, weights, kind, density=0.7)
    genome = over.init(keys[1])
    x = jax.random.normal(keys[2], (4, 12))
    by_hand, kept_shares = {}, []
    for name, layer in weights.items():
        ones = np.asarray(bits.unpack(genome[name]["kernel"]))
        w = np.asarray(layer["kernel"])
        multiplier = {
            "mask": lambda ones=ones: ones.astype(float),
            "mask_rs": lambda ones=ones: ones * (ones.size / (1 + ones.sum())),
            "flip": lambda ones=ones: 2.0 * ones - 1,
            "mask_flip": lambda ones=ones: ones[0] * (2.0 * ones[1] - 1),
        }[kind]()
        by_hand[name] = {"kernel": jnp.asarray(w * multiplier, jnp.float32)}
        kept_shares.append((ones[0] if kind == "mask_flip" else ones).mean())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), weigh(weights, genome, kind), by_hand)
    np.testing.assert_allclose(over.apply(genome, x), network.apply(by_hand, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.tree.leaves(density(genome, kind)), kept_shares, rtol=1e-6)


def test_an_initial_mask_has_its_density(key):
    network = mlp([784, 100, 10], bias=False)
    keys = jax.random.split(key, 3)
    weights = network.init(keys[0])
    for kind, k in zip(("mask", "mask_flip"), keys[1:], strict=True):
        shares = density(masked(network, weights, kind, 0.9).init(k), kind)
        assert float(shares["layer_0"]["kernel"]) == pytest.approx(0.9, abs=0.01)


def test_a_mask_covers_any_network(key):
    """Flax parameters and biases too; an all-ones mask is the network itself."""
    network = from_nnx(lambda rngs: nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), nnx.relu, nnx.Linear(5, 2, rngs=rngs)))
    keys = jax.random.split(key, 3)
    weights = network.init(keys[0])
    over = masked(network, weights, density=1.0)
    x = jax.random.normal(keys[2], (3, 4))
    np.testing.assert_array_equal(over.apply(over.init(keys[1]), x), network.apply(weights, x))
    with pytest.raises(ValueError, match="a mask is one of mask, mask_rs, flip, mask_flip, not 'maks'"):
        masked(network, weights, "maks")


class Module(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def test_an_nnx_module_becomes_a_network(key):
    network = from_nnx(Module)
    params = network.init(jax.random.key(5))
    x = jax.random.normal(key, (3, 4))
    module = Module(nnx.Rngs(jax.random.key(5)))
    module.eval()
    np.testing.assert_allclose(network.apply(params, x), module(x), rtol=1e-6)
    trained, again, other = (network.apply(params, x, jax.random.key(seed)) for seed in (6, 6, 7))
    assert not np.allclose(trained, network.apply(params, x))  # Dropout is on with a key, and draws from it.
    assert not np.allclose(trained, other)
    np.testing.assert_array_equal(trained, again)
    # A population of them, under jit.
    population = jax.vmap(network.init)(jax.random.split(jax.random.key(1), 3))
    assert jax.jit(jax.vmap(lambda p: network.apply(p, x)))(population).shape == (3, 3, 2)


def test_a_linen_module_becomes_a_network(key):
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(nn.relu(nn.Dense(8)(x)))
            return nn.Dense(2)(x)

    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (3, 4))
    network = from_linen(Linen(), x)
    params = network.init(keys[1])
    np.testing.assert_array_equal(network.apply(params, x), Linen().apply({"params": params}, x))
    assert not np.allclose(network.apply(params, x, keys[2]), network.apply(params, x))


def nnx_told(flag, value):
    """A module that adds one to x where the flag has this value."""
    scope = {}
    exec(f"def call(self, x, {flag}): return self.layer(x) + ({flag} is {value})", scope)

    def init(self, rngs):
        self.layer = nnx.Linear(4, 4, kernel_init=nnx.initializers.zeros_init(), rngs=rngs)

    return type("Told", (nnx.Module,), {"__init__": init, "__call__": scope["call"]})


@pytest.mark.parametrize(("flag", "when_training"), FLAGS.items())
def test_a_module_is_told_whether_it_is_training(flag, when_training, key):
    x = jnp.zeros((3, 4))

    class Linen(nn.Module):
        __call__ = eval(f"lambda self, x, *, {flag}: x + ({flag} is {when_training})")

    for network in (from_nnx(nnx_told(flag, when_training)), from_linen(Linen(), x)):
        params = network.init(jax.random.key(0))
        np.testing.assert_array_equal(network.apply(params, x), x)
        np.testing.assert_array_equal(network.apply(params, x, jax.random.clone(key)), x + 1)


def test_layers_that_were_told_when_they_were_made_are_left_alone(key):
    x = jnp.ones((100, 4))
    network = from_linen(nn.Dropout(0.5, deterministic=True), x)
    np.testing.assert_array_equal(network.apply(network.init(jax.random.key(0)), x, key), x)


class Attentive(nnx.Module):
    def __init__(self, rngs):
        self.embed, self.kinds = nnx.Embed(9, 8, rngs=rngs), nnx.Embed(2, 8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, dropout_rate=0.5, decode=False, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, tokens, kinds, mask=None, *, deterministic):
        h = self.embed(tokens) + self.kinds(kinds)
        mask = None if mask is None else mask[:, None, None, :]
        return self.last(self.attend(h, mask=mask, deterministic=deterministic).mean(axis=1))


def test_a_module_of_several_inputs_takes_the_parts_of_x(key):
    tokens, kinds = jnp.arange(15).reshape(3, 5) % 9, jnp.arange(15).reshape(3, 5) % 2
    mask = jnp.arange(5)[None] < jnp.array([[5], [3], [1]])
    network = from_nnx(Attentive)
    params = network.init(jax.random.key(5))
    module = Attentive(nnx.Rngs(jax.random.key(5)))
    for x, given in (
        ((tokens, kinds), {}),
        ((tokens, kinds, mask), {"mask": mask}),
        ({"mask": mask, "kinds": kinds, "tokens": tokens}, {"mask": mask}),
        (namedtuple("Inputs", "kinds tokens")(kinds, tokens), {}),
    ):
        expected = module(tokens, kinds, deterministic=True, **given)
        np.testing.assert_allclose(network.apply(params, x), expected, rtol=1e-5, atol=1e-6)
        assert not np.allclose(network.apply(params, x, jax.random.clone(key)), expected)
    for x, says in (
        (tokens, r"takes tokens, kinds, mask \(or not\), but has 1 by position: missing a required argument: 'kinds'"),
        ((tokens, kinds, mask, mask), "has 4 by position: too many"),
        ({"tokens": tokens, "types": kinds}, r"has tokens, types: .*; give it a tuple, or a dict by these names"),
        ({"tokens": tokens}, "has tokens: missing"),
    ):
        with pytest.raises(TypeError, match=says):
            network.apply(params, x)


def test_a_linen_module_of_several_inputs_and_one_of_a_whole_pytree(key):
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x, scale, train=False):
            return nn.Dropout(0.5, deterministic=not train)(nn.Dense(2)(x)) * scale

    class One(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(2)(inputs[0] if isinstance(inputs, tuple) else inputs["x"])

    keys = jax.random.split(key, 3)
    x = {"scale": jnp.array([[2.0], [3.0]]), "x": jax.random.normal(keys[0], (2, 4))}
    network = from_linen(Two(), x)
    params = network.init(keys[1])
    np.testing.assert_allclose(network.apply(params, x), Two().apply({"params": params}, x["x"], x["scale"]))
    np.testing.assert_allclose(network.apply(params, (x["x"], x["scale"])), network.apply(params, x))
    assert not np.allclose(network.apply(params, x, keys[2]), network.apply(params, x))
    whole = from_linen(One(), x)
    params = whole.init(jax.random.key(0))
    np.testing.assert_array_equal(whole.apply(params, x), whole.apply(params, (x["x"],)))


def test_objectives_are_what_numpy_computes(key):
    logits = np.asarray(jax.random.normal(key, (50, 4))) * 3
    labels = np.arange(50) % 4
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(accuracy(jnp.asarray(logits), labels)) == pytest.approx((logits.argmax(1) == labels).mean())
    assert float(log_likelihood(jnp.asarray(logits), jnp.asarray(labels))) == pytest.approx(
        np.log(p[np.arange(50), labels]).mean(), rel=1e-5
    )
    assert float(squared_error(jnp.asarray(logits), labels)) == pytest.approx(
        -((p - np.eye(4)[labels]) ** 2).sum() / 4 / 50, rel=1e-5
    )
    assert float(absolute_error(jnp.asarray(logits), jnp.asarray(labels))) == pytest.approx(
        -np.abs(1 - p[np.arange(50), labels]).mean(), rel=1e-5
    )
    scaled = logits / logits.std() * 2
    expected = (scaled[np.arange(50), labels] - np.log(np.exp(scaled).sum(axis=1))).mean()
    for factor in (1, 100):  # Whatever the scale it came with.
        value = scaled_log_likelihood(jnp.asarray(logits * factor), jnp.asarray(labels), 2.0)
        assert float(value) == pytest.approx(expected, rel=1e-5)
    dead = scaled_log_likelihood(jnp.zeros((50, 4)), jnp.asarray(labels), 2.0)
    assert float(dead) == pytest.approx(-np.log(4), rel=1e-6)


def test_squared_error_of_two_classes_has_the_delta_rule_as_its_gradient(key):
    x = np.asarray(jax.random.normal(key, (20, 4)))
    y = np.arange(20) % 2
    network = logistic(4, 2)
    params = network.init(jax.random.key(1))
    gradient = jax.grad(lambda params: -squared_error(network.apply(params, x), y))(params)["layer_0"]
    p = 1 / (1 + np.exp(-x @ np.asarray(params["layer_0"]["kernel"])[:, 0]))
    delta = (p - y) * p * (1 - p)
    np.testing.assert_allclose(gradient["kernel"][:, 0], x.T @ delta / 20, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient["bias"], [delta.mean()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [accuracy, log_likelihood, squared_error, absolute_error])
def test_every_objective_is_a_mean_over_rows(objective, key):
    """So computed in parts it is no other: a sum would be."""
    x, y = jax.random.normal(key, (50, 4)), jnp.arange(50) % 4
    parts = mean_over_rows(lambda batch: objective(*batch), (x, y), 16)
    np.testing.assert_allclose(parts, objective(x, y), rtol=1e-5)


@pytest.mark.parametrize("rows", [7, 10, 30, 64])
def test_a_mean_over_rows_is_that_of_one_batch(rows, key):
    """Thirty examples: a part left over, none, one batch, and less than a batch."""
    data = {"logits": jax.random.normal(key, (30, 4)), "y": jnp.arange(30) % 4}

    def score(batch):
        return {"accuracy": accuracy(*batch.values()), "losses": (-log_likelihood(*batch.values()),)}

    means = mean_over_rows(score, data, rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), means, score(data))


def test_predictions_and_their_worth():
    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    probabilities = predict(lambda rows: rows * 2, x)
    expected = np.exp(2 * x) / np.exp(2 * x).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    y = x.argmax(axis=1)
    assert measure(probabilities, y)["accuracy"] == 1.0
    assert measure(probabilities, y)["loss"] == pytest.approx(-np.log(expected.max(axis=1)).mean(), rel=1e-5)
    assert np.isfinite(measure(np.float32([[0.0, 1.0]]), np.array([0]))["loss"])


def test_smoothing_spreads_a_share_of_each_label(key):
    logits, labels = jax.random.normal(key, (5, 4)), jnp.array([0, 1, 2, 3, 0])
    targets = 0.7 * np.eye(4)[np.asarray(labels)] + 0.3 / 4
    expected = np.mean(np.sum(targets * np.asarray(jax.nn.log_softmax(logits)), axis=1))
    assert float(smoothed_log_likelihood(logits, labels, 0.3)) == pytest.approx(expected, abs=1e-5)


def test_dropout_is_for_training_and_keeps_the_mean(key):
    network, plain = mlp([3, 2000, 1], jax.nn.relu, dropout=0.4), mlp([3, 2000, 1], jax.nn.relu)
    params, x = plain.init(key), jnp.ones((1, 3))
    params["layer_1"]["kernel"] = jnp.ones((2000, 1)) / 2000
    hidden = float(plain.apply(params, x)[0, 0])
    assert float(network.apply(params, x)[0, 0]) == hidden
    first, second = (float(network.apply(params, x, jax.random.key(i))[0, 0]) for i in (1, 2))
    assert first != second
    assert first != hidden
    assert first == pytest.approx(hidden, rel=0.15)
