"""Successive halving: the best of a generation go on from where they are, and what that costs is what is counted."""

import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from jevo.errors import InputError
from jevo.hyperparams import (
    Ask,
    Callbacks,
    Halving,
    Proposal,
    Score,
    best_trial,
    evolve,
    from_function,
    hyperband,
    identity,
    optuna_search,
    parse_space,
    random_search,
    search,
    stepped,
)
from jevo.mixed import MixedTrainer, Worker
from jevo.training.criterion import classification
from tests.marks import mostly_slow
from tests.test_hyperparams import made_task
from tests.test_search import interrupted

SPACE = parse_space({"x": {"min": 0.0, "max": 1.0}, "speed": {"min": 0.1, "max": 1.0}}, "a test")
HALVING = Halving((1, 3, 9), 3)


def worth(genome, until):
    """What it comes to, the faster the sooner."""
    return -abs(genome["x"] - 0.3) - math.exp(-genome["speed"] * until)


class Counted:
    """A trainable that says how it was used; its state is how far it is."""

    def __init__(self):
        self.calls, self.forgotten = [], []
        self._of = from_function(self._train, budgets=True)

    def _train(self, genome, until, state):
        self.calls.append((identity(genome), state or 0, until))
        return worth(genome, until or 9), until or 9

    def __getattr__(self, name):
        return getattr(self._of, name)

    def forget(self, genome):
        self.forgotten.append(identity(genome))
        self._of.forget(genome)


def halved(genomes, halving=HALVING):
    """The plain algorithm: `(value, rung)` of each genome."""
    alive, found = list(range(len(genomes))), {}
    for until in halving.rungs:
        values = {i: worth(genomes[i], until) for i in alive}
        found |= {i: (value, until) for i, value in values.items()}
        alive = sorted(alive, key=lambda i: -values[i])[: math.ceil(len(alive) / halving.factor)]
    return [found[i] for i in range(len(genomes))]


def strategies():
    common = {"elites": 0.3, "breeders": 0.3, "mutation": stepped(SPACE, 0.3)}
    key = jax.random.key(1)
    return {
        "genetic": lambda: evolve(SPACE, key, population=9, generations=3, halving=HALVING, **common),
        "random": lambda: random_search(SPACE, key, 10, 80, halving=HALVING),
        "hyperband": lambda: hyperband(SPACE, key, 80, HALVING),
        "tpe": lambda: optuna_search(SPACE, "tpe", 0, 80, 5, HALVING),
    }


@pytest.mark.parametrize("name", list(strategies()))
def test_genomes_go_on_from_where_they_are_and_none_is_trained_twice(name):
    trainable = Counted()
    trials, generations = search(strategies()[name](), trainable)
    spent = sum(until - before for _, before, until in trainable.calls)
    assert generations[-1].spent == spent
    assert len({(who, until) for who, _, until in trainable.calls}) == len(trainable.calls)
    # Nothing is kept of anyone at the end, and nobody is forgotten who goes on.
    assert not trainable._of._states
    assert set(trainable.forgotten) == {identity(trial.genome) for trial in trials}
    assert best_trial(trials).score.value == max(trial.score.value for trial in trials)
    if name != "tpe":
        for generation in generations:
            rungs = replace(
                HALVING, rungs=tuple(r for r in HALVING.rungs if r >= min(t.until for t in generation.trials))
            )
            expected = halved([trial.genome for trial in generation.trials], rungs)
            assert [(trial.score.value, trial.until) for trial in generation.trials] == expected
            assert [trial.rungs[trial.until] for trial in generation.trials] == [value for value, _ in expected]
    if name != "genetic":
        # It spends its budget, and no more of it than one that was begun.
        assert 80 <= spent < 80 + HALVING.rungs[-1]


@pytest.mark.parametrize("name", list(strategies()))
@pytest.mark.parametrize("after", mostly_slow([1, 8, 12, 13, 20], 8))
def test_it_goes_on_after_an_interruption_at_any_rung(name, after):
    whole = Counted()
    trials, _ = search(strategies()[name](), whole)
    known, first = {}, Counted()
    with pytest.raises(KeyboardInterrupt):
        search(strategies()[name](), first, known, "it", interrupted(after))
    assert len(known) == after
    # What was kept is still there, as on a disk.
    again, _ = search(strategies()[name](), first, known, "it")
    assert [trial[:6] for trial in again] == [trial[:6] for trial in trials]
    assert [trial[6:] for trial in again] == [trial[6:] for trial in trials]
    assert first.calls == whole.calls
    # Without it, genomes are trained from their start, to the same end.
    lost, _ = search(strategies()[name](), Counted(), {k: v for k, v in known.items() if v.generation == 0}, "it")
    assert [trial.score.value for trial in lost] == [trial.score.value for trial in trials]


def test_a_search_that_is_ended_keeps_nothing_for_those_that_could_have_gone_on():
    trainable = Counted()
    stop = Callbacks(stop=lambda generation: generation.undecided)
    trials, _ = search(strategies()["tpe"](), trainable, callbacks=stop)
    assert trainable.forgotten == [identity(trials[-1].genome)]
    assert not trainable._of._states


def test_the_rungs_are_those_of_the_paper():
    """Li et al., "Hyperband", 2018, table 1: 81 epochs, a factor of 3."""
    halving = Halving.between(1, 81, 3)
    assert halving.rungs == (1, 3, 9, 27, 81)
    sizes, strategy = [], hyperband(SPACE, jax.random.key(0), 10_000, halving)
    ask = next(strategy)
    for _ in range(6):
        sizes.append((len(ask.proposals), ask.halving.rungs[0]))
        ask = strategy.send([Score(0.0, ask.halving.rungs[0])] * len(ask.proposals))
    assert sizes == [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81), (81, 1)]


@pytest.mark.parametrize("halving", [HALVING, Halving((2, 5), 2), Halving((4,), 3), Halving.between(2, 100, 4)])
def test_a_cost_is_what_is_spent_and_a_budget_affords_what_it_says(halving):
    for count in (1, 2, 9, 10, 28):
        trainable = Counted()
        search(random_search(SPACE, jax.random.key(0), count, halving.cost(count), halving=halving), trainable)
        assert sum(until - before for _, before, until in trainable.calls) == halving.cost(count)
        assert halving.affords(halving.cost(count), 1000) >= count
        assert halving.cost(halving.affords(halving.cost(count), 1000)) <= halving.cost(count)


def test_those_that_fail_do_not_go_on():
    def train(genome, until, state):
        if genome["x"] < 0.7:
            raise ValueError("too small")
        return genome["x"], None

    trials, _ = search(random_search(SPACE, jax.random.key(2), 12, 12, halving=HALVING), from_function(train, True))
    for trial in trials:
        assert math.isnan(trial.score.value) == (trial.genome["x"] < 0.7)
        assert trial.until == 1 or trial.genome["x"] >= 0.7
    assert any(trial.until == 9 for trial in trials)


def test_a_function_of_a_genome_alone_cannot_be_halved():
    with pytest.raises(InputError, match="takes \\(genome, until, state\\)"):
        search(random_search(SPACE, jax.random.key(2), 12, 12, halving=HALVING), from_function(lambda genome: 1.0))


GENOMES = [
    {"dense": [{"units": 3 + i, "activation": "tanh", "dropout": 0.2 * (i % 2)}] * (1 + i % 2), "lr": 0.02,
     "optimizer": ("adam", "adagrad", "adadelta", "rmsprop")[i % 4]}
    for i in range(9)
]  # fmt: skip


def mixed(patience=99, **settings):
    return MixedTrainer(
        made_task((9,)), classification(3), batch_size=16, epochs=9, max_epochs=9, patience=patience, **settings
    )


class Forgetful:
    """Keeps nothing: whoever goes on is trained from the start."""

    def save(self, genome, progress):
        pass

    def load(self, genome):
        return None

    drop = load


@pytest.mark.parametrize("patience", [99, 1])
def test_trained_in_parts_a_genome_has_every_bit_that_it_has_at_once(patience):
    asked = iter([Ask([Proposal(genome) for genome in GENOMES], (), HALVING)])
    scores = {}

    def kept(trial):
        scores[trial.number, trial.until] = trial.score

    def one_ask():
        yield next(asked)

    trainer = mixed(patience)
    trials, _ = search(one_ask(), trainer, callbacks=Callbacks(scored=kept))
    assert sorted(trial.until for trial in trials) == [1] * 6 + [3] * 2 + [9]
    # At once, in the same programs, to each of the rungs.
    whole = mixed(patience)
    whole.plan(GENOMES, HALVING)
    for until in HALVING.rungs:
        plan = whole.plan(GENOMES, replace(HALVING, rungs=(until,)))
        for i, score in whole.score(GENOMES, plan):
            if (i, until) in scores:
                part = scores[i, until]
                assert part.value == score.value
                assert part.details == score.details
                jax.tree.map(np.testing.assert_array_equal, part.params, score.params)
    # So it does when what was kept is lost.
    asked = iter([Ask([Proposal(genome) for genome in GENOMES], (), HALVING)])
    lost, _ = search(one_ask(), mixed(patience, kept=Forgetful()))
    assert [trial.score._replace(seconds=0, compile_s=0) for trial in lost] == [
        trial.score._replace(seconds=0, compile_s=0) for trial in trials
    ]


def test_a_rung_compiles_nothing_and_trains_no_epoch_again(monkeypatch):
    jobs = []
    trained = Worker.train
    monkeypatch.setattr(Worker, "train", lambda self, job: jobs.append(job) or trained(self, job))
    trainer, compiled = mixed(repeats=2), []

    def one_ask():
        yield Ask([Proposal(genome) for genome in GENOMES], (), HALVING)

    callbacks = Callbacks(planned=lambda generation, genomes, plan: compiled.append(len(plan.plan.compiled)))
    trials, generations = search(one_ask(), trainer, callbacks=callbacks)
    assert compiled[0] >= 1
    assert compiled[1:] == [0, 0]
    begun = [start for job in jobs for start in (job.starts() if job.starts else [None])]
    assert len(begun) == 2 * (9 + 3 + 1)
    assert generations[-1].spent == HALVING.cost(9)
    assert all(trial.score.details["epochs"] == [trial.until] * 2 for trial in trials)
