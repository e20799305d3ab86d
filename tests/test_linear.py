"""The linear layers that are found in a network's program are those that are there, whoever wrote it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jevo.networks import cnn, from_linen, from_nnx, mlp
from jevo.networks.linear import walk
from tests.marks import mostly_slow


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        x = linen.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        return linen.Dense(3)(linen.gelu(linen.Dense(8)(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.one, self.two = nnx.Linear(12, 8, rngs=rngs), nnx.Linear(8, 3, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.two(jnp.tanh(self.one(x.reshape(x.shape[0], -1))))


def tied(params, x):
    """An autoencoder whose decoder is its encoder, transposed."""
    code = jax.nn.sigmoid(x @ params["kernel"] + params["bias"][None])
    return code @ params["kernel"].T + params["back"][None]


def tied_init(key):
    return {"kernel": jax.random.normal(key, (12, 5)), "bias": jnp.ones(5), "back": jnp.ones(12)}


MLP, CNN = mlp([12, 6, 3]), cnn((4, 4, 2), [4, 5], [7, 3])
ELU = mlp([12, 6, 6, 3], jax.nn.elu, bias=False)
LINEN, NNX = from_linen(Linen(), jnp.ones((1, 4, 4, 2))), from_nnx(lambda rngs: Nnx(rngs))
NETWORKS = {
    "mlp": (MLP.init, MLP.apply, (12,), 2), "elu": (ELU.init, ELU.apply, (12,), 3),
    "cnn": (CNN.init, CNN.apply, (4, 4, 2), 4), "linen": (LINEN.init, LINEN.apply, (4, 4, 2), 3),
    "nnx": (NNX.init, NNX.apply, (12,), 2), "tied": (tied_init, tied, (12,), 2),
}  # fmt: skip


def random_params(init):
    """No bias is left at zero."""
    leaves, treedef = jax.tree.flatten(init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return treedef.unflatten([a + 0.3 * jax.random.normal(k, a.shape) for k, a in zip(keys, leaves, strict=True)])


@pytest.mark.parametrize("name", mostly_slow(NETWORKS, "mlp", "nnx", "tied"))
def test_a_walk_is_the_network_and_its_layers_are_linear(name):
    init, apply, shape, count = NETWORKS[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (6, *shape))
    layers = []
    found = walk(apply, params, x, lambda layer: layers.append(layer) or layer.outputs)
    np.testing.assert_array_equal(found, apply(params, x))
    assert [layer.number for layer in layers] == list(range(count))
    assert [layer.first for layer in layers] == [True] + [False] * (count - 1)
    for layer in layers:
        twice = jax.tree.map(lambda leaf: 2 * leaf, layer.weight)
        np.testing.assert_allclose(layer.product(twice, layer.inputs), 2 * layer.outputs, rtol=1e-6)
        without = (layer.weight[0], None)
        np.testing.assert_allclose(
            layer.product(without, 3 * layer.inputs), 3 * layer.product(without, layer.inputs), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_walk_takes_what_is_given_for_a_layer(name):
    init, apply, shape, count = NETWORKS[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (6, *shape))
    found = walk(apply, params, x, lambda layer: layer.outputs + (layer.number == count - 1))
    np.testing.assert_allclose(found, apply(params, x) + 1, rtol=1e-5, atol=1e-6)
    compiled = jax.jit(lambda params, x: walk(apply, params, x))(params, x)
    np.testing.assert_allclose(compiled, apply(params, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("mlp", [0]), ("elu", [0, 1]), ("cnn", [0, 1, 2]), ("linen", [0]), ("nnx", [0]), ("tied", [0])],
)
def test_activations_are_seen(name, numbers):
    """Where they are one function of a layer's outputs: Flax's gelu is written out."""
    init, apply, shape, _ = NETWORKS[name]
    params, x = random_params(init), jax.random.normal(jax.random.key(2), (6, *shape))
    outputs, seen = [], {}
    walk(apply, params, x, lambda layer: outputs.append(layer.outputs) or layer.outputs, seen.__setitem__)
    assert sorted(seen) == numbers
    function = {
        "elu": jax.nn.elu, "nnx": jnp.tanh, "tied": jax.nn.sigmoid,
    }.get(name, jax.nn.relu)  # fmt: skip
    np.testing.assert_allclose(seen[0], function(outputs[0]), rtol=1e-6)


def test_functions_of_several_units_are_no_activations():
    kernels, seen = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}, {}
    for between in (
        lambda y: y[:, ::-1], lambda y: jnp.cumsum(y, axis=1), jax.jit(lambda y: jnp.roll(y, 1, axis=1)),
        lambda y: jnp.sort(y, axis=1), jax.checkpoint(lambda y: jax.nn.relu(y - y.mean(axis=1, keepdims=True))),
        jax.nn.softmax,
    ):  # fmt: skip
        apply = lambda p, x, f=between: f(x @ p["a"]) @ p["b"]  # noqa: E731
        walk(apply, kernels, jnp.ones((5, 3)), seen=seen.__setitem__)
    assert seen == {}


def test_a_layer_that_is_read_twice_is_asked_for_once():
    asked, params = [], {"a": jnp.ones((3, 4)), "b": jnp.ones((3, 4))}
    itself = lambda y: y * y  # noqa: E731
    apply = lambda p, x: jnp.square(x @ p["a"]) + itself(x @ p["b"])  # noqa: E731
    walk(apply, params, jnp.ones((5, 3)), lambda layer: asked.append(layer.number) or layer.outputs)
    assert asked == [0, 1]


def test_a_product_that_is_rounded_is_no_layer_with_its_rounding():
    seen = []
    at = lambda layer: seen.append(layer.outputs.dtype) or layer.outputs  # noqa: E731
    apply = lambda p, x: (x @ p["a"]).astype(jnp.int32).astype(jnp.float32) @ p["b"]  # noqa: E731
    walk(apply, {"a": jnp.full((3, 4), 0.3), "b": jnp.ones((4, 2))}, jnp.ones((5, 3)), at)
    assert seen == [jnp.float32, jnp.float32]


def test_an_activation_that_is_written_out_is_not_taken_for_a_part_of_it():
    """x * sigmoid(x) reads the layer twice: neither part alone is what the rest of the network sees."""
    kernels = {"a": jnp.ones((3, 4)), "b": jnp.ones((4, 2))}
    swish = lambda x: x * jax.nn.sigmoid(x)  # noqa: E731
    seen = {}
    walk(lambda p, x: swish(x @ p["a"]) @ p["b"], kernels, jnp.ones((5, 3)), seen=seen.__setitem__)
    leaky = lambda x: jnp.where(x > 0, x, 0.1 * x)  # noqa: E731
    walk(lambda p, x: leaky(x @ p["a"]) @ p["b"], kernels, jnp.ones((5, 3)), seen=seen.__setitem__)
    assert seen == {}


@pytest.mark.parametrize(
    ("apply", "says"),
    [
        (lambda p, x: (x * p["scale"][None]) @ p["w"], "the params ['scale'] are no weights"),
        (lambda p, x: x @ (p["w"] * p["scale"][:, None]), "are computed from the params"),
        (lambda p, x: x @ jnp.tanh(p["w"]) + p["scale"].sum(), "are computed from the params"),
        (lambda p, x: x @ p["w"], "the params ['scale'] are no weights"),
        (
            lambda p, x: jnp.tanh(x @ p["w"]) * p["w"].sum() * p["scale"].sum(),
            "the params ['scale'], ['w'] are no weights",
        ),
        (
            lambda p, x: jax.lax.scan(lambda c, _: (c * p["w"].sum(), None), x @ p["w"], None, 2)[0],
            "['w'] are no weights",
        ),
    ],
)
def test_what_is_no_chain_of_linear_layers_is_refused(apply, says):
    with pytest.raises(ValueError, match=says.replace("[", r"\[").replace("]", r"\]")):
        walk(apply, {"w": jnp.ones((3, 2)), "scale": jnp.ones(3)}, jnp.ones((5, 3)))
