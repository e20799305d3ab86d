"""One suite of properties that certifies every crossover and every mutation, on members of any structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jevo import bits, genetics, population
from jevo.types import Cross, Mutate
from tests.members import KINDS, genes, members, plain, seeds
from tests.operators import CROSSOVERS, MIXES, MUTATIONS, PACKED, exported, other

relaxed = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
)


@pytest.fixture(scope="module", autouse=True)
def keys_checked_below():
    """That no key is used twice is checked once for each operator: every small operation would be traced for it."""
    with jax.debug_key_reuse(False):
        yield


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, row in MUTATIONS.items() for kind in row.kinds])
def test_a_mutation_uses_no_key_twice(name, kind, key):
    member = equal_arrays(kind, 0, (3, 5))
    with jax.debug_key_reuse(True):
        jax.jit(MUTATIONS[name](0.5, member))(key, member)


@pytest.mark.parametrize("kind", ["float", "bits"])
@pytest.mark.parametrize("name", CROSSOVERS)
def test_a_crossover_uses_no_key_twice(name, kind, key):
    if kind == "bits" and name not in PACKED:
        pytest.skip("it has no meaning for packed genes")
    pair = [two_layers(kind, seed)[1][0] for seed in (0, 1)]
    with jax.debug_key_reuse(True):
        jax.jit(CROSSOVERS[name](0.5))(key, *pair)


def test_every_operator_has_a_row():
    """`route` is a crossover or a mutation, as its parts are: it is annotated to take any number of members."""
    assert {row.factory for row in CROSSOVERS.values()} == set(exported(Cross).values())
    assert {row.factory for row in MUTATIONS.values()} == {*exported(Mutate).values(), genetics.route} - MIXES


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


def alike(a, b):
    """As `same`, but for the last bits of floats."""
    for x, y in zip(plain(a), plain(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


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
    row = MUTATIONS[name]
    (member,) = data.draw(members(row.kinds))
    key = jax.random.key(seed)
    mutate = row(rate, member)
    mutated = mutate(key, member)
    same_form(mutated, member)
    well_packed(mutated)
    same(mutate(jax.random.clone(key), member), mutated)
    if rate == 0:
        same(mutated, member)
    for new, old, another in zip(*map(plain, (mutated, member, other(member))), strict=True):
        if row.becomes is not None:
            assert np.all(np.any([new == old, *(new == value for value in row.becomes(old, another, rate))], axis=0))


@pytest.mark.parametrize("name", CROSSOVERS)
@relaxed
@given(data=st.data(), seed=seeds, rate=st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_a_crossover(name, data, seed, rate):
    row = CROSSOVERS[name]
    first, second = data.draw(row.parents(2))
    key = jax.random.key(seed)
    cross = row(rate)
    child = cross(key, first, second)
    same_form(child, first)
    well_packed(child)
    same(cross(jax.random.clone(key), first, second), child)
    same(cross(jax.random.clone(key), first, first), first)
    if row.rated and rate == 0:
        same(child, first)
    if row.rated and rate == 1:
        (alike if row.blends else same)(child, row.all_second(first, second))
    for c, a, b in zip(*map(plain, (child, first, row.as_second(first, second))), strict=True):
        if row.blends and c.dtype != bool:
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
        for point in range(1, max(flat[0].size, 2))
        if np.array_equal(flat[0], np.concatenate([flat[1][:point], flat[2][point:]]))
    ]
    assert matches


def test_the_point_is_any_inner_cut_at_equal_odds(key):
    cross = jax.vmap(genetics.one_point(), in_axes=(0, None, None))
    parents = ({"a": jnp.full(2, value), "b": jnp.full((2, 2), value)} for value in (0, 1))
    children = cross(jax.random.split(key, 10_000), *parents)
    seconds = children["a"].sum(axis=1) + children["b"].sum(axis=(1, 2))
    np.testing.assert_allclose(np.bincount(seconds, minlength=7) / 10_000, [0, *[1 / 5] * 5, 0], atol=0.02)


@pytest.mark.parametrize("grain", ["gene", "neuron", "layer"])
@relaxed
@given(parents=members(count=4), seed=seeds)
def test_four_parents_are_one_pool(grain, parents, seed):
    child = genetics.uniform(per=grain)(jax.random.key(seed), *parents)
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


@pytest.mark.parametrize("name", PACKED)
@relaxed
@given(pair=members(("bool",), count=2), seed=seeds)
def test_packed_and_unpacked_genes_cross_alike(name, pair, seed):
    cross, key = CROSSOVERS[name](0.5), jax.random.key(seed)
    packed = [jax.tree.map(bits.pack, member) for member in pair]
    for x, y in zip(plain(cross(key, *packed)), plain(cross(jax.random.clone(key), *pair)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", [name for name, row in MUTATIONS.items() if {"bool", "bits"} <= set(row.kinds)])
@relaxed
@given(some=members(("bool",)), seed=seeds)
def test_packed_and_unpacked_genes_mutate_alike(name, some, seed):
    (member,), row, key = some, MUTATIONS[name], jax.random.key(seed)
    packed = jax.tree.map(bits.pack, member)
    found = row(0.5, packed)(key, packed)
    for x, y in zip(plain(found), plain(row(0.5, member)(jax.random.clone(key), member)), strict=True):
        np.testing.assert_array_equal(x, y)


def equal_arrays(kind, seed, shape=(40, 50)):
    """A member of one layer: four arrays of the same genes."""
    return {"layer_0": {f"w{i}": genes(kind, shape, seed) for i in range(4)}}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, row in MUTATIONS.items() for kind in row.kinds])
def test_a_mutation_draws_by_its_key_and_for_each_array_anew(name, kind, key):
    """One key mapped over every leaf is the classic mistake: equal leaves would then mutate alike."""
    member = equal_arrays(kind, 0)
    mutate = MUTATIONS[name](0.5, member)
    found = [plain(mutate(k, member)) for k in jax.random.split(key, 2)]
    for one, another, old in zip(*found, plain(member), strict=True):
        assert not np.array_equal(one, old)
        assert not np.array_equal(one, another)
    for leaves in found:
        assert all(not np.array_equal(leaves[0], leaf) for leaf in leaves[1:])


@pytest.mark.parametrize("kind", ["int", "bits"])  # The average of floats draws nothing.
@pytest.mark.parametrize("name", ["uniform", "average", "route", "follow"])
def test_a_crossover_draws_by_its_key_and_for_each_array_anew(name, kind, key):
    cross = CROSSOVERS[name](0.5)
    found = [plain(cross(k, equal_arrays(kind, 0), equal_arrays(kind, 1))) for k in jax.random.split(key, 2)]
    assert not np.array_equal(found[0][0], found[1][0])
    for leaves in found:
        assert all(not np.array_equal(leaves[0], leaf) for leaf in leaves[1:])


FEW = 3
SIZE = 100_000


def two_layers(kind, seed):
    """So many members `[FEW, ...]` at once, and each alone: networks with five hidden units."""
    shapes = {"layer_0": {"kernel": (4, 5), "bias": (5,)}, "layer_1": {"kernel": (5, 3)}}
    is_shape = lambda part: isinstance(part, tuple)  # noqa: E731
    each = [
        jax.tree.map(lambda shape, i=i: genes(kind, shape, [seed, i]), shapes, is_leaf=is_shape) for i in range(FEW)
    ]
    return population.stack(each), each


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_vectorised(name, key):
    """Members at once are what each is alone."""
    whole, each = two_layers(MUTATIONS[name].kinds[-1], 0)
    keys, row = jax.random.split(key, FEW), MUTATIONS[name]
    found = jax.vmap(lambda key, member: row(0.5, member)(key, member))(jax.random.clone(keys), whole)
    for i, member in enumerate(each):
        alike(population.take(found, i), row(0.5, member)(keys[i], member))


@pytest.mark.parametrize("name", CROSSOVERS)
def test_a_crossover_is_vectorised(name, key):
    """Couples at once have the children that each has alone."""
    kind = "bits" if name in PACKED else "float"
    (firsts, each), (seconds, others) = two_layers(kind, 0), two_layers(kind, 1)
    keys, cross = jax.random.split(key, FEW), CROSSOVERS[name](0.5)
    children = jax.vmap(cross)(jax.random.clone(keys), firsts, seconds)
    for i, (first, second) in enumerate(zip(each, others, strict=True)):
        alike(population.take(children, i), cross(keys[i], first, second))


def ones(kind):
    """A member of so many ones."""
    dtypes = {"float": jnp.float32, "int": jnp.int32, "bool": bool, "bits": bool}
    array = jnp.ones(SIZE, dtypes[kind])
    return {"layer_0": {"kernel": bits.pack(array) if kind == "bits" else array}}


def meets(found, share):
    """The share of genes that are no longer one is within five standard deviations of what it should be."""
    tolerance = 5 * np.sqrt(share * (1 - share) / SIZE) + 0.01 * min(share, 1 - share)
    (leaf,) = plain(found)
    assert np.mean(leaf != np.ones_like(leaf)) == pytest.approx(share, abs=tolerance)


RATES = pytest.mark.parametrize("rate", [0.01, 0.3, 0.95])


@RATES
@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, row in MUTATIONS.items() if row.touched for kind in row.kinds]
)
def test_a_mutation_meets_its_rate(name, kind, rate, key):
    row, member = MUTATIONS[name], ones(kind)
    meets(row(rate, member)(key, member), row.touched(rate))


@RATES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["uniform", "uniform, neuron", "average", "route", "follow"])
def test_a_crossover_meets_its_rate(name, kind, rate, key):
    first = ones(kind)
    child = CROSSOVERS[name](rate)(key, first, other(first))
    if CROSSOVERS[name].blends and kind == "float":
        np.testing.assert_allclose(plain(child)[0], 1 - rate, rtol=1e-5)
    else:
        meets(child, rate)


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


@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - {"perturb"}))  # That has a factor.
def test_a_rate_may_be_traced(name, key):
    """So that a schedule can set it inside jit. Packed bits round it to more digits, hence a rate of one."""
    row = MUTATIONS[name]
    member = {"layer_0": {kind: genes(kind, (37,), 0) for kind in row.kinds}}
    traced = jax.jit(lambda key, rate: row(rate, member)(key, member))(key, 1.0)
    (alike if name == "gaussian" else same)(traced, row(1.0, member)(jax.random.clone(key), member))


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
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        genetics.flip(1.5)(jax.random.key(1), bits.pack(jnp.ones(3, bool)))
