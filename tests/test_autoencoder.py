"""Tied autoencoders against NumPy, and one layer against a stack of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo.networks import reconstruction, stacked, tied


@pytest.mark.parametrize("bias", [True, False])
def test_a_stack_is_numpys(bias, key):
    whole = stacked([tied(6, 5, restore=jax.nn.sigmoid, bias=bias), tied(5, 3, jnp.tanh, jax.nn.relu, bias=bias)])
    params = jax.tree.map(lambda leaf: leaf + 0.1, whole.init(key))
    x = jax.random.uniform(jax.random.key(1), (4, 6))
    weights = [np.asarray(params[f"layer_{i}"]["kernel"]) for i in range(2)]
    add = 0.1 if bias else 0.0
    features = np.tanh(np.maximum(x @ weights[0] + add, 0) @ weights[1] + add)
    np.testing.assert_allclose(whole.encode(params, x), features, rtol=1e-5, atol=1e-6)
    back = 1 / (1 + np.exp(-(np.maximum(features @ weights[1].T + add, 0) @ weights[0].T + add)))
    np.testing.assert_allclose(reconstruction(whole).apply(params, x), back, rtol=1e-5, atol=1e-6)


def test_tied_means_one_matrix_with_gradients_from_both_ends(key):
    layer = tied(4, 3, activation=lambda x: x, bias=False)
    params = layer.init(key)
    assert list(params) == ["kernel"]
    x = jax.random.normal(jax.random.key(1), (7, 4))

    def loss(params):
        return 0.5 * jnp.sum((layer.decode(params, layer.encode(params, x)) - x) ** 2)

    w, data = np.asarray(params["kernel"], np.float64), np.asarray(x, np.float64)
    error = data @ w @ w.T - data
    encoder, decoder = data.T @ error @ w, error.T @ data @ w
    np.testing.assert_allclose(jax.grad(loss)(params)["kernel"], encoder + decoder, rtol=1e-4, atol=1e-4)
