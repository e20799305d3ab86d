"""The host's loop over genomes: strategies, and that nothing is ever trained twice."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jevo import genetics
from jevo.errors import InputError
from jevo.hyperparams import (
    Ask,
    Callbacks,
    Halving,
    KnownScore,
    Proposal,
    Score,
    best_trial,
    evolve,
    from_function,
    grid_search,
    hyperband,
    identity,
    optuna_search,
    parse_space,
    random_search,
    redrawn,
    search,
    stepped,
)

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


def genetic(seed=0, population=10, generations=5, **settings):
    settings = {"elites": 0.3, "breeders": 0.3, "lucky": 1, "mutation": stepped(SPACE, 0.2), **settings}
    return evolve(SPACE, jax.random.key(seed), population=population, generations=generations, **settings)


def interrupted(after):
    """Callbacks that end a search after so many scores, as Ctrl-C does."""
    numbers = itertools.count(1)

    def scored(trial):
        if next(numbers) == after:
            raise KeyboardInterrupt

    return Callbacks(scored=scored)


def watched(strategy, asks):
    """The strategy; what it asks for is added to `asks`."""
    scores = None
    while True:
        try:
            ask = next(strategy) if scores is None else strategy.send(scores)
        except StopIteration:
            return
        asks.append(ask)
        scores = yield ask


def populations(asks):
    """The numbers of each generation's members, survivors first."""
    proposed = 0
    for ask in asks:
        yield [*ask.kept, *range(proposed, proposed + len(ask.proposals))]
        proposed += len(ask.proposals)


def strategies():
    return {
        "genetic": genetic(),
        "genetic with known children": genetic(novel=False, mutation=redrawn(SPACE, 0.2)),
        "random": random_search(SPACE, jax.random.key(3), 10, 40),
        "grid": grid_search(SPACE, 100),
        "tpe": optuna_search(SPACE, "tpe", 0, 25, 10),
        "nsga2": optuna_search(SPACE, "nsga2", 0, 25, 10),
    }


@pytest.mark.parametrize("name", list(strategies()))
def test_nothing_is_trained_twice_and_every_trial_has_its_score(name):
    function, asks = Counted(), []
    trials, generations = search(watched(strategies()[name], asks), from_function(function))
    assert len(function.asked) == len(set(function.asked)) == sum(g.trained for g in generations)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert [g.number for g in generations] == list(range(len(generations)))
    for trial in trials:
        assert trial.score.value == worth(trial.genome)
        assert all(parent < trial.number for parent in trial.parents)
        SPACE.encode(trial.genome)
    assert sum(trial.trained for trial in trials) == len(function.asked)
    assert best_trial(trials).score.value == max(trial.score.value for trial in trials)
    for generation, population in zip(generations, populations(asks), strict=True):
        assert [trial.generation for trial in generation.trials] == [generation.number] * len(generation.trials)
        values = [trials[i].score.value for i in population]
        assert generation.best == max(values)
        assert generation.mean == pytest.approx(sum(values) / len(values))
        assert generation.champion == best_trial(trials[: generation.trials[-1].number + 1]).number


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
    whole, _ = search(strategies()[name], from_function(worth))
    function, known = Counted(), {}
    with pytest.raises(KeyboardInterrupt):
        search(strategies()[name], from_function(function), known, "it", interrupted(after))
    assert len(known) == after
    # As from a file: nothing but names and numbers is left of it.
    known = {key: KnownScore(Score(one.score.value), one.search, one.generation) for key, one in known.items()}
    again, _ = search(strategies()[name], from_function(function), known, "it")
    assert [trial[:4] for trial in again] == [trial[:4] for trial in whole]
    assert [trial.trained for trial in again] == [trial.trained for trial in whole]
    assert len(function.asked) == len(set(function.asked))


def test_another_search_trains_nothing_that_is_known():
    function, known = Counted(), {}
    search(grid_search(SPACE, 50), from_function(function), known, "grid")
    assert len(function.asked) == SPACE.size()
    trials, generations = search(genetic(), from_function(function), known, "genetic")
    assert len(function.asked) == SPACE.size()
    assert all(g.trained == 0 for g in generations)
    assert not any(trial.trained for trial in trials)


def test_grid_search_visits_each_genome_once():
    trials, _ = search(grid_search(SPACE, 77), from_function(worth))
    assert len({identity(trial.genome) for trial in trials}) == len(trials) == SPACE.size() == 16 * 16 * 3


@pytest.mark.slow
def test_the_genetic_algorithm_beats_random_search_at_as_many_trainings():
    better = 0
    for seed in range(5):
        trials, generations = search(genetic(seed, generations=7), from_function(worth))
        other, _ = search(random_search(SPACE, jax.random.key(seed), 10, generations[-1].spent), from_function(worth))
        assert sum(t.trained for t in other) == sum(t.trained for t in trials)
        better += best_trial(trials).score.value >= best_trial(other).score.value
    assert better >= 4


def test_survivors_are_kept_and_children_have_the_parents_that_they_name():
    asks = []
    # Without mutation, each gene of a child is one of its parents'.
    trials, _ = search(watched(genetic(novel=False, mutation=None), asks), from_function(worth))
    assert [len(ask.proposals) for ask in asks] == [10, 6, 6, 6, 6, 6]
    members = list(populations(asks))
    for ask, before in zip(asks[1:], members, strict=False):
        assert set(ask.kept) <= set(before)
        best = sorted((trials[i].score.value for i in before), reverse=True)[:3]
        assert sorted((trials[i].score.value for i in ask.kept), reverse=True)[:3] == best
    for trial in trials[10:]:
        assert 1 <= len(trial.parents) <= 2
        assert set(trial.parents) <= set(members[trial.generation - 1])
        for gene, value in trial.genome.items():
            assert value in [trials[parent].genome[gene] for parent in trial.parents]


@pytest.mark.parametrize(("elites", "breeders"), [(1, 5), (0.1, 0.5), (4, 0.2)])
def test_who_survives_and_who_breeds_are_apart(elites, breeders):
    asks, numbers = [], [genetics.number_of(some, 10) for some in (elites, breeders)]
    strategy = genetic(elites=elites, breeders=breeders, lucky=0, generations=3)
    trials, _ = search(watched(strategy, asks), from_function(lambda genome: worth(genome) + genome["y"] / 1000))
    assert [len(ask.proposals) for ask in asks] == [10] + [10 - numbers[0]] * 3
    for ask, before in zip(asks[1:], populations(asks), strict=False):
        surviving, breeding = (sorted(before, key=lambda i: -trials[i].score.value)[:number] for number in numbers)
        assert sorted(ask.kept) == sorted(surviving)
        assert {parent for proposal in ask.proposals for parent in proposal.parents} <= set(breeding)


@pytest.mark.parametrize("generations", [0, 2])
def test_generations_are_bred_after_the_first_population(generations):
    trials, done = search(genetic(generations=generations), from_function(worth))
    assert [one.number for one in done] == list(range(generations + 1))
    assert len(trials) == 10 + 6 * generations


def test_a_child_may_have_four_parents():
    trials, _ = search(genetic(parents=4, breeders=1.0, generations=2), from_function(worth))
    assert max(len(trial.parents) for trial in trials) == 4


def test_a_genome_that_fails_is_recorded_with_its_reason_and_the_search_goes_on():
    def fragile(genome):
        if genome["kind"] == "c":
            raise ValueError("no c today")
        return worth(genome)

    trials, _ = search(genetic(), from_function(fragile))
    failed = [trial for trial in trials if trial.genome["kind"] == "c"]
    assert failed
    assert all(math.isnan(trial.score.value) and "no c today" in trial.score.reason for trial in failed)
    assert best_trial(trials).genome["kind"] != "c"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "the score is nan"), (math.inf, "the score is inf"), (-math.inf, "the score is -inf"),
        (None, "the score is None, but takes one real number"), ("0.5", "the score is '0.5'"),
        ((1, 2), r"the score is \(1"),
        (np.zeros(1), "the score is array"), (1j, "the score is 1j"),
        (1e39, r"the score is 1e\+39, no number"), (10**400, "the score is 1"),
        (np.float32("inf"), "the score is inf"),
    ],
)  # fmt: skip
def test_a_search_in_which_all_fail_ends_and_says_why(value, reason):
    asked = []
    with pytest.raises(InputError, match=f"search: all 10 genomes so far failed, the first one for: {reason}"):
        search(genetic(), from_function(lambda genome: asked.append(genome) or value))
    assert len(asked) <= 10


def test_a_mistake_in_a_score_is_shown_with_its_place():
    with pytest.raises(InputError, match=r"KeyError: 'typo' \(test_search.py, line \d+\)"):
        search(genetic(), from_function(lambda genome: genome["typo"]))
    # Raised within a library, it is still the user's line that is wanted.
    with pytest.raises(InputError, match=r"JSONDecodeError: .*\(test_search.py, line \d+\)"):
        search(genetic(), from_function(lambda genome: json.loads("{")))
    for kind in (KeyboardInterrupt, SystemExit):

        def stopped(genome, kind=kind):
            raise kind

        with pytest.raises(kind):
            search(genetic(), from_function(stopped))


@pytest.mark.parametrize("value", [1, True, np.float32(0.5), np.int64(3), np.array(0.5), jnp.float32(2)])
def test_any_real_number_is_a_score(value):
    trials, _ = search(genetic(), from_function(lambda genome: value))
    assert best_trial(trials).score.value == float(value)


def test_random_search_stops_when_all_has_been_drawn():
    small = parse_space({"x": [1, 2, 3]}, "a small test")
    trials, generations = search(
        random_search(small, jax.random.key(0), 2, 6), from_function(lambda genome: genome["x"])
    )
    assert sorted(trial.genome["x"] for trial in trials) == [1, 2, 3]
    assert [len(g.trials) for g in generations] == [2, 1]


def test_a_callback_ends_a_search_which_returns_what_it_has():
    function, asked, whole = Counted(), [], search(genetic(), from_function(worth))[0]

    def stop(generation):
        asked.append((generation.number, len(generation.trials), len(function.asked)))
        return generation.number == 2

    trials, generations = search(genetic(), from_function(function), callbacks=Callbacks(stop=stop))
    assert trials == whole[: len(trials)]
    assert [generation.number for generation in generations] == [0, 1, 2]
    assert asked == [(0, 10, 10), (1, 6, 16), (2, 6, 22)]


def test_a_genome_proposed_twice_at_once_is_trained_once():
    def strategy():
        scores = yield Ask([Proposal({"x": 1}), Proposal({"x": 1}), Proposal({"x": 2})])
        assert [score.value for score in scores] == [1.0, 1.0, 2.0]

    function = Counted(lambda genome: genome["x"])
    trials, _ = search(strategy(), from_function(function))
    assert len(function.asked) == 2
    assert [trial.trained for trial in trials] == [True, False, True]


def test_grid_search_refuses_a_range_and_names_it():
    space = parse_space({"lr": {"min": 0.1, "max": 0.2}}, "a test")
    with pytest.raises(InputError, match="gene lr"):
        search(grid_search(space, 10), from_function(worth))


def test_without_optuna_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"install jevo\[optuna\]"):
        next(optuna_search(SPACE, "tpe", 0, 5, 5))


def test_layers_are_inherited_whole():
    space = parse_space(
        {"dense": {"layers": 3, "units": [1, 2, 3, 4, 5, 6, 7, 8], "other": list("abcdefgh")}}, "a test"
    )
    strategy = evolve(
        space, jax.random.key(1), population=12, generations=3, crossover=genetics.uniform(per="layer"), novel=False
    )
    trials, _ = search(strategy, from_function(lambda genome: sum(layer["units"] for layer in genome["dense"])))
    for trial in trials[12:]:
        for i, layer in enumerate(trial.genome["dense"]):
            assert layer in [trials[parent].genome["dense"][i] for parent in trial.parents]


def test_a_function_may_take_its_genome_apart():
    """Genomes of a search are its own."""

    def taken(genome):
        return worth({name: genome.pop(name) for name in list(genome)})

    def trained(genome, until, state):
        return taken(genome) + until / 100, (state or 0) + until

    for strategy, function in [
        (random_search(SPACE, jax.random.key(0), 4, 10), from_function(taken)), (genetic(), from_function(taken)),
        (genetic(halving=Halving((1, 2, 4), 2)), from_function(trained, budgets=True)),
    ]:  # fmt: skip
        trials, _ = search(strategy, function)
        assert all(set(trial.genome) == {"x", "y", "kind"} for trial in trials)
        assert len({identity(trial.genome) for trial in trials}) > 5
    trials, _ = search(random_search(SPACE, jax.random.key(0), 4, 10), from_function(taken))
    assert len(trials) == 10


def test_a_halving_that_cannot_be_is_refused():
    for rungs in [(), (9, 3, 1), (3, 3), (0, 3), (-1,)]:
        with pytest.raises(InputError, match="rungs of a halving"):
            Halving(rungs)
    for wrong in (lambda: Halving((1, 3), 1), lambda: Halving((1, 3), 0), lambda: Halving.between(1, 30, 1)):
        with pytest.raises(InputError, match="factor of a halving"):
            wrong()
    with pytest.raises(InputError, match="rungs of a halving"):
        Halving.between(0, 30, 3)


def test_first_genomes_are_of_the_space_and_are_proposed_as_they_are():
    real = parse_space({"x": {"min": -1.0, "max": 1.0}}, "a test")
    given, key = {"x": 0.001}, jax.random.key(0)
    for strategy in (
        evolve(real, key, population=3, generations=1, first=[given]), random_search(real, key, 3, 3, first=[given]),
        hyperband(real, key, 20, Halving((1, 2), 2), first=[given]),
    ):  # fmt: skip
        assert next(strategy).proposals[0].genome == given
    for wrong in (
        random_search(real, key, 3, 3, first=[{"zzz": 1}]),
        hyperband(real, key, 9, Halving((1, 3)), first=[{"x": 5.0}]),
    ):  # fmt: skip
        with pytest.raises(InputError, match="gene"):
            next(wrong)


def test_a_search_that_asks_for_nothing_says_so():
    for nothing in (random_search(SPACE, jax.random.key(0), 2, 0), grid_search(SPACE, 0)):
        with pytest.raises(InputError, match="the strategy asks for nothing"):
            search(nothing, from_function(worth))


def test_a_range_that_float32_has_few_numbers_in_ends(monkeypatch):
    monkeypatch.setattr("jevo.hyperparams.strategies.IN_VAIN", 200)
    few = parse_space({"x": {"min": 300.0, "max": 300.0001}}, "a test")
    trials, _ = search(random_search(few, jax.random.key(0), 5, 100), from_function(lambda genome: genome["x"]))
    assert 1 <= len(trials) < 100
