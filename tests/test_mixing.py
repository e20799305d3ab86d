"""Members that meet as they train: each rule against NumPy, and training with a mix against training without."""

import itertools
import math
import os
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jevo import genetics
from jevo import population as pop
from jevo.bits import bernoulli
from jevo.networks import build, depths, from_nnx, mlp
from jevo.training import Learner, learner, log_likelihood, mixing, train
from jevo.types import Stateful
from tests.commands import devices as pretended

N, STEPS, MEMBERS = 50, 13, 6
NETWORK = mlp([6, 5, 3])
OPTIMIZER = optax.adam(1e-2)
RULES = {
    "pull": mixing(genetics.pull(0.3)),
    "exchange": mixing(genetics.exchange(0.2)),
    "exchange with moments": mixing(genetics.exchange(0.2), moments=True),
}


@pytest.fixture(scope="module")
def data():
    x = jax.random.normal(jax.random.key(3), (N, 6))
    return x, jnp.argmax(x[:, :3], axis=1)


def loss(params, batch, key):
    return -log_likelihood(NETWORK.apply(params, batch[0]), batch[1])


def start(members=MEMBERS):
    return pop.init(jax.random.key(0), learner(NETWORK.init, OPTIMIZER), members)


def trained(data, population, chunk=MEMBERS, **settings):
    return train(
        jax.random.key(1),
        population,
        data,
        loss,
        OPTIMIZER,
        **{"steps": STEPS, "batch_size": 8, **settings},
        chunk=chunk,
    )


def same(one, other, **close):
    check = np.testing.assert_allclose if close else np.testing.assert_array_equal
    jax.tree.map(lambda a, b: check(a, b, **close), one, other)


@pytest.mark.parametrize("rate", [0.0, 0.01, 1.0])
def test_pull_is_that_of_numpy(rate):
    w = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    pulled = genetics.pull(rate)(jax.random.key(0), {"w": jnp.asarray(w)})["w"]
    alpha = 1 - rate
    np.testing.assert_allclose(pulled, alpha * w + (1 - alpha) * w.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pulled.mean(axis=0), w.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_an_exchange_shuffles_what_it_should_and_no_more():
    """Every order of three members is as likely as any other, of each gene on its own, and no gene is lost."""
    size, rate = 20_000, 0.3
    before = np.arange(3 * size).reshape(3, size)
    after = np.asarray(genetics.exchange(rate)(jax.random.key(0), jnp.asarray(before)))
    assert np.array_equal(np.sort(after, axis=0), before)
    orders = Counter(map(tuple, (after // size).T))
    expected = dict.fromkeys(itertools.permutations(range(3)), size * rate / 6)
    expected[0, 1, 2] += size * (1 - rate)
    assert orders.keys() == expected.keys()
    for order, count in expected.items():
        assert abs(orders[order] - count) < 4 * math.sqrt(count)
    # Neighbours know nothing of each other: as many pairs are moved as chance would have it.
    moved = (after != before).any(axis=0)
    pairs = np.mean(moved[1:] & moved[:-1])
    assert abs(pairs - moved.mean() ** 2) < 4 * math.sqrt(moved.mean() ** 2 / size)


def test_rates_of_an_exchange_may_differ_by_array():
    population = {"a": jnp.arange(80.0).reshape(4, 20), "b": {"c": jnp.arange(80.0).reshape(4, 4, 5)}}
    mix = genetics.exchange({"a": 1.0, "b": {"c": 0.0}})
    after = mix(jax.random.key(0), population)
    same(after["b"], population["b"])
    assert (after["a"] != population["a"]).mean() > 0.5
    assert np.array_equal(np.sort(after["a"], axis=0), population["a"])


def test_mixes_see_genomes_alone_and_say_what_they_cannot():
    members = Stateful({"w": jnp.arange(8.0).reshape(2, 4)}, {"mean": jnp.arange(2.0)})
    for mix in (genetics.pull(1.0), genetics.exchange(1.0)):
        after = mix(jax.random.key(0), members)
        same(after.state, members.state)
        assert (after.params["w"] != members.params["w"]).any()
    bits = bernoulli(jax.random.key(0), 0.5, (2, 40))
    for mix in (genetics.pull(0.1), genetics.exchange(0.1)):
        with pytest.raises(TypeError, match="not on bits"):
            mix(jax.random.key(0), bits)
    with pytest.raises(ValueError, match="exchange takes a rate from 0 to 1"):
        genetics.exchange({"w": 1.5})


@pytest.mark.parametrize("batch_size", [8, None])
def test_a_mix_that_does_nothing_leaves_training_as_it_is(batch_size, data):
    """Rounds of four steps end neither with the epochs, which are of six, nor with the training."""
    alone = trained(data, start(), batch_size=batch_size)
    mixed = trained(data, start(), batch_size=batch_size, mix=lambda key, learners: learners, every=4)
    same(alone, mixed)


@pytest.mark.parametrize("name", ["pull", *(pytest.param(name, marks=pytest.mark.slow) for name in RULES)])
def test_the_chunk_changes_nothing(name, data):
    whole, parts = (trained(data, start(), chunk, mix=RULES[name], every=4) for chunk in (MEMBERS, 4))
    same(whole, parts, rtol=1e-4, atol=1e-5)


def test_rounds_are_training_and_mixing_in_turn(data):
    """Of full batches, without dropout, a round is a training of its own: NumPy takes the mean between two."""
    population, x = start(3), {"steps": 4, "batch_size": None}
    mixed, losses = trained(data, population, steps=10, batch_size=None, mix=RULES["pull"], every=4)
    said = []
    for steps in (4, 4, 2):
        population, value = trained(data, population, **{**x, "steps": steps})
        said.append(value)
        if steps == 4:
            params = jax.tree.map(np.asarray, population.params)
            pulled = jax.tree.map(lambda leaf: 0.7 * leaf + 0.3 * leaf.mean(axis=0), params)
            population = population._replace(params=pulled)
    same(mixed, population, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses, np.concatenate(said, axis=1), rtol=1e-4)


def test_moments_follow_their_weights():
    """Where moments are the weights themselves, they still are after an exchange."""
    members = start()
    state = members.optimizer[0]._replace(mu=members.params, nu=members.params)
    members = Learner(members.params, (state, *members.optimizer[1:]))
    for name, moved in (("exchange", False), ("exchange with moments", True)):
        after = RULES[name](jax.random.key(0), members)
        assert (after.params["layer_0"]["kernel"] != members.params["layer_0"]["kernel"]).any()
        same(after.optimizer[0].mu, after.params if moved else members.params)
        same(after.optimizer[0].count, members.optimizer[0].count)


@pytest.mark.slow
def test_seeds_may_be_side_by_side(data):
    """A map over two populations is each of them."""
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), start())
    with jax.debug_key_reuse(False):
        run = lambda population: trained(data, population, mix=RULES["exchange"], every=4)[0]  # noqa: E731
        mapped = jax.jit(jax.vmap(run))(both)
        same(pop.take(mapped, 1), run(pop.take(both, 1)), rtol=1e-4, atol=1e-5)


def test_depths_are_the_order_in_which_a_pass_uses_the_layers():
    """Whatever they are called."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.z = nnx.Conv(1, 2, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(2, rngs=rngs)
            self.a = nnx.Linear(32, 3, rngs=rngs)

        def __call__(self, x):
            return self.a(nnx.relu(self.norm(self.z(x))).reshape(len(x), -1))

    found = depths(from_nnx(lambda rngs: Net(rngs)), jnp.ones((1, 4, 4, 1)))
    assert {name: set(layer.values()) for name, layer in found.items()} == {"z": {0.0}, "norm": {0.5}, "a": {1.0}}
    found = depths(build((6, 6, 1), 3, channels=(2,), hidden=(4, 4)), jnp.ones((1, 6, 6, 1)))
    assert [found[name]["bias"] for name in ("conv_0", "layer_0", "layer_1", "layer_2")] == [0, 1 / 3, 2 / 3, 1]


SPREAD = """
import jax, jax.numpy as jnp, numpy as np
from jevo import devices
from jevo.runs.processes import population_mesh
from tests.test_mixing import MEMBERS, N, RULES, start, trained

x = jax.random.normal(jax.random.key(3), (N, 6))
data = x, jnp.argmax(x[:, :3], axis=1)
for members in (MEMBERS, 16):
    for name, mix in RULES.items():
        run = lambda population, data: trained(data, population, chunk=1, mix=mix, every=2)
        alone = jax.jit(run)(start(members), data)
        with devices.spread(population_mesh(0)):
            spread = jax.jit(run)(start(members), data)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), alone, spread)
        print(members, name, flush=True)
"""


@pytest.mark.slow
def test_eight_devices_mix_as_one_does():
    """Also where the members do not divide evenly."""
    done = subprocess.run([sys.executable, "-c", SPREAD], capture_output=True, text=True, env=os.environ | pretended(8))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * len(RULES)
