"""Training a population against plain optax, one member at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import genetics
from jevo import population as pop
from jevo.networks import mlp
from jevo.training import log_likelihood, mean_over_rows
from jevo.training.sgd import Learner, keep_zeros, learner, mating, train
from tests.marks import mostly_slow

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


@pytest.mark.parametrize("name", mostly_slow(OPTIMIZERS, "adam", "clipped rmsprop"))
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


EXTENDED = {
    "a line search": optax.lbfgs(memory_size=3),
    "backtracking": optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(max_backtracking_steps=4)),
    "a plateau": optax.chain(
        optax.adam(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=2, accumulation_size=2, rtol=0.3)
    ),
    "within inject_hyperparams": optax.inject_hyperparams(
        lambda rate: optax.chain(optax.sgd(rate), optax.contrib.reduce_on_plateau(patience=1, rtol=0.5))
    )(rate=0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", mostly_slow(EXTENDED, "a plateau"))
def test_optimizers_that_take_more_than_gradients_are_given_it(name, problem):
    network, data, loss, _ = problem
    optimizer = EXTENDED[name]
    population = pop.init(jax.random.key(0), learner(network.init, optimizer), 2)
    with jax.debug_key_reuse(
        False
    ):  # It takes a loop of vmapped members, whose loss has a key, for one that draws twice.
        trained, losses = train(jax.random.key(1), population, data, loss, optimizer, steps=6)

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params, data, None)
        value_fn = lambda params: loss(params, data, None)  # noqa: E731
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=value_fn)
        return optax.apply_updates(params, updates), state, value

    for i, (params, state) in enumerate(pop.unstack(population)):
        for number in range(6):
            params, state, value = step(params, state)
            assert float(losses[i, number]) == pytest.approx(float(value), rel=1e-2)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=2e-2, atol=2e-3), trained.params, params
        )
    assert (losses[:, -1] < losses[:, 0]).all()


def test_a_line_search_sees_the_same_dropout_as_the_gradient():
    """The value that it is given is the one that it finds at no distance; no key is used twice, either."""

    def seen(updates, state, params=None, *, value, value_fn, **more):
        return updates, value_fn(params) - value

    noisy = lambda params, batch, key: jnp.sum(params) + jax.random.normal(key)  # noqa: E731
    optimizer = optax.GradientTransformationExtraArgs(lambda params: jnp.float32(9.0), seen)
    population = pop.init(jax.random.key(0), learner(lambda key: jnp.zeros(3), optimizer), 2)
    trained, _ = train(jax.random.key(1), population, jnp.zeros((4, 1)), noisy, optimizer, steps=3)
    np.testing.assert_allclose(trained.optimizer, [0, 0], atol=1e-6)


def test_what_a_loss_gives_beside_is_returned(problem):
    network, data, loss, _ = problem
    optimizer = OPTIMIZERS["sgd"]
    population = pop.init(jax.random.key(0), learner(network.init, optimizer), 3)

    def with_aux(params, batch, key):
        logits = network.apply(params, batch[0])
        return -log_likelihood(logits, batch[1]), {"first": batch[0][0], "logits": logits}

    settings = {"steps": 7, "batch_size": 20}  # Two batches an epoch, and one more.
    plain, losses = train(jax.random.key(1), population, data, loss, optimizer, **settings)
    same, again, aux = train(jax.random.key(1), population, data, with_aux, optimizer, has_aux=True, **settings)
    jax.tree.map(np.testing.assert_array_equal, (plain, losses), (same, again))
    assert aux["logits"].shape == (3, 7, 20, 3)
    said = jax.vmap(network.apply)(population.params, aux["first"][:, :1])
    np.testing.assert_allclose(aux["logits"][:, 0, :1], said, rtol=1e-4, atol=1e-5)
    assert len(np.unique(np.asarray(aux["first"])[:, :, 0])) > 7
    with pytest.raises(TypeError, match=r"gives \(value, aux\), not"):
        train(jax.random.key(1), population, data, loss, optimizer, has_aux=True, **settings)


@pytest.mark.parametrize("labels", ["by leaf", "by layer"])
def test_moments_of_parts_of_the_params_are_mated_as_these_are(labels):
    """Leaf by leaf as those of an optimizer of all of them, whatever the part: the same draws, the same renumbering."""
    network = mlp([4, 6, 3])
    label = {
        "by leaf": lambda params: jax.tree.map(lambda leaf: "wide" if leaf.ndim > 1 else "narrow", params),
        "by layer": lambda params: {"layer_0": "wide", "layer_1": "narrow"},
    }[labels]
    parts, whole = (
        optax.multi_transform({"wide": optax.trace(0.9), "narrow": optax.trace(0.9)}, label),
        optax.trace(0.9),
    )

    def trained(optimizer, seed):
        """A learner after a step whose gradient is random: that is its momentum."""
        params, draw = network.init(jax.random.key(seed)), np.random.default_rng(seed)
        gradient = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), jnp.float32), params)
        return Learner(params, optimizer.update(gradient, optimizer.init(params), params)[1])

    def momentum(learner):
        """By leaf of the params."""
        leaves = jax.tree.leaves_with_path(learner.optimizer)
        return {tuple(str(name) for name in path[-2:]): leaf for path, leaf in leaves}

    for mate in (mating(genetics.uniform()), mating(genetics.average(), network.symmetries)):
        child, expected = (mate(jax.random.key(7), *(trained(o, i) for i in (1, 2))) for o in (parts, whole))
        jax.tree.map(np.testing.assert_array_equal, child.params, expected.params)
        first = trained(parts, 1)
        assert jax.tree.structure(child) == jax.tree.structure(first)
        found, wanted, before = momentum(child), momentum(expected), momentum(first)
        assert len(found) == 4
        assert found.keys() == wanted.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], wanted[name])
            assert not np.array_equal(found[name], before[name])


def test_examples_have_a_row_in_each_array():
    x, y, optimizer = jnp.arange(100.0)[:, None], jnp.arange(60.0), optax.sgd(0.1)
    members = pop.init(jax.random.key(0), learner(lambda key: {"w": jnp.zeros(())}, optimizer), 2)

    def loss(params, batch, key):
        return jnp.mean(jnp.abs(batch[0][:, 0] * params["w"] - batch[1]))

    run = lambda data, size=10: train(jax.random.key(1), members, data, loss, optimizer, steps=3, batch_size=size)  # noqa: E731
    for data in ((x, y), (y[:, None], x[:, 0])):
        with pytest.raises(ValueError, match="these have 60 and 100"):
            run(data)
        with pytest.raises(ValueError, match="these have 60 and 100"):
            mean_over_rows(lambda batch: batch[0].mean(), data, rows=7)
    with pytest.raises(ValueError, match="these have 0"):
        run((x[:0], y[:0]))
    for size in (0, -1, 2.5):
        with pytest.raises(ValueError, match="batch_size, the rows in a step, is an integer, at least 1"):
            run((x[:60], y), size)
