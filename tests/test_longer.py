"""A finished run goes on for more generations or cycles, to where one run of them all comes."""

import dataclasses
import json

import jax
import pytest

from jevo.errors import InputError
from jevo.experiments import experiment
from tests.commands import deterministic

FALLS = "its learning_rate falls to zero by the last one; with --schedule constant it can"
GOES_ON = {"weights": {"schedule": "constant"}, "hybrid": {"schedule": "constant"}, "hyperparams": {}}
PLANNED = {
    ("masks", "its mutation_rate falls over them all; with as large a final_mutation_rate it can"): {},
    ("masks", ""): {"mutation_rate": 0.01, "final_mutation_rate": 0.01},
    ("masks", "its thinning grows in the last fifth of the generations"): {"preset": "pareto"},
    ("masks", FALLS): {"preset": "default"},
    ("weights", FALLS): {},
    ("weights", ""): {"schedule": "constant"},
    ("weights", "references take as many steps as the search makes passes; give reference_steps"): {
        "preset": "default", "schedule": "constant", "reference": True,
    },
    ("hybrid", "its lr falls to zero by the last cycle; with --schedule constant it can"): {},
    ("hyperparams", ""): {},
}  # fmt: skip
"""Of an experiment and some settings, why a run does not go on for more; "" if it does."""


@pytest.fixture(autouse=True)
def keys_may_be_used_again():
    """A run in parts takes the same root again and again, on purpose."""
    with jax.debug_key_reuse(False):
        yield


def ran(name, out, more=0, **settings):
    """The result of a small run, or of one that is longer by some."""
    found = experiment(name)
    length = found.config.longer or "generations"
    short = getattr(found.config.from_preset("smoke"), length)
    return found.run(found.config.from_preset("smoke", **{**settings, length: short + more}, out=out))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "weights" else []) for name in GOES_ON]
)
def test_a_finished_run_goes_on_for_more(name, tmp_path, capsys):
    first = ran(name, tmp_path / "run", **GOES_ON[name])
    assert (tmp_path / "run" / "report.md").exists()
    found = ran(name, tmp_path / "run", 2, **GOES_ON[name])
    whole = ran(name, tmp_path / "whole", 2, **GOES_ON[name])
    assert found["metrics"] == whole["metrics"]
    assert found["control"]["metrics"] == whole["control"]["metrics"]
    assert found["budget"]["evaluations"] == whole["budget"]["evaluations"] > first["budget"]["evaluations"]
    assert deterministic(tmp_path / "run")[1] == deterministic(tmp_path / "whole")[1]
    length = experiment(name).config.longer
    marker = json.loads((tmp_path / "run" / "run.json").read_text())
    assert marker["settings"][length] == whole["config"][length]
    # It is done, and is not a shorter one again.
    capsys.readouterr()
    ran(name, tmp_path / "run", 2, **GOES_ON[name])
    assert "is done" in capsys.readouterr().out
    with pytest.raises(InputError, match=f"{length}: "):
        ran(name, tmp_path / "run", **GOES_ON[name])


@pytest.mark.parametrize(("name", "says"), PLANNED)
def test_what_is_planned_over_a_whole_run_is_said(name, says):
    settings = {"preset": "smoke", **PLANNED[name, says]}
    assert experiment(name).config.from_preset(**settings).scheduled == says


def test_a_run_that_was_planned_as_a_whole_stays_as_it_is(tmp_path):
    folder = tmp_path / "run"
    ran("weights", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="and cannot go on for more: its learning_rate falls to zero by the last one"):
        ran("weights", folder, 2)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_longer_autoencoder_is_another_run(smoke):
    """Its phases read what the phases before them have found at their end."""
    found = experiment("autoencoder")
    config = found.config.from_preset("smoke", out=smoke("autoencoder"))
    with pytest.raises(InputError, match=r"generations: \d+ -> \d+\); give another out"):
        found.run(dataclasses.replace(config, generations=config.generations + 1))


@pytest.mark.slow
def test_a_kill_between_its_end_and_its_beginning_again_loses_nothing(tmp_path, monkeypatch):
    """The old result is deleted first: whoever comes then finds a run that is not done, of either length."""
    from jevo.runs.folder import Folder

    ran("weights", tmp_path / "run", **GOES_ON["weights"])
    monkeypatch.setattr(Folder, "_mark", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ran("weights", tmp_path / "run", 2, **GOES_ON["weights"])
    monkeypatch.undo()
    assert not (tmp_path / "run" / "result.json").exists()
    ran("weights", tmp_path / "run", **GOES_ON["weights"])
    found = ran("weights", tmp_path / "run", 2, **GOES_ON["weights"])
    assert found["metrics"] == ran("weights", tmp_path / "whole", 2, **GOES_ON["weights"])["metrics"]
