"""Members with state: trained as Flax and optax train them, bred by their weights alone, never averaged."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jevo import genetics, runs, training
from jevo import population as pop
from jevo.networks import from_linen, from_nnx, masked, straight_through, to_nnx
from jevo.training import Learner, learner, recalibration, train
from jevo.types import Stateful
from tests.operators import CROSSOVERS, HIDDEN, MUTATIONS

X = 3 + 2 * jax.random.normal(jax.random.key(1), (48, 4))
Y = jnp.argmax(X[:, :2], axis=1)


class Normed(nnx.Module):
    def __init__(self, rngs, momentum=0.9):
        # A bias here would have no effect, nor gradient but for rounding, which Adam would make steps of.
        self.first = nnx.Linear(4, 8, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=momentum, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(8, use_bias=False)(x))
        return nn.Dense(2)(nn.relu(x))


NETWORK = from_nnx(Normed)


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def loss_of(network):
    def loss(params, batch, key):
        logits, params = network.update(params, batch[0], key)
        return cross_entropy(logits, batch[1]), params

    return loss


def close(found, expected, rtol=1e-4, atol=1e-6):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def one_trained(network, optimizer, steps=7, **settings):
    """A member, before and after."""
    population = pop.init(jax.random.key(5), learner(network.init, optimizer), 2)
    after, losses = train(jax.random.key(2), population, (X, Y), loss_of(network), optimizer, steps=steps, **settings)
    return pop.take(population, 1), pop.take(after, 1), losses[1]


OPTIMIZER = optax.adamw(1e-2, weight_decay=0.1)


def test_a_member_trains_as_flax_nnx_and_optax_train_it():
    before, after, losses = one_trained(NETWORK, OPTIMIZER)
    module = Normed(nnx.Rngs(jax.random.split(jax.random.key(5), 2)[1]))
    same(before.params.params["first"]["kernel"], module.first.kernel[...])
    module.train()
    optimizer = nnx.Optimizer(module, OPTIMIZER, wrt=nnx.Param)
    for i in range(7):
        value, gradient = nnx.value_and_grad(lambda module: cross_entropy(module(X), Y))(module)
        optimizer.update(module, gradient)
        assert float(losses[i]) == pytest.approx(float(value), rel=1e-4)
    close(after.params.params, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    close(after.params.state, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))
    assert np.abs(np.asarray(after.params.state["norm"]["mean"])).max() > 0.1  # It has moved.
    module.eval()  # And what it says of new examples, be it a single one, is by running statistics.
    np.testing.assert_allclose(NETWORK.apply(after.params, X[:1]), module(X[:1]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(NETWORK.apply(after.params, X[:1]), NETWORK.apply(after.params, X)[:1], rtol=1e-5)
    assert not np.allclose(NETWORK.apply(after.params, X, jax.random.key(0)), module(X), rtol=1e-2)


def test_a_member_trains_as_flax_linen_and_optax_train_it():
    network = from_linen(Linen(), X)
    before, after, _ = one_trained(network, OPTIMIZER)
    params, stats, state = before.params.params, before.params.state["batch_stats"], before.optimizer

    def loss(params, stats):
        logits, found = Linen().apply({"params": params, "batch_stats": stats}, X, train=True, mutable=["batch_stats"])
        return cross_entropy(logits, Y), found["batch_stats"]

    for _ in range(7):
        (_, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats)
        updates, state = OPTIMIZER.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    close(after, Learner(Stateful(params, {"batch_stats": stats}), state))
    expected = Linen().apply({"params": params, "batch_stats": stats}, X, train=False)
    np.testing.assert_allclose(network.apply(after.params, X), expected, rtol=1e-4, atol=1e-5)


def test_batches_update_the_state_in_turn():
    """Replayed in NumPy, from the batches that there were."""

    def loss(params, batch, key):
        return *loss_of(NETWORK)(params, batch, key), batch[0]

    optimizer = optax.sgd(0.0)
    population = pop.init(jax.random.key(5), learner(NETWORK.init, optimizer), 2)
    settings = {"steps": 4, "batch_size": 16, "has_aux": True}
    after, _, batches = train(jax.random.key(2), population, (X, Y), loss, optimizer, **settings)
    same(after.params.params, population.params.params)
    for i in range(2):
        mean, var = np.zeros(8), np.ones(8)
        for batch in np.asarray(batches[i]):
            h = batch @ np.asarray(population.params.params["first"]["kernel"][i])
            mean, var = 0.9 * mean + 0.1 * h.mean(axis=0), 0.9 * var + 0.1 * h.var(axis=0)
        np.testing.assert_allclose(after.params.state["norm"]["mean"][i], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after.params.state["norm"]["var"][i], var, rtol=1e-4)


def test_other_variables_are_state_too():
    """Vectors of spectral normalisation, and counts, which are no floats."""

    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.SpectralNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs)])
            self.seen = nnx.Variable(jnp.int32(0))

        def __call__(self, x):
            self.seen[...] += 1
            return self.layers[0](x)

    network = from_nnx(Counting)
    member = network.init(jax.random.key(0))
    y, after = network.update(member, X, jax.random.key(1))
    module = Counting(nnx.Rngs(jax.random.key(0)))
    module.train()
    np.testing.assert_allclose(y, module(X), rtol=1e-5)
    assert int(after.state["seen"]) == 1
    assert jax.tree.structure(after) == jax.tree.structure(member)
    same(after.params, member.params)  # SpectralNorm overwrites its kernel; what trains is the kernel as it was.
    assert not np.array_equal(jax.tree.leaves(after.state["layers"])[0], jax.tree.leaves(member.state["layers"])[0])
    # These are no moving averages: recalibration makes one training pass.
    same(recalibration(network, X)(jax.random.key(1), member), after)


def test_what_a_loss_must_give_is_said():
    population = pop.init(jax.random.key(5), learner(NETWORK.init, OPTIMIZER), 2)

    def training_by(loss, **settings):
        return train(jax.random.key(0), population, (X, Y), loss, OPTIMIZER, steps=1, **settings)

    forgetful = lambda params, batch, key: cross_entropy(NETWORK.apply(params, batch[0], key), batch[1])  # noqa: E731
    with pytest.raises(TypeError, match=r"gives \(value, params\), not .*: take y and params from Network.update"):
        training_by(forgetful)
    with pytest.raises(TypeError, match=r"gives \(value, params, aux\), not a tuple of 2"):
        training_by(loss_of(NETWORK), has_aux=True)
    wrong = lambda *given: (loss_of(NETWORK)(*given)[0], {"mean": 0.0})  # noqa: E731
    with pytest.raises(TypeError, match="another structure"):
        training_by(wrong)
    with_aux = lambda params, batch, key: (*loss_of(NETWORK)(params, batch, key), {"x": batch[0][0]})  # noqa: E731
    _, losses, aux = training_by(with_aux, has_aux=True)
    assert (losses.shape, aux["x"].shape) == ((2, 1), (2, 1, 4))
    with pytest.raises(TypeError, match="member is params and a state"):
        NETWORK.apply(NETWORK.init(jax.random.key(0)).params, X)


def member(seed):
    a, b, c = jax.random.split(jax.random.key(seed), 3)
    first = {"kernel": jax.random.normal(a, (4, 5)), "bias": jax.random.normal(b, (5,))}
    params = {"layer_0": first, "layer_1": {"kernel": jax.random.normal(c, (5, 3))}}
    return Stateful(params, {"mean": jnp.full(4, float(seed)), "count": jnp.int32(seed)})


@pytest.mark.parametrize("name", [name for name, row in MUTATIONS.items() if "float" in row.kinds and name != "route"])
def test_mutation_leaves_the_state(name, key):
    one, mutate = member(1), MUTATIONS[name]
    child = mutate(0.9, one)(key, one)
    same(child.state, one.state)
    with jax.debug_key_reuse(False):
        same(child.params, mutate(0.9, one.params)(key, one.params))
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), child.params, one.params)
    assert any(jax.tree.leaves(changed))


@pytest.mark.parametrize("name", sorted(set(CROSSOVERS) - {"route"}))
def test_a_child_has_the_state_of_its_first_parent(name, key):
    one, other, cross = member(1), member(2), CROSSOVERS[name](0.5)
    child = cross(key, one, other)
    same(child.state, one.state)
    with jax.debug_key_reuse(False):
        same(child.params, cross(key, one.params, other.params))


def test_moments_are_mated_and_the_state_is_not():
    optimizer = optax.adam(1e-2)
    one, other = (Learner(each, optimizer.init(each.params)) for each in (member(1), member(2)))
    one = one._replace(optimizer=jax.tree.map(jnp.ones_like, one.optimizer))
    child = training.mating(genetics.average(), [HIDDEN])(jax.random.key(3), one, other)
    assert jax.tree.structure(child) == jax.tree.structure(one)
    same(child.params.state, one.params.state)
    same(child.optimizer[0].mu, jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.5), one.params.params))
    with pytest.raises(TypeError, match="align renumbers params alone"):
        genetics.align(one.params, other.params, [HIDDEN])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 0.999])
def test_statistics_are_estimated_anew_whatever_their_momentum(momentum):
    network = from_nnx(lambda rngs: Normed(rngs, momentum))
    stale = network.init(jax.random.key(0))
    stale = stale._replace(state=jax.tree.map(lambda leaf: leaf + 50, stale.state))
    learners = Learner(stale, optax.adam(1e-2).init(stale.params))
    found = recalibration(network, X)(jax.random.key(1), learners)
    same((found.params.params, found.optimizer), (stale.params, learners.optimizer))
    h = np.asarray(X @ stale.params["first"]["kernel"])
    norm = found.params.state["norm"]
    np.testing.assert_allclose(norm["mean"], h.mean(axis=0), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(norm["var"], h.var(axis=0), rtol=1e-3)
    # So in evaluation it computes what it does in training on these examples.
    expected = network.apply(stale, X, jax.random.key(2))
    np.testing.assert_allclose(network.apply(found.params, X), expected, rtol=1e-2, atol=1e-3)


def test_recalibration_of_a_network_without_state_is_nothing():
    network = from_nnx(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
    params = network.init(jax.random.key(0))
    assert network.update is None
    assert recalibration(network, X)(jax.random.key(1), params) is params


@pytest.mark.slow
def test_a_run_carries_the_state_to_its_champion(tmp_path):
    """Through learning, mating, a checkpoint and back."""
    optimizer = optax.adam(1e-2)
    mate = training.mating(genetics.average())
    algorithm = genetics.genetic(genetics.truncation(2), mate, recalibration(NETWORK, X), elites=1)
    init = learner(NETWORK.init, optimizer)

    def learn(key, members):
        members, _ = train(key, members, (X, Y), loss_of(NETWORK), optimizer, steps=4, batch_size=16)
        score = lambda params: -cross_entropy(NETWORK.apply(params, X), Y)  # noqa: E731
        return members, training.evaluate(score, members.params, 4)

    def evolve(folder, generations):
        settings = {"population": 4, "learn": learn, "checkpoint_every": 1}
        return runs.evolve(tmp_path / folder, algorithm, init, generations=generations, **settings)

    with jax.debug_key_reuse(False):
        evolve("parts", 1)
        resumed, whole = evolve("parts", 3), evolve("whole", 3)
    same(resumed.state, whole.state)
    champion = runs.load_champion(tmp_path / "parts", init)
    same(champion, resumed.champion)
    assert float(-cross_entropy(NETWORK.apply(champion.params, X), Y)) == pytest.approx(resumed.worth, rel=1e-4)
    assert np.abs(np.asarray(champion.params.state["norm"]["mean"])).max() > 0.1


def test_what_cannot_have_a_state_is_refused():
    weights = NETWORK.init(jax.random.key(0))
    for make in (masked, straight_through):
        with pytest.raises(ValueError, match="masks are of weights alone"):
            make(NETWORK, weights)
    algorithm = genetics.open_es(optax.adam(0.1), sigma=0.1)
    with pytest.raises(ValueError, match="members without state"):
        algorithm.init(pop.init(jax.random.key(0), NETWORK.init, 4), jnp.zeros(4))
    with pytest.raises(TypeError, match="BatchNorm changes its batch_stats also where it is not training"):
        from_linen(nn.BatchNorm(use_running_average=False), jnp.ones((2, 3)))


class Scaled(nnx.Module):
    """An array that is no variable at all."""

    def __init__(self, rngs):
        self.layer, self.scale = nnx.Linear(4, 3, rngs=rngs), nnx.data(jnp.full((3,), 2.0))

    def __call__(self, x):
        return self.layer(x) * self.scale[None]


@pytest.mark.parametrize("make", [Scaled, lambda rngs: nnx.WeightNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs)])
def test_arrays_of_a_module_that_are_no_variables_are_state(make, key):
    network, x = from_nnx(make), jnp.ones((2, 4))
    member = network.init(key)
    module = make(nnx.Rngs(key))
    module.eval()
    np.testing.assert_allclose(network.apply(member, x), module(x), rtol=1e-5)
    np.testing.assert_allclose(to_nnx(make, member)(x), module(x), rtol=1e-5)
    assert jax.tree.leaves(member.state)
