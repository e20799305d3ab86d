"""Chunks: how many members are made or scored at once never changes what comes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo import devices
from jevo import population as pop
from jevo.networks import masked, mlp
from jevo.training import evaluate, log_likelihood

sizes = st.integers(1, 23)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(before=st.integers(0, 4), n=sizes, chunk=sizes)
def test_extended_is_concat_of_in_chunks(before, n, chunk):
    def make(x):
        return {"a": x[0] * 2, "b": (x[1] - x[0])[None]}

    arguments = (jnp.arange(n, dtype=jnp.int32), jnp.arange(n, dtype=jnp.int32) ** 2)
    population = {"a": -jnp.arange(before, dtype=jnp.int32), "b": jnp.ones((before, 1), jnp.int32)}
    found = pop.extended(population, make, arguments, chunk)
    expected = pop.concat(population, devices.in_chunks(make, arguments, chunk))
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert pop.size(found) == before + n


@given(n=st.integers(1, 1000), at_most=st.integers(1, 100))
def test_a_chunk_divides_if_one_near_does(n, at_most):
    chunk = devices.chunk_of(n, at_most)
    assert 1 <= chunk <= min(n, at_most)
    assert chunk > min(n, at_most) // 2
    if any(n % smaller == 0 for smaller in range(min(n, at_most) // 2 + 1, min(n, at_most) + 1)):
        assert n % chunk == 0


@pytest.mark.parametrize("members", [3, 20, 41])
def test_a_score_is_the_same_bit_for_bit_whatever_the_chunk(members, key):
    keys = jax.random.split(key, 3)
    network = mlp([20, 12, 4], bias=False)
    over = masked(network, network.init(keys[0]))
    population = pop.init(keys[1], over.init, members)
    x, y = jax.random.normal(keys[2], (50, 20)), jnp.arange(50) % 4

    def score(chunk):
        return jax.jit(lambda p: evaluate(lambda m: log_likelihood(over.apply(m, x), y), p, chunk))(population)

    expected = score(1)
    for chunk in (2, 7, 64):
        np.testing.assert_array_equal(score(chunk), expected)
