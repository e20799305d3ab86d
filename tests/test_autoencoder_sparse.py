"""Pruned rivals, the control of a sparse autoencoder; and machines that are fitted once."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jevo.data.datasets import load
from jevo.experiments import autoencoder
from jevo.experiments.autoencoder import Config, contest, judging
from jevo.experiments.autoencoder.judging import Reading
from jevo.experiments.autoencoder.report import notes
from jevo.experiments.autoencoder.sparse import pruned
from jevo.runs import Interrupted
from jevo.runs.own import Given
from tests.commands import deterministic

fit = judging.fit_svm
CONFIG = Config(
    shape=(64, 6), population=4, generations=8, steps=20, lr=0.005, batch_size=50, images=50, svm_samples=60,
    mutation_rate=0.2, rivals=("sgd-layerwise",), fine_tuning=2,
)  # fmt: skip


def test_the_smallest_weights_go(key):
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=shape) for shape in ((40, 5), (5, 4))]
    params = {f"layer_{i}": {"kernel": kernel, "bias": rng.normal(size=3)} for i, kernel in enumerate(kernels)}
    params["layer_1"]["kernel"][:2] = 0
    found = pruned(params, [0.37, 0.5])
    for name, zeros in (("layer_0", 74), ("layer_1", 10)):
        before, after = (np.asarray(each[name]["kernel"], np.float32) for each in (params, found))
        gone = after == 0
        assert gone.sum() == zeros
        assert np.abs(before[gone]).max() < np.abs(before[~gone]).min()
        np.testing.assert_array_equal(after[~gone], before[~gone])
        np.testing.assert_array_equal(found[name]["bias"], params[name]["bias"])
    assert (params["layer_0"]["kernel"] != 0).all()


def test_who_is_judged_pruned():
    assert dataclasses.replace(CONFIG, rivals=("sgd-joint", "long-run")).contestants == [
        "ga-sgd", "sgd-joint", "long-run", "sgd-joint-pruned", "sgd-joint-fine-tuned", "long-run-pruned",
        "long-run-fine-tuned",
    ]  # fmt: skip
    assert dataclasses.replace(CONFIG, sparse_rivals=False).contestants == ["ga-sgd", "sgd-layerwise"]
    assert Config(method="sgd-layerwise").contestants == ["sgd-layerwise", "sgd-joint"]


@pytest.mark.parametrize(
    ("share", "said"), [(0.3, "has zeros there. Fine"), (0.0, "which are none, so that nothing is")]
)
def test_a_report_says_what_fine_tuning_adds(share, said):
    config = dataclasses.replace(CONFIG, rivals=("long-run",))
    findings = {
        "shape": [64, 6], "mean_image_rmse": {"test": 0.3},
        "svm": {"ga-sgd": {"samples": 9, "C": 1.0, "gamma": 1.0, "vectors": 2}},
        "zeros": {name: [share] for name in config.contestants},
        "rmse_by_layer": {name: {"test": [0.2]} for name in config.contestants},
    }  # fmt: skip
    text = " ".join(notes(config, findings))
    steps = config.learners * config.steps
    assert f"for {config.fine_tuning * steps} gradient steps a layer" in text
    assert f"(the long run {config.generations * steps})" in text
    assert said in text


def test_a_machine_is_fitted_once_for_what_it_reads(tmp_path, monkeypatch):
    rng, fits = np.random.default_rng(0), []
    monkeypatch.setattr(judging, "fit_svm", lambda *given: fits.append(given) or fit(*given))
    y = {name: np.arange(n) % 2 for name, n in (("train", 40), ("validation", 12), ("test", 8))}
    x = {name: (rng.normal(size=(len(of), 3)) + of[:, None]).astype(np.float32) for name, of in y.items()}
    read = Reading(x, y, 0, 0)
    found = [read.kept(tmp_path / "new") for _ in range(2)]
    assert len(fits) == 1
    for name in x:
        np.testing.assert_array_equal(found[0][1][name], found[1][1][name])
        np.testing.assert_array_equal(found[1][0].predict(x[name]), found[0][1][name])
    read._replace(features={**x, "train": x["train"] + 1}).kept(tmp_path / "new")
    read._replace(seed=1).kept(tmp_path / "new")
    assert len(fits) == 3
    for file in (tmp_path / "new").iterdir():
        file.write_bytes(file.read_bytes()[:-30])
    np.testing.assert_array_equal(read.kept(tmp_path / "new")[1]["test"], found[0][1]["test"])
    assert len(fits) == 4


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped before its second machine, and went on; and the fits that this took."""
    out, fits = tmp_path_factory.mktemp("sparse") / "run", []
    config = dataclasses.replace(CONFIG, out=out)

    def stop(*given):
        if fits:
            raise Interrupted("stopped")
        fits.append(given)
        return fit(*given)

    def count(*given):
        fits.append(given)
        return fit(*given)

    with jax.debug_key_reuse(False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "fit_svm", stop)
        with pytest.raises(Interrupted):
            autoencoder.run(config)
        fits.clear()
        patch.setattr(judging, "fit_svm", count)
        autoencoder.run(config)
    return out, len(fits)


@pytest.mark.slow
def test_a_run_that_goes_on_fits_no_machine_again(stopped):
    out, fits = stopped
    assert fits == 3  # Of four contestants.
    assert not (out / "checkpoints/scratch").exists()


@pytest.mark.slow
def test_rivals_are_judged_with_as_many_zeros(stopped):
    out, _ = stopped
    result = json.loads((out / "result.json").read_text())
    own = result["zeros"]["ga-sgd"]
    assert own[0] > 0.02
    assert result["zeros"]["sgd-layerwise"] == [0]
    for name in ("sgd-layerwise-pruned", "sgd-layerwise-fine-tuned"):
        assert result["zeros"][name] == own
        assert result["rmse_by_layer"][name]["test"][-1] == result["references"][name]["metrics"]["test"]["rmse"]
    dense, thin, tuned = (
        result["control"], *(result["references"][f"sgd-layerwise-{how}"] for how in ("pruned", "fine-tuned"))
    )  # fmt: skip
    rmse = [each["metrics"]["validation"]["rmse"] for each in (dense, thin, tuned)]
    assert rmse[1] != rmse[0]
    assert rmse[2] < min(rmse[:2])
    # What fine-tuning takes is in its budget: two generations of as many gradient steps.
    assert [each["budget"]["gradient_steps"] for each in (dense, thin, tuned)] == [320, 320, 320 + 2 * 2 * 20]
    text = (out / "report.md").read_text()
    assert "for 80 gradient steps a layer, where one of 4 restarts had 80 before" in text
    assert "could not be drawn" not in text


def test_zeros_stay_zero_where_weights_learn():
    """Phases of the fine-tuned begin with the champion that they are given."""
    dataset = load("digits")
    entrants = contest.contest(CONFIG, dataset, Given.usual(dataset)).contestants
    with jax.debug_key_reuse(False):
        params = jax.jit(entrants["sgd-layerwise-fine-tuned"].init)(jax.random.key(3))
    begun = pruned(params, [0.6])
    part = entrants["sgd-layerwise-fine-tuned"].learning(begun).phases[0]
    data = part.data([])
    start, step = part.stage.programs(1)
    carry = start(data)
    np.testing.assert_array_equal(carry.state.population.params["kernel"][0], begun["layer_0"]["kernel"])
    carry, _ = jax.jit(step)(carry, data)
    before, after = np.asarray(begun["layer_0"]["kernel"]), np.asarray(carry.champion["kernel"])
    np.testing.assert_array_equal(before == 0, after == 0)
    assert (before != after)[before != 0].mean() > 0.8


@pytest.mark.slow
def test_a_run_that_was_stopped_has_the_same_end(stopped, tmp_path):
    with jax.debug_key_reuse(False):
        autoencoder.run(dataclasses.replace(CONFIG, out=tmp_path / "whole"))
    assert deterministic(stopped[0]) == deterministic(tmp_path / "whole")
