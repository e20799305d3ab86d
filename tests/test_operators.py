"""One suite of properties that certifies every crossover and every mutation, on members of any structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jevo import bits, genetics
from tests.members import KINDS, genes, members, plain, seeds

relaxed = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
)

NUMBERS = ("float", "int")
SWITCHES = ("bool", "bits")


def fresh(member):
    """A member of the same structure with other genes: what `reset` draws from."""
    return lambda key: jax.tree.map(
        lambda leaf: bits.prefix(leaf.shape, leaf.size) if bits.is_bits(leaf) else jnp.full_like(leaf, 7),
        member,
        is_leaf=bits.is_bits,
    )


MUTATIONS = {
    "flip": (lambda rate, member: genetics.flip(rate), SWITCHES),
    "redraw": (lambda rate, member: genetics.redraw(rate, 0.7), SWITCHES),
    "reset": (lambda rate, member: genetics.reset(rate, fresh(member)), KINDS),
    "zero": (lambda rate, member: genetics.zero(rate), KINDS),
    "gaussian": (lambda rate, member: genetics.gaussian(0.5, rate), ("float",)),
    "step": (lambda rate, member: genetics.step(rate, 2), NUMBERS),
    "chain": (lambda rate, member: genetics.chain(genetics.zero(rate), genetics.reset(rate, fresh(member))), KINDS),
}
CROSSOVERS = {
    "uniform": lambda rate: genetics.uniform(rate),
    "neuron": lambda rate: genetics.uniform(rate, per="neuron"),
    "layer": lambda rate: genetics.uniform(rate, per="layer"),
    "average": lambda rate: genetics.average(rate),
}


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.4])
def test_prune_takes_the_smallest_of_what_is_left(rate):
    rng = np.random.default_rng(0)
    genes = rng.normal(size=(40, 50)).astype(np.float32)
    genes[rng.random(genes.shape) < 0.3] = 0
    shares = []
    for seed in range(30):
        pruned = np.asarray(genetics.prune(rate)(jax.random.key(seed), jnp.asarray(genes)))
        left = pruned != 0
        np.testing.assert_array_equal(pruned[left], genes[left])
        lost = (genes != 0) & ~left
        shares.append(lost.sum() / (genes != 0).sum())
        if lost.any():
            assert np.abs(genes[lost]).max() < np.abs(genes[left]).min()
    assert max(shares) <= 2 * rate
    assert np.mean(shares) == pytest.approx(rate, rel=0.25, abs=1e-9)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def same_form(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)  # A Bits' gene shape is part of the structure.
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


def well_packed(member):
    """No bit beyond the last gene is set."""
    for leaf in jax.tree.leaves(member, is_leaf=bits.is_bits):
        if bits.is_bits(leaf):
            np.testing.assert_array_equal(leaf.words, bits.pack(bits.unpack(leaf)).words)


@pytest.mark.parametrize("name", MUTATIONS)
@relaxed
@given(data=st.data(), seed=seeds, rate=st.sampled_from([0.0, 0.03, 0.5, 1.0]))
def test_a_mutation(name, data, seed, rate):
    make, kinds = MUTATIONS[name]
    (member,) = data.draw(members(kinds))
    key = jax.random.key(seed)
    mutate = make(rate, member)
    mutated = mutate(key, member)
    same_form(mutated, member)
    well_packed(mutated)
    same(mutate(jax.random.clone(key), member), mutated)
    if rate == 0:
        same(mutated, member)


@pytest.mark.parametrize("name", CROSSOVERS)
@relaxed
@given(pair=members(count=2), seed=seeds, rate=st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_a_crossover(name, pair, seed, rate):
    key = jax.random.key(seed)
    cross = CROSSOVERS[name](rate)
    child = cross(key, *pair)
    same_form(child, pair[0])
    well_packed(child)
    same(cross(jax.random.clone(key), *pair), child)
    same(cross(jax.random.clone(key), pair[0], pair[0]), pair[0])
    if rate == 0:
        same(child, pair[0])
    if rate == 1 and name != "average":  # (a + (b - a) rounds.)
        same(child, pair[1])
    for c, a, b in zip(*map(plain, (child, *pair)), strict=True):
        if name == "average" and c.dtype != bool:
            assert np.all((np.minimum(a, b) - 1e-3 <= c) & (c <= np.maximum(a, b) + 1e-3))
        else:
            assert np.all((c == a) | (c == b))


@relaxed
@given(pair=members(("float",), count=2), seed=seeds)
def test_neurons_are_inherited_whole_and_with_their_bias(pair, seed):
    child = genetics.uniform(0.5, per="neuron")(jax.random.key(seed), *pair)
    for layer in child.values():
        if not isinstance(layer, dict):
            continue
        name = next(n for n in child if child[n] is layer)
        from_first = np.asarray(layer["kernel"] == pair[0][name]["kernel"]).reshape(-1, layer["kernel"].shape[-1])
        assert np.all(from_first.all(axis=0) | ~from_first.any(axis=0))
        if "bias" in layer:
            np.testing.assert_array_equal(layer["bias"] == pair[0][name]["bias"], from_first[0])


@relaxed
@given(pair=members(("float", "bits"), count=2), seed=seeds)
def test_layers_are_inherited_whole(pair, seed):
    child = genetics.uniform(0.5, per="layer")(jax.random.key(seed), *pair)
    for name in child:
        origins = [
            all(np.array_equal(c, p) for c, p in zip(plain(child[name]), plain(parent[name]), strict=True))
            for parent in pair
        ]
        assert any(origins)


@relaxed
@given(pair=members(count=2), seed=seeds)
def test_one_point_has_one_point(pair, seed):
    child = genetics.one_point()(jax.random.key(seed), *pair)
    same_form(child, pair[0])
    well_packed(child)
    flat = [np.concatenate([leaf.ravel().astype(float) for leaf in plain(member)]) for member in (child, *pair)]
    matches = [
        point
        for point in range(flat[0].size + 1)
        if np.array_equal(flat[0], np.concatenate([flat[1][:point], flat[2][point:]]))
    ]
    assert matches


@pytest.mark.parametrize("per", ["gene", "neuron", "layer"])
@relaxed
@given(parents=members(count=4), seed=seeds)
def test_four_parents_are_one_pool(per, parents, seed):
    child = genetics.uniform(per=per)(jax.random.key(seed), *parents)
    same_form(child, parents[0])
    well_packed(child)
    for c, *sources in zip(*map(plain, (child, *parents)), strict=True):
        assert np.all(np.any([c == source for source in sources], axis=0))


@relaxed
@given(parents=members(count=3), seed=seeds)
def test_the_average_of_three_is_their_mean(parents, seed):
    key = jax.random.key(seed)
    child = genetics.average()(key, *parents)
    same_form(child, parents[0])
    well_packed(child)
    same(genetics.average()(jax.random.clone(key), *[parents[0]] * 3), parents[0])
    for c, *sources in zip(*map(plain, (child, *parents)), strict=True):
        if c.dtype == np.float32:
            np.testing.assert_allclose(c, np.mean(sources, axis=0), rtol=1e-5, atol=1e-5)
        else:
            assert np.all((np.min(sources, axis=0) <= c) & (c <= np.max(sources, axis=0)))
            # Two roundings, and two thirds of the first are left after the second.
            assert np.all(np.abs(c - np.mean(sources, axis=0)) < 1 + 2 / 3)


@relaxed
@given(parents=members(count=3), seed=seeds)
def test_a_clone_is_the_first_parent(parents, seed):
    same(genetics.clone()(jax.random.key(seed), *parents), parents[0])


@pytest.mark.parametrize("cross", [genetics.uniform(), genetics.average()])
@pytest.mark.parametrize("kind", ["float32", "int32", "bits"])
def test_every_parent_gives_an_equal_share(kind, cross, key):
    """Eight parents, each alone in having a one in its eighth of the genes."""
    size = 8 * 4000
    owner = np.arange(size) // 4000
    parents = [jnp.asarray(owner == i) for i in range(8)]
    cast = bits.pack if kind == "bits" else lambda ones: ones.astype(kind)
    (child,) = plain(cross(key, *map(cast, parents)))
    np.testing.assert_allclose(child.reshape(8, 4000).mean(axis=1), np.full(8, 1 / 8), atol=0.03)


@pytest.mark.parametrize("cross", [genetics.uniform(per="neuron"), genetics.uniform(per="layer"), genetics.one_point()])
@relaxed
@given(pair=members(("bool",), count=2), seed=seeds)
def test_packed_and_unpacked_genes_cross_alike(cross, pair, seed):
    key = jax.random.key(seed)
    packed = [jax.tree.map(bits.pack, member) for member in pair]
    for x, y in zip(plain(cross(key, *packed)), plain(cross(jax.random.clone(key), *pair)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("kind", ["float", "bits"])
def test_arrays_of_one_shape_get_draws_of_their_own(kind, key):
    """One key mapped over every leaf is the classic mistake: equal leaves would then mutate and cross alike."""
    member = {f"w{i}": genes(kind, (8, 8), 0) for i in range(4)}
    other = {f"w{i}": genes(kind, (8, 8), 1) for i in range(4)}
    keys = jax.random.split(key, 2)
    for changed in (genetics.zero(0.5)(keys[0], member), genetics.uniform()(keys[1], member, other)):
        leaves = plain(changed)
        assert all(not np.array_equal(leaves[0], leaf) for leaf in leaves[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.95])
def test_rates_are_met(kind, rate, key):
    """The share of genes touched is within five standard deviations of the rate."""
    size = 100_000
    low, high = jnp.zeros(size), jnp.ones(size)
    cast = {
        "float": lambda x: x,
        "int": lambda x: x.astype(jnp.int32),
        "bool": lambda x: x > 0,
        "bits": lambda x: bits.pack(x > 0),
    }[kind]
    tolerance = 5 * np.sqrt(rate * (1 - rate) / size) + 0.01 * min(rate, 1 - rate)
    keys = jax.random.split(key, 3)
    assert np.mean(plain(genetics.uniform(rate)(keys[0], cast(low), cast(high)))[0]) == pytest.approx(
        rate, abs=tolerance
    )
    assert np.mean(1 - plain(genetics.zero(rate)(keys[1], cast(high)))[0].astype(float)) == pytest.approx(
        rate, abs=tolerance
    )
    assert np.mean(plain(genetics.average(rate)(keys[2], cast(low), cast(high)))[0]) == pytest.approx(
        rate, abs=tolerance
    )


def test_redraw_has_its_own_probability_of_one(key):
    member = bits.pack(jnp.zeros(100_000, bool))
    ones = bits.count_ones(genetics.redraw(0.05, 0.7)(key, member))
    assert int(ones) / 100_000 == pytest.approx(0.05 * 0.7, abs=0.003)


def test_gaussian_has_its_standard_deviation(key):
    moved = genetics.gaussian(0.25)(key, jnp.full(50_000, 3.0))
    assert float(moved.mean()) == pytest.approx(3, abs=0.01)
    assert float(moved.std()) == pytest.approx(0.25, rel=0.02)


def test_perturb_multiplies_or_divides_at_even_odds(key):
    moved = genetics.perturb(1.6)(key, {"rate": jnp.full(10_000, 0.5), "decay": jnp.full(10_000, 0.5)})
    ups = [np.isclose(leaf, 0.5 * 1.6) for leaf in plain(moved)]
    for leaf, up in zip(plain(moved), ups, strict=True):
        np.testing.assert_allclose(leaf, np.where(up, 0.5 * 1.6, 0.5 / 1.6), rtol=1e-6)
        assert up.mean() == pytest.approx(0.5, abs=0.025)
    assert np.mean(ups[0] == ups[1]) == pytest.approx(0.5, abs=0.025)  # Each array has draws of its own.


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - {"gaussian", "chain"}))
def test_a_rate_may_be_traced(name, key):
    """So that a schedule can set it inside jit. Packed bits round it to more digits, hence a rate of one."""
    make, kinds = MUTATIONS[name]
    member = {kind: genes(kind, (37,), 0) for kind in kinds}
    traced = jax.jit(lambda key, rate: make(rate, member)(key, member))(key, 1.0)
    same(traced, make(1.0, member)(jax.random.clone(key), member))


def test_step_moves_by_its_size(key):
    moved = genetics.step(0.5, 3)(key, jnp.zeros(1000, jnp.int32))
    assert set(np.unique(moved)) == {-3, 0, 3}


def test_route_gives_each_part_its_operator(key):
    member = {"mask": bits.pack(jnp.zeros(64, bool)), "lr": jnp.zeros(4), "rest": jnp.ones(3)}
    keys = jax.random.split(key, 2)
    mutated = genetics.route(mask=genetics.flip(1.0), lr=genetics.gaussian(1.0))(keys[0], member)
    assert int(bits.count_ones(mutated["mask"])) == 64
    assert np.all(mutated["lr"] != 0)
    np.testing.assert_array_equal(mutated["rest"], member["rest"])
    crossed = genetics.route(lr=genetics.uniform(1.0))(
        keys[1], member, {**member, "lr": jnp.ones(4), "rest": jnp.zeros(3)}
    )
    np.testing.assert_array_equal(crossed["lr"], np.ones(4))
    np.testing.assert_array_equal(crossed["rest"], np.ones(3))


def test_what_makes_no_sense_is_said_in_plain_words(key):
    with pytest.raises(TypeError, match="flip works on bits and bool genes, not on float; use route"):
        genetics.flip(0.1)(key, jnp.ones(3))
    for kind in ("int", "bool", "bits"):
        with pytest.raises(TypeError, match=f"perturb works on float genes, not on {kind}; use route"):
            genetics.perturb()(jax.random.key(3), genes(kind, (37,), 0))
    with pytest.raises(KeyError, match="route names lr, but the member has mask"):
        genetics.route(lr=genetics.gaussian(1.0))(jax.random.key(1), {"mask": jnp.ones(3)})
    with pytest.raises(ValueError, match="per gene, neuron or layer, not per 'row'"):
        genetics.uniform(per="row")
    with pytest.raises(ValueError, match=r"takes 2, 4, 8, \.\.\. parents, not 3"):
        genetics.uniform()(jax.random.key(2), *[jnp.ones(3)] * 3)
    with pytest.raises(ValueError, match="a weighted average is of two parents, not 3"):
        genetics.average(0.5)(jax.random.key(4), *[jnp.ones(3)] * 3)
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.5"):
        genetics.flip(1.5)(jax.random.key(1), bits.pack(jnp.ones(3, bool)))
