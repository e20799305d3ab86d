"""The hybrid experiment: its recipes, its budgets, its matings; and the run contract with repeats."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jevo import population as pop
from jevo.data.datasets import Split, against_rest, load
from jevo.data.task import to_device
from jevo.errors import InputError
from jevo.experiments import hybrid
from jevo.experiments.hybrid import EXPERIMENT, contest, ensemble
from jevo.experiments.hybrid.search import optimizer, search, spread
from jevo.genetics import State
from jevo.networks import mlp
from jevo.runs.lines import read_lines
from jevo.runs.loop import run_stage
from jevo.runs.own import Given, build_own
from jevo.training import Learner, learner
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
    {"crossover": "papa", "mix_every": 3, "network": "cnn", "channels": (2,), "tune_lr": (1e-3, 1e-2), "repeats": 2},
    {"crossover": "wash", "mix_rate": 0.1, "mix_moments": True, "tune_smoothing": (0.0, 0.1)},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_runs(settings, digits):
    config = hybrid.Config(**{**SMALL, **settings})
    _, _, carries, metrics = stepped(config, digits)
    assert np.isfinite(carries[-1].state.fitness).all()
    mated = [bool(np.isfinite(m["barrier"]).all()) for m in metrics]
    # Two legs a cycle; the first cycle has no parents.
    assert mated == [not config.mixes and leg in (2, 4) for leg in range(6)]
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
        ({"rivals": ("pbt", "pbt")}, "each value once"),
        ({"rivals": ("average",)}, "other crossovers than the search's average"),
        ({"rivals": ("papa",), "steps": 9}, "mix_every is 10, but takes for papa a divisor of the 3 steps of a leg"),
        ({"rivals": ("papa",), "mix_moments": True}, "no effect without wash"),
        ({"mix_rate": 0.1}, "no effect without papa or wash"),
        ({"rivals": ("papa", "wash"), "mix_rate": 0.1}, "each has its own"),
        ({"crossover": "wash", "elites": 2}, "nobody here breeds by it"),
        ({"crossover": "wash", "mix_rate": 2.0}, "a share from 0 to 1"),
        ({"tune_lr": (0.1, 0.2), "lr": 0.1}, "tune_lr has it"),
        ({"tune_lr": (0.1, 0.0)}, "numbers > 0"),
        ({"tune_smoothing": (0.1,), "loss": "squared"}, "no effect without cross_entropy"),
        ({"repeats": 400, "tune_lr": (0.1, 0.2, 0.3)}, "repeats x points of the grid is 1200"),
        ({"population": 2, "rivals": ("pbt",)}, "fewer than the population"),
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
        rates(carries[3]) / best, [1.2 if r > best else 0.8 for r in rates(carries[3])], rtol=1e-5
    )


def test_learning_rates_are_spread_and_weights_are_what_they_were(key):
    config = hybrid.Config(lr=1e-3)
    fresh = learner(lambda key: jax.random.normal(key, (3,)), optimizer(config, 6))
    members = [spread(fresh, 3.0)(one) for one in jax.random.split(key, 9)]
    rates = [float(optax.tree.get(member.optimizer, "learning_rate")) for member in members]
    assert 1e-3 / 3 <= min(rates) < 0.7e-3 < 1.4e-3 < max(rates) <= 3e-3
    for one, member in zip(jax.random.split(key, 9), members, strict=True):
        np.testing.assert_array_equal(member.params, fresh(one).params)
    # As population-based training begins, if nothing else is said.
    assert config.rival("pbt").lr_spread == 3
    assert dataclasses.replace(config, lr_spread=2.0).rival("pbt").lr_spread == 2
    assert config.rival("papa").lr_spread == 1


def weights(search):
    """Of the first seed, each array of all members."""
    return [np.asarray(leaf[0], np.float64) for leaf in jax.tree.leaves(search.state.population.params)]


def test_papa_pulls_less_as_the_learning_rate_falls(digits):
    """With nothing learnt, the way to the mean shrinks by 1 - rate times the half cosine at each third step of 18."""
    config = hybrid.Config(**SMALL, lr=1e-30, crossover="papa", mix_every=3, mix_rate=0.5)
    _, _, carries, metrics = stepped(config, digits)
    left = np.prod([1 - 0.5 * 0.5 * (1 + np.cos(np.pi * step / 18)) for step in range(3, 19, 3)])
    for first, last in zip(weights(carries[0]), weights(carries[-1]), strict=True):
        mean = first.mean(axis=0)
        np.testing.assert_allclose(last, mean + left * (first - mean), rtol=1e-4, atol=1e-6)
    assert not np.isfinite(metrics[2]["barrier"]).any()  # Nobody mates between cycles.


def test_wash_shuffles_the_first_layer_most_and_the_last_not_at_all(digits):
    config = hybrid.Config(**{**SMALL, "hidden": (8, 8)}, lr=1e-30, crossover="wash", mix_every=3, mix_rate=0.1)
    _, _, carries, _ = stepped(config, digits)
    moved = {}
    for name in ("layer_0", "layer_1", "layer_2"):
        first, last = (np.asarray(carries[i].state.population.params[name]["kernel"][0]) for i in (0, 1))
        np.testing.assert_allclose(np.sort(first, axis=0), np.sort(last, axis=0), atol=1e-20)
        moved[name] = np.mean(np.abs(first - last).max(axis=0) > 1e-20)
    # Of 24 orders of four members one moves nobody.
    assert moved["layer_0"] == pytest.approx(0.1 * 23 / 24, abs=0.05)
    assert moved["layer_1"] == pytest.approx(0.05 * 23 / 24, abs=0.1)
    assert moved["layer_2"] == 0


@pytest.mark.slow
def test_running_statistics_are_those_of_the_mixed_weights(digits):
    """Not of those that a member had as it trained."""

    class Averaged(nnx.Module):
        def __init__(self, shape, outputs, rngs):
            self.a, self.c = nnx.Linear(64, 5, rngs=rngs), nnx.Linear(5, outputs, rngs=rngs)
            self.norm = nnx.BatchNorm(5, rngs=rngs)

        def __call__(self, x):
            return self.c(nnx.relu(self.norm(self.a(x.reshape(len(x), -1)))))

    config = hybrid.Config(**{**SMALL, "network": "nets.py:Averaged", "hidden": (100,)}, crossover="papa", mix_every=3)
    net = build_own(Averaged, (8, 8, 1), 10, "nets.py:Averaged")
    start, step = search(config, classification(10), net, members=4, leg=3, mates=True, chunk=4)
    task = to_device(digits)
    found, _ = jax.jit(step)(jax.random.key(0), jax.jit(start)(jax.random.key(0), task), task, jnp.int32(0))
    params = found.state.population.params
    x = np.asarray(task.inputs(task.train.x)).reshape(400, 64)
    for i in range(4):
        member = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), params)
        inner = x @ member.params["a"]["kernel"] + member.params["a"]["bias"]
        np.testing.assert_allclose(member.state["norm"]["mean"], inner.mean(axis=0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(member.state["norm"]["var"], inner.var(axis=0), rtol=1e-3, atol=1e-4)


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
@pytest.mark.parametrize(
    "settings",
    [{}, {"crossover": "papa", "mix_every": 1}, {"crossover": "wash", "mix_rate": 0.1, "tune_lr": (1e-3, 1e-2)}],
)
def test_a_cycle_goes_on_in_its_middle(settings, digits, tmp_path):
    """Three legs of six are one and a half cycles."""
    config = hybrid.Config(**SMALL, repeats=2, **settings)
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


def test_an_ensemble_says_the_mean_of_what_its_members_say(digits):
    """But for those that have failed; also of examples that fill no block."""
    network = mlp([64, 3, 10])
    members = jax.vmap(network.init)(jax.random.split(jax.random.key(0), 6).reshape(6))
    sick = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), members)
    seeds = jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), Learner(sick, ()))
    fitness = jnp.zeros((2, 3)).at[0, 1].set(-jnp.inf)
    task = to_device(digits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "ROWS", 100)
        together = ensemble.saying(network, classification(10), task, digits)(State(seeds, fitness, jnp.zeros(2)))
    x, y = digits.test.x, digits.test.y
    assert len(y) % 100
    logits = [np.asarray(network.apply(pop.take(members, i), task.inputs(x))) for i in (0, 2, 3, 4, 5)]
    said = [np.exp(own) / np.exp(own).sum(axis=1, keepdims=True) for own in logits]
    np.testing.assert_allclose(together["test"][0], np.mean(said[:2], axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together["test"][1], np.mean(said[2:], axis=0), rtol=1e-4, atol=1e-6)
    found = ensemble.ensemble(classification(10), digits, together, 3, seed=7)
    assert [one["seed"] for one in found["repeats"]] == [7, 8]
    expected = -np.log(np.mean(said[2:], axis=0)[np.arange(len(y)), y]).mean()
    assert found["repeats"][1]["metrics"]["test"]["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def rivalry(digits, tmp_path_factory):
    """A run with rivals, all of whom choose from a grid where one learning rate learns nothing."""
    out = tmp_path_factory.mktemp("rivalry") / "run"
    config = hybrid.Config(
        **{**SMALL, "cycles": 2}, out=out, repeats=2, rivals=("wash", "pbt"), tune_lr=(1e-30, 1e-2),
        tune_smoothing=(0.0, 0.9),
    )  # fmt: skip
    return config, hybrid.run(config, dataset=digits)


@pytest.mark.slow
def test_rivals_compete_and_choose_as_the_search_does(rivalry, digits):
    config, result = rivalry
    assert list(result["references"]) == ["long run", "wash", "pbt"]
    for entry in (result, result["control"], *result["references"].values()):
        assert entry["budget"]["gradient_steps"] == 4 * 2 * 6
        assert entry["budget"]["grid_points"] == 4
    points, chosen = result["grid"]["points"], result["grid"]["chosen"]
    assert points == [{"lr": lr, "smoothing": share} for lr in (1e-30, 1e-2) for share in (0.0, 0.9)]
    assert list(chosen) == ["search", "restarts", "long_run", "wash", "pbt"]
    lines = read_lines(config.out / "wash.jsonl")
    for seed, point in enumerate(chosen["wash"]):
        seen = np.array([line["validation_loss"] for line in lines]).reshape(len(lines), 2, 4)[:, seed].min(axis=0)
        assert points[point]["lr"] == 1e-2
        judged = result["repeats"][seed]["references"]["wash"]["metrics"]["validation"]["loss"]
        assert judged <= seen.min() + 1e-5  # The mean of all may be better than any.
        assert result["final_loss"]["wash"][seed] == lines[-1]["loss"][4 * seed + point]
    assert result["ensemble"]["members"] == 4
    text = (config.out / "report.md").read_text()
    assert "ran at each of 4 points of a grid" in text
    assert "against pbt: lower loss in" in text
    assert (config.out / "curves.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_point_of_a_grid_is_a_run_of_its_own(digits):
    """To rounding: side by side, products are summed in another order."""
    tuned = stepped(hybrid.Config(**SMALL, tune_lr=(1e-3, 1e-2), tune_smoothing=(0.0, 0.2)), digits)
    alone = stepped(hybrid.Config(**SMALL, lr=1e-2, smoothing=0.2), digits)
    for a, b in zip(tuned[3], alone[3], strict=True):
        assert float(a["validation_loss"][3]) == pytest.approx(float(b["validation_loss"][0]), rel=1e-3)
