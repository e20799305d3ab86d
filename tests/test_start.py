"""Networks begin with weights that are there: another run's champion, or params in Python."""

import dataclasses

import jax
import numpy as np
import pytest

from jevo import data
from jevo.errors import InputError
from jevo.experiments import hybrid, masks, weights
from jevo.runs import from_safetensors

STILL = {"learning_rate": 1e-30}


@pytest.fixture(autouse=True)
def keys_may_be_used_again():
    """A run in parts takes the same root again and again, on purpose."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(scope="module")
def dataset():
    """Two classes, in few features."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 6))
    return data.from_arrays(x, (x[:, 0] * x[:, 1] > 0).astype(int), name="signs")


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """A run of hybrid, and its result."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = hybrid.Config.from_preset("smoke", steps=60, repeats=1, bias=False, out=folder)
    with jax.debug_key_reuse(False):
        return folder, hybrid.run(config, dataset=dataset)


def started(experiment, out, dataset, **settings):
    return experiment.run(experiment.Config.from_preset("smoke", **settings, out=out), dataset=dataset)


@pytest.mark.slow
def test_weights_begin_with_a_champion(trained, dataset, tmp_path):
    """With steps that change nothing, it is what it was; the control draws weights of its own, as ever."""
    folder, before = trained
    found = started(weights, tmp_path / "run", dataset, bias=False, start=str(folder), **STILL)
    assert found["metrics"]["test"]["accuracy"] == before["metrics"]["test"]["accuracy"]
    alone = started(weights, tmp_path / "alone", dataset, bias=False, **STILL)
    assert found["control"]["metrics"] == alone["control"]["metrics"]
    assert found["metrics"] != alone["metrics"]


@pytest.mark.slow
def test_all_members_of_hybrid_and_its_controls_begin_with_it(trained, dataset, tmp_path):
    folder, before = trained
    settings = {"bias": False, "start": str(folder / "champion.safetensors"), "lr": 1e-30, "repeats": 1}
    found = started(hybrid, tmp_path / "run", dataset, **settings)
    for entry in (found, found["control"], *found["references"].values()):
        assert entry["metrics"]["test"] == pytest.approx(before["metrics"]["test"], rel=1e-5)


def test_masks_are_of_its_weights(trained, dataset, tmp_path):
    folder, _ = trained
    kept = from_safetensors(folder / "champion.safetensors").params
    # All weights are kept, so what the masks run leaves is the champion that it began with.
    settings = {
        "start": str(folder),
        "density": 1.0,
        "mutation_rate": 0.0,
        "final_mutation_rate": 0.0,
        "mutation": "flip",
    }
    started(masks, tmp_path / "run", dataset, **settings)
    found = from_safetensors(tmp_path / "run" / "champion.safetensors").params
    jax.tree.map(np.testing.assert_array_equal, found, kept)


@pytest.mark.slow
def test_params_in_python_are_as_good(trained, dataset, tmp_path):
    folder, _ = trained
    named = started(weights, tmp_path / "named", dataset, bias=False, start=str(folder))
    params = from_safetensors(folder / "champion.safetensors").params
    config = weights.Config.from_preset("smoke", bias=False, out=tmp_path / "given")
    given = weights.run(config, dataset=dataset, start=params)
    assert given["metrics"] == named["metrics"]
    # Others are another run.
    with pytest.raises(InputError, match="start: its contents have changed"):
        weights.run(config, dataset=dataset, start=jax.tree.map(lambda leaf: leaf + 1, params))


def test_what_is_no_beginning(trained, dataset, tmp_path):
    folder, _ = trained
    config = weights.Config.from_preset("smoke", out=tmp_path / "run", start=str(folder))
    with pytest.raises(InputError, match=r"of another structure: layer_0.bias"):
        weights.run(config, dataset=dataset)
    with pytest.raises(InputError, match=r"kernel float32 \[6, 8\], but takes float32 \[6, 9\]"):
        weights.run(dataclasses.replace(config, bias=False, hidden=(9,)), dataset=dataset)
    with pytest.raises(InputError, match="has no champion to begin with"):
        weights.run(dataclasses.replace(config, start=str(tmp_path)), dataset=dataset)
    with pytest.raises(InputError, match="start has other arrays than the network"):
        weights.run(config, dataset=dataset, start={"layer_0": {"kernel": np.ones((6, 8), np.float32)}})
