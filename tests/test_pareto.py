"""More than one objective: ranks and distances against an oracle and pymoo's, NSGA-II on a known front, the archive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo import bits, genetics
from jevo import population as pop

relaxed = settings(max_examples=60, deadline=None)


@st.composite
def objectives(draw, failures=True):
    """`[P, K]` of few sizes: few values, so that many are tied or equal, or many; constant ones; some that failed."""
    shape = draw(st.sampled_from([(1, 1), (1, 2), (7, 1), (7, 2), (20, 2), (20, 3)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = draw(st.sampled_from([2, 4, 1000]))
    found = rng.integers(-values, values, shape).astype(np.float32) / 4
    if draw(st.booleans()):
        found[:, 0] = draw(st.sampled_from([0.0, -0.0, 3.0]))
    if shape[1] == 2 and draw(st.booleans()):
        found[:, 1] = -found[:, 0]  # All on one front.
    if failures and draw(st.booleans()):
        failed = rng.random(shape) < 0.2
        found[failed] = rng.choice([np.nan, -np.inf], failed.sum())
    return found


def ranks_of(values):
    """By definition: who is dominated by none of those that are left."""
    values = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, -np.inf)
    ranks, left, front = np.zeros(len(values), int), set(range(len(values))), 0
    while left:
        best = [
            i for i in left if not any((values[j] >= values[i]).all() and (values[j] > values[i]).any() for j in left)
        ]
        ranks[best] = front
        left, front = left - set(best), front + 1
    return ranks


def distances_of(values, ranks):
    """By definition, of each front without those that are equal to an earlier one."""
    found = np.zeros(len(values))
    for front in set(ranks):
        own = [i for i in np.flatnonzero(ranks == front) if np.isfinite(values[i]).all()]
        own = [i for n, i in enumerate(own) if not any((values[i] == values[j]).all() for j in own[:n])]
        for k in range(values.shape[1]):
            order = sorted(own, key=lambda i: values[i, k])
            span = values[order[-1], k] - values[order[0], k] if own else 0
            if span:
                found[order[0]] = found[order[-1]] = np.inf
                for last, i, following in zip(order, order[1:], order[2:], strict=False):
                    found[i] += (values[following, k] - values[last, k]) / span
        if len(own) == 1:
            found[own] = np.inf
    return found


@relaxed
@given(objectives())
def test_fronts_and_crowding_are_those_of_their_definition(values):
    ranks = genetics.fronts(values)
    assert ranks.dtype == jnp.int32
    np.testing.assert_array_equal(ranks, ranks_of(values))
    np.testing.assert_allclose(genetics.crowding(values, ranks), distances_of(values, ranks_of(values)), rtol=1e-4)


@pytest.mark.slow
@relaxed
@given(objectives())
def test_fitness_is_in_the_order_of_nsga2(values):
    ranks, fitness = ranks_of(values), np.asarray(genetics.nsga2_fitness(values))
    distances = np.asarray(genetics.crowding(values, ranks))
    alive = np.isfinite(values).all(axis=1)
    assert fitness.dtype == np.float32
    assert (fitness[~alive] == -np.inf).all()
    for i in np.flatnonzero(alive):
        better = [(ranks[j], -distances[j]) < (ranks[i], -distances[i]) for j in np.flatnonzero(alive)]
        assert fitness[i] == -sum(better)


@pytest.mark.slow
@pytest.mark.extras
@relaxed
@given(objectives(failures=False))
def test_fronts_and_crowding_are_pymoos(values):
    sorting = pytest.importorskip("pymoo.util.nds.non_dominated_sorting")
    metrics = pytest.importorskip("pymoo.operators.survival.rank_and_crowding.metrics")
    distance = metrics.FunctionalDiversity(metrics.calc_crowding_distance, filter_out_duplicates=True)
    ranks = np.asarray(genetics.fronts(values))
    found = np.asarray(genetics.crowding(values, ranks))
    fronts = sorting.NonDominatedSorting().do(-values.astype(np.float64))
    assert len(fronts) == ranks.max() + 1
    for number, members in enumerate(fronts):
        assert sorted(members) == np.flatnonzero(ranks == number).tolist()
        own = values[np.sort(members)]
        # It gives two equal members of a front, or several equal ones alone, other numbers.
        if len(np.unique(own, axis=0)) > 2:
            # It takes the mean over the objectives, not the sum.
            theirs = distance.do(own.astype(np.float64)) * values.shape[1]
            np.testing.assert_allclose(found[np.sort(members)], theirs, rtol=1e-4)


@pytest.mark.extras
def test_the_hypervolume_is_pymoos():
    hv = pytest.importorskip("pymoo.indicators.hv")
    rng = np.random.default_rng(0)
    for _ in range(10):
        values = rng.random((30, 2)).astype(np.float32)
        theirs = hv.HV(ref_point=np.array([-0.2, -0.3])).do(-values.astype(np.float64))
        assert float(genetics.hypervolume(values, jnp.array([0.2, 0.3]))) == pytest.approx(theirs, rel=1e-5)


def test_the_hypervolume_is_an_area():
    points = jnp.array([[1.0, 3.0], [2.0, 1.0], [0.5, 0.5], [-1.0, 9.0], [jnp.nan, 9.0]])
    assert float(genetics.hypervolume(points, jnp.zeros(2))) == 4.0
    assert float(genetics.hypervolume(points, jnp.full(2, 10.0))) == 0.0
    with pytest.raises(ValueError, match="of two objectives, not 3"):
        genetics.hypervolume(jnp.zeros((2, 3)), jnp.zeros(3))


def test_within_programs_and_mapped_it_is_the_same():
    values = np.random.default_rng(0).integers(0, 6, (4, 20, 2)).astype(np.float32)
    each = [genetics.nsga2_fitness(one) for one in values]
    np.testing.assert_array_equal(jax.jit(jax.vmap(genetics.nsga2_fitness))(values), jnp.stack(each))


@pytest.mark.slow
def test_thousands_of_members_in_one_front_each():
    """The most fronts that there can be, of as many members as a large population has."""
    values = jnp.arange(4096.0)[::-1, None]
    np.testing.assert_array_equal(genetics.fronts(values), jnp.arange(4096))
    memory = jax.jit(genetics.fronts).lower(values).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 3 * 4096**2


@pytest.mark.parametrize(
    ("values", "says"),
    [(jnp.zeros(3), r"shape \[3\]"), (jnp.zeros((0, 2)), r"shape \[0, 2\]"), (jnp.zeros((3, 2), bool), "real numbers")],
)
def test_what_are_no_objectives(values, says):
    for function in (genetics.fronts, genetics.nsga2_fitness):
        with pytest.raises(ValueError, match=says):
            function(values)


GENES = 20


def leading_and_trailing(member):
    """How many ones a string of bits begins with, and how many zeros it ends with: of a best compromise, all bits."""
    genes = bits.unpack(member).astype(jnp.float32)
    return jnp.stack([jnp.cumprod(genes).sum(), jnp.cumprod(1 - genes[::-1]).sum()])


def test_nsga2_approaches_a_known_front_where_random_search_does_not(key):
    algorithms = {
        "nsga2": genetics.genetic(
            genetics.tournament(2), genetics.one_point(), genetics.flip(1 / GENES), elites=0.5, rescore=True
        ),
        "random": genetics.random_search(lambda key: bits.bernoulli(key, 0.5, (GENES,)), elites=0.5, rescore=True),
    }

    def evaluate(key, members, places):
        objectives = jax.vmap(leading_and_trailing)(members)
        return genetics.nsga2_fitness(objectives), objectives

    areas = {}
    for name, algorithm in algorithms.items():
        start, run = jax.random.split(jax.random.clone(key))
        members = pop.init(start, lambda key: bits.bernoulli(key, 0.5, (GENES,)), 100)
        fitness, own = evaluate(None, members, None)

        @jax.jit
        def evolved(run, state, algorithm=algorithm):
            def step(i, state):
                return genetics.generation(algorithm, evaluate, run, state, has_aux=True)

            return jax.lax.fori_loop(0, 200, step, state)

        state = evolved(run, algorithm.init(members, fitness)._replace(own=own))
        np.testing.assert_array_equal(state.own, jax.vmap(leading_and_trailing)(state.population))
        areas[name] = float(genetics.hypervolume(state.own, jnp.full(2, -1.0)))
        front = np.unique(np.asarray(state.own)[np.asarray(genetics.fronts(state.own)) == 0], axis=0)
        assert name == "random" or len(front) > 0.6 * GENES
    whole = sum(range(1, GENES + 2))  # Of all compromises: a staircase.
    assert areas["nsga2"] > 0.9 * whole
    assert areas["random"] < 0.5 * whole


def test_what_a_fitness_was_made_of_is_kept_whichever_way_a_generation_goes(key):
    """In place, or by ask and tell."""
    bred = genetics.genetic(
        genetics.tournament(2), genetics.average(), genetics.gaussian(0.1), elites=0.5, rescore=True
    )

    def evaluate(key, members, places):
        objectives = jnp.stack([-(members["x"] ** 2), -((members["x"] - 2) ** 2)], axis=1)
        return genetics.nsga2_fitness(objectives), objectives

    members = {"x": jnp.linspace(-10.0, 10.0, 8)}
    fitness, own = evaluate(None, members, None)
    for algorithm in (bred, bred._replace(breed=None)):
        state = algorithm.init(members, fitness)._replace(own=own)
        state = genetics.generation(algorithm, evaluate, jax.random.clone(key), state, has_aux=True)
        np.testing.assert_array_equal(state.own, evaluate(None, state.population, None)[1])
        np.testing.assert_array_equal(state.fitness, genetics.nsga2_fitness(state.own))


def archived(size, *batches):
    """An archive after batches of members that are their own objectives."""
    archive = genetics.empty_archive(jnp.zeros(2), size, 2)
    for i, batch in enumerate(batches):
        archive = genetics.update_archive(archive, jnp.asarray(batch), jnp.asarray(batch), jnp.int32(i))
    return archive


def test_an_archive_keeps_who_is_not_dominated_and_the_first_of_equals():
    archive = archived(4, [[1.0, 1.0], [0.0, 3.0], [0.0, 2.0]], [[1.0, 1.0], [2.0, 0.0], [jnp.nan, 9.0]], [[2.0, 0.5]])
    there = np.asarray(archive.objectives[:, 0]) > -np.inf
    assert there.sum() == 3
    np.testing.assert_array_equal(archive.members[there], archive.objectives[there])
    rows = sorted((*map(float, row), int(at)) for row, at in zip(archive.objectives, archive.found, strict=True))
    assert rows[1:] == [(0.0, 3.0, 0), (1.0, 1.0, 0), (2.0, 0.5, 2)]


def test_a_full_archive_stays_spread_out():
    """Most are near one end, and yet the whole front is covered."""
    x = np.float32(np.concatenate([np.linspace(0, 0.1, 60), np.linspace(0.1, 1, 20)[1:]]))
    points = np.stack([x, 1 - x], axis=1)
    archive = archived(8, *np.array_split(points[np.random.default_rng(0).permutation(len(x))], 5))
    kept = np.sort(np.asarray(archive.objectives)[:, 0])
    assert (kept[0], kept[-1]) == (0.0, 1.0)
    assert np.diff(kept).max() < 0.35
    assert (kept < 0.1).sum() <= 3


@pytest.mark.parametrize("size", [1, 2, 5])
def test_an_archive_is_never_fuller_than_it_may_be(size):
    points = np.stack([np.arange(9.0), -np.arange(9.0)], axis=1).astype(np.float32)
    archive = archived(size, points, points + 0.25)
    assert archive.objectives.shape == (size, 2)
    assert np.isfinite(archive.objectives).all()
    assert len(np.unique(archive.objectives, axis=0)) == size
