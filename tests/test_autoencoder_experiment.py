"""The autoencoder experiment: who learns and who is replaced, what a phase reads and leaves alone; the run contract."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from jevo import population as pop
from jevo.data.datasets import Split, load
from jevo.data.task import to_device
from jevo.errors import InputError
from jevo.experiments import autoencoder
from jevo.experiments.autoencoder import EXPERIMENT, Config, contest
from jevo.experiments.autoencoder.config import widths
from jevo.experiments.autoencoder.search import Data, layers, phase
from jevo.networks import stacked
from jevo.predict import main as predict
from jevo.runs.lines import read_lines
from jevo.runs.loop import run_stage
from jevo.training import fit_svm, predict_classes
from tests.commands import deterministic
from tests.lowering import PLATFORMS, lower
from tests.stages import walk

SLOW = pytest.mark.slow
SMALL = {"shape": (64, 12, 5), "population": 4, "generations": 3, "steps": 4, "batch_size": 20, "images": 50}


@pytest.fixture(scope="module")
def digits():
    """A third of them, for speed."""
    whole = load("digits")
    return dataclasses.replace(whole, train=Split(whole.train.x[:400], whole.train.y[:400]))


def competing(config, dataset):
    """The contestants, by name."""
    return contest.contest(config, dataset).contestants


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
    {"crossover": "uniform", "mutation": "random", "prune": False, "schedule": "constant"},
    {"output": "sigmoid", "bias": False, "shape": (64, 30, 20, 10), "population": 5, "chunk": 2},
    {"method": "sgd-joint", "restarts": 1},
    {"method": "sgd-layerwise", "restarts": 2},
]


@pytest.mark.parametrize("settings", [*SETTINGS[:2], *(pytest.param(rarely, marks=SLOW) for rarely in SETTINGS[2:])])
def test_every_setting_runs(settings, digits):
    """Each contestant's every phase, and no support vector machine: it has tests of its own."""
    config = Config(**{**SMALL, **settings})
    for name, contestant in competing(config, digits).items():
        kept = []
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
    lower(EXPERIMENT, Config(**{**SMALL, **settings}), digits, platform)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (64,)}, "shape is .* such as 784 500 250 100 50"),
        ({"population": 1}, "mates with another"),
        ({"activation": ("relu", "tanh"), "shape": (64, 9, 8, 7)}, "one for each of the 3"),
        ({"restarts": 7}, "a divisor of the 200 gradient steps"),
        ({"mutation_rate": 1.5}, "a probability"),
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


@pytest.mark.parametrize("target", ["input", "image"])
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


def test_random_search_draws_fresh_members(digits):
    config = Config(**SMALL, method="ga")
    found = competing(config, digits)["random-search"].phases[0]
    carries, _ = walk(found.stage, found.data([]))
    before, after = (np.asarray(carry.state.population.params["kernel"]) for carry in carries[:2])
    # The two best stay where they are.
    best = np.argsort(-carries[0].state.fitness, stable=True)[:2]
    assert [bool((new == old).all()) for new, old in zip(after, before, strict=True)] == [i in best for i in range(4)]
    assert sum(any((new == old).all() for old in before) for new in after) == 2


@pytest.mark.slow
def test_no_key_is_used_twice(key):
    x = jax.random.uniform(jax.random.key(1), (60, 8))
    data = Data((x,), (x[:20],), {})
    config = Config(shape=(8, 3), population=4, generations=2, steps=2, batch_size=10, images=20)
    (layer,) = layers(config, config.shape)
    for i, way in enumerate(("ga", "ga-sgd", "random-search", "sgd-layerwise")):
        plan = phase(config, way, layer, stacked([]), 2, jax.random.fold_in(key, i))
        start, step = map(jax.jit, plan.programs(1))
        search = start(data)
        same(plan.first(), pop.take(search.state.population.params, 0))
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
        assert len(result["zeros"][way]) == 2
    text = (finished / "report.md").read_text()
    for name in ("curves", "zeros", "reconstructions", "filters", "features", "confusion"):
        assert f"({name}.png)" in text
        assert (finished / f"{name}.png").stat().st_size > 1000
    for name in ("metrics", "sgd-layerwise", "sgd-joint"):
        assert [line["generation"] for line in read_lines(finished / f"{name}.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_the_machine_reads_the_encoders_features(digits):
    config = Config(**SMALL)
    task = to_device(digits, 0.0, digits.values.white)
    judge = contest.judging(config, layers(config, config.shape), task, digits)
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

    def stopping(config, dataset):
        whole = contest.contest(config, dataset)
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
