"""Packed bits against plain boolean arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo import bits
from tests.members import seeds

# More shapes than elsewhere: these functions are where words and genes meet.
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple) | st.integers(30, 70).map(lambda n: (n,))
relaxed = settings(max_examples=40, deadline=None)


def draw(shape, seed):
    return np.random.default_rng(seed).random(shape) < 0.5


@relaxed
@given(shape=shapes, seed=seeds)
def test_pack_and_unpack_are_inverse_and_follow_numpy(shape, seed):
    genes = draw(shape, seed)
    packed = bits.pack(jnp.asarray(genes))
    np.testing.assert_array_equal(bits.unpack(packed), genes)
    as_bytes = np.packbits(genes.ravel(), bitorder="little")
    expected = np.pad(as_bytes, (0, -as_bytes.size % 4)).view("<u4")
    np.testing.assert_array_equal(packed.words, expected)
    assert int(bits.count_ones(packed)) == genes.sum()


@relaxed
@given(shape=shapes, seed=seeds)
def test_word_operations_are_gene_operations(shape, seed):
    a, b, where = (draw(shape, [seed, i]) for i in range(3))
    pa, pb, pw = map(bits.pack, map(jnp.asarray, (a, b, where)))
    np.testing.assert_array_equal(bits.unpack(bits.select(pw, pa, pb)), np.where(where, a, b))
    np.testing.assert_array_equal(bits.unpack(bits.flip(pa, pw)), a ^ where)


@relaxed
@given(shape=shapes, data=st.data())
def test_prefix(shape, data):
    size = int(np.prod(shape))
    count = data.draw(st.integers(-2, size + 40))
    ones = np.asarray(bits.unpack(bits.prefix(shape, count))).ravel()
    np.testing.assert_array_equal(ones, np.arange(size) < count)


@pytest.mark.parametrize("p", [0.0, 1.0, 0.5, 0.9, 0.7, 0.05, 2e-3, 2e-4, 0.998])
@pytest.mark.parametrize("traced", [False, True])
def test_bernoulli(p, traced, key):
    """The share of ones, in all and at each of the 32 positions, and of pairs of neighbours."""
    size = 32 * 60_000
    program = (
        jax.jit(lambda p: bits.bernoulli(key, p, (size,))) if traced else lambda p: bits.bernoulli(key, p, (size,))
    )
    genes = np.asarray(bits.unpack(program(p)))
    rarer = min(p, 1 - p)

    def close(share, expected, n):
        assert abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / n) + 0.01 * min(expected, 1 - expected)

    close(genes.mean(), p, size)
    for position in genes.reshape(-1, 32).T:
        assert abs(position.mean() - p) <= 6 * np.sqrt(rarer / 60_000) + 0.01 * rarer
    # Independence: both of two neighbours are one as often as p squared says.
    both = (genes[:-1] & genes[1:]).mean()
    assert abs(both - p * p) <= 6 * np.sqrt(max(p * p * (1 - p * p), 0) / size) + 0.02 * min(p * p, 1 - p * p)


@given(p=st.floats(1e-5, 1 - 1e-5))
def test_static_digits_keep_both_probabilities_within_a_percent(p):
    digits, scaled = bits._digits(p)
    assert abs(scaled / 2**digits - p) <= 0.01 * min(p, 1 - p) * (1 + 1e-6)


def test_half_costs_one_word():
    assert bits._digits(0.5) == (1, 1)


@pytest.mark.slow
@relaxed
@given(shape=shapes, seed=seeds, voters=st.integers(1, 6))
def test_majority_is_numpys(shape, seed, voters):
    votes = np.stack([draw(shape, [seed, i]) for i in range(voters)])
    packed = jax.tree.map(lambda *words: jnp.stack(words), *(bits.pack(jnp.asarray(vote)) for vote in votes))
    np.testing.assert_array_equal(bits.unpack(bits.majority(packed)), votes.sum(axis=0) * 2 >= voters)


def test_a_population_keeps_the_shape_of_its_members(key):
    population = jax.vmap(lambda key: bits.bernoulli(key, 0.5, (7, 9)))(jax.random.split(key, 4))
    assert population.words.shape == (4, 2)
    assert population.shape == (7, 9)
    assert jax.vmap(bits.unpack)(population).shape == (4, 7, 9)
    np.testing.assert_array_equal(bits.count_ones(population), jax.vmap(bits.unpack)(population).sum(axis=(1, 2)))


@pytest.mark.parametrize("p", [1 / 256, 1e-3, 1e-5])
@pytest.mark.parametrize("traced", [False, True])
def test_rare_ones_are_binomial_and_evenly_spread(p, traced):
    """Counts of whole genomes against the binomial law, and places against the uniform one, by scipy's tests."""
    from scipy import stats

    genes, draws = 700, 20_000
    keys = jax.random.split(jax.random.key(7), draws)
    rate = jnp.float32(p) if traced else p
    ones = np.asarray(jax.jit(jax.vmap(lambda key: bits.unpack(bits.bernoulli(key, rate, (genes,)))))(keys))
    counts = np.bincount(ones.sum(axis=1))
    expected = stats.binom.pmf(np.arange(len(counts)), genes, p) * draws
    last = max(int((expected >= 10).sum()), 2)
    table = [np.append(a[: last - 1], a[last - 1 :].sum()) for a in (counts, expected)]
    table[1][-1] = draws - table[1][:-1].sum()
    assert stats.chisquare(*table).pvalue > 1e-3
    by_place = ones.sum(axis=0).reshape(-1, 10 if p > 1e-4 else 100).sum(axis=1)
    assert stats.chisquare(by_place).pvalue > 1e-3


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(p, key):
    with pytest.raises(ValueError, match="between 0 and 1"):
        bits.bernoulli(key, p, (5,))
