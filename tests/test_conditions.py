"""Genes that exist under conditions: that nobody sees them where they do not, in any search."""

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jevo import genetics
from jevo.errors import InputError
from jevo.hyperparams import (
    Choice,
    Group,
    Score,
    evolve,
    flatten,
    from_function,
    identity,
    parse_space,
    random_search,
    redrawn,
    search,
    stepped,
)
from jevo.hyperparams.optuna_strategy import _suggested
from tests.members import seeds
from tests.test_space import drawn, legal, relaxed, spaces, unstacked

WRITTEN = {
    "optimizer": ["adam", "sgd", "rmsprop"],
    "momentum": {"values": [0.0, 0.9, None], "when": {"optimizer": ["sgd", "rmsprop"]}},
    "nesterov": {"values": [True, False], "when": {"momentum": 0.9, "optimizer": "sgd"}},
    "width": {"min": 16, "max": 64, "log": True},
    "conv": {
        "layers": [0, 1, 2],
        "norm": ["batch", None],
        "decay": {"values": [1, 2], "when": {"norm": "batch", "optimizer": "adam"}},
        "when": {"optimizer": ["adam", "sgd"]},
    },
}
SPACE = parse_space(WRITTEN, "example")


def paths(space, decoded):
    """Where the genes of a decoded genome are in the encoded tree, and how many layers it has."""
    for name, value in decoded.items():
        if isinstance(value, list):
            yield (name, "layers")
            same = space.genes[name].same
            yield from ((name, "each" if same else str(i), gene) for i, layer in enumerate(value) for gene in layer)
        else:
            yield (name,)


def changed(genome, path, value):
    """A genome with another leaf."""
    return {**genome, path[0]: changed(genome[path[0]], path[1:], value) if path[1:] else value}


@settings(relaxed, max_examples=50)
@given(space=spaces(), seed=seeds)
def test_a_leaf_that_is_not_active_changes_nothing_and_one_that_is_does(space, seed):
    for genome, other in zip(*[iter(unstacked(drawn(space, seed, 6)))] * 2, strict=True):
        decoded = space.decode(genome)
        here = set(paths(space, decoded))
        active = dict(zip(space.leaves(), jax.tree.leaves(space.active(genome)), strict=True))
        assert {path for path, yes in active.items() if yes} == here
        for path, gene in space.leaves().items():
            again = genome
            for leaf, value in zip(space.leaves(), jax.tree.leaves(other), strict=True):
                again = changed(again, leaf, value) if leaf == path else again
            unlike = identity(space.decode(again)) != identity(decoded)
            differs = gene.decode(at(again, path)) != gene.decode(at(genome, path))
            assert unlike == (differs and path in here)


def at(tree, path):
    return at(tree[path[0]], path[1:]) if path else tree


@settings(relaxed, max_examples=50)
@given(space=spaces(), seed=seeds)
def test_a_genome_has_exactly_the_genes_that_exist(space, seed):
    for genome in unstacked(drawn(space, seed, 3)):
        decoded = space.decode(genome)
        for name, gene in space.genes.items():
            if name in decoded:
                # Whoever depends on it may go first.
                with pytest.raises(InputError, match=r"missing|exists only when"):
                    space.encode({other: value for other, value in decoded.items() if other != name})
                continue
            extra = [] if isinstance(gene, Group) else gene.decode(0)
            with pytest.raises(InputError, match=r"but (exists only when|takes)") as error:
                space.encode({**decoded, name: extra})
            assert str(error.value).startswith(f"gene {name}")


def test_the_spaces_size_is_what_it_is_on_paper():
    genomes = list(SPACE.genomes())
    convs = {"adam": 1 + 3 + 3**2, "sgd": 1 + 2 + 2**2}  # A layer of adam's is batch with 1 or 2, or has no norm.
    widths = 49
    assert SPACE.size() == widths * (convs["adam"] + (2 + 2) * convs["sgd"] + 3)
    assert len(genomes) == len(set(map(identity, genomes))) == SPACE.size()
    assert {genome["width"] for genome in genomes} == set(range(16, 65))
    assert all(("conv" in genome) == (genome["optimizer"] != "rmsprop") for genome in genomes)


def test_many_conditions_are_counted_at_once():
    """As many ways as no list could hold, whatever the order in which they are written."""
    flags = {f"f{i}": [False, True] for i in range(60)}
    values = {f"v{i}": {"values": [1, 2, 3], "when": {f"f{i}": True}} for i in range(60)}
    assert parse_space({**flags, **values}, "example").size() == 4**60
    chain = {"g0": [0, 1]} | {f"g{i}": {"values": [0, 1], "when": {f"g{i - 1}": 1}} for i in range(1, 400)}
    backwards = parse_space(dict(reversed(chain.items())), "example")
    assert backwards.size() == 401
    assert len(set(map(identity, backwards.genomes()))) == 401
    layers = {"layers": {"min": 0, "max": 100}, "a": [1, 2], "b": {"values": [1, 2, 3], "when": {"a": 2}}}
    space = parse_space({"x": layers, "y": layers, "z": layers}, "example")
    assert space.size() == sum(4**n for n in range(101)) ** 3


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (
            {"optimizer": "adam", "momentum": 0.9, "width": 20, "conv": []},
            "gene momentum is 0.9, but exists only when optimizer is sgd or rmsprop; leave it out",
        ),
        ({"optimizer": "rmsprop", "width": 20}, "gene momentum is missing; it takes 0.0, 0.9 or null"),
        (
            {"optimizer": "rmsprop", "momentum": None, "width": 20, "conv": []},
            "gene conv is [], but exists only when optimizer is adam or sgd; leave it out",
        ),
        ({"optimizer": "adam", "width": 20}, "gene conv is missing; it takes a list of 0, 1 or 2 layers"),
        (
            {"optimizer": "adam", "width": 20, "conv": [{"norm": None, "decay": 1}]},
            "gene conv.0.decay is 1, but exists only when norm is batch and optimizer is adam",
        ),
        (
            {"optimizer": "adam", "width": 20, "conv": [{"norm": "batch"}]},
            "gene conv.0.decay is missing; it takes 1 or 2",
        ),
        (
            {"optimizer": "adam", "width": 20.5, "conv": []},
            "gene width is 20.5, but takes a whole number from 16 to 64",
        ),
        ({"optimizer": "adam", "width": True, "conv": []}, "gene width is True, but takes a whole number"),
    ],
)
def test_what_is_no_genome_of_it_is_said_in_one_line(genome, message):
    with pytest.raises(InputError) as error:
        SPACE.encode(genome)
    assert message in str(error.value)


@settings(relaxed, max_examples=8)
@given(space=spaces(finite=True), seed=seeds)
def test_random_search_proposes_every_genome_once_and_ends(space, seed):
    assume(space.size() <= 30)
    strategy, proposed = random_search(space, jax.random.key(seed), 7, 56), []
    search(strategy, from_function(lambda genome: proposed.append(genome) or 0.0))
    assert len(proposed) == space.size()
    assert set(map(identity, proposed)) == set(map(identity, space.genomes()))


@pytest.mark.parametrize(
    ("mutation", "crossover"),
    [
        pytest.param(stepped(SPACE, 0.3), genetics.uniform(), marks=pytest.mark.slow),
        (redrawn(SPACE, 0.5), genetics.uniform(per="layer")),
    ],
)
def test_evolution_proposes_nothing_twice(mutation, crossover):
    strategy = evolve(
        SPACE, jax.random.key(1), population=20, generations=6, mutation=mutation, crossover=crossover, lucky=2
    )
    seen, ask = [], next(strategy)
    for _ in range(6):
        seen += [proposal.genome for proposal in ask.proposals]
        ask = strategy.send([Score(len(proposal.genome.get("conv", []))) for proposal in ask.proposals])
    for genome in seen:
        legal(SPACE, genome)
    assert len(set(map(identity, seen))) == len(seen) > 80


@settings(relaxed, max_examples=20)
@given(space=spaces(), seed=st.integers(0, 2**31))
def test_optuna_is_asked_for_what_exists_in_its_own_values(space, seed):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(3):
        trial = study.ask()
        genome = space.decode(_suggested(space, trial))
        legal(space, genome)
        columns = flatten(genome)
        for path, gene in space.leaves().items():
            name = ".".join((path[0], path[2]) if "each" in path[1:] else path)
            column = ".".join((path[0], "0", path[2]) if "each" in path[1:] else path)
            assert (name in trial.params) == (column in columns and gene.varies)
            if name in trial.params and isinstance(gene, Choice):
                value = columns[column]
                assert trial.params[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
        study.tell(trial, 0.0)


def test_optuna_has_ranges_as_ranges_and_words_as_words():
    optuna = pytest.importorskip("optuna")
    written = {
        "kernel": {"min": 3, "max": 9, "step": 2}, "drop": {"min": 0.1, "max": 0.5, "step": 0.1}, "fixed": 3,
        "width": {"min": 16, "max": 64, "log": True}, "lr": {"min": 1e-4, "max": 0.1, "log": True},
        "units": [16, 32, 128], "act": ["relu", None], "dense": {"layers": [1, 2], "same": True, "units": [1, 2]},
    }  # fmt: skip
    trial = optuna.create_study().ask()
    _suggested(parse_space(written, "example"), trial)
    of = optuna.distributions
    assert trial.distributions == {
        "kernel": of.IntDistribution(3, 9, step=2),
        "drop": of.FloatDistribution(0.1, 0.5, step=0.1),
        "width": of.IntDistribution(16, 64, log=True),
        "lr": of.FloatDistribution(1e-4, 0.1, log=True),
        "units": of.CategoricalDistribution((16, 32, 128)),
        "act": of.CategoricalDistribution(("relu", None)),
        "dense.layers": of.IntDistribution(1, 2),
        "dense.units": of.IntDistribution(1, 2),
    }


def test_redrawn_takes_one_of_the_genes_that_are_there():
    genome = SPACE.encode({"optimizer": "rmsprop", "momentum": None, "width": 20})
    keys = jax.random.split(jax.random.key(0), 600)
    mutate = jax.jit(jax.vmap(redrawn(SPACE, 1.0), in_axes=(0, None)))
    found = unstacked(mutate(keys, jax.tree.map(np.asarray, genome)))
    kinds = [
        [name for name, a, b in zip(SPACE.leaves(), *map(jax.tree.leaves, (genome, one)), strict=True) if a != b]
        for one in found
    ]
    assert {tuple(kind) for kind in kinds} == {((name,),) for name in ("optimizer", "momentum", "width")}
    assert all(150 < sum(kind == [(name,)] for kind in kinds) < 250 for name in ("optimizer", "momentum", "width"))
