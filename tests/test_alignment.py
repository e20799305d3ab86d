"""Alignment recovers a known renumbering, changes no function, and takes the moments along."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jevo import genetics
from jevo.genetics.alignment import renumber
from jevo.genetics.matching import match
from jevo.networks import chain_symmetries, cnn, from_nnx, mlp, reconstruction, stacked, tied
from jevo.networks.renumbering import chain
from jevo.training.sgd import Learner, learner
from tests.marks import mostly_slow

FLAX = from_nnx(lambda rngs: nnx.Sequential(nnx.Linear(6, 9, rngs=rngs), nnx.relu, nnx.Linear(9, 3, rngs=rngs)))
FLAX = FLAX._replace(symmetries=chain([("layers", 0), ("layers", 2)]))
NETWORKS = {
    "one hidden layer": (mlp([6, 9, 3]), (6,)),
    "two, no biases": (mlp([6, 9, 7, 3], bias=False), (6,)),
    "three": (mlp([6, 12, 9, 7, 3]), (6,)),
    "tied": (reconstruction(stacked([tied(6, 9), tied(9, 4, jnp.tanh)])), (6,)),
    "convolutions": (cnn((8, 8, 2), [5, 6], [7, 3]), (8, 8, 2)),
    "from Flax": (FLAX, (6,)),
}


def shuffled(network, params, seed):
    rng = np.random.default_rng(seed)
    widths = []
    for symmetry in network.symmetries:
        leaf = params
        for name in symmetry[0].path:
            leaf = leaf[name]
        widths.append(leaf.shape[-1])
    orders = [jnp.asarray(rng.permutation(width), jnp.int32) for width in widths]
    return renumber(params, network.symmetries, orders, params), orders


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


@pytest.fixture(params=NETWORKS)
def case(request):
    network, shape = NETWORKS[request.param]
    # Biases are not zero, or they would not tell units apart.
    params = jax.tree.map(
        lambda leaf: leaf if leaf.ndim > 1 else jnp.sin(jnp.arange(1.0, leaf.size + 1)), network.init(jax.random.key(0))
    )
    return network, params, jax.random.normal(jax.random.key(1), (5, *shape))


@pytest.mark.parametrize("seed", range(3))
def test_a_renumbered_network_computes_the_same(case, seed):
    network, params, x = case
    other, _ = shuffled(network, params, seed)
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True))
    np.testing.assert_allclose(network.apply(other, x), network.apply(params, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", mostly_slow(range(3), 0))
def test_a_known_renumbering_is_undone_exactly(case, seed):
    network, params, _ = case
    other, orders = shuffled(network, params, seed)
    found = jax.jit(lambda a, b: match(a, b, network.symmetries))(params, other)
    for order, inverse in zip(orders, found, strict=True):
        np.testing.assert_array_equal(np.asarray(order)[np.asarray(inverse)], np.arange(order.size))
    aligned = genetics.aligned(genetics.uniform(), network.symmetries)
    jax.tree.map(np.testing.assert_array_equal, aligned(jax.random.key(2), params, other), params)


def test_the_assignment_is_solved_for_a_population(case):
    network, params, _ = case
    others = [shuffled(network, params, seed)[0] for seed in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *others)
    cross = genetics.aligned(genetics.average(), network.symmetries)
    children = jax.jit(jax.vmap(lambda key, other: cross(key, params, other)))(
        jax.random.split(jax.random.key(0), 4), stacked
    )
    close(children, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (4, *leaf.shape)), params))


def test_the_mean_of_renumbered_copies_is_the_network_itself(case):
    network, params, _ = case
    # What else a member holds: something in the params' structure, as moments are, and a count of steps.
    member = Learner(params, (jax.tree.map(jnp.cos, params), jnp.int32(3)))
    orders = [shuffled(network, params, seed)[1] for seed in range(3)]
    copies = [renumber(member, network.symmetries, order, params) for order in orders]
    of = operator.attrgetter("params")
    follow = genetics.follow(genetics.average(), of)
    close(jax.jit(genetics.aligned(follow, network.symmetries, of))(jax.random.key(0), member, *copies), member)
    with pytest.raises(AssertionError):  # Without alignment it is not.
        close(follow(jax.random.key(0), member, *copies), member)


@pytest.mark.parametrize("cross", [genetics.uniform(), genetics.average()])
def test_what_follows_is_crossed_with_the_same_draws(cross, key):
    parents = [Learner(jnp.full((5, 7), i), (jnp.full((5, 7), 10 * i), jnp.int32(i))) for i in (1.0, 2.0, 3.0, 4.0)]
    child = genetics.follow(cross, operator.attrgetter("params"))(key, *parents)
    assert not np.array_equal(child.params, parents[0].params)
    np.testing.assert_allclose(child.optimizer[0], 10 * child.params, rtol=1e-6)
    assert int(child.optimizer[1]) == 1  # The rest is the first parent's.


def test_moments_follow_their_params(case):
    """Adam's moments are renumbered with the weights, and crossed with the same draws."""
    network, params, x = case
    optimizer = optax.adam(1e-2)
    y = jnp.arange(5) % 3

    @jax.jit
    def trained(params):
        state = optimizer.init(params)
        gradient = jax.grad(lambda p: optax.softmax_cross_entropy_with_integer_labels(network.apply(p, x), y).mean())(
            params
        )
        updates, state = optimizer.update(gradient, state, params)
        return Learner(optax.apply_updates(params, updates), state)

    member, other = trained(params), trained(shuffled(network, params, 0)[0])
    of = operator.attrgetter("params")
    follow = genetics.follow(genetics.uniform(), of)
    child = jax.jit(genetics.aligned(follow, network.symmetries, of))(jax.random.key(0), member, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), child, member)
    # The same gates: where the child has the second's weight it has the second's moments.
    stranger = jax.tree.map(lambda leaf: leaf + 1, member)
    child = follow(jax.random.key(0), member, stranger)
    moments = child.optimizer[0]
    for weight, first, mu, mu_first in zip(
        *map(jax.tree.leaves, (child.params, member.params, moments.mu, member.optimizer[0].mu)), strict=True
    ):
        np.testing.assert_array_equal(weight == first, mu == mu_first)
    assert int(moments.count) == 1


def test_alignment_needs_symmetries():
    with pytest.raises(ValueError, match="needs the network's symmetries"):
        genetics.aligned(genetics.uniform(), ())


def test_a_diverged_parent_does_not_stop_the_others(case):
    network, params, _ = case
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    orders = match(params, broken, network.symmetries)
    assert all(sorted(order.tolist()) == list(range(order.size)) for order in orders)


def test_fresh_learners_are_a_population(key):
    network = mlp([4, 3, 2])
    population = jax.vmap(learner(network.init, optax.adam(1e-3)))(jax.random.split(key, 5))
    assert population.params["layer_0"]["kernel"].shape == (5, 4, 3)
    assert population.optimizer[0].count.shape == (5,)


def sequence(*layers):
    """A network of a module's layers, each made of `rngs` or a function."""
    return from_nnx(lambda rngs: nnx.Sequential(*(make(rngs) for make in layers)))


def linear(inputs, outputs):
    return lambda rngs: nnx.Linear(inputs, outputs, rngs=rngs)


def plain(function):
    return lambda rngs: function


class Wired(nnx.Module):
    """Three layers, wired in a way of their own."""

    def __init__(self, wire, rngs):
        self.wire = wire
        self.a, self.b, self.c = (nnx.Linear(*size, rngs=rngs) for size in ((6, 8), (8, 8), (8, 3)))

    def __call__(self, x):
        return self.wire(self, x)


def wired(wire):
    return from_nnx(lambda rngs: Wired(wire, rngs))


FAIR = {
    "relu": (sequence(linear(6, 8), plain(nnx.relu), linear(8, 3)), [("layers", 0), ("layers", 2)]),
    "softmax": (sequence(linear(6, 8), plain(nnx.softmax), linear(8, 3)), [("layers", 0), ("layers", 2)]),
    "two units": (sequence(linear(6, 2), plain(jnp.tanh), linear(2, 3)), [("layers", 0), ("layers", 2)]),
    "a tiny output": (
        sequence(linear(6, 8), plain(nnx.relu), linear(8, 3), plain(lambda h: h * 1e-20)),
        [("layers", 0), ("layers", 2)],
    ),
    "chain of three": (wired(lambda net, x: net.c(nnx.relu(net.b(nnx.relu(net.a(x)))))), ["a", "b", "c"]),
}  # fmt: skip
UNFAIR = {
    "layer norm": (
        sequence(linear(6, 8), lambda rngs: nnx.LayerNorm(8, rngs=rngs), plain(nnx.relu), linear(8, 3)),
        [("layers", 0), ("layers", 3)], "layers/0",
    ),
    "group norm": (
        sequence(linear(6, 8), lambda rngs: nnx.GroupNorm(8, 2, rngs=rngs), plain(nnx.relu), linear(8, 3)),
        [("layers", 0), ("layers", 3)], "layers/0",
    ),
    "residual": (
        wired(lambda net, x: net.c((h := nnx.relu(net.a(x))) + nnx.relu(net.b(h)))), ["a", "b", "c"], "layer a",
    ),
    "gate": (wired(lambda net, x: net.c(net.a(x) * nnx.sigmoid(net.b(x @ jnp.ones((6, 8)))))), ["a", "c"], "layer a"),
    "a layer left out": (wired(lambda net, x: net.c(nnx.relu(net.b(nnx.relu(net.a(x)))))), ["a", "c"], "layer a"),
    "another order": (wired(lambda net, x: net.c(nnx.relu(net.b(nnx.relu(net.a(x)))))), ["b", "a", "c"], "layer b"),
    "shared weights": (
        wired(lambda net, x: net.c(nnx.relu(net.b(nnx.relu(net.b(nnx.relu(net.a(x)))))))), ["a", "b", "c"], "layer a",
    ),
    "places": (
        sequence(linear(6, 8), plain(lambda h: h * jnp.arange(8.0)[None]), linear(8, 3)),
        [("layers", 0), ("layers", 2)], "layers/0",
    ),
    "dead": (sequence(linear(6, 8), plain(lambda h: 0 * h), linear(8, 3)), [("layers", 0), ("layers", 2)], "no effect"),
    "no such layer": (FLAX, [("layers", 0), ("layers", 7)], "no layer layers/7"),
    "no kernel": (FLAX, [("layers", 0), "layers"], "layers has no kernel"),
    "widths": (
        sequence(linear(6, 9), plain(lambda h: h.reshape(-1, 3, 3).mean(1)), linear(3, 3)),
        [("layers", 0), ("layers", 2)], "no divisor",
    ),
    "one layer": (FLAX, [("layers", 0)], "at least two layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAIR)
def test_a_chain_is_accepted(name):
    network, layers = FAIR[name]
    found = chain_symmetries(layers, network, jax.random.normal(jax.random.key(1), (7, 6)))
    assert len(found) == len(layers) - 1


@pytest.mark.parametrize("name", UNFAIR)
def test_what_renumbering_would_change_is_refused_by_its_layer(name):
    network, layers, says = UNFAIR[name]
    with pytest.raises(ValueError, match=says):
        chain_symmetries(layers, network, jax.random.normal(jax.random.key(1), (7, 6)))
