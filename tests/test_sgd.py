"""Training a population against plain optax, one member at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import population as pop
from jevo.networks import mlp
from jevo.training import log_likelihood
from jevo.training.sgd import keep_zeros, learner, train

N, STEPS = 50, 13


@pytest.fixture
def problem():
    keys = jax.random.split(jax.random.key(3), 2)
    network = mlp([6, 5, 3])
    x = jax.random.normal(keys[0], (N, 6))
    y = jnp.argmax(x[:, :3], axis=1)

    def loss(params, batch, key):
        return -log_likelihood(network.apply(params, batch[0]), batch[1])

    return network, (x, y), loss, keys[1]


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "adam": optax.adam(1e-2),
    "clipped rmsprop": optax.chain(optax.clip_by_global_norm(0.5), optax.rmsprop(1e-2, momentum=0.9)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_full_batches_are_plain_optax_step_for_step(name, problem):
    network, data, loss, _ = problem
    optimizer = OPTIMIZERS[name]
    population = pop.init(jax.random.key(0), learner(network.init, optimizer), 3)
    trained, losses = train(jax.random.key(1), population, data, loss, optimizer, steps=STEPS)
    assert losses.shape == (3, STEPS)
    for i, member in enumerate(pop.unstack(population)):
        params, state = member
        for step in range(STEPS):
            value, gradient = jax.value_and_grad(loss)(params, data, None)
            assert float(losses[i, step]) == pytest.approx(float(value), rel=1e-4)
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-5),
            trained,
            type(member)(params, state),
        )


def test_zeros_that_are_kept_are_those_of_the_named_arrays(problem):
    network, data, loss, _ = problem
    optimizer = optax.chain(optax.adam(1e-2), keep_zeros("kernel"))
    population = pop.init(jax.random.key(0), learner(network.init, optimizer), 2)
    sparse = jax.tree.map(lambda leaf: jnp.where(leaf < 0, 0.0, leaf), population.params)
    trained, _ = train(jax.random.key(1), population._replace(params=sparse), data, loss, optimizer, steps=STEPS)
    for layer in ("layer_0", "layer_1"):
        before, after = (np.asarray(params[layer]["kernel"]) for params in (sparse, trained.params))
        assert 0.2 < (before == 0).mean() < 0.8
        np.testing.assert_array_equal(after == 0, before == 0)
        assert (np.asarray(trained.params[layer]["bias"]) != 0).any()  # All were zero at first.


@pytest.mark.parametrize("shared", [False, True])
def test_an_epoch_sees_every_row_once(shared, problem):
    """The 'loss' records rows: its gradient step adds each batch's one-hot rows to the params."""
    optimizer = optax.sgd(1.0)
    population = pop.init(jax.random.key(0), learner(lambda key: jnp.zeros(N), optimizer), 3)
    count = lambda params, rows, key: -jnp.sum(params[rows])  # noqa: E731
    rows = jnp.arange(N)

    def run(steps):
        key = jax.random.key(1)
        return train(key, population, rows, count, optimizer, steps=steps, batch_size=10, shared=shared)[0].params

    np.testing.assert_array_equal(run(5), np.ones((3, N)))
    np.testing.assert_array_equal(run(10), np.full((3, N), 2))
    seen = np.asarray(run(7))  # A whole epoch, and two batches of the next.
    assert set(np.unique(seen)) == {1, 2}
    np.testing.assert_array_equal(seen.sum(axis=1), [70] * 3)
    same = [np.array_equal(seen[0], other) for other in seen[1:]]
    assert all(same) if shared else not any(same)


@pytest.mark.parametrize("chunk", [1, 2, 6])
def test_members_do_not_touch_each_other(chunk, problem):
    """Permuting the members permutes the results, whatever the chunk."""
    network, data, loss, _ = problem
    optimizer = OPTIMIZERS["adam"]
    population = pop.init(jax.random.key(0), learner(network.init, optimizer), 6)
    order = jnp.array([3, 1, 5, 0, 2, 4])

    def run(population, chunk):
        settings = {"steps": STEPS, "batch_size": 8, "shared": True, "chunk": chunk}
        return jax.jit(lambda p: train(jax.random.key(1), p, data, loss, optimizer, **settings))(population)

    straight, permuted = run(population, 6), run(pop.take(population, order), chunk)
    # Exact for the same program; another chunk is another program, which may round otherwise.
    rtol, atol = (0, 0) if chunk == 6 else (1e-5, 1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[order], b, rtol=rtol, atol=atol), straight, permuted)


def test_learning_rates_may_differ_from_member_to_member(problem):
    network, data, loss, _ = problem
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    member = learner(network.init, optimizer)(jax.random.key(0))
    population = pop.stack([member] * 4)
    rates = jnp.array([0.0, 0.1, 1e30, 0.03])
    state = population.optimizer
    population = population._replace(optimizer=state._replace(hyperparams={"learning_rate": rates}))
    trained, losses = train(jax.random.key(1), population, data, loss, optimizer, steps=20)
    np.testing.assert_array_equal(trained.params["layer_0"]["kernel"][0], member.params["layer_0"]["kernel"])
    assert losses[1, -1] < losses[0, -1]
    assert not np.isfinite(losses[2, -1])  # It diverged, alone.
    for i in (1, 3):  # Each learns what its rate teaches it in plain optax, alone.
        plain = optax.sgd(float(rates[i]))
        alone = pop.stack([learner(lambda key: member.params, plain)(jax.random.key(0))])
        alone, _ = train(jax.random.key(1), alone, data, loss, plain, steps=20)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b[0], rtol=1e-4, atol=1e-6), trained.params, alone.params
        )


def test_dropout_keys_differ_by_member_and_step():
    optimizer = optax.sgd(1.0)
    population = pop.init(jax.random.key(0), learner(lambda key: jnp.zeros(()), optimizer), 3)
    noise = lambda params, batch, key: jax.random.uniform(key) + 0 * params  # noqa: E731
    _, losses = train(jax.random.key(1), population, jnp.zeros((4, 1)), noise, optimizer, steps=6, shared=True)
    assert len(np.unique(losses)) == 18
