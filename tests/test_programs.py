"""Plain calls of the library compile once, and refuse what does not fit."""

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
EVALUATE = lambda key, members: (members, training.evaluate(score, members, 2))  # noqa: E731


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


BAD = [np.arange(5.0), np.arange(12.0), np.arange(6.0)[:, None], np.ones((6, 2)), np.ones((1, 6)), np.float32(1), []]


@pytest.mark.parametrize("fitness", BAD, ids=[str(np.shape(bad)) for bad in BAD])
def test_fitness_of_another_shape_is_refused_wherever_it_enters(fitness):
    with pytest.raises(ValueError, match=r"fitness has shape \[.*\], but takes one number for each member"):
        state(fitness=fitness)
    good = state()
    candidates = ALGORITHM.ask(jax.random.key(0), good)
    with pytest.raises(ValueError, match=r"fitness has shape|are not the 6 members"):
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
    with pytest.raises(ValueError, match="4 candidates and 2 survivors are not the 9 members of the state"):
        ALGORITHM.tell(nine, candidates, np.zeros(4))
    forged = Candidates(six.population, candidates.parents, candidates.kept)
    with pytest.raises(ValueError, match="6 candidates and 2 survivors are not the 6 members"):
        ALGORITHM.tell(six, forged, np.zeros(6))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"elites": -1}, "0 or more"), ({"elites": 1.5}, r"\(0, 1\]"), ({"elites": 0.0}, r"\(0, 1\]"),
        ({"elites": float("nan")}, r"\(0, 1\]"), ({"elites": True}, "no True"),
        ({"lucky": -1}, "lucky is"),
        ({"lucky": 0.5}, "lucky is"), ({"parents": 0}, "at least one parent"),
        ({"parents": 2.0}, "at least one parent"),
        ({"chunk": 0}, "chunk is"),
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
