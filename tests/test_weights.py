"""The weights experiment: what it learns, and what it does not use to learn."""

import jax
import numpy as np
import pytest

from jevo.data.datasets import load
from jevo.errors import InputError
from jevo.experiments import weights
from jevo.experiments.forward import BATCH, PASSES
from jevo.experiments.weights import EXPERIMENT
from jevo.runs.own import Given
from tests.lowering import PLATFORMS, lower
from tests.marks import mostly_slow
from tests.stages import walk

SMALL = {"hidden": (12,), "population": 4, "images": 200, "generations": 80, "validate_every": 20}
SETTINGS = [
    {},
    {"channels": (3,), "hidden": ()},
    {"bias": False, "activation": "tanh", "fitness": "accuracy", "batches": "fixed"},
    {"search": "strategy", "population": 40, "noise": 0.05, "rank": 2, "learning_rate": 0.03},
]


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.mark.parametrize("settings", mostly_slow(SETTINGS, *SETTINGS[1:3]))
def test_it_learns_what_random_search_does_not_find(settings, digits):
    config = weights.Config(**{**SMALL, "learning_rate": 0.01, **settings})
    compete = EXPERIMENT.contest(config, digits, Given.usual(digits)).contestants
    reached = {}
    for name, contestant in compete.items():
        (phase,) = contestant.phases
        carries, metrics = walk(phase.stage, phase.data([]))
        reached[name] = float(carries[-1].validation)
        assert contestant.evaluations == config.population * 81
        assert contestant.example_passes == config.population * 81 * 200
        assert [i for i, line in enumerate(metrics) if np.isfinite(line["validation"])] == [19, 39, 59, 79]
    assert reached["search"] > reached["random_search"] + 0.2
    assert reached["search"] > 0.45


@pytest.mark.slow
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("settings", [*SETTINGS, {"reference": True, "reference_steps": 100}])
def test_every_setting_lowers(settings, platform, digits):
    lower(EXPERIMENT, weights.Config(**{**SMALL, **settings}), digits, platform)


def test_no_derivative_is_taken(digits, monkeypatch):
    def taken(*arguments, **named):
        raise AssertionError("a derivative")

    for name in ("grad", "value_and_grad", "vjp", "jvp", "linearize"):
        monkeypatch.setattr(jax, name, taken)
    phase = EXPERIMENT.contest(weights.Config(**SMALL), digits, Given.usual(digits)).contestants["search"].phases[0]
    start, step = phase.stage.programs(1)
    data = phase.data([])
    jax.make_jaxpr(step)(jax.eval_shape(start, data), data)


def test_the_reference_has_as_many_passes_as_the_search(digits):
    config = weights.Config(**{**SMALL, "generations": 2000}, reference=True)
    found = EXPERIMENT.contest(config, digits, Given.usual(digits)).contestants
    assert list(found) == ["search", "random_search", "gradient"]
    passes = found["search"].example_passes
    assert found["gradient"].example_passes == PASSES * BATCH * found["gradient"].gradient_steps
    assert passes - PASSES * BATCH * 100 < found["gradient"].example_passes <= passes


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"population": 5}, "even number"),
        ({"noise": 0.0}, "a number above 0"),
        ({"breeders": 0.5}, "nothing here"),
        ({"rank": 2}, "effect only with --search strategy"),
        ({"spread": 0.0}, "a number > 0"),
        ({"learning_rate": 0.0}, "a number from 0"),
        ({"reference_steps": 50}, "a multiple of 100, or 0"),
    ],
)
def test_impossible_settings_are_named(given, says):
    (name,) = given
    with pytest.raises(InputError, match=f"setting {name} is .*{says}"):
        weights.Config(**given)


def test_convolutions_want_images():
    with pytest.raises(InputError, match="these examples are not images"):
        weights.Config(channels=(2,)).built((64,), 10, bias=True)
