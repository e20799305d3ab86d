"""A run of any algorithm from Python: it goes on exactly, stops when told, and hears of no other functions."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import genetics, networks, population, runs, training
from jevo.errors import InputError
from jevo.programs import closed
from jevo.runs.lines import read_lines

NETWORK = networks.mlp([3, 4, 2])
X = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), jnp.float32)
Y = (X[:, 0] > 0).astype(jnp.int32)
ALGORITHM = genetics.genetic(genetics.truncation(0.5), genetics.uniform(), genetics.gaussian(0.1), elites=2)


def scored(x=X, size=8):
    def score(members):
        return training.evaluate(lambda m: training.log_likelihood(NETWORK.apply(m, x), Y), members, size)

    return score


def evolve(out, generations=12, **settings):
    given = {"evaluate": genetics.scored(scored()), "population": 8, "stop_every": 3, **settings}
    return runs.evolve(out, given.pop("algorithm", ALGORITHM), NETWORK.init, generations=generations, **given)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 generations, and its folder."""
    out = tmp_path_factory.mktemp("evolve") / "run"
    return evolve(out), out


def test_it_is_generations_of_the_library(whole):
    """By hand, with the keys that the run takes."""
    found, out = whole
    init_key, score_key = jax.random.split(jax.random.key(0))
    members = population.init(init_key, NETWORK.init, 8)
    evaluate = genetics.scored(scored())
    state = ALGORITHM.init(members, evaluate(score_key, members, None))
    best = [state.fitness.max()]
    for _ in range(12):
        key = jax.random.fold_in(jax.random.key(0), 1)
        state = jax.jit(lambda state, key=key: genetics.generation(ALGORITHM, evaluate, key, state))(state)
        best.append(state.fitness.max())
    np.testing.assert_allclose([line["best"] for line in found.lines], np.array(best[1:]), rtol=1e-6)
    assert found.worth == pytest.approx(float(max(best)), rel=1e-6)
    assert_equal(runs.load_champion(out, NETWORK.init), found.champion)
    assert json.loads((out / "evolved.json").read_text())["evaluations"] == 8 + 12 * 6


@pytest.mark.slow
def test_more_generations_go_on_after_the_last(whole, tmp_path):
    found, _ = whole
    assert len(evolve(tmp_path / "run", generations=5).lines) == 5
    assert_equal(evolve(tmp_path / "run"), found)
    assert_equal(evolve(tmp_path / "run"), found)  # Done.
    with pytest.raises(InputError, match="has 12 generations already; ask for as many or more"):
        evolve(tmp_path / "run", generations=5)


def test_a_rule_stops_it_and_it_stays_stopped(whole, tmp_path):
    found, _ = whole
    seen = []

    def stop(lines):
        seen.append(len(lines))
        return len(lines) >= 6

    stopped = evolve(tmp_path / "run", stop=stop)
    assert int(stopped.state.generation) == 6
    assert stopped.lines == found.lines[:6]
    assert seen == [3, 6]
    again = evolve(tmp_path / "run", stop=stop)
    assert_equal(again, stopped)
    assert seen == [3, 6, 6]
    assert_equal(evolve(tmp_path / "run"), found)  # Without the rule it goes on.


@pytest.mark.slow
def test_the_first_members_may_be_given_and_the_champion_is_chosen_by_validation(tmp_path):
    trained = jax.tree.map(lambda leaf: leaf[None] + 0.5, NETWORK.init(jax.random.key(5)))
    own = {"first": trained, "validate": scored(-X), "validate_every": 4, "validate_top": 3}
    found = evolve(tmp_path / "run", measure=lambda state: {"worst": state.fitness.min()}, **own)
    assert [line["generation"] for line in found.lines if line["validation"] is not None] == [4, 8, 12]
    assert all(line["worst"] <= line["mean"] <= line["best"] for line in found.lines)
    assert found.worth == pytest.approx(float(scored(-X)(population.stack([found.champion]))[0]), rel=1e-5)
    with pytest.raises(InputError, match="first"):
        evolve(tmp_path / "other", population=2, first=population.concat(trained, trained, trained))


def test_members_that_learn(tmp_path):
    optimizer = optax.adam(1e-2)

    def learn(key, members):
        loss = lambda params, batch, key: -training.log_likelihood(NETWORK.apply(params, batch[0]), batch[1])  # noqa: E731
        members, losses = training.train(key, members, (X, Y), loss, optimizer, steps=5, batch_size=10)
        return members, -losses[:, -1]

    mate = training.mating(genetics.average())
    algorithm = genetics.genetic(genetics.truncation(0.5), mate, elites=2, rescore=True)
    init = training.learner(NETWORK.init, optimizer)
    found = runs.evolve(tmp_path / "run", algorithm, init, learn=learn, population=4, generations=6)
    assert found.lines[-1]["best"] > found.lines[0]["best"]
    assert_equal(runs.load_champion(tmp_path / "run", init), found.champion)


def test_the_last_generation_is_looked_at_too(tmp_path):
    own = {"validate": scored(), "validate_every": 10, "validate_top": 8}
    found = evolve(tmp_path / "run", generations=3, **own)
    assert found.worth == pytest.approx(float(found.state.fitness.max()), rel=1e-5)
    assert found.found > 0
    assert_equal(runs.load_champion(tmp_path / "run", NETWORK.init), found.champion)
    again = evolve(tmp_path / "run", generations=3, **own)
    assert_equal((again.champion, again.worth), (found.champion, found.worth))
    # With more generations it comes to what it comes to without an end there.
    on, straight = (evolve(tmp_path / name, generations=12, **own) for name in ("run", "other"))
    assert_equal((on.champion, on.worth, on.found), (straight.champion, straight.worth, straight.found))


def test_another_function_of_the_host_is_another_run(tmp_path):
    def simulated(factor):
        def simulate(weights):
            return (factor * np.square(weights).sum(axis=(1, 2))).astype(np.float32)

        def score(members):
            weights = members["layer_0"]["kernel"]
            return jax.pure_callback(simulate, jax.ShapeDtypeStruct(weights.shape[:1], jnp.float32), weights)

        return {"evaluate": genetics.scored(score), "generations": 2}

    evolve(tmp_path / "run", **simulated(-1.0))
    evolve(tmp_path / "run", **simulated(-1.0) | {"generations": 3})
    with pytest.raises(InputError, match="program: its contents have changed"):
        evolve(tmp_path / "run", **simulated(-50.0))


def test_whole_numbers_may_be_numpys(tmp_path):
    (seed,) = np.arange(3, 4)
    given = {"seed": seed, "population": np.int32(8), "generations": np.int64(2), "devices": np.int64(1)}
    assert_equal(evolve(tmp_path / "one", **given).champion, evolve(tmp_path / "two", seed=3, generations=2).champion)
    for wrong in ({"seed": 1.5}, {"seed": "1"}, {"devices": -1}, {"generations": True}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            evolve(tmp_path / "three", **wrong)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"evaluate": genetics.scored(scored(X + 1e-3))}, "data: its contents have changed"),
        ({"evaluate": genetics.scored(lambda members: -scored()(members))}, "program: its contents have changed"),
        ({"first": NETWORK.init(jax.random.key(1)) | {}, "population": 8}, ""),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"algorithm": genetics.random_search(NETWORK.init, elites=2)}, "program: its contents have changed"),
    ],
)  # fmt: skip
def test_another_run_in_its_folder_is_refused(other, what, whole):
    _, out = whole
    if "first" in other:
        other["first"], what = population.stack([other["first"]]), "program: its contents have changed"
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=what):
        evolve(out, **other)
    assert (out / "metrics.jsonl").read_bytes() == before


def test_arguments_that_cannot_be_used_are_refused(tmp_path):
    for wrong in ({"evaluate": None}, {"learn": lambda key, members: (members, 0)}, {"population": 0}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(wrong)) if "learn" not in wrong else "evaluate"):
            evolve(tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_a_population_that_has_failed_is_a_line(tmp_path):
    with pytest.raises(InputError, match="every member failed"):
        evolve(tmp_path / "run", evaluate=genetics.scored(lambda members: scored()(members) * jnp.nan))


def test_what_a_program_is_known_by():
    """Its text, and every number in it, wherever they are; nothing of the process."""
    big = np.arange(300.0, dtype=np.float32)

    @jax.custom_jvp
    def bent(x, offset):
        return x * offset

    bent.defjvp(lambda primals, tangents: (bent(*primals), tangents[0] * primals[1]))

    def made(numbers, scale=2.0):
        inner = jax.jit(lambda x: x + numbers)
        return closed(
            lambda x: jax.lax.scan(lambda c, _: (bent(inner(c), scale) * numbers, None), x, None, length=2)[0], big
        )

    one, same = made(big), made(big.copy())
    assert one.digest == same.digest
    assert one.names == same.names
    changed = big.copy()
    changed[123] += 1
    assert (made(changed).digest, made(changed).names) != (one.digest, one.names)
    assert made(big, 3.0).digest != one.digest
    plain = closed(lambda x: x * big + x, big)
    np.testing.assert_array_equal(plain({}, big), big * big + big)
    np.testing.assert_array_equal(plain({plain.names[0]: big + 1}, big), big * (big + 1) + big)


SCRIPT = """
import sys, time
from tests.test_evolve import evolve
print(evolve(sys.argv[1], generations=60, checkpoint_every=7, stop=lambda lines: time.sleep(.03)).worth)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_comes_to_the_same(tmp_path):
    def start(out):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)], stdout=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    draw, kills = np.random.default_rng(0), 0
    while True:
        process = start(tmp_path / "killed")
        path, lines = tmp_path / "killed" / "metrics.jsonl", 0
        begun = time.monotonic()
        wanted = len(read_lines(path)) + int(draw.integers(3, 15)) if path.exists() else 5
        while process.poll() is None and (kills >= 5 or lines < wanted) and time.monotonic() - begun < 100:
            time.sleep(0.01)
            lines = len(read_lines(path)) if path.exists() else 0
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= 3
    assert path.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    one, other = (runs.load_champion(tmp_path / name, NETWORK.init) for name in ("killed", "whole"))
    assert_equal(one, other)
