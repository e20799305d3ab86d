"""The hybrid experiment: its recipes, its budgets, its matings; and the run contract with repeats."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jevo import population as pop
from jevo.data.datasets import Split, against_rest, load
from jevo.data.task import to_device
from jevo.errors import InputError
from jevo.experiments import hybrid
from jevo.experiments.hybrid import EXPERIMENT, contest
from jevo.experiments.hybrid.search import search
from jevo.runs.lines import read_lines
from jevo.runs.loop import run_stage
from jevo.runs.own import Given
from jevo.training.criterion import classification
from tests.lowering import PLATFORMS, lower
from tests.stages import walk

SMALL = {"hidden": (8,), "population": 4, "cycles": 3, "steps": 6, "legs": 2}


@pytest.fixture(scope="module", autouse=True)
def vmapped_keys():
    """JAX's check for keys used twice takes any vmapped map over keys for one; one test below checks one seed alone."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module")
def digits():
    """A third of them, for speed."""
    whole = load("digits")
    return dataclasses.replace(whole, train=Split(whole.train.x[:400], whole.train.y[:400]))


def entered(config, dataset):
    """The network, and the contest over this part of the data."""
    return contest.network(config, dataset.train.x.shape[1:], len(dataset.classes)), contest.contest(
        config, dataset, Given.usual(dataset)
    )


def stepped(config, dataset, name="search"):
    """Every carry of a contestant, the first included, and every leg's metrics."""
    net, found = entered(config, dataset)
    carries, metrics = walk(found.contestants[name].phases[0].stage, found.task)
    return net, found.task, [search for search, _ in carries], metrics


SETTINGS = [
    {"crossover": "uniform", "optimizer": "momentum", "batch_size": 0},
    {"crossover": "neuron", "network": "cnn", "channels": (2,), "elites": 1, "optimizer": "rmsprop"},
    {"crossover": "layer", "network": "logistic", "loss": "squared", "lr": 1e-3, "fitness": "train"},
    {"crossover": "soup", "breeders": 3, "optimizer": "adamw", "weight_decay": 0.1, "schedule": "constant"},
    {"crossover": "clone", "breeders": 2, "elites": 2, "lr_spread": 3.0, "shared_batches": True, "repeats": 2},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_runs(settings, digits):
    config = hybrid.Config(**{**SMALL, **settings})
    _, _, carries, metrics = stepped(config, digits)
    assert np.isfinite(carries[-1].state.fitness).all()
    mated = [bool(np.isfinite(m["barrier"]).all()) for m in metrics]
    assert mated == [False, False, True, False, True, False]  # Two legs a cycle; the first cycle has no parents.
    assert np.all(carries[-1].validation >= np.max(carries[-1].state.fitness, axis=1)) or config.fitness == "train"


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_lowers(settings, platform, digits):
    lower(EXPERIMENT, hybrid.Config(**{**SMALL, **settings}), digits, platform)


def test_no_key_is_used_twice(digits):
    with jax.debug_key_reuse(True):
        config = hybrid.Config(**SMALL, lr_spread=2.0)
        net = contest.network(config, (8, 8, 1), 10)
        start, step = search(config, classification(10), net, members=4, leg=3, mates=True, chunk=4)
        task = to_device(digits)
        state = jax.jit(start)(jax.random.key(0), task)
        jax.jit(step)(jax.random.key(0), state, task, jnp.int32(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"legs": 7}, "legs is 7, but takes a divisor of the 600 steps"),
        ({"breeders": 11}, "breeders is 11, but takes a number from 1 to the population of 10"),
        ({"elites": 10}, "fewer than the population"),
        ({"population": 1, "breeders": 1}, "mates with another"),
        ({"weight_decay": 0.1}, "with the optimizer adamw"),
        ({"network": "cnn", "channels": ()}, "at least one"),
        ({"lr": 0.0}, "a number > 0"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        hybrid.Config(**settings)


def published(weights, x, y, epochs, rate):
    """The published descent, in NumPy: the delta rule over all rows."""
    for _ in range(epochs):
        p = 1 / (1 + np.exp(-x @ weights))
        weights = weights + rate * x.T @ ((y - p) * p * (1 - p))
    return weights


def test_the_faithful_preset_is_the_published_recipe(digits):
    binary = against_rest(digits, "1")
    flat = {part: Split(getattr(binary, part).x.reshape(-1, 64)[:150] * 10.0, getattr(binary, part).y[:150])
            for part in ("train", "validation", "test")}  # fmt: skip
    dataset = dataclasses.replace(binary, **flat)
    whole = hybrid.Config.from_preset("faithful")
    assert (whole.population, whole.cycles, whole.steps) == (10, 10, 600)
    config = hybrid.Config.from_preset("faithful", cycles=2, steps=20, legs=1)
    assert (config.population, config.breeders, config.elites) == (10, 4, 0)
    assert (config.selection, config.crossover, config.align) == ("truncation", "uniform", False)
    _, _, carries, metrics = stepped(config, dataset)
    x, y = (np.asarray(flat["train"].x, np.float64) - 50) / 50, flat["train"].y[:, None]

    def kernels(search):
        return np.asarray(search.state.population.params["layer_0"]["kernel"][0], np.float64)

    first, trained = (kernels(search) for search in carries[:2])
    assert first.shape == (10, 64, 1)
    assert np.abs(first).max() <= 1
    np.testing.assert_allclose(trained, [published(w, x, y, 20, 1e-3) for w in first], rtol=1e-3, atol=1e-4)
    loss = [np.mean(np.abs(y - 1 / (1 + np.exp(-x @ w)))) for w in trained]
    np.testing.assert_allclose(-carries[1].state.fitness[0], loss, rtol=1e-3)
    assert float(metrics[0]["loss"][0]) == pytest.approx(min(loss), rel=1e-3)


def test_children_take_every_weight_from_the_best_parents(digits):
    """With no learning between matings, the genes of the second cycle are those of the best of the first."""
    config = hybrid.Config(
        **{**SMALL, "lr": 1e-30, "crossover": "uniform", "align": False, "breeders": 2, "guard": False}
    )
    _, _, carries, _ = stepped(config, digits)
    before, after = carries[2], carries[3]
    best = np.argsort(-np.asarray(before.state.fitness[0]))[:2]
    for old, new in zip(
        jax.tree.leaves(before.state.population.params), jax.tree.leaves(after.state.population.params), strict=True
    ):
        old, new = np.asarray(old[0]), np.asarray(new[0])
        assert np.all((abs(new[:, None] - old[best]) < 1e-20).any(axis=1))


def test_the_barrier_is_the_childrens_loss_less_their_parents(digits):
    """All mate with their equals: a soup of every member has one mean of parents, and no learning hides the child."""
    config = hybrid.Config(**{**SMALL, "lr": 1e-30, "crossover": "soup", "align": False, "guard": False})
    net, task, carries, metrics = stepped(config, digits)
    before, after = carries[2], carries[3]
    mean = jax.tree.map(lambda leaf: leaf[0].mean(axis=0), before.state.population.params)
    for member in pop.unstack(pop.take(after.state.population.params, 0)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), member, mean)
    logits = np.asarray(net.apply(mean, task.inputs(task.validation.x)), np.float64)
    own = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), task.validation.y]
    expected = own.mean() + float(before.state.fitness[0].mean())
    assert float(metrics[2]["barrier"][0]) == pytest.approx(expected, abs=1e-4)


def test_a_child_worse_than_its_parents_gives_its_place_to_the_better_one(digits):
    """Then the worst of a generation is no worse than before, whatever the mating; unguarded, it is."""
    worst = {}
    for guard in (True, False):
        config = hybrid.Config(**{**SMALL, "lr": 1e-30, "crossover": "uniform", "align": False, "guard": guard})
        _, _, carries, _ = stepped(config, digits)
        worst[guard] = [float(carries[leg].state.fitness.min()) for leg in (2, 3, 5)]
    assert worst[True] == sorted(worst[True])
    assert worst[False] != sorted(worst[False])


def test_clones_have_their_own_learning_rates(digits):
    config = hybrid.Config(**{**SMALL, "crossover": "clone", "breeders": 1, "lr": 1e-3, "lr_spread": 2.0})
    _, _, carries, _ = stepped(config, digits)

    def rates(search):
        return np.asarray(optax.tree.get(search.state.population.optimizer, "learning_rate")[0])

    first = rates(carries[0])
    assert np.unique(first).size == 4
    assert np.all((first >= 0.5e-3) & (first <= 2e-3))
    best = rates(carries[2])[np.argmax(carries[2].state.fitness[0])]
    np.testing.assert_allclose(
        rates(carries[3]) / best, [1.25 if r > best else 0.8 for r in rates(carries[3])], rtol=1e-5
    )


@pytest.mark.slow
def test_repeats_are_the_runs_of_their_seeds(digits):
    """Seed 6 beside seed 5 is seed 6 alone, to rounding: side by side, products are summed in another order."""
    together = stepped(hybrid.Config(**SMALL, seed=5, repeats=2), digits)
    alone = stepped(hybrid.Config(**SMALL, seed=6), digits)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b[0], rtol=2e-3, atol=2e-4),
        together[2][-1].state.population.params,
        alone[2][-1].state.population.params,
    )
    for a, b in zip(together[3], alone[3], strict=True):
        assert float(a["validation_loss"][1]) == pytest.approx(float(b["validation_loss"][0]), rel=1e-3)


def test_budgets_are_equal_and_are_what_is_spent(digits):
    """Counted from the programs: optax counts the steps that each member really took."""
    config = hybrid.Config(**SMALL)
    _, found = entered(config, digits)
    spent = {}
    for name, contestant in found.contestants.items():
        _, _, carries, _ = stepped(config, digits, name)
        counts = [leaf for leaf in jax.tree.leaves(carries[-1].state.population.optimizer) if leaf.dtype == jnp.int32]
        members = carries[-1].state.fitness.size
        assert all(np.all(count == counts[0]) for count in counts)
        spent[name] = int(np.sum(counts[0]))
        assert members == (1 if name == "long_run" else 4)
        assert spent[name] == contestant.gradient_steps
    assert spent == {"search": 72, "restarts": 72, "long_run": 72}


@pytest.mark.slow
def test_a_cycle_goes_on_in_its_middle(digits, tmp_path):
    """Three legs of six are one and a half cycles."""
    config = hybrid.Config(**SMALL, repeats=2)
    _, found = entered(config, digits)
    task, stage = found.task, found.contestants["search"].phases[0].stage
    whole = run_stage(tmp_path / "whole", stage, task, 50)
    run_stage(tmp_path / "broken", dataclasses.replace(stage, generations=3), task, 50)
    broken = run_stage(tmp_path / "broken", stage, task, 50)
    jax.tree.map(np.testing.assert_array_equal, whole.carry, broken.carry)
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "broken/metrics.jsonl").read_text()


def test_when_every_member_diverges_the_run_says_so_and_keeps_its_state(tmp_path):
    config = hybrid.Config(**SMALL, out=tmp_path / "run", lr=1e30, optimizer="sgd")
    with pytest.raises(
        InputError, match=r"search: every member failed .* at generation 1; try a smaller lr;"
    ) as caught:
        hybrid.run(config)
    kept = tmp_path / "run" / "checkpoints" / "search"
    assert str(kept) in str(caught.value)
    assert (kept / "0").is_dir()


def test_a_diverged_member_is_replaced_at_mating(digits):
    config = hybrid.Config(**SMALL)
    _, found = entered(config, digits)
    task, stage = found.task, found.contestants["search"].phases[0].stage
    start, step = map(jax.jit, stage.programs(stage.chunk))
    carry = start(task)
    search, number = carry
    sick = jax.tree.map(lambda leaf: leaf.at[0, 2].set(jnp.nan), search.state.population.params)
    learners = search.state.population._replace(params=sick)
    carry = (search._replace(state=search.state._replace(population=learners)), number)
    fitness = []
    for _ in range(3):
        carry, values = step(carry, task)
        fitness.append(np.asarray(carry[0].state.fitness[0]))
        assert np.isfinite(values["mean"])
    assert [list(np.isinf(f)) for f in fitness] == [[False, False, True, False]] * 2 + [[False] * 4]


@pytest.fixture(scope="module")
def finished(smoke):
    return smoke("hybrid")


def test_a_run_leaves_what_it_promises(finished):
    result = json.loads((finished / "result.json").read_text())
    for entry in (result, result["control"], *result["references"].values()):
        assert entry["budget"]["gradient_steps"] == 6 * 3 * 6
        assert entry["metrics"]["test"].keys() == {"accuracy", "loss"}
    assert result["control"]["name"] == "restarts"
    assert list(result["references"]) == ["long run"]
    assert [one["seed"] for one in result["repeats"]] == [0, 1]
    for entry, seeds in ((result, result["repeats"]), (result["control"], [r["control"] for r in result["repeats"]])):
        expected = np.median([seed["metrics"]["test"]["loss"] for seed in seeds])
        assert entry["metrics"]["test"]["loss"] == pytest.approx(expected)
    assert np.shape(result["barrier"]) == (2, 2)
    lines = {name: read_lines(finished / f"{name}.jsonl") for name in ("metrics", "restarts", "long_run")}
    assert {len(of) for of in lines.values()} == {6}
    best = min(result["repeats"], key=lambda one: one["metrics"]["validation"]["loss"])
    assert result["champion"]["seed"] == best["seed"]
    assert result["champion"]["validation_loss"] == pytest.approx(best["metrics"]["validation"]["loss"], rel=1e-4)
    seen = min(line["validation_loss"][best["seed"]] for line in lines["metrics"])
    assert result["champion"]["validation_loss"] <= seen + 1e-6  # It may also have stood right after a mating.
    text = (finished / "report.md").read_text()
    assert "restarts (control)" in text
    assert "long run (reference)" in text
    assert "of 2 seeds" in text
    for picture in ("curves.png", "confusion.png"):
        assert picture in text
        assert (finished / picture).stat().st_size > 1000
