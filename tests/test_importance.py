"""Importance of genes: what matters is found, what does not is not, and nothing is said from too little."""

import jax
import numpy as np
import pytest

from jevo.experiments.hyperparams.importance import FEWEST, importance, table
from jevo.hyperparams import Score, Trial, from_function, parse_space, random_search, search

SPACE = parse_space(
    {
        "lr": {"min": 1e-4, "max": 0.1, "log": True},
        "act": ["relu", "tanh", "elu"],
        "noise": {"min": 0, "max": 99},
        "momentum": {"values": [0.0, 0.5, 0.9], "when": {"act": ["relu"]}},
        "decay": [None, 0.1, 0.2],
        "dense": {"layers": [0, 1, 2], "units": [4, 8]},
        "fixed": 3,
    },
    "a test",
)


def worth(genome):
    return 3 * (genome["act"] == "tanh") + (genome["decay"] is None) - (np.log10(genome["lr"]) + 2.5) ** 2


@pytest.fixture(scope="module")
def trials():
    return search(random_search(SPACE, jax.random.key(0), 100, 100), from_function(worth))[0]


def test_genes_that_matter_come_first_and_others_have_none(trials):
    found = importance(trials)
    assert found == importance(trials)
    assert (found.genomes, found.until) == (100, None)
    assert found.explained > 0.5
    first, second, third, *others = found.genes
    assert first == "act"
    assert {second, third} == {"lr", "decay"}
    assert set(others) == {"noise", "momentum", "dense.layers", "dense.0.units", "dense.1.units"}
    assert all(found.genes[name] < found.genes[third] / 3 for name in others)
    assert list(found.genes.values()) == sorted(found.genes.values(), reverse=True)
    said = table(found, 2)
    assert f"| act | {found.genes['act']:.3f} |" in said
    assert "6 more genes" in said


def test_nothing_is_said_from_too_little(trials):
    assert importance(trials[: FEWEST - 1]) is None
    assert importance([*trials[: FEWEST - 1], trials[0], trials[20]._replace(score=Score(np.nan))]) is None
    assert importance(trials[:FEWEST]).genomes == FEWEST
    assert importance([trial._replace(score=Score(0.5)) for trial in trials]) is None
    assert importance([]) is None
    noise = np.random.default_rng(3).normal(size=len(trials))
    unknown = importance([trial._replace(score=Score(value)) for trial, value in zip(trials, noise, strict=True)])
    assert unknown.explained < 0.2
    assert "nothing can be said" in table(unknown._replace(explained=-0.1))


def test_genomes_that_were_halved_are_compared_at_the_rung_that_most_have_reached(trials):
    def halved(trial: Trial, further: bool) -> Trial:
        value = trial.score.value
        return trial._replace(rungs={1: value, **({3: 50 + value} if further else {})}, until=3 if further else 1)

    found = importance([halved(trial, trial.number % 3 == 0) for trial in trials])
    assert found == importance(trials)._replace(until=1)
    assert "after epoch 1" in table(found)
