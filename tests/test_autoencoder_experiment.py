"""The autoencoder experiment: who learns and who is replaced, what a phase reads and leaves alone; the run contract."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jevo import genetics
from jevo import population as pop
from jevo.data.datasets import Split, load
from jevo.data.task import to_device
from jevo.errors import InputError
from jevo.experiments import autoencoder, champion
from jevo.experiments.autoencoder import EXPERIMENT, Config, contest, judging
from jevo.experiments.autoencoder.config import widths
from jevo.experiments.autoencoder.search import Data, Goal, layers, phase
from jevo.networks import stacked, tied
from jevo.predict import main as predict
from jevo.runs import Interrupted, Saved, loop
from jevo.runs.lines import read_lines
from jevo.runs.loop import run_stage
from jevo.runs.own import Given
from jevo.training import fit_svm, predict_classes
from jevo.training.perturbation import node_perturbation, relative_noise
from tests.commands import deterministic
from tests.lowering import PLATFORMS, lower
from tests.marks import mostly_slow
from tests.stages import walk
from tests.test_perturbation import cosine

SLOW = pytest.mark.slow
TRAINING = ("steps", "batch_size")
SMALL = {
    "shape": (64, 12, 5), "population": 4, "generations": 3, "steps": 4, "batch_size": 20, "images": 50,
    "sparse_rivals": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    """A third of them, for speed."""
    whole = load("digits")
    return dataclasses.replace(whole, train=Split(whole.train.x[:400], whole.train.y[:400]))


def small(settings):
    """Node perturbation takes no steps."""
    unread = TRAINING if settings.get("method") == "perturbation" else ()
    return Config(**{name: value for name, value in {**SMALL, **settings}.items() if name not in unread})


def competing(config, dataset):
    """The contestants, by name."""
    return contest.contest(config, dataset, Given.usual(dataset)).contestants


def first_phase(config, dataset, method):
    """The data, the carries and the metrics of a method's first phase."""
    found = competing(dataclasses.replace(config, method=method), dataset)[method].phases[0]
    data = found.data([])
    return data, *walk(found.stage, data)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def numpys(config, params, x, y=None):
    """The RMSE of a first layer, in float64."""
    kernel, bias, back = (np.asarray(params[name], np.float64) for name in ("kernel", "bias", "back"))
    features = np.maximum(x @ kernel + bias, 0)
    return np.sqrt(np.mean((features @ kernel.T + back - x) ** 2))


SETTINGS = [
    {"method": "ga-sgd", "crossover": "neuron", "align": True, "target": "image", "activation": ("tanh", "sigmoid")},
    {"method": "ga", "crossover": "uniform", "shape": (64, 9), "lucky": 1},
    {"method": "perturbation", "target": "image", "activation": ("tanh", "relu")},
    {"method": "ga", "objectives": ("fitness", "zeros"), "validate_top": 3, "bias": False},
    {"crossover": "uniform", "mutation": "random", "prune": False, "schedule": "constant"},
    {"output": "sigmoid", "bias": False, "shape": (64, 30, 20, 10), "population": 5, "chunk": 2},
    {"method": "sgd-joint", "restarts": 1},
    {"method": "sgd-layerwise", "restarts": 2},
    {"rivals": ("long-run", "sgd-joint"), "guard": True, "input_noise": 0.2, "tune_lr": (1e-3, 2e-3)},
]


@pytest.mark.parametrize("settings", mostly_slow(SETTINGS, *SETTINGS[1:3]))
def test_every_setting_runs(settings, digits):
    """Each contestant's every phase, and no support vector machine: it has tests of its own."""
    config = small(settings)
    for name, contestant in competing(config, digits).items():
        kept = []
        assert contestant.gradient_steps == competing(config, digits)[config.method].gradient_steps
        for part in contestant.phases:
            carries, metrics = walk(part.stage, part.data(kept))
            kept.append(part.keep(carries[-1]))
            assert np.isfinite([float(values["best"]) for values in metrics]).all()
            # The champion is the best that validation has seen, up to rounding.
            seen = [float(values["validation"]) for values in metrics]
            assert float(kept[-1].validation) == pytest.approx(max(seen), rel=1e-5)
        (champion,) = contestant.champions(kept)
        assert len(champion) == len(config.shape) - 1, name


@SLOW
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_every_setting_lowers(settings, platform, digits):
    lower(EXPERIMENT, small(settings), digits, platform)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (64,)}, "shape is .* such as 784 500 250 100 50"),
        ({"population": 1}, "mates with another"),
        ({"activation": ("relu", "tanh"), "shape": (64, 9, 8, 7)}, "one for each of the 3"),
        ({"restarts": 7}, "a divisor of the 200 gradient steps"),
        ({"mutation_rate": 1.5}, "a probability"),
        ({"noise": 0.2}, "noise is 0.2, but takes effect only with --method perturbation"),
        ({"method": "perturbation", "noise": 0.0}, "noise is 0.0, but takes a number above 0"),
        ({"method": "perturbation", "steps": 4}, "steps is 4, but takes effect only with another method"),
        (
            {"method": "perturbation", "crossover": "uniform"},
            "crossover is uniform, but takes effect only with another",
        ),
        ({"method": "perturbation", "population": 5}, "an even number: members are pairs"),
        ({"objectives": ("fitness", "zeros")}, "objectives is fitness zeros, but takes fitness alone"),
        ({"method": "ga", "objectives": ("zeros",)}, "objectives is zeros, but takes fitness, or fitness zeros"),
        ({"validate_every": 0}, "at least 1"),
        ({"tune_lr": (1e-3, 1e-3)}, "tune_lr is .* different numbers > 0"),
        ({"tune_lr": (1e-3,), "lr": 1e-4}, "lr is 0.0001, but takes effect only without tune_lr"),
        ({"rivals": ("sgd-joint",), "method": "sgd-joint"}, "rivals is sgd-joint, but takes different ones, and not"),
        ({"rivals": ("long-run",), "method": "ga"}, "effect only with a method that takes gradient steps"),
        ({"guard": True, "method": "sgd-joint"}, "guard is True, but takes effect only with --method ga-sgd"),
        ({"input_noise": 1.0}, "a share from 0 to below 1"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        Config(**settings)


def test_the_faithful_preset_is_the_published_recipe():
    config = Config.from_preset("faithful", data="mnist")
    assert (config.method, config.population, config.learners) == ("ga-sgd", 10, 5)
    assert (config.crossover, config.crossover_rate, config.mutation, config.mutation_rate) == (
        "uniform",
        0.2,
        "random",
        0.01,
    )
    assert (config.align, config.prune, config.target) == (False, False, "input")
    assert widths(config, 784) == (784, 500, 250, 100, 50)


def test_shapes():
    assert widths(Config(), 784) == (784, 500, 250, 100, 50)
    assert widths(Config(), 64) == (64, 54, 45, 38, 32)
    assert widths(Config(), 3072)[-1] == 50
    assert widths(Config(), 1) == (1, 1, 1, 1, 1)
    with pytest.raises(InputError, match="the 64 inputs of these data first"):
        widths(Config(shape=(784, 10)), 64)


def test_fitness_is_one_over_rmse(digits):
    config = Config(**SMALL)
    data, carries, metrics = first_phase(config, digits, "ga")
    x = np.asarray(data.train[0], np.float64)
    np.testing.assert_allclose(x, digits.train.x.reshape(400, 64) / 16.0)
    for generation, carry in enumerate(carries):
        rows = x[np.arange(50) + 50 * generation]
        for member, fitness in zip(pop.unstack(carry.state.population.params), carry.state.fitness, strict=True):
            assert float(fitness) == pytest.approx(1 / numpys(config, member, rows), rel=1e-4)
    champions = [numpys(config, carry.champion, np.asarray(data.validation[0], np.float64)) for carry in carries[1:]]
    seen = [1 / float(values["validation"]) for values in metrics]
    assert champions == pytest.approx(np.minimum.accumulate(seen), rel=1e-4)


def test_the_worse_half_is_replaced_by_offspring_of_the_better(digits):
    """With a learning rate of nothing, parents stay as they were, and the zeros alone tell children from means."""
    config = Config(**{**SMALL, "lr": 1e-30, "population": 6, "align": False, "mutation_rate": 0.0})
    _, carries, metrics = first_phase(config, digits, "ga-sgd")
    for before, after, values in zip(carries[:-1], carries[1:], metrics, strict=True):
        order = np.argsort(-np.asarray(before.state.fitness), kind="stable")[:3]
        old, new = before.state.population.params, after.state.population.params
        kernels, kept, children = old["kernel"][order], new["kernel"][:3], new["kernel"][3:]
        # Survivors are in the order of this generation's scores.
        for survivor in kept:
            assert any(np.allclose(survivor, parent, atol=1e-20) for parent in kernels)
        means = [(a + b) / 2 for a in kernels for b in kernels]
        for child in children:
            assert any(np.allclose(child, mean, atol=1e-6) for mean in means)
        assert np.isfinite(after.state.fitness).all()
        promoted = np.argsort(-np.asarray(after.state.fitness), kind="stable")[:3] >= 3
        assert float(values["promoted"]) == pytest.approx(promoted.mean())


def test_only_the_better_half_takes_gradient_steps(digits):
    config = Config(**{**SMALL, "population": 6, "crossover": "uniform", "crossover_rate": 0.0, "mutation_rate": 0.0})
    _, carries, _ = first_phase(config, digits, "ga-sgd")
    steps = [np.asarray(carry.state.population.optimizer[0][0].count) for carry in carries]
    # Children go on with their first parent's schedule, and all parents have learnt.
    for generation, counts in enumerate(steps):
        assert counts.tolist() == [4 * generation] * 6
    for carry in carries[1:]:
        # Each child is a copy of a survivor, so no more than three networks differ.
        assert len(np.unique(np.asarray(carry.state.population.params["kernel"]).reshape(6, -1), axis=0)) <= 3


def test_without_gradients_genes_come_from_the_first_population(digits):
    config = Config(**{**SMALL, "crossover": "uniform", "mutation": "random", "mutation_rate": 0.1})
    _, carries, _ = first_phase(config, digits, "ga")
    first, last = (np.asarray(carries[i].state.population.params["kernel"]) for i in (0, -1))
    assert ((last[:, None] == first).any(axis=1) | (last == 0)).all()
    assert 0.02 < (last == 0).mean() < 0.3


def test_sparsity_is_the_share_of_exact_zeros(digits):
    _, carries, metrics = first_phase(Config(**{**SMALL, "mutation_rate": 0.2}), digits, "ga-sgd")
    for carry, values in zip(carries[1:], metrics, strict=True):
        kernels = np.asarray(carry.state.population.params["kernel"])
        assert float(values["zeros"][0]) == pytest.approx((kernels[np.argmax(carry.state.fitness)] == 0).mean())
        assert (kernels[2:] == 0).mean() > 0.01  # Children lose up to two fifths.


@pytest.mark.parametrize("target", mostly_slow(["input", "image"], "image"))
def test_a_phase_reads_the_frozen_features_and_leaves_the_layers_below(target, digits, tmp_path):
    config = Config(**SMALL, target=target, activation=("tanh", "relu"))
    found = competing(config, digits)["ga-sgd"]
    kept = []
    for i, part in enumerate(found.phases):
        data = part.data(kept)
        before = jax.device_get(data.below)
        kept.append(part.keep(run_stage(tmp_path, part.stage, data, 50).carry))
        same(data.below, before)
        if i:
            first = kept[0].champion
            x = digits.train.x.reshape(400, 64) / 16
            features = np.tanh(x @ np.asarray(first["kernel"]) + np.asarray(first["bias"]))
            np.testing.assert_allclose(data.train[0], features, atol=1e-5)
            assert len(data.train) == (2 if target == "image" else 1)
    (whole,) = found.champions(kept)
    same(whole["layer_0"], kept[0].champion)
    assert kept[0].state is None
    lines = read_lines(tmp_path / "metrics.jsonl")
    assert [line["generation"] for line in lines] == [1, 2, 3, 4, 5, 6]
    # What the second phase minimises is what a stack makes of the image, or of its own input.
    layered = layers(config, config.shape)
    x = np.asarray(found.phases[0].data([]).validation[0])
    inputs = stacked(layered[:1]).encode(whole, x)
    features = layered[1].encode(whole["layer_1"], inputs)
    error = {
        "input": layered[1].decode(whole["layer_1"], features) - inputs,
        "image": stacked(layered).decode(whole, features) - x,
    }[target]
    assert float(kept[1].validation) == pytest.approx(1 / np.sqrt(np.mean(np.square(error))), rel=1e-4)


def test_all_methods_spend_the_same_gradient_steps(digits):
    """Counted from the programs: Adam counts the steps that each member really took."""
    config = Config(**SMALL, restarts=1)
    contestants = competing(config, digits)
    assert {name: c.gradient_steps for name, c in contestants.items()} == dict.fromkeys(contestants, 2 * 3 * 2 * 4)
    for way in ("sgd-layerwise", "sgd-joint"):
        _, carries, _ = first_phase(config, digits, way)
        count = np.asarray(carries[-1].state.population.optimizer[0].count)
        assert count.sum() * len(contestants[way].phases) == contestants[way].gradient_steps
    for name, contestant in competing(dataclasses.replace(config, method="ga"), digits).items():
        assert (name, contestant.evaluations, contestant.gradient_steps) == (name, 2 * 4 * 4, 0)


def test_a_long_run_is_one_network_with_all_the_steps(digits):
    config = Config(**SMALL, rivals=("long-run",))
    contestants = competing(config, digits)
    assert list(contestants) == ["ga-sgd", "long-run"]
    assert contestants["long-run"].gradient_steps == contestants["ga-sgd"].gradient_steps
    part = contestants["long-run"].phases[0]
    carries, _ = walk(part.stage, part.data([]))  # Adam counts the steps that it really took.
    assert carries[-1].state.population.optimizer[0].count.tolist() == [3 * 2 * 4]


def test_of_learning_rates_that_are_level_the_first_is_chosen():
    values = (2.0, 2.0 * (1 + 1e-7), 1.0, 1.0, 3.0, 2.0, 5.0)  # The third phase is not done.
    kept = [genetics.Search((), {}, jnp.float32(value), jnp.int32(0)) for value in values]
    assert contest.chosen(Config(tune_lr=(1e-3, 2e-3, 3e-3)), kept) == [0, 4]
    assert contest.chosen(Config(), kept) == list(range(7))


@SLOW
def test_each_phase_goes_on_from_the_learning_rate_that_validation_prefers(digits):
    config = Config(**{**SMALL, "tune_lr": (1e-30, 5e-3, 1e-3)}, rivals=("sgd-layerwise",))
    found = competing(config, digits)["ga-sgd"]
    alone = competing(dataclasses.replace(config, tune_lr=(), lr=5e-3), digits)["ga-sgd"]
    assert found.gradient_steps == 3 * alone.gradient_steps
    assert found.evaluations == 3 * alone.evaluations
    kept = [part.keep(walk(part.stage, part.data([]))[0][-1]) for part in found.phases[:3]]
    # A learning rate of a grid is that learning rate alone.
    same(kept[1], alone.phases[0].keep(walk(alone.phases[0].stage, alone.phases[0].data([]))[0][-1]))
    best = int(np.argmax([float(search.validation) for search in kept]))
    assert best > 0
    for part in found.phases[3:]:
        same(part.data(kept).below["layer_0"], kept[best].champion)
    assert [part.stage.after for part in found.phases] == [0, 3, 6, 9, 12, 15]


def test_a_guarded_child_is_no_worse_than_its_parents(digits):
    """And has the score of whom it is a copy of."""
    settings = {**SMALL, "population": 6, "crossover": "neuron", "mutation": "random", "mutation_rate": 0.3}
    worst = {}
    for guard in (False, True):
        data, carries, _ = first_phase(Config(**settings, guard=guard), digits, "ga-sgd")
        worst[guard] = []
        for generation, carry in enumerate(carries[1:], 1):
            rows = np.asarray(data.train[0], np.float64)[np.arange(50) + 50 * generation]
            members, fitness = pop.unstack(carry.state.population.params), np.asarray(carry.state.fitness)
            assert fitness == pytest.approx([1 / numpys(None, member, rows) for member in members], rel=1e-4)
            worst[guard].append(bool(fitness[3:].min() >= fitness[:3].min() * (1 - 1e-5)))
    assert all(worst[True])
    assert not all(worst[False])


def test_inputs_are_lost_on_the_way_in_and_reconstructed():
    layer = tied(8, 8)
    x = jax.random.uniform(jax.random.key(0), (2000, 8)) + 0.5
    through = {"kernel": jnp.eye(8), "bias": jnp.zeros(8), "back": jnp.zeros(8)}
    goal = Goal(layer, stacked([]))
    lost = float(goal.noisy_error(through, (x,), {}, jax.random.key(1), 0.3))
    assert lost == pytest.approx(0.3 * float(np.mean(np.square(x))), rel=0.03)  # What is there comes through.
    assert float(goal.noisy_error(through, (x,), {}, jax.random.key(1), 0.0)) == 0


def test_random_search_draws_fresh_members(digits):
    config = Config(**SMALL, method="ga")
    found = competing(config, digits)["random-search"].phases[0]
    carries, _ = walk(found.stage, found.data([]))
    before, after = (np.asarray(carry.state.population.params["kernel"]) for carry in carries[:2])
    # The two best stay where they are.
    best = np.argsort(-carries[0].state.fitness, stable=True)[:2]
    assert [bool((new == old).all()) for new, old in zip(after, before, strict=True)] == [i in best for i in range(4)]
    assert sum(any((new == old).all() for old in before) for new in after) == 2


@pytest.mark.parametrize("target", ["input", "image"])
def test_node_perturbation_goes_to_the_gradient_with_the_members(target, key):
    """Of a tied layer above a frozen one: its kernel is in two layers of the network, and in one or two others' way."""
    below, above = tied(20, 12, jnp.tanh), tied(12, 6, jax.nn.relu, jnp.tanh)
    frozen, params = below.init(key), jax.tree.map(lambda leaf: leaf + 0.1, above.init(jax.random.key(1)))
    pixels = jax.random.normal(jax.random.key(2), (150, 20))
    features = below.encode(frozen, pixels)
    rows = (features, pixels) if target == "image" else (features,)
    goal = Goal(above, below)
    gradient = jax.grad(lambda params: -goal.error(params, rows, frozen))(params)
    near = []
    for pairs in (3, 30, 300):
        found = jax.jit(
            lambda params, key, pairs=pairs: node_perturbation(
                goal.reconstruct,
                params,
                features,
                lambda made: -jnp.mean(goal.missed(made, rows, frozen) ** 2, axis=1),
                key,
                noise=relative_noise(0.05),
                pairs=pairs,
            )
        )(params, jax.random.key(4))
        near.append(cosine(found.gradient["kernel"], gradient["kernel"]))
    angles = [angle for angle, _ in near]
    assert angles == sorted(angles)
    assert angles[-1] > 0.97
    assert near[-1][1] == pytest.approx(1, abs=0.08)


@pytest.mark.slow
def test_node_perturbation_finds_what_evolution_does_not(digits):
    """At as many evaluations, and random search at as many as either."""
    common = {"shape": (64, 24), "images": 100, "mutation_rate": 0.001, "validate_every": 50}
    evolution = Config(**common, method="ga", population=40, generations=19, crossover="uniform", mutation="random")
    perturbation = Config(**common, method="perturbation", population=2, generations=399, lr=5e-3)
    found, looks = {}, {}
    for config in (evolution, perturbation):
        for name, contestant in competing(config, digits).items():
            assert contestant.evaluations == 800
            carries, metrics = walk(contestant.phases[0].stage, contestant.phases[0].data([]))
            found[name] = 1 / float(carries[-1].validation)
            looks[name] = [i + 1 for i, values in enumerate(metrics) if np.isfinite(values["validation"])]
    assert looks["perturbation"] == [*range(50, 351, 50), 399]
    assert looks["ga"] == [19]
    assert found["perturbation"] < 0.8 * min(found["ga"], found["random-search"])


def test_what_node_perturbation_has_lost_stays_lost(digits):
    config = Config(shape=(64, 24), method="perturbation", population=2, generations=30, mutation_rate=0.02, images=50)
    _, carries, metrics = first_phase(config, digits, "perturbation")
    kernels = [np.asarray(carry.state.population["kernel"][0]) for carry in carries]
    for before, after in itertools.pairwise(kernels):
        assert (after[before == 0] == 0).all()
        assert (after[after != 0] != before[after != 0]).mean() > 0.9
    gone = [(kernel == 0).mean() for kernel in kernels]
    assert gone[-1] == pytest.approx(1 - 0.98**31, abs=0.15)
    assert [float(values["zeros"][0]) for values in metrics] == pytest.approx(gone[1:])
    _, carries, _ = first_phase(dataclasses.replace(config, prune=False, mutation_rate=0.0), digits, "perturbation")
    assert (np.asarray(carries[-1].state.population["kernel"]) != 0).all()


def test_node_perturbation_takes_no_derivative(digits, monkeypatch):
    def taken(*arguments, **named):
        raise AssertionError("a derivative")

    for name in ("grad", "value_and_grad", "vjp", "jvp", "linearize"):
        monkeypatch.setattr(jax, name, taken)
    phase = competing(small({"method": "perturbation"}), digits)["perturbation"].phases[0]
    start, step = phase.stage.programs(1)
    data = phase.data([])
    jax.make_jaxpr(step)(jax.eval_shape(start, data), data)


@pytest.mark.slow
def test_no_key_is_used_twice(key):
    x = jax.random.uniform(jax.random.key(1), (60, 8))
    data = Data((x,), (x[:20],), {})
    config = Config(shape=(8, 3), population=4, generations=2, steps=2, batch_size=10, images=20)
    (layer,) = layers(config, config.shape)
    for i, way in enumerate(("ga", "ga-sgd", "random-search", "sgd-layerwise", "perturbation")):
        if way == "perturbation":  # Of its first member a step is taken before it is seen.
            config = dataclasses.replace(config, lr=1e-30, mutation_rate=1e-30)
        plan = phase(config, way, layer, stacked([]), 2, jax.random.fold_in(key, i))
        start, step = map(jax.jit, plan.programs(1))
        search = start(data)
        first = pop.take(search.state.population, 0)
        same(plan.first()["kernel"], (first if way == "perturbation" else first.params)["kernel"])
        search, values = step(search, data)
        assert np.isfinite(values["best"])


@SLOW  # The full optimisation decides what shares memory.
@pytest.mark.parametrize("way", ["ga", "random-search", "ga-sgd"])
def test_a_generation_needs_less_than_three_times_the_population(way):
    """As XLA lays out its buffers: the population before and after, and all temporaries."""
    config = Config.from_preset("ga", population=200)
    (layer,) = layers(config, (784, 500))
    programs = phase(config, way, layer, stacked([]), 2, jax.random.key(0)).programs(8)
    x = jax.ShapeDtypeStruct((1000, 784), np.float32)
    data = Data((x,), (x,), {})
    search = jax.eval_shape(programs.start, data)
    memory = jax.jit(programs.step, donate_argnums=0).lower(search, data).compile().memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(search.state.population))
    assert used + memory.temp_size_in_bytes < 3 * size


def test_the_machine_is_scikit_learns(key):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)) * [1, 10, 100, 1000]
    y = (np.sum((x / [1, 10, 100, 1000]) ** 2, axis=1) > 3.4).astype(int)
    svm = fit_svm((x[:400], y[:400]), (x[400:500], y[400:500]), samples=300)
    assert svm[-1].shape_fit_[0] == 300
    assert (predict_classes(svm, x[500:]) != y[500:]).mean() < 0.12
    np.testing.assert_array_equal(predict_classes(svm, np.tile(x, (8, 1))), np.tile(svm.predict(x), 8))


TWO = {
    "method": "ga", "objectives": ("fitness", "zeros"), "shape": (64, 8, 4), "population": 16, "generations": 4,
    "images": 50, "crossover": "uniform", "mutation": "random", "mutation_rate": 0.05, "validate_every": 2,
    "validate_top": 10, "svm_samples": 100,
}  # fmt: skip


@pytest.mark.slow
def test_two_objectives_are_ranked_as_nsga2_does_over_all_layers_at_once(digits):
    config = Config(**TWO)
    contestants = competing(config, digits)
    assert {name: c.evaluations for name, c in contestants.items()} == dict.fromkeys(contestants, 16 * (1 + 2 * 4))
    (part,) = contestants["ga"].phases
    data = part.data([])
    carries, metrics = walk(part.stage, data)
    shares = lambda params: [(np.concatenate([np.ravel(params[f"layer_{i}"]["kernel"]) for i in (0, 1)]) != 0).mean()]  # noqa: E731
    for carry, values in zip(carries[1:], metrics, strict=True):
        own = np.asarray(carry.state.own)
        of = np.concatenate([shares(params) for params in pop.unstack(carry.state.population.params)])
        np.testing.assert_allclose(-own[:, 1], of, rtol=1e-6)
        np.testing.assert_array_equal(carry.state.fitness, genetics.nsga2_fitness(own))
        assert float(values["best"]) == own[:, 0].max()
        assert float(values["nonzero"]) == pytest.approx(of[own[:, 0].argmax()])
    front = carries[-1].front
    there = np.flatnonzero(np.asarray(front.objectives[:, 0]) > -np.inf)
    assert (np.asarray(genetics.fronts(front.objectives[there])) == 0).all()
    whole, x = stacked(layers(config, config.shape)), np.asarray(data.validation[0])
    for i in there:
        params = pop.take(front.members, int(i))
        rmse = np.sqrt(np.mean((whole.decode(params, whole.encode(params, x)) - x) ** 2))
        np.testing.assert_allclose(front.objectives[i], [1 / rmse, -shares(params)[0]], rtol=1e-4)
    assert float(front.objectives[:, 0].max()) == pytest.approx(float(carries[-1].validation))
    drawn = contestants["random-search"].phases[0]
    carries, _ = walk(drawn.stage, drawn.data([]))
    costs = -np.asarray(carries[-1].state.own)[:, 1]
    assert costs.min() < 0.3
    assert costs.max() > 0.7


@pytest.fixture(scope="module")
def front_run(tmp_path_factory):
    """A finished run of two objectives, only to read."""
    out = tmp_path_factory.mktemp("front") / "run"
    with jax.debug_key_reuse(False):
        return out, autoencoder.run(Config(**TWO, out=out))


@pytest.mark.slow
def test_a_run_of_two_objectives_reports_its_front(front_run):
    out, found = front_run
    points = found["front"]
    assert len(points) > 1
    assert [point["nonzero"] for point in points] == sorted(point["nonzero"] for point in points)
    errors = [point["metrics"]["validation"]["rmse"] for point in points]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == pytest.approx(found["metrics"]["validation"]["rmse"], rel=1e-5)
    x = load("digits").test.x / 16
    assert found["blank_rmse"] == pytest.approx(np.sqrt(np.mean(x.astype(np.float64) ** 2)), rel=1e-5)
    # The area, in steps: what is reached with so many weights, from there to the next.
    area, ends = 0.0, [*(point["nonzero"] for point in points[1:]), 1.0]
    reached = 0.0
    for point, end in zip(points, ends, strict=True):
        reached = max(reached, 1 - point["metrics"]["test"]["rmse"] / found["blank_rmse"])
        area += reached * (end - point["nonzero"])
    assert found["hypervolume"]["ga"] == pytest.approx(area, abs=1e-5)
    text = (out / "report.md").read_text()
    assert f"| {len(points)} | {points[-1]['nonzero']:.4f} | {errors[-1]:.4f} |" in text
    assert "could not be drawn" not in text
    rows = (out / "front.csv").read_text().splitlines()
    assert rows[0] == "contestant,front,nonzero,generation,train_rmse,validation_rmse,test_rmse"
    assert len(rows) == 1 + len(points) + len(found["control_front"])


@pytest.mark.slow
def test_a_member_of_the_front_reconstructs_as_it_was_judged_and_tells_no_class(front_run, tmp_path, capsys):
    out, found = front_run
    test = load("digits").test
    for number in (1, len(found["front"])):
        answers = champion(out, number)[0](test.x)
        assert answers.classes is None
        rmse = np.sqrt(np.mean(((answers.reconstructions - test.x) / 16.0) ** 2))
        assert rmse == pytest.approx(found["front"][number - 1]["metrics"]["test"]["rmse"], rel=1e-4)
    np.save(tmp_path / "two.npy", test.x[:2])
    predict([str(out), str(tmp_path / "two.npy"), "--front", "1"])
    written = tmp_path / "two-reconstruction.png"
    lines = [f"{tmp_path / 'two.npy'}[{i}]  {written}" for i in range(2)]
    assert capsys.readouterr().out.splitlines() == lines
    assert written.exists()
    with pytest.raises(InputError, match=f"front is 99, but takes 1 to {len(found['front'])}"):
        champion(out, 99)


@SLOW
@pytest.mark.parametrize("settings", [TWO, {"method": "perturbation", "population": 2, "generations": 4}])
def test_a_search_that_is_stopped_goes_on_to_the_same_end(settings, tmp_path, monkeypatch):
    small = {name: TWO[name] for name in ("shape", "images", "svm_samples")}
    config, real = Config(**{**small, **settings}, checkpoint_every=1), loop._lines

    def stopped(values, done, count):
        if done + count > 3:
            raise Interrupted("stopped")
        return real(values, done, count)

    with jax.debug_key_reuse(False):
        autoencoder.run(dataclasses.replace(config, out=tmp_path / "whole"))
        monkeypatch.setattr(loop, "_lines", stopped)
        with pytest.raises(Interrupted):
            autoencoder.run(dataclasses.replace(config, out=tmp_path / "broken"))
        monkeypatch.setattr(loop, "_lines", real)
        autoencoder.run(dataclasses.replace(config, out=tmp_path / "broken"))
    assert deterministic(tmp_path / "broken") == deterministic(tmp_path / "whole")


@pytest.fixture(scope="module")
def finished(smoke):
    return smoke("autoencoder")


def test_a_run_leaves_what_it_promises(finished):
    result = json.loads((finished / "result.json").read_text())
    assert result["control"]["name"] == "sgd-layerwise"
    assert list(result["references"]) == ["sgd-joint"]
    for entry in (result, result["control"], *result["references"].values()):
        assert entry["budget"]["gradient_steps"] == 2 * 3 * 3 * 4
        assert entry["metrics"]["test"].keys() == {"rmse", "svm_error"}
    dataset = load("digits")
    x = {name: getattr(dataset, name).x.reshape(-1, 64) / 16.0 for name in ("train", "test")}
    baseline = np.sqrt(np.mean((x["test"] - x["train"].mean(axis=0)) ** 2))
    assert result["mean_image_rmse"]["test"] == pytest.approx(baseline, rel=1e-5)
    for way, rmse in result["rmse_by_layer"].items():
        judged = {"ga-sgd": result, "sgd-layerwise": result["control"], **result["references"]}[way]
        assert rmse["test"][-1] == judged["metrics"]["test"]["rmse"]
        assert len(rmse["test"]) == (1 if way == "sgd-joint" else 2)  # Its first layer alone is no autoencoder.
        assert len(result["zeros"][way]) == 2
    text = (finished / "report.md").read_text()
    for name in ("curves", "reconstructions", "filters", "features", "confusion"):
        assert f"({name}.png)" in text
        assert (finished / f"{name}.png").stat().st_size > 1000
    for name in ("metrics", "sgd-layerwise", "sgd-joint"):
        assert [line["generation"] for line in read_lines(finished / f"{name}.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_what_earlier_versions_said_of_layers_that_are_no_autoencoder_is_not_drawn(finished, tmp_path):
    config, result = Config.from_preset("smoke"), json.loads((finished / "result.json").read_text())
    pictures = []
    for rmse in (result["rmse_by_layer"]["sgd-joint"]["test"], [9.0, *result["rmse_by_layer"]["sgd-joint"]["test"]]):
        result["rmse_by_layer"]["sgd-joint"]["test"] = rmse
        EXPERIMENT.figures(Saved(finished, config, result))["curves.png"](tmp_path / "curves.png")
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_the_machine_reads_the_encoders_features(digits):
    config = Config(**SMALL)
    task = to_device(digits, 0.0, digits.values.white)
    judge = judging.judging(config, layers(config, config.shape), task, digits)
    params = stacked(layers(config, config.shape)).init(jax.random.key(3))
    features = digits.test.x.reshape(-1, 64) / 16.0
    for layer in ("layer_0", "layer_1"):
        features = np.maximum(features @ np.asarray(params[layer]["kernel"], np.float64), 0)
    judged = judge(params)
    np.testing.assert_allclose(judged.details.features, features, atol=1e-5)
    np.testing.assert_array_equal(judged.predicted, judged.details.svm.predict(judged.details.features))


@pytest.mark.slow
def test_a_run_goes_on_in_the_middle_of_a_phase(finished, tmp_path):
    """Stopped in the second layer's phase, the same command ends with the same champion, bit for bit."""
    config = Config.from_preset("smoke", out=tmp_path / "run")

    def stopping(config, dataset, given):
        whole = contest.contest(config, dataset, Given.usual(dataset))
        own, (first, second) = whole.contestants["ga-sgd"], whole.contestants["ga-sgd"].phases
        short = second._replace(stage=dataclasses.replace(second.stage, generations=2))
        return whole._replace(contestants={"ga-sgd": dataclasses.replace(own, phases=[first, short]), "stop": None})

    with pytest.raises(AttributeError):  # There is nobody to stop it.
        EXPERIMENT._replace(contest=stopping).run(config)
    assert len(read_lines(tmp_path / "run/metrics.jsonl")) == 5
    autoencoder.run(config)
    assert deterministic(tmp_path / "run") == deterministic(finished)


def test_predict_writes_the_reconstruction_beside_the_image(finished, tmp_path, capsys):
    dark = 255 - np.asarray(load("digits").test.x[0, :, :, 0] * 15, np.uint8)
    Image.fromarray(dark).resize((80, 72), Image.Resampling.NEAREST).convert("RGB").save(tmp_path / "digit.png")
    predict([str(finished), str(tmp_path / "digit.png"), "--invert"])
    line = capsys.readouterr().out
    assert line.startswith(str(tmp_path / "digit.png"))
    assert "digit-reconstruction.png" in line
    with Image.open(tmp_path / "digit-reconstruction.png") as written:
        assert written.size == (400, 200)
        seen = np.asarray(written)[::25, :200:25].astype(float)
    assert np.corrcoef(seen.ravel(), 255.0 - dark.ravel())[0, 1] > 0.9  # Resizing blurs.
    np.save(tmp_path / "two.npy", load("digits").test.x[:2])
    predict([str(finished), str(tmp_path / "two.npy"), "--out", str(tmp_path / "elsewhere")])
    assert len(capsys.readouterr().out.splitlines()) == 2
    with Image.open(tmp_path / "elsewhere/two-reconstruction.png") as written:
        assert written.size[0] == written.size[1]


@pytest.mark.parametrize("damage", ["image", "svm.skops", "no machine"])
def test_what_is_broken_gets_one_plain_line(damage, finished, tmp_path, capsys):
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    image = tmp_path / "image.png"
    Image.new("L", (28, 28)).save(image)
    if damage == "image":
        image.write_bytes(image.read_bytes()[:40])
    elif damage == "svm.skops":
        machine = tmp_path / "run/svm.skops"
        machine.write_bytes(machine.read_bytes()[:-100])
    else:
        (tmp_path / "run/svm.skops").unlink()
    with pytest.raises(SystemExit) as stopped:
        predict([str(tmp_path / "run"), str(image)])
    assert stopped.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert (str(image) if damage == "image" else "svm.skops") in complaint


@pytest.mark.slow
def test_vectors_are_reconstructed_too(tmp_path, capsys):
    """Rows of a table are standardised, and what becomes of them is written as .npy."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = (rng.normal(size=(300, 6)) + y[:, None]) * 100 + 50
    np.savez(tmp_path / "mine.npz", x_train=x.astype(np.float32), y_train=y)
    settings = {**SMALL, "shape": (6, 3), "data": str(tmp_path / "mine.npz"), "out": tmp_path / "run"}
    with pytest.raises(InputError, match="output is sigmoid, but takes linear"):
        autoencoder.run(Config(**settings, output="sigmoid"))
    result = autoencoder.run(Config(**settings))
    assert result["mean_image_rmse"]["train"] == pytest.approx(1, abs=0.05)
    assert not (tmp_path / "run/filters.png").exists()
    np.save(tmp_path / "row.npy", x[0].astype(np.float32))
    predict([str(tmp_path / "run"), str(tmp_path / "row.npy")])
    assert "row-reconstruction.npy" in capsys.readouterr().out
    assert np.load(tmp_path / "row-reconstruction.npy").shape == (1, 6)
