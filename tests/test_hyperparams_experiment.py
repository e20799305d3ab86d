"""The hyperparameter experiment under the run contract."""

import csv
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import yaml

from jevo.errors import InputError
from jevo.experiments import champion, hyperparams
from jevo.experiments.hyperparams.genomes import by_gene, describe
from jevo.experiments.hyperparams.search import read_space
from jevo.hyperparams import SPACES
from jevo.mixed import MixedTrainer, Worker, planner, thread_executor
from jevo.runs.arguments import from_command_line
from jevo.runs.lines import read_lines
from jevo.runs.signals import Interrupted
from jevo.training.criterion import classification
from tests.test_hyperparams import made_task

TINY = {
    "dense": {"layers": [1, 2], "units": {"min": 4, "max": 12, "step": 4}, "dropout": [0.0, 0.2]},
    "optimizer": ["adam", "adamax"],
    "lr": {"min": 0.002, "max": 0.02, "log": True},
    "epochs": [1, 2],
}
SMALL = {
    "population": 5, "generations": 2, "elites": 0.2, "breeders": 0.2, "lucky": 1, "batch_size": 200, "halving": 0,
    "fitness": "accuracy",
}  # fmt: skip


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return str(path)


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.yaml"
    path.write_text(yaml.safe_dump(TINY | {"conv": {"layers": [0, 1], "units": [2, 3], "kernel": [2, 3]}}))
    return str(path)


def finished(folder, **settings):
    config = hyperparams.Config(out=folder, **{**SMALL, **settings})
    return hyperparams.run(config)


def rows(folder):
    with (folder / "genomes.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["space", pytest.param("images", marks=pytest.mark.slow)])
def test_a_run_leaves_what_the_contract_says_and_a_champion_that_can_be_used(kind, request, tmp_path):
    folder, images = tmp_path / "run", request.getfixturevalue(kind)
    result = finished(folder, space=images)
    assert json.loads((folder / "result.json").read_text()) == result
    assert result["budget"]["evaluations"] == 5 + 2 * 3
    # The control has as many epochs, and no more than those of a training that was begun.
    assert 0 <= result["control"]["budget"]["epochs"] - result["budget"]["epochs"] < 2
    assert result["budget"]["gradient_steps"] > 0
    for part in ("train", "validation", "test"):
        for entry in (result, result["control"]):
            assert set(entry["metrics"][part]) == {"accuracy", "loss"}
    names = {path.name for path in folder.iterdir()}
    assert {"genes.png", "family.png", "network.png", "curves.png", "confusion.png", "report.md"} <= names
    assert {"genomes.csv", "genomes.jsonl", "metrics.jsonl", "random_search.jsonl", "champion"} <= names
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["generation"] for line in lines] == [0, 1, 2]
    table = rows(folder)
    own = [row for row in table if row["search"] == "genetic"]
    assert len(own) == 11
    assert max(float(row["score"]) for row in own) == pytest.approx(result["champion"]["score"], abs=1e-6)
    best = own[result["champion"]["number"]]
    assert best["optimizer"] == result["champion"]["genome"]["optimizer"]
    # Its saved weights are those that were scored: the judge finds the accuracy that training found.
    found = list(map(json.loads, (folder / "genomes.jsonl").read_text().splitlines()))
    mine = next(entry for entry in found if entry["genome"] == result["champion"]["genome"])
    assert result["metrics"]["validation"]["accuracy"] == pytest.approx(
        mine["details"]["validation_accuracy"][0], abs=1e-6
    )
    assert result["metrics"]["validation"]["loss"] == pytest.approx(mine["details"]["validation_loss"][0], rel=1e-4)
    answer, _ = champion(folder)
    assert answer(np.zeros((3, 8, 8, 1), np.uint8)).probabilities.shape == (3, 10)


@pytest.mark.parametrize(
    "settings",
    [
        {"search": "brute", "space": {"dense": {"layers": 1, "units": [2, 3, 4]}, "optimizer": ["adam", "sgd"]}},
        pytest.param({"mutation": "redraw", "novel": False, "repeats": 2}, marks=pytest.mark.slow),
        pytest.param({"halving": 2}, marks=pytest.mark.slow),
        pytest.param({"search": "random"}, marks=pytest.mark.slow),
        pytest.param({"search": "hyperband", "halving": 2, "repeats": 2}, marks=pytest.mark.slow),
        pytest.param({"control": "optuna", "halving": 3}, marks=pytest.mark.slow),
        pytest.param({"crossover": "layer", "mutation": "numbers", "fitness": "loss"}, marks=pytest.mark.slow),
        pytest.param({"control": "optuna"}, marks=pytest.mark.slow),
    ],
)
def test_every_way_to_search_runs(settings, space, tmp_path):
    if "space" in settings:
        path = tmp_path / "other.yaml"
        path.write_text(yaml.safe_dump(settings["space"]))
        settings = {**settings, "space": str(path)}
    result = finished(tmp_path / "run", **{"space": space, "population": 4, "generations": 1, **settings})
    table = rows(tmp_path / "run")
    own = [float(row["score"]) for row in table if row["search"] == settings.get("search", "genetic")]
    assert result["champion"]["score"] == pytest.approx(max(own), abs=1e-6)
    # Each genome is trained once, with every seed; the control has as many epochs.
    own = [row for row in table if row["search"] == settings.get("search", "genetic") and row["trained"] == "True"]
    assert result["budget"]["evaluations"] == len(own) * settings.get("repeats", 1)
    most = 10 * settings.get("repeats", 1)
    for other in (result["control"], *result.get("references", {}).values()):
        assert 0 <= other["budget"]["epochs"] - result["budget"]["epochs"] < most
    if settings.get("search") == "brute":
        assert result["budget"]["evaluations"] == 6
    if settings.get("control") == "optuna":
        halved = {"random halving", "tpe", "tpe hyperband"}
        assert set(result["references"]) == (halved if settings.get("halving") else {"tpe", "nsga2"})
    if settings.get("repeats"):
        entry = json.loads((tmp_path / "run" / "genomes.jsonl").read_text().splitlines()[0])
        pairs = zip(*(entry["details"][f"validation_{name}"] for name in ("accuracy", "loss")), strict=True)
        scores = [accuracy - 1e-5 * min(loss, 10) for accuracy, loss in pairs]
        assert len(scores) == 2
        assert entry["value"] == pytest.approx(np.mean(scores), abs=1e-6)


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_where_it_was(space, tmp_path, monkeypatch):
    whole = finished(tmp_path / "whole", space=space)
    folder, count = tmp_path / "run", 0
    trained = Worker.train

    def counting(self, job):
        nonlocal count
        count += 1
        if count == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return trained(self, job)

    monkeypatch.setattr(Worker, "train", counting)
    with pytest.raises(Interrupted, match="the same command goes on"):
        finished(folder, space=space)
    before = (folder / "genomes.jsonl").read_text().splitlines()
    assert 1 <= len(before) <= 6
    again = finished(folder, space=space)
    lines = (folder / "genomes.jsonl").read_text().splitlines()
    assert lines[: len(before)] == before
    genomes = [json.dumps(json.loads(line)["genome"]) for line in lines]
    assert len(set(genomes)) == len(genomes)
    assert again["metrics"] == whole["metrics"]
    assert again["champion"] == whole["champion"]
    tables = [rows(folder), rows(tmp_path / "whole")]
    for row in tables[0] + tables[1]:
        del row["seconds"]
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 7])
def test_a_killed_run_loses_no_more_than_what_was_in_flight(after, space, tmp_path):
    command = [sys.executable, "-m", "jevo.experiments.hyperparams", "--space", space, "--out", str(tmp_path / "run")]
    command += [f for k, v in SMALL.items() for f in (f"--{k.replace('_', '-')}", str(v))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ledger = tmp_path / "run" / "genomes.jsonl"
    while process.poll() is None and not (ledger.exists() and ledger.read_text().count("\n") >= after):
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = ledger.read_text().splitlines()
    # A line that was cut short is no line.
    with ledger.open("a") as file:
        file.write('{"search": "genetic", "gen')
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = ledger.read_text().splitlines()
    assert lines[: len(before)] == before
    genomes = [json.dumps(json.loads(line)["genome"]) for line in lines]
    assert len(set(genomes)) == len(genomes)
    whole = finished(tmp_path / "whole", space=space)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"] == whole["metrics"]


@pytest.mark.slow
def test_weights_that_were_lost_are_trained_again(space, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jevo.experiments.hyperparams.journal.WeightStore.load", lambda self, genome, like: None)
    result = finished(tmp_path / "run", space=space, generations=0)
    assert "trained again" in capsys.readouterr().out
    assert result["metrics"]["validation"]["accuracy"] == pytest.approx(result["champion"]["score"], abs=2e-4)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("dense: {layers: 1, units: 3}\noptimiser: [adam]", ["optimiser", "did you mean optimizer?"]),
        ("dense: {layers: 1, unit: 3}", ["dense.unit;", "did you mean units?"]),
        ("dense: {layers: 1}", ["group dense without units"]),
        ("hidden: {layers: 1, units: 3}", ["group hidden", "conv and dense"]),
        ("dense: {layers: 1, units: [0]}", ["dense.units is 0", "a whole number from 1"]),
        ("dense: {layers: 1, units: []}", ["dense.units", "at least one value"]),
        ("a: [", ["is not YAML"]),
    ],
)
def test_a_space_that_is_wrong_is_refused_in_one_line_that_names_the_gene(text, parts, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        finished(tmp_path / "run", space=str(path))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--population", "1"], ["population is 1", "at least 2"]),
        (["--elites", "0.9"], ["elites + lucky is 21", "fewer than the population"]),
        (["--keep", "0.9"], ["setting keep is called elites and breeders now"]),
        (["--search", "brutal"], ["--search", "brute"]),
        (["--mutation-rate", "2"], ["mutation_rate is 2.0", "between 0 and 1"]),
    ],
)
def test_bad_settings_get_one_plain_line(arguments, parts):
    with pytest.raises(InputError) as caught:
        from_command_line(hyperparams.Config, arguments)
    for part in parts:
        assert part in str(caught.value)


def test_an_unknown_space_is_named(tmp_path):
    with pytest.raises(InputError, match=r"'mpl' is unknown; did you mean mlp\?"):
        finished(tmp_path / "run", space="mpl")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "vectors.npz", x_train=rng.normal(size=(60, 9)), y_train=np.arange(60) % 3)
    with pytest.raises(InputError, match="these examples are not images"):
        finished(tmp_path / "other", space="cnn", data=str(tmp_path / "vectors.npz"))


def test_brute_force_has_an_end(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("dense: {layers: {min: 1, max: 100}, units: {min: 1, max: 900}}")
    with pytest.raises(InputError, match=r"more than 1,000,000 genomes, too many for the search brute"):
        finished(tmp_path / "run", space=str(path), search="brute")
    path.write_text("dense: {layers: 1, units: 4, dropout: {min: 0.0, max: 0.5}}")
    with pytest.raises(InputError, match=r"gene dense.dropout is a number from 0.0 to 0.5, but grid search takes"):
        finished(tmp_path / "run", space=str(path), search="brute")


def test_presets_are_the_published_recipes():
    harvey = hyperparams.Config.from_preset("harvey")
    assert read_space(harvey.space).size() == 672
    # About 117 trainings, as published.
    assert harvey.population + 9 * (harvey.population - harvey.survivors) == 119
    mkoeppel = hyperparams.Config.from_preset("mkoeppel")
    assert (mkoeppel.space, mkoeppel.batch_size, mkoeppel.generations) == ("cnn", 300, 19)
    assert set(SPACES) == {"recipe", "mlp", "dense", "cnn"}


def trainable(task=None, **settings):
    return MixedTrainer(
        task or made_task((9,)), classification(3), batch_size=16, epochs=2, max_epochs=2, patience=2, **settings
    )


GENOMES = [{"dense": [{"units": n, "activation": "tanh"}] * (1 + n % 2), "lr": 0.01} for n in (3, 4, 6, 5)]


def scores(mixed, genomes=GENOMES, **settings):
    return dict(mixed.score(genomes, mixed.plan(genomes), **settings))


@pytest.mark.slow
def test_a_genome_scores_alike_in_every_company():
    together = scores(trainable())
    for i, genome in enumerate(GENOMES):
        alone = scores(trainable(costs=planner.COSTS["cpu"]._replace(compile_s=0, layer_s=0)), [genome])[0]
        assert together[i].value == pytest.approx(alone.value, abs=1e-4)
        np.testing.assert_allclose(together[i].details["curve"], alone.details["curve"], rtol=1e-4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), together[i].params, alone.params)


def test_a_genome_scores_the_same_bit_for_bit_however_many_train_at_once():
    one, several = scores(trainable()), scores(trainable(make_executor=thread_executor(3)))
    for i in one:
        assert one[i].value == several[i].value
        jax.tree.map(np.testing.assert_array_equal, one[i].params, several[i].params)


def test_those_in_skip_are_not_trained():
    assert sorted(scores(trainable(), skip=[1, 2])) == [0, 3]


def test_a_genome_that_diverges_fails_alone_and_says_when():
    genomes = [*GENOMES, {"dense": [{"units": 4}], "optimizer": "sgd", "lr": 1e30}]
    found = scores(trainable(), genomes)
    assert math.isnan(found[4].value)
    assert "diverged in epoch" in found[4].reason
    assert all(math.isfinite(found[i].value) for i in range(4))


@pytest.mark.parametrize("most", [0, *(pytest.param(most, marks=pytest.mark.slow) for most in (1, 2))])
def test_too_little_memory_halves_a_batch_and_then_fails_a_genome_alone(most, monkeypatch):
    mixed = trainable(costs=planner.COSTS["cpu"]._replace(together=4, compile_s=100))
    compiled = Worker.compile

    def limited(self, job):
        call = compiled(self, job)

        def checked(members, task):
            if len(members.key) > most:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return call(members, task)

        checked.memory_analysis = call.memory_analysis
        return checked

    monkeypatch.setattr(Worker, "compile", limited)
    found = scores(mixed)
    assert sorted(found) == [0, 1, 2, 3]
    if most:
        assert all(math.isfinite(score.value) for score in found.values())
    else:
        assert all(score.reason == "it needs more memory than there is" for score in found.values())


def test_genes_that_all_layers_share_are_one():
    genomes = [
        {"dense": [{"units": 4, "activation": "relu"}] * 2, "optimizer": "adam"},
        {"dense": [{"units": 8, "activation": "relu"}, {"units": 8, "activation": "tanh"}], "optimizer": "sgd"},
    ]
    found = by_gene(genomes)
    assert found["dense.units"] == [4, 8]
    assert found["dense.0.activation"] == ["relu", "relu"]
    assert found["dense.1.activation"] == ["relu", "tanh"]
    assert describe(genomes[0]) == "dense 2 x (4, relu), adam"


def test_a_gene_that_is_left_out_is_none_and_one_that_is_null_is_null():
    genomes = [
        {"dense": [{"units": 4, "drop": 0.1}, {"units": 8}], "optimizer": "sgd", "decay": None},
        {"dense": [{"units": 4}, {"units": 4}], "optimizer": "adam"},
        {"optimizer": "adam", "decay": 0.1},
        {"dense": [{"units": 4, "drop": None}], "optimizer": "sgd", "decay": 0.2},
    ]
    found = by_gene(genomes)
    assert found["decay"] == ["null", None, 0.1, 0.2]
    assert found["dense.layers"] == [2, 2, None, 1]
    assert (found["dense.0.units"], found["dense.1.units"]) == ([4, 4, None, 4], [8, 4, None, None])
    assert (found["dense.0.drop"], "dense.1.drop" in found) == ([0.1, None, None, "null"], False)
    assert by_gene(genomes[1:])["dense.drop"] == [None, None, "null"]
    assert by_gene(genomes[1:])["dense.units"] == [4, None, 4]
    assert describe(genomes[0]) == "dense (4, drop 0.1) (8), sgd, decay null"
    assert describe(genomes[3]) == "dense (4, drop null), sgd, decay 0.2"


CONDITIONS = """
import numpy as np

SPACE = {
    "optimizer": ("adam", "sgd"),
    "weight_decay": {"values": [None, np.float32(0.25)], "when": {"optimizer": "adam"}},
    "epochs": {"values": [1], "when": {"optimizer": "adam"}},
    "dense": {
        "layers": (1, 2),
        "units": {"min": 4, "max": 8, "log": True},
        "dropout": {"values": [None, 0.5], "when": {"units": 4}},
    },
}
"""


@pytest.mark.slow
def test_a_space_of_ones_own_may_be_python(tmp_path):
    """From its conditions to the figures, with genes that are left out or null."""
    path = tmp_path / "mine.py"
    path.write_text(CONDITIONS.replace('"units": {"min": 4, "max": 8, "log": True}', '"units": [4, 8]'))
    result = finished(tmp_path / "run", space=f"{path}:SPACE", population=8, generations=1, epochs=2)
    found = rows(tmp_path / "run")
    assert all((row["weight_decay"] == "") == (row["optimizer"] == "sgd") for row in found)
    assert {row["weight_decay"] for row in found} <= {"", "null", "0.25"}
    assert all((row["dense.0.dropout"] == "") == (row["dense.0.units"] == "8") for row in found)
    genomes = [line["genome"] for line in read_lines(tmp_path / "run" / "genomes.jsonl")]
    space = read_space(f"{path}:SPACE")
    assert all(space.decode(space.encode(genome)) == genome for genome in genomes)
    assert (tmp_path / "run" / "genes.png").exists()
    assert result["champion"]["genome"] in genomes


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (CONDITIONS, "SPACES", "has no SPACES; it has np, SPACE"),
        (CONDITIONS, "np", "but takes at least one gene"),
        ("SPACE = {'a': 1}", "SPACE", "space has the gene a; known: optimizer"),
        ("SPACE = {'lr': {1: 2}}", "SPACE", "mine.py:SPACE: gene lr has 1; known: min"),
        ("SPACE = 1 / 0", "SPACE", "ZeroDivisionError: division by zero (line 1 of"),
        (CONDITIONS, "", "but takes the path of a .yaml file, or FILE.py:NAME or package.module:NAME of a dictionary"),
        (CONDITIONS, None, "is unknown; known: mlp, recipe, dense, cnn, or the path of a .yaml file, or FILE.py:NAME"),
        (CONDITIONS, "SPACE", "gene dense.dropout.when is {'units': 4}, but takes a gene that is a list of values"),
    ],
)
def test_a_python_file_without_a_space_is_refused_in_a_line(text, name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError) as caught:
        read_space("mine.py" if name is None else f"mine.py:{name}")
    assert message in str(caught.value)


@pytest.mark.slow
def test_a_front_of_accuracy_and_size_is_found_reported_and_answers(space, tmp_path):
    folder = tmp_path / "run"
    settings = {"elites": 0.5, "breeders": 0.5, "lucky": 0, "population": 6, "generations": 2}
    result = finished(folder, space=space, objectives=("score", "parameters"), halving=2, **settings)
    points = result["front"]
    sizes = [point["parameters"] for point in points]
    scores = [point["metrics"]["validation"]["accuracy"] for point in points]
    assert sizes == sorted(set(sizes))
    assert scores == sorted(scores)
    # Nobody that was trained is both smaller and better.
    own = [row for row in rows(folder) if row["search"] == "genetic"]
    for row in own:
        assert any(
            size <= int(row["parameters"]) and score >= float(row["score"]) - 1e-6
            for size, score in zip(sizes, scores, strict=True)
        )
    assert "front.png" in {path.name for path in folder.iterdir()}
    x = np.random.default_rng(0).integers(0, 17, (5, 8, 8, 1)).astype(np.uint8)
    answers = []
    for number, point in enumerate(points, start=1):
        answer, _ = champion(folder, number)
        answers.append(answer(x).probabilities)
        layers = point["genome"]["dense"]
        widths = [64, *(layer["units"] for layer in layers), 10]
        assert point["parameters"] == sum((a + 1) * b for a, b in itertools.pairwise(widths))
    assert all(answer.shape == (5, 10) for answer in answers)
    assert len({answer.tobytes() for answer in answers}) == len(answers)
    with pytest.raises(InputError, match=f"front is {len(points) + 1}, but takes 1 to {len(points)}"):
        champion(folder, len(points) + 1)
