"""Searches as studies of Optuna's: what is read there is what was searched, once, however often it is told."""

import contextlib
import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import jax
import pytest
import yaml

from jevo.errors import InputError
from jevo.experiments import hyperparams
from jevo.experiments.hyperparams.first import read_first
from jevo.experiments.hyperparams.journal import Journal
from jevo.experiments.hyperparams.study import NUMBER, Study, close_storage, new_name, open_storage
from jevo.hyperparams import (
    Callbacks,
    Halving,
    evolve,
    from_function,
    identity,
    optuna_search,
    parse_space,
    search,
    stepped,
)
from jevo.runs.lines import read_lines
from jevo.runs.signals import Interrupted

optuna = pytest.importorskip("optuna")

WRITTEN = {
    "dense": {"layers": [1, 2], "units": {"min": 4, "max": 12, "step": 4}, "dropout": [0.0, 0.2]},
    "optimizer": ["adam", "sgd"],
    "weight_decay": {"values": [None, 0.25], "when": {"optimizer": "adam"}},
    "lr": {"min": 0.002, "max": 0.02, "log": True},
    "epochs": {"values": [1, 2], "when": {"optimizer": "sgd"}},
}
SPACE = parse_space(WRITTEN, "a test")
HALVING = Halving((1, 3, 9), 3)


def worth(genome, until, state):
    if genome["lr"] > 0.01:
        raise ValueError("too fast")
    return len(genome["dense"]) - genome["lr"] + (until or 9) / 10, None


def told(strategy, *studies):
    """A search that studies are told of; when a genome was trained is its learning rate."""
    known = {}

    def when(trial):
        return 1e9 + trial.genome["lr"], 1e9 + 1

    for study in studies:
        done = Callbacks(done=lambda generation, study=study: study.tell(generation, when))
        trials, _ = search(strategy(), from_function(worth, budgets=True), known, callbacks=done)
        study.close(when)
    return trials


def genetic():
    common = {"elites": 0.3, "breeders": 0.3, "mutation": stepped(SPACE, 0.3)}
    return evolve(SPACE, jax.random.key(1), population=9, generations=2, halving=HALVING, **common)


@contextlib.contextmanager
def storage(where):
    found = open_storage(str(where))
    try:
        yield found
    finally:
        close_storage(found)


def studies(where):
    """By the name of the search, the trials of all studies."""
    with storage(where) as found:
        return {
            name.rpartition("/")[2]: optuna.load_study(study_name=name, storage=found).trials
            for name in optuna.get_all_study_names(found)
        }


def holds(trial, genome):
    """Whether a trial has the genes of a genome, those that exist and no others."""
    params = dict(trial.params)
    assert trial.user_attrs["genome"] == genome
    layers = [
        {gene: params.pop(f"dense.{i}.{gene}") for gene in ("units", "dropout")}
        for i in range(params.pop("dense.layers"))
    ]
    return {"dense": layers, **params} == genome


def test_a_halved_search_is_a_study_with_all_that_happened(tmp_path):
    with storage(tmp_path / "journal.log") as found:
        trials = told(genetic, *(Study(found, "mine/genetic", SPACE, 9, {"run": "mine"}) for _ in range(2)))
        study = optuna.load_study(study_name="mine/genetic", storage=found)
    assert study.user_attrs == {"run": "mine"}
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert len(study.trials) == len(trials) == 9 + 2 * 6
    states = optuna.trial.TrialState
    for one, trial in zip(study.trials, trials, strict=True):
        failed = not math.isfinite(trial.score.value)
        state = states.FAIL if failed else states.COMPLETE if trial.until == 9 else states.PRUNED
        assert one.state == state
        assert holds(one, trial.genome)
        assert one.value == (None if failed else trial.score.value)
        assert one.intermediate_values == ({} if failed else trial.rungs)
        assert ("too fast" in one.user_attrs.get("reason", "")) == failed
        assert (one.user_attrs["generation"], one.user_attrs["parents"]) == (trial.generation, list(trial.parents))
        assert one.datetime_start.timestamp() == pytest.approx(1e9 + trial.genome["lr"], abs=1e-5)
        assert one.datetime_complete.timestamp() == 1e9 + 1
        of = optuna.distributions
        assert one.distributions["lr"] == of.FloatDistribution(0.002, 0.02, log=True)
        assert one.distributions["dense.0.units"] == of.IntDistribution(4, 12, step=4)
        assert one.distributions["optimizer"] == of.CategoricalDistribution(("adam", "sgd"))
    assert {one.state for one in study.trials} == {states.FAIL, states.COMPLETE, states.PRUNED}


def test_a_genome_that_optunas_pruner_lets_go_on_is_one_trial(tmp_path):
    with storage(tmp_path / "journal.log") as found:
        study = Study(found, "tpe", SPACE, 9, {})
        trials = told(lambda: optuna_search(SPACE, "tpe", 0, 40, 3, HALVING), study)
    written = studies(tmp_path / "journal.log")["tpe"]
    # A proposal begins at the lowest rung, or goes on.
    begun = [trial for trial in trials if min(trial.rungs) == 1]
    assert [one.user_attrs[NUMBER] for one in written] == [trial.number for trial in begun]
    assert len(begun) < len(trials)
    furthest = {(identity(trial.genome), trial.until): trial.score.value for trial in trials}
    for one in written:
        name, rungs = identity(one.user_attrs["genome"]), one.intermediate_values
        assert rungs == {until: furthest[name, until] for until in rungs}
        assert list(rungs) == list(HALVING.rungs[: len(rungs)])
        assert (one.state == optuna.trial.TrialState.COMPLETE) == (9 in rungs)
        assert one.value == (list(rungs.values())[-1] if rungs else None)


class Broken:
    """A storage whose server is gone."""

    def __getattr__(self, name):
        raise ConnectionError("no server\n[SQL: SELECT]")


def test_a_storage_that_fails_is_a_line_and_no_lost_search(capsys):
    study = Study(optuna.storages.InMemoryStorage(), "mine/genetic", SPACE, 9, {})
    study._storage = Broken()
    assert len(told(genetic, study)) == 21
    said = "study mine/genetic: ConnectionError: no server; the run goes on without it\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nosuch://host/name", "setting study is nosuch://host/name, but NoSuchModuleError"),
        ("sqlite:///missing/study.db", "unable to open database file; it takes the URL of a database, as sqlite:///"),
        ("sqlite:///text.txt", "file is not a database"),
        ("text.txt", "text.txt, a file that is no journal of Optuna's; give another path"),
        ("genomes.jsonl", "genomes.jsonl, a file that is no journal of Optuna's; give another path"),
        ("study.db", "a file that is no journal of Optuna's; give sqlite:///study.db"),
        ("folder", "setting study is folder, but takes the URL of a database, as sqlite:///study.db, or the path"),
        ("folder.log", "setting study is folder.log, but IsADirectoryError"),
        ("new.db", "setting study is new.db, but takes the URL of a database"),
        ("sqlite:new.db", "setting study is sqlite:new.db, but takes the URL of a database"),
        ("missing/study.log", "setting study is missing/study.log, but FileNotFoundError"),
        ("postgresql://me:secret@host/name", "setting study has a password, which the files of the run would show"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_in_a_line(where, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no database" * 200)
    (tmp_path / "genomes.jsonl").write_text('{"search": "genetic"}\n')
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0...")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.log").mkdir()
    with pytest.raises(InputError) as caught:
        open_storage(where)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {
        "text.txt",
        "genomes.jsonl",
        "study.db",
        "folder",
        "folder.log",
    }


def test_a_url_may_name_what_only_the_environment_knows(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    with storage("sqlite:///$STUDY_FOLDER/study.db"):
        pass
    assert (tmp_path / "study.db").exists()


def test_without_optuna_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"install jevo\[optuna\]"):
        open_storage("study.log")


def test_two_runs_have_studies_of_their_own(tmp_path):
    names = {new_name(tmp_path / "run") for _ in range(9)}
    assert len(names) == 9
    assert all(name.startswith("jevo-run-") for name in names)


@pytest.mark.slow
def test_a_run_writes_all_searches_once_also_after_it_was_stopped(tmp_path, monkeypatch):
    path, first = tmp_path / "space.yaml", tmp_path / "first.jsonl"
    path.write_text(yaml.safe_dump(WRITTEN))
    begun = [
        {"dense": [{"units": 8, "dropout": 0.2}], "optimizer": "sgd", "lr": lr, "epochs": 1} for lr in (0.01, 0.02)
    ]
    first.write_text("\n".join(map(json.dumps, begun)))
    folder, database = tmp_path / "run", f"sqlite:///{tmp_path}/run/study.db"
    common = {"space": str(path), "first": first, "out": folder, "population": 5, "generations": 2, "elites": 0.2}
    ended, count = Journal._ended, 0

    def stopped(journal, generation):
        nonlocal count
        ended(journal, generation)
        count += 1
        if count == 2:
            raise Interrupted("stopped")

    monkeypatch.setattr(Journal, "_ended", stopped)
    config = hyperparams.Config.from_preset("smoke", study=database, **common)
    with pytest.raises(InputError, match="unable to open database file"):
        hyperparams.run(hyperparams.Config.from_preset("smoke", study="sqlite:///missing/study.db", **common))
    with pytest.raises(Interrupted):
        hyperparams.run(config)
    assert [len(trials) for trials in studies(database).values()] == [9]
    result = hyperparams.run(config)
    with (folder / "genomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = studies(database)
    assert set(found) == {"genetic", "random_search"} == {row["search"] for row in rows}
    assert "log.json" in json.loads((folder / "run.json").read_text())["files"]
    for name, trials in found.items():
        own = [row for row in rows if row["search"] == name]
        assert [trial.user_attrs[NUMBER] for trial in trials] == [int(row["number"]) for row in own]
        # Both begin with the genomes of the file.
        assert [trial.user_attrs["genome"] for trial in trials[:2]] == begun
        for trial, row in zip(trials, own, strict=True):
            assert round(trial.value, 6) == float(row["score"])
            assert trial.params["optimizer"] == row["optimizer"]
            assert str(trial.params["lr"]) == row["lr"]
            assert ("weight_decay" in trial.params) == (row["weight_decay"] != "")
            assert holds(trial, trial.user_attrs["genome"])
            assert " ".join(map(str, trial.user_attrs["epochs"])) == row["epochs_trained"]
            assert trial.datetime_start < trial.datetime_complete
            assert abs(trial.datetime_complete.timestamp() - time.time()) < 3600
    # What is written can be begun with.
    best = read_first(folder / "genomes.csv", SPACE, 3)
    assert best[0] == result["champion"]["genome"]
    assert all(one in [trial.user_attrs["genome"] for trial in found["genetic"]] for one in best)
    # Without its report it is not done; another storage hears all of it from the files of the run.
    (folder / "report.md").unlink()
    hyperparams.run(hyperparams.Config.from_preset("smoke", study=str(tmp_path / "study.log"), **common))
    again = studies(tmp_path / "study.log")
    for name, trials in found.items():
        assert [one.values for one in again[name]] == [one.values for one in trials]
        assert [one.datetime_complete for one in again[name]] == [one.datetime_complete for one in trials]
    # What the run says itself of its genes.
    unique = {json.dumps(trial.user_attrs["genome"], sort_keys=True) for trials in found.values() for trial in trials}
    assert result["importance"]["genomes"] == len(unique)
    assert "Importance of the genes" in (folder / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite:///{}/study.db", "{}/study.log"])
def test_a_killed_run_writes_nothing_twice_and_leaves_nothing_out(where, tmp_path):
    where = where.format(tmp_path)
    command = [sys.executable, "-m", "jevo.experiments.hyperparams", "--preset", "smoke", "--population", "6"]
    command += ["--generations", "3", "--out", str(tmp_path / "run"), "--study", where]
    ledger = tmp_path / "run" / "genomes.jsonl"
    for after in (7, 10, 14):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (ledger.exists() and len(read_lines(ledger)) >= after):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (tmp_path / "run" / "genomes.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, trials in studies(where).items():
        own = [int(row["number"]) for row in rows if row["search"] == name]
        assert [trial.user_attrs[NUMBER] for trial in trials] == own


@pytest.mark.slow
@pytest.mark.extras
def test_the_dashboard_shows_it(tmp_path):
    pytest.importorskip("optuna_dashboard")
    url = f"sqlite:///{tmp_path}/study.db"
    with storage(url) as found:
        trials = told(genetic, Study(found, "jevo-run/genetic", SPACE, 9, {"run": "run"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("optuna-dashboard")), url, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fetched(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.read().decode()

    try:
        for _ in range(600):
            assert process.poll() is None
            with contextlib.suppress(urllib.error.URLError):
                fetched("/")
                break
            time.sleep(0.1)
        assert "<html" in fetched("/dashboard").lower()
        (listed,) = json.loads(fetched("/api/studies"))["study_summaries"]
        assert listed["study_name"] == "jevo-run/genetic"
        shown = json.loads(fetched(f"/api/studies/{listed['study_id']}"))
        assert len(shown["trials"]) == len(trials)
        assert {trial["state"] for trial in shown["trials"]} == {"Complete", "Pruned", "Fail"}
        important = json.loads(fetched(f"/api/studies/{listed['study_id']}/param_importances"))
        assert "lr" in {one["name"] for one in important["param_importances"][0]}
    finally:
        process.kill()
        process.wait()
