"""Regression, and tasks of the user's own: a run of them has all that a run has, in units of the data."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from jevo import data
from jevo.data import load
from jevo.data.targets import Targets, targets_of, written
from jevo.data.task import to_device
from jevo.errors import InputError
from jevo.experiments import champion, elsewhere, experiment, hybrid, weights
from jevo.predict import main as predict
from jevo.runs.arguments import from_command_line
from jevo.runs.champion import Saved
from jevo.runs.own import find_goal, goal_digest
from jevo.training import Goal
from jevo.training.criterion import classification, measure_targets, own, r2, regression
from tests.commands import deterministic
from tests.marks import mostly_slow
from tests.test_elsewhere import on_the_card

TWO = ("area", "price")


@pytest.fixture(autouse=True)
def keys_may_be_used_again():
    """A run in parts takes the same root again and again, on purpose."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def made(examples=240, seed=0):
    """Five features, and two targets in units far apart."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(examples, 5))
    area = 3e-4 * (x[:, 0] - x[:, 1] ** 2)
    price = 2e5 + 4e4 * np.sin(x[:, 2]) + 1e4 * x[:, 0]
    return x, np.stack([area, price], axis=1)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The path of a .csv of them."""
    path = tmp_path_factory.mktemp("data") / "flats.csv"
    x, y = made()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{i}" for i in range(5)), *TWO])
        writer.writerows([*map(repr, map(float, (*a, *b)))] for a, b in zip(x, y, strict=True))
    return path


SOURCE = """
import jax.numpy as jnp
from jevo.training import Goal

def pinball(outputs, targets):
    shares = jnp.array([[0.1, 0.5, 0.9]])
    error = targets - outputs
    return jnp.mean(jnp.maximum(shares * error, (shares - 1) * error), axis=-1)

def inside(outputs, targets):
    return (targets[:, 0] > outputs[:, 0]) & (targets[:, 0] < outputs[:, 2])

quantiles = Goal(pinball, {"inside": inside}, outputs=3, estimates=(1,))

def made():
    return quantiles

number = 3
mean = Goal(lambda outputs, targets: jnp.mean((outputs - targets) ** 2))
broken = Goal(lambda outputs, targets: outputs @ targets)
classes = Goal(lambda outputs, targets: outputs[:, 0], kind="classification")
few = Goal(pinball, outputs=3, estimates=(3,))
taken = Goal(pinball, {"r2": inside}, outputs=3)
taken_too = Goal(pinball, {"rmse area": inside}, outputs=3)
wordy = Goal("pinball")
"""

names: dict = {}
exec(SOURCE, names)
QUANTILES = names["quantiles"]


# What data say


def test_csv_npz_parquet_and_arrays_are_one_regression(table, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    x, y = made()
    np.savez(tmp_path / "flats.npz", x_train=x, y_train=y)
    columns = {f"x{i}": x[:, i] for i in range(5)} | dict(zip(TWO, y.T, strict=True))
    parquet.write_table(pa.table(columns), tmp_path / "flats.parquet")
    first = load(table, label="area,price", regression=True)
    assert first.classes == ()
    assert first.targets.names == TWO
    others = [
        load(tmp_path / "flats.npz", regression=True),
        load(tmp_path / "flats.parquet", label="area, price", regression=True),
        data.from_arrays(x, y, regression=True),
        data.from_source(zip(x, y, strict=True), x=0, y=1, regression=True),
    ]
    for other in others:
        for part in ("train", "validation", "test"):
            for axis in "xy":
                np.testing.assert_array_equal(getattr(getattr(first, part), axis), getattr(getattr(other, part), axis))
        assert other.targets[1:] == first.targets[1:]
    assert first.train.y.dtype == np.float64


def test_what_a_network_learns_is_standardised_and_comes_back_in_units(table):
    dataset = load(table, label="area,price", regression=True)
    learnt = np.asarray(to_device(dataset).train.y)
    assert learnt.dtype == np.float32
    np.testing.assert_allclose(learnt.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(learnt.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(dataset.targets.source(learnt), dataset.train.y, rtol=1e-5, atol=1e-9)


def test_targets_that_float32_cannot_tell_apart_are_learnt_all_the_same():
    """Seconds since 1970, an hour apart."""
    clock = 1.7e9 + np.arange(100.0)[:, None] * 10
    targets = targets_of("data", ["t"], clock)
    assert len(np.unique(targets.standardised(clock))) == 100
    np.testing.assert_allclose(targets.source(targets.standardised(clock)), clock, atol=1e-3)


def test_one_column_is_the_last_and_a_name_with_a_comma_is_one_column(tmp_path):
    path = tmp_path / "a.csv"
    rows = "\n".join(f"{i},{i % 7}.5,{i * 0.25}" for i in range(40))
    path.write_text(f'a,"b,c",d\n{rows}\n')
    assert load(path, regression=True).targets.names == ("d",)
    assert load(path, label="b,c", regression=True).targets.names == ("b,c",)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y_train": np.full(30, 2.0)}, "'y' is 2 in all train examples"),
        ({"y_train": np.r_[np.arange(29.0), np.nan]}, r"y_train\[29, 0\] is nan"),
        ({"y_train": np.array(["a", "b", "c"] * 10)}, "must hold numbers for a regression"),
        ({"y_train": np.zeros((30, 2, 2))}, "not shape"),
        (
            {"y_train": np.random.default_rng(0).normal(size=(30, 2)), "x_test": np.ones((3, 2)), "y_test": np.ones(3)},
            "y_test has 1 targets for each example, y_train has 2",
        ),
    ],
)
def test_what_is_no_regression(arrays, says, tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.random.default_rng(1).normal(size=(30, 2)), **arrays)
    with pytest.raises(InputError, match=says):
        load(tmp_path / "a.npz", regression=True)


def test_a_target_that_is_no_number_is_named_by_its_line(tmp_path):
    path = tmp_path / "a.csv"
    rows = "a,b\n" + "\n".join(f"{i},{i}.5" for i in range(30))
    path.write_text(f"{rows}\n3,?\n")
    with pytest.raises(InputError, match=r"column 'b', line 32: '\?' is no finite number.*targets must be numbers"):
        load(path, regression=True)
    with pytest.raises(InputError, match="names a column twice"):
        load(path, label="b,b", regression=True)
    path.write_text(rows)
    with pytest.raises(InputError, match="set goal to regression"):
        load(path)
    with pytest.raises(InputError, match="digits' has classes"):
        load("digits", regression=True)


# What is said of a network


@pytest.mark.parametrize("count", [1, 3])
def test_the_metrics_are_those_of_scikit_learn(count, rng):
    y = rng.normal(size=(50, count)) * [1e5, 1.0, 1e-3][:count] + 7
    targets = targets_of("data", [f"t{i}" for i in range(count)], y)
    outputs = targets.standardised(y + rng.normal(size=y.shape) * y.std(axis=0) * 0.3)
    said, found = targets.source(outputs), measure_targets(targets, outputs, y)
    assert found["r2"] == pytest.approx(r2_score(y, said))
    for i in range(count):
        of = f" t{i}" if count > 1 else ""
        assert found[f"rmse{of}"] == pytest.approx(root_mean_squared_error(y[:, i], said[:, i]))
        assert found[f"mae{of}"] == pytest.approx(mean_absolute_error(y[:, i], said[:, i]))
    standard = targets.standardised(y)
    assert float(r2(jnp.asarray(outputs), jnp.asarray(standard))) == pytest.approx(
        r2_score(standard, outputs), abs=1e-5
    )
    reward = regression(targets).reward(jnp.asarray(outputs), jnp.asarray(standard))
    assert reward.shape == (50,)
    assert -float(reward.mean()) == pytest.approx(found["loss"], rel=1e-4)


def test_r2_of_a_target_that_does_not_vary():
    """As scikit-learn has it: 1 where the estimates are right, else 0."""
    targets = Targets(("a",), (0.0,), (1.0,))
    for same in (np.ones((4, 1)), np.full((40, 1), 0.1), np.full((3, 1), 1e7 / 3)):
        for said in (same, same + np.arange(len(same))[:, None]):
            want = r2_score(same, said)
            found = measure_targets(targets, said, same)["r2"]
            assert found == want
            assert float(r2(jnp.asarray(said), jnp.asarray(same))) == want


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (1.7e9 + 1234.5678, 3000.0, "1700001234.6"), (1234567.89, 5e5, "1.23457e+06"),
        (1.23456789e-4, 1e-4, "0.000123457"), (0.0, 1.0, "0"),
        (-3.14159265, 1.0, "-3.14159"), (float("nan"), 1.0, "nan"), (float("inf"), 1.0, "inf"),
    ],
)  # fmt: skip
def test_an_estimate_has_the_digits_that_its_target_needs(value, scale, text):
    assert written(value, scale) == text


def test_an_own_goal_of_classes_with_the_usual_loss_is_the_usual_one(rng):
    usual = classification(3)
    mine = own(Goal(lambda logits, y: -usual.reward(logits, y), kind="classification"), 3, None)
    logits, y = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 3, 20)
    want = usual.measure(np.asarray(usual.finish(jnp.asarray(logits))), y)
    assert mine.measure(logits, y) == pytest.approx(want, rel=1e-5)


# Runs


@pytest.mark.parametrize("name", mostly_slow(["masks", "weights", "hybrid", "hyperparams"], "weights"))
def test_a_regression_has_all_that_a_run_has(name, table, tmp_path, capsys, monkeypatch):
    main = ["--preset", "smoke", "--data", str(table), "--goal", "regression", "--label", "area,price"]
    found = experiment(name)
    found.run(from_command_line(found.config, [*main, "--out", str(tmp_path / "run")]))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    dataset = load(table, label="area,price", regression=True)
    assert result["data"]["targets"]["names"] == list(TWO)
    assert list(result["metrics"]["test"])[:2] == ["r2", "loss"]
    assert list(result["control"]["metrics"]["test"]) == list(result["metrics"]["test"])
    assert (tmp_path / "run" / "estimates.png").stat().st_size > 5000
    assert not (tmp_path / "run" / "confusion.png").exists()
    report = (tmp_path / "run" / "report.md").read_text()
    assert "could not be drawn" not in report
    assert "test rmse price" in report
    # What predict says is what was judged.
    answer, _ = champion(tmp_path / "run")
    raw = dataset.values.source(dataset.test.x)
    values = answer(raw).values
    seeds = [one["metrics"] for one in result.get("repeats", [])] or [result["metrics"]]
    assert any(one["test"]["r2"] == pytest.approx(r2_score(dataset.test.y, values), abs=1e-5) for one in seeds)
    lines = on_the_card(tmp_path / "run", raw, monkeypatch)
    np.testing.assert_allclose(lines["estimates"], values, rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    np.save(tmp_path / "two.npy", raw[:2].astype(np.float32))
    predict([str(tmp_path / "run"), str(tmp_path / "two.npy")])
    first, second = capsys.readouterr().out.splitlines()
    for line, expected in zip((first, second), values, strict=False):
        *_, area, shown, price, last = line.split()
        assert (area, price) == ("area", "price")
        # Two rows are a batch of their own, whose last bits may be others.
        np.testing.assert_allclose([float(shown), float(last)], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_a_regression_is_learnt(tmp_path):
    x, y = made(1200)
    dataset = data.from_arrays(x, y, regression=True)
    settings = {"hidden": (32,), "cycles": 3, "steps": 300, "legs": 1, "population": 4}
    result = hybrid.run(hybrid.Config(**settings, out=tmp_path / "run"), dataset=dataset)
    assert result["config"]["goal"] == "regression"
    assert result["metrics"]["test"]["r2"] > 0.85


@pytest.mark.slow
def test_a_goal_of_ones_own_from_a_file_and_in_python_is_one_run(table, tmp_path, monkeypatch):
    (tmp_path / "goals.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    dataset = load(table, label="price", regression=True)
    smoke = {"data": str(table), "label": "price"}
    named = weights.Config.from_preset("smoke", **smoke, goal="goals.py:quantiles", out=tmp_path / "named")
    first = weights.run(named)
    given = weights.Config.from_preset("smoke", **smoke, out=tmp_path / "given")
    second = weights.run(given, dataset=dataset, goal=QUANTILES)
    assert list(first["metrics"]["test"]) == ["loss", "inside", "r2", "rmse", "mae"]
    assert first["metrics"] == second["metrics"]
    assert deterministic(tmp_path / "named")[1] == deterministic(tmp_path / "given")[1]
    # predict needs the run alone: what is a loss to it? It says the median, which the goal names.
    (tmp_path / "goals.py").unlink()
    answer, _ = champion(tmp_path / "named")
    values = answer(dataset.values.source(dataset.test.x)).values
    assert r2_score(dataset.test.y, values) == pytest.approx(first["metrics"]["test"]["r2"], abs=1e-5)


def test_another_loss_is_another_run(table, tmp_path, monkeypatch):
    path = tmp_path / "goals.py"
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    settings = {"data": str(table), "label": "price", "goal": "goals.py:made", "out": tmp_path / "run"}
    config = weights.Config.from_preset("smoke", **settings)
    weights.run(config)
    path.write_text(SOURCE.replace("0.9", "0.8"))
    with pytest.raises(InputError, match="goal"):
        weights.run(config)


def test_what_a_goal_estimates_is_part_of_what_it_is_known_by(table):
    targets = load(table, label="price", regression=True).targets
    goals = [QUANTILES, QUANTILES._replace(estimates=(0,))]
    digests = {goal_digest(goal, own(goal, 0, targets), jnp.zeros((2, 1))) for goal in goals}
    assert len(digests) == 2


def test_estimates_in_another_order_are_so_on_the_card(table):
    """As many as outputs, and yet not as they come."""
    targets = load(table, label="area,price", regression=True).targets
    read = {"data": {"targets": targets.to_json(), "classes": []}, "outputs": 2, "estimates": [1, 0]}
    saved = Saved(table, None, read)
    assert not saved.whole
    assert elsewhere.said(saved)[0] == "outputs = outputs[:, [1, 0]]"
    assert Saved(table, None, {**read, "estimates": [0, 1]}).whole


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("number", "is int, but takes a jevo.training.Goal"),
        ("nothing", "has no nothing; it has"),
        ("mean", r"the goal's loss gives \[\] for 3 examples, but takes one number for each"),
        ("broken", "the goal's loss fails on outputs"),
        ("classes", "kind classification, but the data have real targets"),
        ("few", "the goal's estimates are"),
        ("taken", "a metric 'r2', a name that results have already"),
        ("taken_too", "a metric 'rmse area', a name that results have already"),
        ("wordy", "loss is 'pinball'"),
    ],
)
def test_what_is_no_goal(name, says, table, tmp_path, monkeypatch):
    (tmp_path / "goals.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says):
        own(find_goal(f"goals.py:{name}")[0], 0, load(table, label="price", regression=True).targets)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("weights", {"fitness": "accuracy"}, "setting fitness is accuracy"),
        ("masks", {"preset": "faithful"}, "setting fitness is accuracy"),
        ("hybrid", {"smoothing": 0.1}, "setting smoothing is 0.1"),
        ("hybrid", {"positive": "1"}, "setting positive is 1"),
        ("hybrid", {"network": "logistic"}, "setting network is logistic"),
        ("hyperparams", {"fitness": "accuracy"}, "setting fitness is accuracy"),
        ("autoencoder", {}, "an autoencoder makes its examples again"),
    ],
)
def test_settings_of_classes_are_refused(name, settings, says, table, tmp_path):
    found = experiment(name)
    common = {"data": str(table), "label": "price", "goal": "regression", "out": tmp_path / "run"}
    with pytest.raises(InputError, match=says):
        found.run(found.config.from_preset(**{"preset": "smoke"} | common | settings))
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.json"))
