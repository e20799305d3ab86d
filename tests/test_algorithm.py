"""The algorithm against NumPy, against itself in other chunks and loops, and against random search."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo import bits, genetics
from jevo import population as pop
from jevo.genetics import State
from jevo.networks import INITIALIZERS, masked, mlp
from jevo.training import accuracy, evaluate, scaled_log_likelihood
from tests.marks import mostly_slow
from tests.members import genes

SIZES = [20, 8, 3]


@pytest.fixture
def problem(key):
    """A frozen network, examples that a teacher labelled, and a scored population of masks over it."""
    keys = jax.random.split(jax.random.clone(key), 5)
    network = mlp(SIZES, bias=False, kernel_init=INITIALIZERS["signed_constant"])
    weights = network.init(keys[0])
    x = jax.random.normal(keys[1], (200, SIZES[0]))
    y = jnp.argmax(x @ jax.random.normal(keys[2], (SIZES[0], SIZES[-1])), axis=1)
    over = masked(network, weights)
    population = pop.init(keys[3], over.init, 24)
    score = lambda genome: accuracy(over.apply(genome, x), y)  # noqa: E731
    return weights, over, x, y, population, score


def scored(score, chunk=64):
    return lambda _, population, places: evaluate(score, population, chunk, places)


def kept(candidates, size=24):
    """The places of those who are not scored again."""
    return np.delete(np.arange(size), candidates.places)


def numpy_scores(weights, population, x, y):
    """The published way: one network at a time."""
    scores = []
    for genome in pop.unstack(population):
        hidden = np.asarray(x)
        for name in ("layer_0", "layer_1"):
            mask = np.asarray(bits.unpack(genome[name]["kernel"]))
            hidden = hidden @ (np.asarray(weights[name]["kernel"]) * mask)
            if name == "layer_0":
                hidden = np.maximum(hidden, 0)
        scores.append(np.mean(hidden.argmax(axis=1) == np.asarray(y)))
    return np.float32(scores)


def test_a_generation_is_what_a_naive_numpy_one_is(problem, key):
    """Scores, elites, parents from the top, and whole layers from either parent, all checked one by one."""
    weights, _, x, y, population, score = problem
    fitness = evaluate(score, population, 7)
    np.testing.assert_allclose(fitness, numpy_scores(weights, population, x, y), atol=1e-6)

    algorithm = genetics.genetic(genetics.truncation(6), genetics.uniform(per="layer"), genetics.flip(0.0), elites=2)
    state = algorithm.init(population, fitness)
    candidates = algorithm.ask(key, state)
    assert pop.size(candidates.members) == 22
    ranked = np.argsort(-np.asarray(fitness), kind="stable")
    np.testing.assert_array_equal(kept(candidates), np.sort(ranked[:2]))
    assert set(np.unique(candidates.parents)) <= set(ranked[:6])
    words = {n: np.asarray(population[n]["kernel"].words) for n in population}
    crossed = 0
    for i, (a, b) in enumerate(np.asarray(candidates.parents)):
        from_a, from_b = (
            [np.array_equal(candidates.members[n]["kernel"].words[i], words[n][p]) for n in words] for p in (a, b)
        )
        assert all(one or other for one, other in zip(from_a, from_b, strict=True))
        crossed += not (all(from_a) or all(from_b))
    assert crossed > 0  # Some child has one layer of each.

    children = numpy_scores(weights, candidates.members, x, y)
    after = algorithm.tell(state, candidates, jnp.asarray(children))
    expected = np.array(fitness)
    expected[candidates.places] = children
    np.testing.assert_array_equal(after.fitness, expected)
    stayed = after.population["layer_0"]["kernel"].words[ranked[:2]]
    np.testing.assert_array_equal(stayed, words["layer_0"][ranked[:2]])
    assert int(after.generation) == 1


def algorithms(chunk=64):
    parts = (genetics.truncation(6), genetics.uniform(0.3), genetics.flip(0.01))
    return {
        "kept": genetics.genetic(*parts, elites=3, chunk=chunk),
        "rescored": genetics.genetic(*parts, elites=3, rescore=True, chunk=chunk),
        "lucky": genetics.genetic(*parts, elites=2, lucky=3, chunk=chunk),
        "no survivors": genetics.genetic(*parts, elites=0, chunk=chunk),
    }


SCORES = {
    "exact": accuracy,
    # Whether its last bits are the same hangs on how it is compiled: as users do, in the full suite.
    "rounded": lambda logits, y: scaled_log_likelihood(logits, y, 2.0),
}
each_score = pytest.mark.parametrize("worth", ["exact", pytest.param("rounded", marks=pytest.mark.slow)])


@each_score
@pytest.mark.parametrize("name", algorithms())
@pytest.mark.parametrize("chunk", [1, 7])
def test_chunks_change_nothing(name, chunk, worth, problem):
    """Bit for bit: initialisation, breeding and the score."""
    _, over, x, y, population, _ = problem
    whole, chunked = (pop.init(jax.random.key(1), over.init, 24, size) for size in (24, chunk))
    jax.tree.map(np.testing.assert_array_equal, whole, chunked)

    score = lambda genome: SCORES[worth](over.apply(genome, x), y)  # noqa: E731
    fitness = evaluate(score, population, 24)
    np.testing.assert_array_equal(evaluate(score, population, chunk), fitness)

    asked = []
    for size in (64, chunk):
        algorithm = algorithms(size)[name]
        asked.append(algorithm.ask(jax.random.key(2), algorithm.init(population, fitness)))
    jax.tree.map(np.testing.assert_array_equal, *asked)


def breeding(name):
    """Every selection, with survivors or not."""
    select = {
        "truncation": genetics.truncation(6), "lucky": genetics.truncation(4, lucky=3), "rank": genetics.rank(),
        "tournament": genetics.tournament(3), "roulette": genetics.roulette(), "leaders": genetics.leaders(4),
        "shuffled": genetics.shuffled(5),
    }[name]  # fmt: skip
    return partial(genetics.genetic, select, genetics.uniform(0.3), genetics.flip(0.01))


GENERATIONS = {
    **{name: breeding(name)(elites=3) for name in ("truncation", "lucky", "rank", "tournament", "roulette", "leaders")},
    "shuffled": breeding("shuffled")(elites=3, chunk=5),
    "none survive": breeding("truncation")(elites=0),
    "half survive": breeding("lucky")(elites=0.5, lucky=2, chunk=7),
    "scored again": breeding("truncation")(elites=3, rescore=True, chunk=5),
    "four parents": breeding("rank")(elites=1, parents=4),
}


@each_score
@pytest.mark.parametrize(
    "name",
    mostly_slow([*GENERATIONS, "random search", "random search, scored again"], "truncation", "lucky", "random search"),
)
def test_a_generation_is_ask_score_tell(name, worth, problem):
    """Whoever is written over in place is whom `tell` writes over, bit for bit, also where members have failed."""
    _, over, x, y, population, _ = problem
    searches = {
        "random search": genetics.random_search(over.init, elites=3, chunk=5),
        "random search, scored again": genetics.random_search(over.init, elites=3, rescore=True),
    }
    algorithm = (GENERATIONS | searches)[name]
    score = lambda genome: SCORES[worth](over.apply(genome, x), y)  # noqa: E731
    scores = np.array(evaluate(score, population, 24))
    key = jax.random.key(3)
    for failing in (0.0, 0.5, 0.99):
        failed = np.random.default_rng(0).random(24) < failing
        failed[5] = False
        state = algorithm.init(population, jnp.asarray(np.where(failed, np.nan, scores)))
        found = genetics.generation(algorithm, scored(score, 5), jax.random.clone(key), state)
        candidates = algorithm.ask(jax.random.split(jax.random.fold_in(jax.random.clone(key), 0))[0], state)
        assert len(set(np.asarray(candidates.places).tolist())) == candidates.places.size
        told = algorithm.tell(state, candidates, evaluate(score, candidates.members, 5))
        jax.tree.map(np.testing.assert_array_equal, found, told)
        assert int(found.generation) == 1


@pytest.mark.parametrize("chunk", [1, 4, 7, 100])
def test_some_members_are_scored_and_written_where_they_are(chunk):
    rng = np.random.default_rng(chunk)
    population = {"w": jnp.arange(23.0), "b": jnp.arange(46).reshape(23, 2)}
    for n in (1, 5, 22, 23):
        places = jnp.asarray(rng.permutation(23)[:n])
        found = evaluate(lambda member: {"w": member["w"], "b": member["b"].sum()}, population, chunk, places)
        np.testing.assert_array_equal(found["w"], np.asarray(places, np.float32))
        np.testing.assert_array_equal(found["b"], np.asarray(population["b"])[np.asarray(places)].sum(axis=1))
        made = lambda i: {"w": -1.0 * i, "b": jnp.full(2, -i, population["b"].dtype)}  # noqa: E731
        after = pop.written(population, places, made, jnp.arange(n), chunk)
        expected = np.arange(23.0)
        expected[np.asarray(places)] = -np.arange(n)
        np.testing.assert_array_equal(after["w"], expected)
        np.testing.assert_array_equal(np.delete(after["b"], places, axis=0), np.delete(population["b"], places, axis=0))


def test_an_algorithm_of_the_users_own_runs_the_same_way(key):
    """One of a distribution: its mean and its step are its own, and no member survives."""

    def init(population, fitness):
        mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), population)
        return State(population, jnp.asarray(fitness), jnp.int32(0), (mean, jnp.float32(1.0)))

    def ask(key, state):
        mean, step = state.own
        noise = jax.random.normal(key, (16, 3))
        return genetics.Candidates({"w": mean["w"][None] + step * noise}, jnp.full((16, 1), -1), jnp.arange(16))

    def tell(state, candidates, fitness):
        best = jnp.argsort(fitness, descending=True)[:4]
        own = ({"w": candidates.members["w"][best].mean(axis=0)}, state.own[1] * 0.9)
        return genetics.replaced(state, candidates.members, fitness)._replace(own=own)

    algorithm = genetics.Algorithm(init, ask, tell)
    goal = jnp.float32([1.0, -2.0, 3.0])
    evaluate_all = scored(lambda member: -jnp.sum((member["w"] - goal) ** 2))
    state = algorithm.init({"w": jnp.zeros((16, 3))}, jnp.zeros(16))
    step = jax.jit(partial(genetics.generation, algorithm, evaluate_all))
    for _ in range(40):
        state = step(jax.random.clone(key), state)
    np.testing.assert_allclose(state.own[0]["w"], goal, atol=0.1)


def test_a_scan_is_a_python_loop(problem, key):
    _, _, _, _, population, score = problem
    algorithm, evaluate_all = algorithms()["rescored"], scored(score)
    start = algorithm.init(population, evaluate_all(None, population, None))
    step = jax.jit(partial(genetics.generation, algorithm, evaluate_all))
    looped = start
    for _ in range(6):
        looped = step(jax.random.clone(key), looped)
    scanned = jax.jit(lambda key, s: jax.lax.scan(lambda s, _: (step(key, s), None), s, length=6)[0])(key, start)
    jax.tree.map(np.testing.assert_array_equal, looped, scanned)


@pytest.mark.parametrize("name", ["kept", "rescored", "lucky"])
def test_the_failed_never_breed_and_survive_only_where_others_are_too_few(name, key):
    """However many fail, in whatever place, and lucky or not."""
    population = pop.stack([{"w": genes("bits", (37,), i)} for i in range(24)])
    algorithm = algorithms()[name]
    ask = jax.jit(algorithm.ask)
    survivors = 5 if name == "lucky" else 3
    for seed in range(20):
        rng = np.random.default_rng(seed)
        fitness = rng.random(24).astype(np.float32)
        failed = rng.random(24) < rng.random() * 0.99
        failed[rng.integers(24)] = False
        fitness[failed] = np.nan
        state = algorithm.init(population, jnp.asarray(fitness))
        np.testing.assert_array_equal(np.isneginf(state.fitness), failed)
        candidates = ask(jax.random.fold_in(key, seed), state)
        again = survivors if name == "rescored" else 0
        assert not failed[np.asarray(candidates.parents)[again:]].any()
        stay = np.asarray(candidates.places[:again]) if again else kept(candidates)
        assert (~failed[stay]).sum() == min(survivors, (~failed).sum())
        told = algorithm.tell(state, candidates, jnp.full(candidates.parents.shape[0], jnp.nan))
        lost = 24 if again else 24 - (~failed[stay]).sum()
        assert np.isneginf(told.fitness).sum() == lost


def test_lucky_losers_are_losers_and_vary(key):
    population = pop.stack([{"w": genes("bits", (37,), i)} for i in range(24)])
    algorithm = algorithms()["lucky"]
    state = algorithm.init(population, jnp.arange(24.0))
    ask = jax.jit(algorithm.ask)
    drawn = [tuple(kept(ask(jax.random.fold_in(key, i), state)).tolist()) for i in range(10)]
    for stayed in drawn:
        assert stayed[-2:] == (22, 23)
        assert len(set(stayed)) == 5
    assert len(set(drawn)) > 5


def test_random_search_scores_as_many_and_keeps_the_best(problem, key):
    _, over, _, _, population, score = problem
    evaluate_all = scored(score)
    counts = []
    for algorithm in (genetics.random_search(over.init, elites=3), algorithms()["kept"]):
        state = algorithm.init(population, evaluate_all(None, population, None))
        counts.append(pop.size(algorithm.ask(jax.random.clone(key), state).members))
    assert counts[0] == counts[1] == 21
    algorithm = genetics.random_search(over.init, elites=1)
    best = -np.inf
    state = algorithm.init(population, evaluate_all(None, population, None))
    step = jax.jit(partial(genetics.generation, algorithm, evaluate_all))
    for _ in range(5):
        state = step(jax.random.clone(key), state)
        assert float(state.fitness.max()) >= best
        best = float(state.fitness.max())


@pytest.mark.parametrize("seed", range(4))
def test_evolution_beats_random_search_at_equal_evaluations(seed, problem):
    _, over, _, _, population, score = problem
    evaluate_all = scored(score)
    reached = []
    for algorithm in (algorithms()["kept"], genetics.random_search(over.init, elites=3)):
        key = jax.random.key(seed)
        state = algorithm.init(population, evaluate_all(None, population, None))
        step = partial(genetics.generation, algorithm, evaluate_all)
        state, _ = jax.jit(lambda key, s, step=step: jax.lax.scan(lambda s, _: (step(key, s), None), s, length=40))(
            key, state
        )
        reached.append(float(state.fitness.max()))
    assert reached[0] > reached[1] + 0.03


def test_the_population_has_room_for_children(problem, key):
    *_, population, _ = problem
    algorithm = genetics.genetic(genetics.truncation(1), genetics.uniform(), genetics.flip(0.1), elites=24)
    with pytest.raises(ValueError, match="24 survivors leave no place for a child in a population of 24"):
        algorithm.ask(key, algorithm.init(population, jnp.zeros(24)))
    with pytest.raises(ValueError, match="lucky, a number of members, is an integer, at least 0, not -1"):
        genetics.genetic(genetics.truncation(1), genetics.uniform(), genetics.flip(0.1), elites=1, lucky=-1)


def test_elites_may_be_a_share_of_the_population(problem, key):
    *_, population, _ = problem
    parts = (genetics.truncation(6), genetics.uniform(), genetics.flip(0.1))
    asked = []
    for elites in (6, 0.25):
        algorithm = genetics.genetic(*parts, elites=elites)
        asked.append(algorithm.ask(jax.random.clone(key), algorithm.init(population, jnp.arange(24.0))))
    jax.tree.map(np.testing.assert_array_equal, *asked)


def test_populations_are_any_pytree():
    members = [{"a": jnp.full((2,), i), "b": (genes("bits", (40,), i), jnp.float32(i))} for i in range(5)]
    population = pop.stack(members)
    assert pop.size(population) == 5
    for made, member in zip(pop.unstack(population), members, strict=True):
        jax.tree.map(np.testing.assert_array_equal, made, member)
    both = pop.concat(population, pop.take(population, jnp.array([3, 1])))
    assert pop.size(both) == 7
    jax.tree.map(np.testing.assert_array_equal, pop.take(both, 5), members[3])
    with pytest.raises(ValueError, match="share one leading axis"):
        pop.size({"a": jnp.zeros(3), "b": jnp.zeros(4)})


def test_a_state_is_a_pytree_of_arrays(problem):
    *_, population, _ = problem
    state = algorithms()["kept"].init(population, jnp.zeros(24))
    assert isinstance(jax.tree.map(lambda leaf: leaf, state), State)


def test_a_guarded_child_is_no_worse_than_its_parents_or_is_the_best_of_them():
    state = State(
        {"w": jnp.repeat(jnp.arange(4.0)[:, None], 3, axis=1)}, jnp.float32([-1.0, -3.0, -2.0, -jnp.inf]), jnp.int32(0)
    )
    children = {"w": jnp.full((3, 3), 9.0)}
    parents = jnp.int32([[0, 1], [1, 2], [2, 0]])
    candidates = genetics.Candidates(children, parents, jnp.arange(3))
    fitness = jnp.float32([-1.9, -2.6, jnp.nan])
    np.testing.assert_allclose(genetics.barrier(state, candidates, fitness), [-0.1, 0.1, np.nan], atol=1e-6)
    bred = genetics.guarded(state, candidates, fitness)
    np.testing.assert_array_equal(bred.members["w"][:, 0], [9.0, 2.0, 0.0])  # Kept; the better of 1, 2; of 2, 0.
    np.testing.assert_array_equal(bred.parents, parents)


@pytest.mark.parametrize("seed", range(5))
def test_last_bits_decide_nothing_between_two_programs(seed):
    """Scores that another program rounds otherwise keep the same children and the same champion."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-6, 6)
    fitness = (-scale * rng.random(8)).astype(np.float32)
    state = State({"w": jnp.arange(8.0)}, jnp.asarray(fitness), jnp.int32(0))
    clones = genetics.Candidates({"w": 10 + jnp.arange(8.0)}, jnp.arange(8)[:, None], jnp.arange(8))
    search = genetics.Search(state, {"w": jnp.float32(0)}, jnp.float32(fitness.max()), jnp.int32(0))
    for ulps in (-3, 0, 3):
        again = fitness.copy()
        for _ in range(abs(ulps)):
            again = np.nextafter(again, np.float32(np.sign(ulps) * np.inf))
        bred = genetics.guarded(state, clones, jnp.asarray(again))
        np.testing.assert_array_equal(bred.members["w"], clones.members["w"])
        assert int(genetics.update_champion(search, clones.members, jnp.asarray(again), jnp.int32(1)).found) == 0
    worse = genetics.guarded(state, clones, jnp.asarray(fitness * 1.001))
    np.testing.assert_array_equal(worse.members["w"], state.population["w"])
    assert int(genetics.update_champion(search, clones.members, jnp.asarray(fitness * 0.999), jnp.int32(1)).found) == 1


def test_the_first_champion_is_anyone_who_did_not_fail():
    search = genetics.Search(None, {"w": jnp.float32(0)}, jnp.float32(-jnp.inf), jnp.int32(0))
    crowned = genetics.update_champion(search, {"w": jnp.arange(2.0)}, jnp.float32([jnp.nan, -1e30]), jnp.int32(4))
    assert (float(crowned.champion["w"]), float(crowned.validation), int(crowned.found)) == (1, np.float32(-1e30), 4)
