"""Properties of every selection."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo import genetics
from jevo.types import Select
from tests.members import seeds
from tests.operators import exported

SELECTIONS = {
    "truncation, a count": partial(genetics.truncation, 3),
    "truncation, a share": partial(genetics.truncation, 0.4),
    "truncation, with lucky losers": partial(genetics.truncation, 2, lucky=2),
    "tournament": partial(genetics.tournament, 3),
    "roulette": partial(genetics.roulette),
    "rank": partial(genetics.rank, 1.7),
    "leaders": partial(genetics.leaders, 3),
    "shuffled": partial(genetics.shuffled, 3),
}
# Few sizes: XLA compiles every operation anew for each.
floats = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
fitnesses = st.sampled_from([2, 7, 20]).flatmap(lambda n: st.lists(floats, min_size=n, max_size=n, unique=True))
relaxed = settings(max_examples=30, deadline=None)


def test_every_selection_has_a_row():
    assert {row.func for row in SELECTIONS.values()} == set(exported(Select).values())


@pytest.mark.parametrize("name", SELECTIONS)
@relaxed
@given(values=fitnesses, seed=seeds, data=st.data())
def test_selection_follows_a_permutation_of_the_members(name, values, seed, data):
    fitness = np.float32(values)
    order = np.array(data.draw(st.permutations(range(len(values)))))
    key = jax.random.key(seed)
    chosen = np.asarray(SELECTIONS[name]()(key, jnp.asarray(fitness), 16).indices)
    permuted = np.asarray(SELECTIONS[name]()(jax.random.clone(key), jnp.asarray(fitness[order]), 16).indices)
    assert chosen.shape == (16,)
    assert np.all((chosen >= 0) & (chosen < len(values)))
    np.testing.assert_array_equal(order[permuted], chosen)


@pytest.mark.parametrize("name", SELECTIONS)
@relaxed
@given(values=fitnesses, seed=seeds, data=st.data())
def test_the_failed_never_breed_while_others_live(name, values, seed, data):
    failed = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    fitness = np.where(failed, -np.inf, np.float32(values)).astype(np.float32)
    chosen = np.asarray(SELECTIONS[name]()(jax.random.key(seed), jnp.asarray(fitness), 32).indices)
    if not failed.all():
        assert not failed[chosen].any()


def frequencies(select, fitness, key, n=40_000):
    return np.bincount(np.asarray(select(key, jnp.asarray(fitness), n).indices), minlength=len(fitness)) / n


def test_truncation_is_uniform_over_the_best(key):
    shares = frequencies(genetics.truncation(2), np.float32([1, 5, 3, 4]), key)
    np.testing.assert_allclose(shares, [0, 0.5, 0, 0.5], atol=0.02)


def test_all_who_are_shuffled_breed_equally_often_and_with_another(key):
    chosen = np.asarray(genetics.shuffled(4)(key, jnp.float32([1, 5, 3, 4, 2, -jnp.inf]), 400).indices)
    assert np.bincount(chosen).tolist() == [0, 100, 100, 100, 100]
    pairs = np.sort(chosen.reshape(-1, 2))
    assert np.all(pairs[:, 0] != pairs[:, 1])
    assert len(np.unique(pairs, axis=0)) == 6  # Every pair of the four.


def test_leaders_take_turns(key):
    chosen = genetics.leaders(3)(key, jnp.float32([1, 5, 3, 4, -jnp.inf]), 7).indices
    np.testing.assert_array_equal(chosen, [1, 3, 2, 1, 3, 2, 1])


def test_a_share_is_of_the_population(key):
    assert frequencies(genetics.truncation(0.5), np.arange(10, dtype=np.float32), key)[:5].sum() == 0


@pytest.mark.parametrize(
    ("members", "number"), [(0, 0), (3, 3), (12, 12), (0.25, 2), (0.35, 4), (1.0, 10), (1, 1), (0.001, 1)]
)
def test_members_are_a_number_or_a_share(members, number):
    assert genetics.number_of(members, 10) == number


@pytest.mark.parametrize(("members", "message"), [(-1, "0 or more, not -1"), (0.0, "not 0.0"), (1.5, "not 1.5")])
def test_neither_a_number_nor_a_share(members, message):
    with pytest.raises(ValueError, match=message):
        genetics.number_of(members, 10)


def test_tournament_has_its_theoretical_frequencies(key):
    shares = frequencies(genetics.tournament(2), np.float32([3, 2, 1]), key)
    np.testing.assert_allclose(shares, [5 / 9, 3 / 9, 1 / 9], atol=0.02)


def test_roulette_is_proportional_above_the_worst(key):
    shares = frequencies(genetics.roulette(), np.float32([-1, 2, 0, -np.inf]), key)
    np.testing.assert_allclose(shares, [0, 3 / 4, 1 / 4, 0], atol=0.02)
    np.testing.assert_allclose(
        frequencies(genetics.roulette(), np.ones(4, np.float32), jax.random.key(1)), [0.25] * 4, atol=0.02
    )


def test_rank_gives_the_best_its_pressure(key):
    shares = frequencies(genetics.rank(1.5), np.float32([1, 2, 3]), key)
    np.testing.assert_allclose(shares, [0.5 / 3, 1 / 3, 1.5 / 3], atol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: genetics.truncation(0), "at least one breeder"),
        (lambda: genetics.truncation(1.5), r"a share of the population is in \(0, 1\]"),
        (lambda: genetics.truncation(3, -1), "lucky is an integer, at least 0, not -1"),
        (lambda: genetics.leaders(0), "number of leaders is an integer, at least 1"),
        (lambda: genetics.shuffled(0), "that breed is an integer, at least 1"),
        (lambda: genetics.tournament(0), "entrants of a tournament is an integer"),
        (lambda: genetics.rank(3), "between 1 and 2"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lucky_losers_breed_as_often_as_the_best_and_are_the_same_for_a_whole_generation(key):
    fitness = np.arange(10, dtype=np.float32)
    chosen = np.asarray(genetics.truncation(3, lucky=2)(key, jax.numpy.asarray(fitness), 500).indices)
    found, counts = np.unique(chosen, return_counts=True)
    assert len(found) == 5
    assert set(found) >= {7, 8, 9}
    assert counts.min() > 60
    losers = {
        tuple(np.unique(genetics.truncation(3, lucky=2)(k, jax.numpy.asarray(fitness), 50).indices))
        for k in jax.random.split(jax.random.key(5), 20)
    }
    assert len(losers) > 5
