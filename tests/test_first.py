"""Genomes that a search begins with, from a file: what was written is what is read, and what is wrong is named."""

import json
import math
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jevo.errors import InputError
from jevo.experiments import hyperparams
from jevo.experiments.hyperparams.contest import contents
from jevo.experiments.hyperparams.first import read_first
from jevo.experiments.hyperparams.genomes import table
from jevo.hyperparams import Score, Trial, identity, parse_space
from tests.members import seeds
from tests.test_space import drawn, relaxed, spaces, unstacked

SPACE = parse_space(
    {
        "optimizer": ["adam", "sgd"],
        "decay": {"values": [None, 0.25], "when": {"optimizer": "adam"}},
        "lr": {"min": 0.001, "max": 0.1, "log": True},
        "dense": {"layers": [1, 2], "same": True, "units": [4, 8], "bias": [True, False]},
    },
    "a test",
)
GENOME = {"optimizer": "adam", "decay": None, "lr": 0.01, "dense": [{"units": 4, "bias": False}] * 2}


def trial(number, genome, value, reason=""):
    return Trial(number, 0, genome, (), Score(value, reason=reason), True)


def written(path, **searches):
    found = {name: types.SimpleNamespace(trials=trials) for name, trials in searches.items()}
    path.write_text(table(found))
    return path


@settings(relaxed, max_examples=50)
@given(space=spaces(), seed=seeds, most=st.integers(1, 7))
def test_what_a_run_has_written_is_read_best_first_and_each_once(space, seed, most, tmp_path_factory):
    genomes = [space.decode(member) for member in unstacked(drawn(space, seed, 6))]
    trials = [trial(i, genome, i % 4) for i, genome in enumerate(genomes)]
    folder = tmp_path_factory.mktemp("run")
    best = sorted(trials, key=lambda one: -one.score.value)
    # What two trials share, the better of them has.
    wanted = list({identity(one.genome): one.genome for one in best}.values())[:most]
    assert read_first(written(folder / "genomes.csv", genetic=trials), space, most) == wanted
    lines = [{"search": "genetic", "genome": one.genome, "value": one.score.value, "crc32": 1} for one in trials]
    (folder / "genomes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read_first(folder / "genomes.jsonl", space, most)
    # There, the last that is said of a genome is what holds: at several rungs it is the furthest.
    if len(set(map(identity, genomes))) == len(genomes):
        assert found == wanted
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, genomes)))
    own = list({identity(genome): genome for genome in genomes}.values())
    assert read_first(folder / "mine.jsonl", space, most) == own[:most]


def test_of_a_run_its_own_search_is_taken_and_those_that_failed_are_left_out(tmp_path):
    other = {**GENOME, "lr": 0.02}
    own = [trial(0, GENOME, 0.5), trial(1, {**GENOME, "lr": 0.03}, math.nan, "diverged"), trial(2, other, 0.7)]
    path = written(tmp_path / "genomes.csv", genetic=own, random_search=[trial(0, {**GENOME, "lr": 0.05}, 0.9)])
    assert read_first(path, SPACE, 9) == [other, GENOME]


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("lr", "0.5", "line 3 gene lr is 0.5, but takes a number from 0.001 to 0.1"),
        ("lr", "fast", "line 3 gene lr is 'fast', but takes"),
        ("lr", "", "line 3 gene lr is missing; it takes a number"),
        ("dense.layers", "3", "line 3 gene dense.layers is 3, but takes 1 or 2"),
        ("dense.1.units", "8", "line 3 gene dense.1.units is 8, but takes 4 as dense.0.units"),
        ("optimizer", "sgd", "line 3 gene decay is null, but does not exist with the values of the others"),
        ("rate", "1", "line 3 gene rate is unknown; known: decay, dense.0.bias, dense.0.units"),
    ],
)
def test_a_bad_row_is_refused_in_a_line_that_names_it_and_the_gene(column, text, message, tmp_path):
    path = written(tmp_path / "genomes.csv", genetic=[trial(0, {**GENOME, "lr": 0.02}, 0.5), trial(1, GENOME, 0.4)])
    head, good, bad = (line.split(",") for line in path.read_text().splitlines())
    cells = {**dict(zip(head, bad, strict=True)), column: text}
    head = list(dict.fromkeys([*head, column]))
    good += [""] * (len(head) - len(good))
    path.write_text("\n".join(map(",".join, (head, good, [cells[name] for name in head]))))
    with pytest.raises(InputError) as caught:
        read_first(path, SPACE, 2)
    assert f"{path}, but in {message}" in str(caught.value)
    # What is not taken is not looked at.
    assert [genome["lr"] for genome in read_first(path, SPACE, 1)] == [0.02]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.csv", None, "cannot be read (No such file or directory); it takes genomes.csv"),
        ("a.txt", "", "but takes genomes.csv or genomes.jsonl of another run"),
        ("a.csv", "", "has no genome with a score"),
        ("a.csv", "lr\n" + "1" * 200_000, "which is no CSV (field larger than field limit"),
        ("a.jsonl", "\n", "has no genome with a score"),
        ("a.jsonl", '{"lr": 1}\n{"lr"', "but line 2 is no JSON"),
        ("a.jsonl", "[1]", "but in line 1 a genome is [1], but takes a value for each gene by name"),
        ("a.jsonl", json.dumps(GENOME | {"momentum": 1}), "but in line 1 gene momentum is unknown"),
    ],
)
def test_a_file_that_has_no_genomes_is_refused_in_a_line(name, text, message, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_first(tmp_path / name, SPACE, 2)
    assert message in str(caught.value)


def test_what_the_file_holds_is_a_part_of_what_a_run_is(tmp_path):
    path, genome = tmp_path / "first.jsonl", {"dense": [], "optimizer": "adam", "lr": 0.01}
    space = tmp_path / "space.yaml"
    space.write_text("dense: {layers: [0, 1], units: 4}\noptimizer: [adam, sgd]\nlr: [0.01, 0.1]")
    config = hyperparams.Config(space=str(space), first=path)
    digests = []
    for genomes in ([genome], [genome, genome], [genome | {"lr": 0.1}]):
        path.write_text("\n".join(map(json.dumps, genomes)))
        digests.append(contents(config)["first"])
    assert digests[0] == digests[1] != digests[2]
    assert "first" not in contents(hyperparams.Config(space=str(space)))
    with pytest.raises(InputError, match=r"setting first is .*, but takes nothing with the search brute"):
        hyperparams.Config(space=str(space), first=path, search="brute")
