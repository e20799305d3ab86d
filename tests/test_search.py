"""The host's loop over genomes: strategies, and that nothing is ever trained twice."""

import math

import jax
import pytest

from jevo import genetics
from jevo.hyperparams import (
    Ask,
    Known,
    Proposal,
    Watch,
    champion,
    draw,
    each,
    enumerate_all,
    evolve,
    identity,
    optuna_search,
    parse_space,
    redrawn,
    search,
    stepped,
)
from jevo.types import InputError

SPACE = parse_space({"x": {"min": 0, "max": 15}, "y": {"min": 0, "max": 15}, "kind": ["a", "b", "c"]}, "a test")


def worth(genome):
    return -abs(genome["x"] - 11) - abs(genome["y"] - 4) - 3 * (genome["kind"] != "b")


class Counted:
    """A function that knows what it was asked."""

    def __init__(self, function=worth):
        self.asked, self.function = [], function

    def __call__(self, genome):
        self.asked.append(identity(genome))
        return self.function(genome)


def genetic(seed=0, population=10, generations=6, **settings):
    settings = {"keep": 0.3, "lucky": 1, "mutate": stepped(SPACE, 0.2), **settings}
    return evolve(SPACE, jax.random.key(seed), population=population, generations=generations, **settings)


def strategies():
    return {
        "genetic": genetic(),
        "genetic with known children": genetic(novel=False, mutate=redrawn(SPACE, 0.2)),
        "random": draw(SPACE, jax.random.key(3), [10] + [6] * 5),
        "brute": enumerate_all(SPACE, 100),
        "tpe": optuna_search(SPACE, "tpe", 0, 25, 10),
        "nsga2": optuna_search(SPACE, "nsga2", 0, 25, 10),
    }


@pytest.mark.parametrize("name", list(strategies()))
def test_nothing_is_trained_twice_and_every_trial_has_its_score(name):
    function = Counted()
    trials, generations = search(strategies()[name], each(function))
    assert len(function.asked) == len(set(function.asked)) == sum(g.trained for g in generations)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert [g.number for g in generations] == list(range(1, len(generations) + 1))
    for trial in trials:
        assert trial.score.value == worth(trial.genome)
        assert all(parent < trial.number for parent in trial.parents)
        SPACE.encode(trial.genome)
    assert sum(trial.trained for trial in trials) == len(function.asked)
    assert generations[-1].champion == champion(trials).number
    best = max(trial.score.value for trial in trials)
    assert champion(trials).score.value == best
    assert generations[-1].best <= best


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("genetic", 13),
        ("random", 5),
        ("tpe", 7),
        *(
            pytest.param(*slow, marks=pytest.mark.slow)
            for slow in [("genetic", 1), ("genetic with known children", 17)]
        ),
    ],
)
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(name, after):
    whole, _ = search(strategies()[name], each(worth))
    function, known, count = Counted(), {}, 0

    def scored(trial):
        nonlocal count
        count += 1
        if count == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(strategies()[name], each(function), known, "it", Watch(scored=scored))
    assert len(known) == after
    # As from a file: nothing but names and numbers is left of it.
    known = {name: Known(one.score, one.search, one.generation) for name, one in known.items()}
    again, _ = search(strategies()[name], each(function), known, "it")
    assert [trial[:4] for trial in again] == [trial[:4] for trial in whole]
    assert [trial.trained for trial in again] == [trial.trained for trial in whole]
    assert len(function.asked) == len(set(function.asked))


def test_another_search_trains_nothing_that_is_known():
    function, known = Counted(), {}
    search(enumerate_all(SPACE, 50), each(function), known, "brute")
    assert len(function.asked) == SPACE.size()
    trials, generations = search(genetic(), each(function), known, "genetic")
    assert len(function.asked) == SPACE.size()
    assert all(g.trained == 0 for g in generations)
    assert not any(trial.trained for trial in trials)


def test_brute_force_visits_each_genome_once():
    trials, _ = search(enumerate_all(SPACE, 77), each(worth))
    assert len({identity(trial.genome) for trial in trials}) == len(trials) == SPACE.size() == 16 * 16 * 3


@pytest.mark.slow
def test_the_genetic_algorithm_beats_random_search_at_as_many_trainings():
    better = 0
    for seed in range(5):
        trials, generations = search(genetic(seed, generations=8), each(worth))
        other, _ = search(draw(SPACE, jax.random.key(seed), [g.trained for g in generations]), each(worth))
        assert sum(t.trained for t in other) == sum(t.trained for t in trials)
        better += champion(trials).score.value >= champion(other).score.value
    assert better >= 4


def test_survivors_are_kept_and_children_have_the_parents_that_they_name():
    asks = []

    def watched(strategy):
        scores = None
        while True:
            try:
                ask = next(strategy) if scores is None else strategy.send(scores)
            except StopIteration:
                return
            asks.append(ask)
            scores = yield ask

    # Without mutation, each gene of a child is one of its parents'.
    trials, _ = search(watched(genetic(novel=False, mutate=None)), each(worth))
    assert [len(ask.proposals) for ask in asks] == [10, 6, 6, 6, 6, 6]
    for ask, previous in zip(asks[1:], asks, strict=False):
        assert set(ask.kept) <= set(previous.kept) | set(range(len(trials)))
    first = trials[:10]
    best_three = sorted(first, key=lambda trial: -trial.score.value)[:3]
    assert {trial.number for trial in best_three} <= set(asks[1].kept)
    for trial in trials[10:]:
        assert 1 <= len(trial.parents) <= 2
        for gene, value in trial.genome.items():
            assert value in [trials[parent].genome[gene] for parent in trial.parents]


def test_a_genome_that_fails_is_recorded_with_its_reason_and_the_search_goes_on():
    def fragile(genome):
        if genome["kind"] == "c":
            raise ValueError("no c today")
        return worth(genome)

    trials, _ = search(genetic(), each(fragile))
    failed = [trial for trial in trials if trial.genome["kind"] == "c"]
    assert failed
    assert all(math.isnan(trial.score.value) and "no c today" in trial.score.reason for trial in failed)
    assert champion(trials).genome["kind"] != "c"
    nobody, generations = search(genetic(), each(lambda genome: math.nan))
    assert champion(nobody) is None
    assert math.isnan(generations[-1].best)
    assert generations[-1].champion == -1


def test_random_search_stops_when_all_has_been_drawn():
    small = parse_space({"x": [1, 2, 3]}, "a small test")
    trials, generations = search(draw(small, jax.random.key(0), [2, 2, 2]), each(lambda genome: genome["x"]))
    assert sorted(trial.genome["x"] for trial in trials) == [1, 2, 3]
    assert [len(g.trials) for g in generations] == [2, 1]


def test_a_genome_proposed_twice_at_once_is_trained_once():
    def strategy():
        scores = yield Ask([Proposal({"x": 1}), Proposal({"x": 1}), Proposal({"x": 2})])
        assert scores == [1.0, 1.0, 2.0]

    function = Counted(lambda genome: genome["x"])
    trials, _ = search(strategy(), each(function))
    assert len(function.asked) == 2
    assert [trial.trained for trial in trials] == [True, False, True]


def test_brute_force_refuses_a_range_and_names_it():
    space = parse_space({"lr": {"min": 0.1, "max": 0.2}}, "a test")
    with pytest.raises(InputError, match="gene lr"):
        search(enumerate_all(space, 10), each(worth))


def test_without_optuna_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"install jevo\[optuna\]"):
        next(optuna_search(SPACE, "tpe", 0, 5, 5))


def test_layers_are_inherited_whole():
    space = parse_space(
        {"dense": {"layers": 3, "units": [1, 2, 3, 4, 5, 6, 7, 8], "other": list("abcdefgh")}}, "a test"
    )
    strategy = evolve(
        space, jax.random.key(1), population=12, generations=4, cross=genetics.uniform(per="layer"), novel=False
    )
    trials, _ = search(strategy, each(lambda genome: sum(layer["units"] for layer in genome["dense"])))
    for trial in trials[12:]:
        for i, layer in enumerate(trial.genome["dense"]):
            assert layer in [trials[parent].genome["dense"][i] for parent in trial.parents]
