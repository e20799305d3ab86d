"""Plain calls of the library compile once, and refuse what does not fit."""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import monitoring

from jevo import genetics, training
from jevo import population as pop
from jevo.genetics import Candidates, Search, update_champion
from jevo.programs import compiled, fingerprint

COMPILED = []
monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: COMPILED.append(name) if name.endswith("backend_compile_duration") else None
)


def member(key):
    return {"w": jax.random.normal(key, (8, 4)), "b": jnp.zeros(4)}


def score(member):
    return -jnp.sum(member["w"] ** 2)


def algorithm(**settings):
    given = {"elites": 2, **settings}
    return genetics.genetic(genetics.truncation(0.5), genetics.uniform(), genetics.gaussian(0.1), **given)


def state(size=6, fitness=None):
    population = {"w": jnp.arange(size * 32.0).reshape(size, 8, 4), "b": jnp.zeros((size, 4))}
    return ALGORITHM.init(population, jnp.arange(size) if fitness is None else fitness)


OPTIMIZER = optax.adam(1e-2)
ALGORITHM = algorithm()
X, Y = jnp.ones((16, 8)), jnp.ones((16, 4))


def loss(params, batch, key):
    return jnp.mean((batch[0] @ params["w"] + params["b"][None] - batch[1]) ** 2)


def told(i, before):
    candidates = ALGORITHM.ask(jax.random.key(i), before)
    return ALGORITHM.tell(before, candidates, np.arange(4.0))


CALLS = {
    "init": lambda i: pop.init(jax.random.key(i), member, 6),
    "evaluate": lambda i: training.evaluate(score, state().population, 2),
    "ask and tell": lambda i: told(i, state()),
    "generation": lambda i: genetics.generation(ALGORITHM, EVALUATE, jax.random.key(0), state()),
    "train": lambda i: training.train(
        jax.random.key(i), pop.init(jax.random.key(0), LEARNER, 3), (X, Y), loss, OPTIMIZER, steps=3, batch_size=4
    ),
    "predict": lambda i: training.predict(LOGITS, np.ones((5, 8), np.float32)),
}
LEARNER = training.learner(member, OPTIMIZER)
LOGITS = lambda x: x @ jnp.ones((8, 3))  # noqa: E731
EVALUATE = lambda key, members, places: training.evaluate(score, members, 2, places)  # noqa: E731


@pytest.mark.parametrize("name", CALLS)
def test_a_plain_call_compiles_nothing_the_second_time(name):
    first = CALLS[name](0)
    compiled = len(COMPILED)
    again = CALLS[name](0)
    assert len(COMPILED) == compiled
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(first), jax.tree.leaves(again))
    within = jax.jit(lambda: CALLS[name](0))() if name != "predict" else first
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), jax.tree.leaves(first), jax.tree.leaves(within)
    )


FACTOR = 1.0


class Scorer:
    factor = 1.0

    def __call__(self, member):
        return self.factor * jnp.sum(member["w"])


def test_a_plain_call_reads_what_its_functions_read_as_it_is_now():
    """A global, an attribute, an array that a closure holds and a function of Python's own: none of them as before."""
    ones = {"w": jnp.ones((4, 3))}

    def by_global(member):
        return FACTOR * jnp.sum(member["w"])

    def by_array(factors):
        return lambda member: factors[0] * jnp.sum(member["w"])

    def by_host(factor):
        sum_of = jax.ShapeDtypeStruct((), jnp.float32)
        return lambda member: jax.pure_callback(lambda w: np.float32(factor * w.sum()), sum_of, member["w"])

    factors, scorer = [1.0], Scorer()
    for factor in (1.0, 2.0, 3.0):
        globals()["FACTOR"] = scorer.factor = factors[0] = factor
        big = jnp.full(100, factor)
        for each in (by_global, scorer, by_array(factors), by_array(big), by_host(factor)):
            np.testing.assert_array_equal(training.evaluate(each, ones, 2), np.full(4, 3 * factor), str(each))
        np.testing.assert_array_equal(training.in_rows(lambda x: x * FACTOR, np.ones(3)), np.full(3, factor))
    before = len(COMPILED)
    for factor in (4.0, 5.0):
        training.evaluate(by_array(jnp.full(100, factor)), ones, 2)
    assert len(COMPILED) - before <= 2  # Making the array itself; the program takes it as an argument.


def test_programs_that_look_alike_are_told_apart():
    """By which argument they use, by what they give back, and by constants to the last bit."""
    pair = {"a": jnp.arange(3.0), "b": jnp.arange(3.0) + 10}
    for _ in range(2):
        for name in ("a", "b"):
            found = compiled(lambda t, name=name: {"twice": 2 * t[name], "same": t[name], "none": None})(pair)
            np.testing.assert_array_equal(found["twice"], 2 * pair[name])
            np.testing.assert_array_equal(found["same"], pair[name])
            assert found["none"] is None
        for factor in (np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1))):
            np.testing.assert_array_equal(compiled(lambda t, by=factor: t["b"] * by)(pair), pair["b"] * factor)
    wide = {"a": jnp.arange(3.0), "b": jnp.zeros((2, 2))}
    np.testing.assert_array_equal(compiled(lambda t: 2 * t["a"])(wide), 2 * wide["a"])


def test_a_plain_call_may_be_within_any_transformation():
    ones = {"w": jnp.ones((4, 3))}

    def scaled(x):
        return x * training.evaluate(lambda member: jnp.sum(member["w"]), ones, 2).sum()

    def of_member(x):
        return training.evaluate(lambda member: x * jnp.sum(member["w"]), ones, 2).sum()

    for function in (scaled, of_member):
        assert jax.jit(function)(2.0) == 24
        assert jax.grad(function)(2.0) == 12
        np.testing.assert_array_equal(jax.vmap(function)(jnp.arange(3.0)), [0, 12, 24])


def test_a_plain_call_runs_step_by_step_where_programs_are_disabled():
    seen = []
    with jax.disable_jit():
        training.evaluate(lambda member: seen.append(float(member["w"])) or member["w"], {"w": jnp.arange(3.0)}, 2)
    assert sorted(seen) == [0, 1, 2]


NO_RATES = [-0.1, 1.5, float("nan"), float("inf")]


@pytest.mark.parametrize("rate", NO_RATES)
@pytest.mark.parametrize(
    "operator",
    [
        genetics.flip, genetics.redraw, lambda rate: genetics.redraw(0.5, rate), genetics.zero, genetics.prune,
        lambda rate: genetics.gaussian(0.1, rate), genetics.step, genetics.uniform, genetics.average,
        lambda rate: genetics.reset(rate, member),
    ],
)  # fmt: skip
def test_a_rate_is_a_probability(operator, rate):
    with pytest.raises(ValueError, match="from 0 to 1, not"):
        operator(rate)
    operator(jnp.float32(0.5))
    jax.jit(lambda rate: operator(rate) and 0)(0.5)


@pytest.mark.parametrize("size", [-0.1, float("nan"), float("inf")])
def test_a_size_is_finite_and_not_negative(size):
    for operator in (genetics.gaussian, genetics.perturb, lambda size: genetics.step(0.5, size)):
        with pytest.raises(ValueError, match=r"finite .*, 0 or more, not"):
            operator(size)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "2", None])
def test_a_count_is_an_integer(count):
    for make in (genetics.leaders, genetics.shuffled, genetics.tournament):
        with pytest.raises(ValueError, match="is an integer, at least 1, not"):
            make(count)


def test_counts_of_numpy_are_counts():
    select = genetics.truncation(np.int64(2))
    assert set(np.asarray(select(jax.random.key(0), jnp.arange(9.0), 50).indices).tolist()) == {7, 8}


@pytest.mark.parametrize(
    "cross", [genetics.uniform(), genetics.uniform(per="layer"), genetics.one_point(), genetics.average()]
)
def test_unlike_parents_make_no_child(cross):
    one = {"w": jnp.zeros((2, 3))}
    for other in ({"w": jnp.zeros((2, 3), jnp.int32)}, {"w": jnp.zeros((1, 3))}, {"v": jnp.zeros((2, 3))}):
        with pytest.raises(ValueError, match="members have other"):
            cross(jax.random.key(0), one, other)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_the_average_of_floats_is_between_them(parents, weight):
    a, b = (jnp.float32(parent) for parent in parents)
    for child in (genetics.average(weight)(jax.random.key(0), a, b), genetics.average()(jax.random.key(0), a, b)):
        assert min(a, b) <= child <= max(a, b)


BAD = [np.arange(5.0), np.arange(12.0), np.arange(6.0)[:, None], np.ones((6, 2)), np.ones((1, 6)), np.float32(1), []]


@pytest.mark.parametrize("fitness", BAD, ids=[str(np.shape(bad)) for bad in BAD])
def test_fitness_of_another_shape_is_refused_wherever_it_enters(fitness):
    with pytest.raises(ValueError, match=r"fitness has shape \[.*\], but takes one number for each member"):
        state(fitness=fitness)
    good = state()
    candidates = ALGORITHM.ask(jax.random.key(0), good)
    with pytest.raises(ValueError, match="fitness has shape"):
        ALGORITHM.tell(good, candidates, fitness)
    with pytest.raises(ValueError, match="fitness has shape"):
        ALGORITHM.ask(jax.random.key(0), good._replace(fitness=jnp.asarray(fitness)))
    search = Search(good, pop.take(good.population, 0), jnp.float32(0), jnp.int32(0))
    with pytest.raises(ValueError, match="fitness has shape"):
        update_champion(search, good.population, jnp.asarray(fitness), jnp.int32(1))
    if np.ndim(fitness) != 1:
        for select in (genetics.truncation(2), genetics.roulette(), genetics.rank(), genetics.tournament(2)):
            with pytest.raises(ValueError, match="fitness has shape"):
                select(jax.random.key(0), jnp.asarray(fitness), 3)


def test_fitness_that_is_no_real_number_is_refused_and_any_real_one_is_taken():
    for bad in (np.ones(6, complex), np.ones(6, bool)):
        with pytest.raises(ValueError, match="but takes real numbers"):
            state(fitness=bad)
    for good in ([0, 1, 2, 3, 4, 5], np.arange(6), np.arange(6.0), jnp.arange(6, dtype=jnp.bfloat16)):
        np.testing.assert_array_equal(state(fitness=good).fitness, np.arange(6, dtype=np.float32))
    np.testing.assert_array_equal(state(fitness=np.full(6, np.nan)).fitness, np.full(6, -np.inf))


def test_candidates_of_another_state_are_refused():
    six, nine = state(6), state(9)
    candidates = ALGORITHM.ask(jax.random.key(0), six)
    with pytest.raises(ValueError, match="4 candidates for 4 places are not the 7 of a state of 9 members"):
        ALGORITHM.tell(nine, candidates, np.zeros(4))
    forged = Candidates(six.population, jnp.arange(6), jnp.arange(6))
    with pytest.raises(ValueError, match="6 candidates for 6 places are not the 4 of a state of 6 members"):
        ALGORITHM.tell(six, forged, np.zeros(6))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"elites": -1}, "0 or more"), ({"elites": 1.5}, r"\(0, 1\]"), ({"elites": 0.0}, r"\(0, 1\]"),
        ({"elites": float("nan")}, r"\(0, 1\]"), ({"elites": True}, "no True"),
        ({"lucky": -1}, "lucky"),
        ({"lucky": 0.5}, "lucky"), ({"parents": 0}, "parents is an integer, at least 1, not 0"),
        ({"parents": 2.0}, "parents is an integer"), ({"parents": True}, "parents is an integer"),
        ({"chunk": 0}, "chunk"), ({"chunk": 1.5}, "chunk"),
    ],
)  # fmt: skip
def test_what_an_algorithm_cannot_be_is_refused_as_it_is_made(given, says):
    with pytest.raises(ValueError, match=says):
        algorithm(**given)


def test_survivors_leave_a_place_for_a_child():
    with pytest.raises(ValueError, match="6 survivors leave no place for a child in a population of 6"):
        algorithm(elites=6).ask(jax.random.key(0), state())


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"w": jnp.zeros((2, 3), jnp.int32)}, "other arrays: float32"), ({"w": jnp.zeros((2, 4))}, "other arrays"),
        ({"v": jnp.zeros((2, 3))}, "other structures"), ({"w": jnp.zeros((2, 3), jnp.float16)}, "float16"),
    ],
)  # fmt: skip
def test_unlike_members_are_not_put_together(other, says):
    one = {"w": jnp.zeros((2, 3))}
    for put in (pop.concat, lambda *both: pop.stack(both)):
        with pytest.raises(ValueError, match=says):
            put(one, other)
    with pytest.raises(ValueError, match="nothing to put together"):
        pop.concat()


INTEGERS = [jnp.int8, jnp.uint8, jnp.int16, jnp.uint16, jnp.int32, jnp.uint32]


@pytest.mark.slow
@given(st.data(), st.sampled_from(INTEGERS))
@settings(max_examples=60, deadline=None)
def test_integers_stay_in_their_type_and_between_their_parents(data, dtype):
    ends = jnp.iinfo(dtype)
    number = st.one_of(st.integers(int(ends.min), int(ends.max)), st.sampled_from([int(ends.min), int(ends.max), 0, 1]))
    a, b = (np.array(data.draw(st.lists(number, min_size=9, max_size=9)), dtype) for _ in range(2))
    key = jax.random.key(data.draw(st.integers(0, 99)))
    child = np.asarray(genetics.average()(key, jnp.asarray(a), jnp.asarray(b)))
    assert child.dtype == a.dtype
    assert (child >= np.minimum(a, b)).all()
    assert (child <= np.maximum(a, b)).all()
    middle = (a.astype(np.float64) + b) / 2
    assert (abs(child - middle) <= 1 + 1e-6 * abs(a.astype(np.float64) - b)).all()
    size = data.draw(st.sampled_from([1, 2, 300]))
    moved = np.asarray(genetics.step(1.0, size)(key, jnp.asarray(a))).astype(np.int64)
    low, high = (
        np.clip(a.astype(np.int64) + by, ends.min, ends.max) for by in (-min(size, ends.max), min(size, ends.max))
    )
    assert ((moved == low) | (moved == high)).all()


def test_the_average_of_integers_is_right_in_the_mean():
    keys = jax.random.split(jax.random.key(0), 4000)
    for a, b in ((0, 255), (255, 0), (3, 4)):
        found = jax.vmap(lambda key, a=a, b=b: genetics.average()(key, jnp.uint8(a), jnp.uint8(b)))(keys)
        assert float(found.mean()) == pytest.approx((a + b) / 2, abs=0.05)


@pytest.mark.parametrize("genes", [jnp.ones(2, jnp.complex64), jax.random.split(jax.random.key(0), 2)])
def test_genes_that_an_operator_would_spoil_are_refused(genes):
    for operator in (genetics.gaussian(0.1), genetics.step(0.5), genetics.perturb()):
        with pytest.raises(TypeError, match="works on"):
            operator(jax.random.key(1), {"g": genes})
    with pytest.raises(TypeError, match="average works on int and float genes"):
        genetics.average()(jax.random.key(1), {"g": genes}, {"g": genes})


class Named(NamedTuple):
    w: jax.Array
    rate: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Data:
    w: jax.Array
    rate: jax.Array


@pytest.mark.parametrize("kind", [Named, Data, lambda w, rate: {"w": w, "rate": rate}])
def test_any_member_whose_parts_have_names_is_routed(kind):
    one, other = kind(jnp.ones(3), jnp.float32(0.1)), kind(jnp.zeros(3), jnp.float32(0.2))
    mutated = genetics.route(w=genetics.gaussian(0.5))(jax.random.key(0), one)
    assert type(mutated) is type(one)
    before, after = jax.tree.leaves(one), jax.tree.leaves(mutated)
    assert [bool((a == b).all()) for a, b in zip(before, after, strict=True)].count(False) == 1
    child = genetics.route(w=genetics.average())(jax.random.key(0), one, other)
    assert sorted(np.ravel(leaf)[0].item() for leaf in jax.tree.leaves(child)) == pytest.approx([0.1, 0.5])
    with pytest.raises(KeyError, match="route names z"):
        genetics.route(z=genetics.gaussian(0.5))(jax.random.key(0), one)
    with pytest.raises(TypeError, match="not list"):
        genetics.route(w=genetics.gaussian(0.5))(jax.random.key(0), [jnp.ones(3)])


LIMIT = 3


class Simulator:
    def __init__(self, wind):
        self.wind = wind

    def __call__(self, x):
        return self.blown(x)

    def blown(self, x):
        return x + self.wind


def limited(x):
    return min(x, LIMIT)


def test_what_a_function_does_is_told_apart(monkeypatch):
    """By its code, what it closes over and has by name, and by what is in an object."""

    def adding(amount, text="a"):
        return lambda x: x + amount if text else x

    array = np.arange(500.0)
    alike = [
        (adding(1), adding(1)), (Simulator(2), Simulator(2)), (Simulator(2).blown, Simulator(2).blown),
        (functools.partial(limited, 1), functools.partial(limited, 1)), (adding(array), adding(array.copy())),
    ]  # fmt: skip
    for one, other in alike:
        assert fingerprint(one) == fingerprint(other)
    changed = array.copy()
    changed[250] += 1
    others = [
        adding(1), adding(2), adding(1, ""), lambda x: x - 1, lambda x: x - 2, Simulator(2), Simulator(3),
        Simulator(2).blown, limited, functools.partial(limited, 1), functools.partial(limited, 2), adding(array),
        adding(changed), np.sin, adding(np.sin), adding(np.cos), adding({"a": 1}), adding({"a": 2}),
    ]  # fmt: skip
    assert len(set(map(fingerprint, others))) == len(others)
    before = fingerprint(limited), fingerprint(Simulator(2))
    monkeypatch.setitem(globals(), "LIMIT", 4)
    monkeypatch.setattr(Simulator, "blown", lambda self, x: x - self.wind)
    assert fingerprint(limited) != before[0]
    assert fingerprint(Simulator(2)) != before[1]


class Node:
    """One of those that know each other, in no order."""

    __slots__ = {"others": "whom it knows"}

    def __init__(self):
        self.others = set()


def test_a_function_may_hold_whatever_there_is():
    def around(count):
        nodes = [Node() for _ in range(count)]
        for node in nodes:
            node.others |= set(nodes)
        return lambda x: (x, nodes[0])

    assert fingerprint(around(3)) == fingerprint(around(3)) != fingerprint(around(2))
    tables = [np.array([["a", 1], [None, number]], object) for number in (2, 2, 3)]
    one, same, other = (fingerprint(lambda x, table=table: table[x]) for table in tables)
    assert one == same != other


def test_what_a_function_does_is_the_same_in_another_process(tmp_path):
    script = tmp_path / "own.py"
    script.write_text(
        "import numpy as np\nfrom jevo.programs import fingerprint\nLIMIT = (1, 'a', 2.5)\n"
        "def clipped(x):\n    return sorted({'b', 'c', str(LIMIT)}) and np.clip(x, 0, 1)\n"
        "def outer(x):\n    return clipped(x) + outer(x - 1)\nprint(fingerprint(outer))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    seeds = [environment | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    found = {subprocess.check_output([sys.executable, script], env=each, text=True) for each in seeds}
    assert len(found) == 1
