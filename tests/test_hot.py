"""The four functions where the time goes. Each runs once; `pytest tests/test_hot.py --benchmark-enable` times them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import genetics, training
from jevo import population as pop
from jevo.networks import masked, mlp
from jevo.training import evaluate, learner, scaled_log_likelihood, train

MEMBERS, SIZES, IMAGES = 20, (784, 100, 10), 500


@pytest.fixture
def setup(key):
    keys = jax.random.split(key, 5)
    x, y = jax.random.normal(keys[0], (IMAGES, SIZES[0])), jax.random.randint(keys[1], (IMAGES,), 0, SIZES[-1])
    return keys[2:], mlp(SIZES), x, y


def timed(benchmark, function, *arguments):
    """The result of a jitted function, compiled before and waited for."""
    program = jax.jit(function).lower(*arguments).compile()
    with jax.debug_key_reuse(False):  # The same call is made again and again.
        return benchmark(lambda: jax.block_until_ready(program(*arguments)))


def test_scoring_masks(benchmark, setup):
    keys, network, x, y = setup
    over = masked(network, network.init(keys[0]))
    population = pop.init(keys[1], over.init, MEMBERS)

    def score(population, x, y):
        return evaluate(lambda genome: scaled_log_likelihood(over.apply(genome, x), y, 2.0), population, 16)

    fitness = timed(benchmark, score, population, x, y)
    # Nats of a guess among ten classes, give or take the spread that the logits are brought to.
    assert -6 < fitness.min() <= fitness.max() < -1.5


def test_breeding_masks(benchmark, setup):
    keys, network, _, _ = setup
    over = masked(network, network.init(keys[0]))
    algorithm = genetics.genetic(genetics.truncation(0.2), genetics.uniform(), genetics.flip(2e-3), elites=2)
    state = algorithm.init(pop.init(keys[1], over.init, MEMBERS), jnp.arange(MEMBERS, dtype=jnp.float32))
    candidates = timed(benchmark, algorithm.ask, keys[2], state)
    assert pop.size(candidates.members) == MEMBERS - 2
    assert set(np.unique(candidates.parents)) <= set(range(MEMBERS - MEMBERS // 5, MEMBERS))


def test_gradient_steps(benchmark, setup):
    keys, network, x, y = setup
    optimizer = optax.adam(1e-3)
    population = pop.init(keys[0], learner(network.init, optimizer), MEMBERS)

    def loss(params, batch, key):
        return -training.log_likelihood(network.apply(params, batch[0], key), batch[1])

    def learn(key, population):
        return train(key, population, (x, y), loss, optimizer, steps=20, batch_size=64)

    _, losses = timed(benchmark, learn, keys[1], population)
    assert losses.shape == (MEMBERS, 20)
    assert (losses[:, -5:].mean(axis=1) < losses[:, :5].mean(axis=1)).all()


def test_mating_networks(benchmark, setup):
    keys, network, _, _ = setup
    mate = genetics.aligned(genetics.average(), network.symmetries)
    algorithm = genetics.genetic(genetics.truncation(0.5), mate, lambda key, member: member, elites=0)
    state = algorithm.init(pop.init(keys[0], network.init, MEMBERS), jnp.arange(MEMBERS, dtype=jnp.float32))
    candidates = timed(benchmark, algorithm.ask, keys[1], state)
    parents = pop.take(state.population, candidates.parents[:, 0])
    # Output biases are in no hidden unit's order: the child's is the plain mean.
    others = pop.take(state.population, candidates.parents[:, 1])
    mean = (parents["layer_1"]["bias"] + others["layer_1"]["bias"]) / 2
    np.testing.assert_allclose(candidates.members["layer_1"]["bias"], mean, atol=1e-6)
