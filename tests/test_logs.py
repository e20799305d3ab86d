"""What loggers are told of a run: all of it, once, in order, however often it is killed; and none of them ends it."""

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

from jevo.errors import InputError
from jevo.experiments import experiment, masks
from jevo.runs import loggers, read_lines
from jevo.runs.loggers import LOGGERS, Row, TensorBoard
from jevo.runs.logs import Logs, scalars
from tests.commands import deterministic
from tests.test_evolve import evolve


@pytest.fixture(autouse=True)
def keys_may_be_used_again():
    """A run in parts takes the same root again and again, on purpose."""
    with jax.debug_key_reuse(False):
        yield


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No logger reaches for a network, and what has no other place is written where the test is."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def told_to_tensorboard(folder):
    """`tag -> [(step, value)]`, as they lie in the event files, the oldest first."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: int(path.name.rpartition(".")[2])):
        for event in loggers._events(path.read_bytes()):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def told_to_wandb(folder):
    """The same, from the one file of the run, as `wandb sync` reads it."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    found = {}
    for record in map(Record.FromString, of_blocks(path.read_bytes())):
        # Of a picture there are several items, by name and field.
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name, value in row.items():
            if "/" in name:
                found.setdefault(name, []).append((row[f"{name.split('/')[0]}/generation"], value))
            else:
                found[name] = value
    return found


def of_blocks(raw):
    """The records of a file in LevelDB's log format, with 7 bytes before the first."""
    place, record = 7, b""
    while place + 7 <= len(raw):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(raw[place + 4 : place + 6], "little"), raw[place + 6]
        record += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def told_to_mlflow(folder):
    from mlflow.tracking import MlflowClient

    from jevo.runs.logs import quietly

    with quietly():
        client, run = MlflowClient(), json.loads((folder / "log.json").read_text())["mlflow"]
        found = {
            name: sorted((m.step, m.value) for m in client.get_metric_history(run, name))
            for name in client.get_run(run).data.metrics
        }
        return found | {file.path: None for file in client.list_artifacts(run)}


TOLD = {"tensorboard": told_to_tensorboard, "wandb": told_to_wandb, "mlflow": told_to_mlflow}
KINDS = [
    "tensorboard",
    *(pytest.param(name, marks=[pytest.mark.extras, pytest.mark.slow]) for name in ("wandb", "mlflow")),
]


def hold_all_told_once(name, folder, files=("metrics",)):
    """Hold that a log has every number of the files, at its step, once and in order."""
    found = TOLD[name](folder)
    for part in files:
        lines = read_lines(folder / f"{part}.jsonl")
        assert lines
        wanted = {}
        for line in lines:
            for key, value in scalars(line).items():
                wanted.setdefault(f"{part}/{key}", []).append((line["generation"], value))
        for key, values in wanted.items():
            assert [step for step, _ in found[key]] == [step for step, _ in values], key
            np.testing.assert_allclose([v for _, v in found[key]], [v for _, v in values], rtol=1e-6)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_log_has_every_line_once_also_after_it_is_stopped(name, tmp_path):
    pytest.importorskip(LOGGERS[name].package)
    plain = evolve(tmp_path / "plain")
    evolve(tmp_path / "run", generations=5, log=[name])
    found = evolve(tmp_path / "run", log=[name])
    assert found.lines == plain.lines
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "plain" / "metrics.jsonl").read_bytes()
    hold_all_told_once(name, tmp_path / "run")
    evolve(tmp_path / "run", log=[name])  # Done.
    hold_all_told_once(name, tmp_path / "run")


@pytest.mark.parametrize("name", KINDS)
def test_a_log_that_comes_late_hears_all(name, tmp_path):
    pytest.importorskip(LOGGERS[name].package)
    evolve(tmp_path / "run", generations=5)
    evolve(tmp_path / "run", log=[name])
    hold_all_told_once(name, tmp_path / "run")


SCRIPT = """
import sys, time
from tests.test_evolve import evolve
evolve(sys.argv[1], generations=40, checkpoint_every=7, stop=lambda lines: time.sleep(.03), log=sys.argv[2:])
"""


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow, pytest.mark.extras]) for name in TOLD])
def test_a_killed_run_tells_nothing_twice_and_leaves_nothing_out(name, tmp_path):
    pytest.importorskip(LOGGERS[name].package)
    draw, kills, path = np.random.default_rng(0), 0, tmp_path / "run" / "metrics.jsonl"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    while True:
        # W&B's helper of an earlier test would outlive the kill, and hold the run: nobody starts a run with it.
        env = {variable: value for variable, value in os.environ.items() if "WANDB_SERVICE" not in variable.upper()}
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), name], env=env | {"PYTHONPATH": root}
        )
        wanted = (len(read_lines(path)) if path.exists() else 0) + int(draw.integers(3, 12))
        while process.poll() is None and (kills >= 3 or not path.exists() or len(read_lines(path)) < wanted):
            time.sleep(0.01)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0
    assert kills >= 2
    hold_all_told_once(name, tmp_path / "run")


@pytest.mark.slow
def test_an_experiment_tells_of_all_who_compete_and_shows_its_figures(smoke, tmp_path):
    config = masks.Config.from_preset("smoke", out=tmp_path / "run", log=("tensorboard",))
    masks.run(config)
    assert deterministic_but_log(tmp_path / "run") == deterministic_but_log(smoke("masks"))
    found = hold_all_told_once("tensorboard", tmp_path / "run", ("metrics", "random_search"))
    pictures = {path.stem for path in (tmp_path / "run").glob("*.png")}
    assert pictures
    assert pictures <= found.keys()
    assert {"tensorboard", "log.json"} <= set(json.loads((tmp_path / "run" / "run.json").read_text())["files"])
    # Without its report it is not done: what is told is not told again, nor shown.
    (tmp_path / "run" / "report.md").unlink()
    masks.run(config)
    again = hold_all_told_once("tensorboard", tmp_path / "run", ("metrics", "random_search"))
    assert {name: len(values) for name, values in again.items()} == {n: len(v) for n, v in found.items()}
    masks.run(masks.Config.from_preset("smoke", out=tmp_path / "run", fresh=True))
    assert not (tmp_path / "run" / "tensorboard").exists()


def deterministic_but_log(folder):
    read, lines = deterministic(folder)
    del read["config"]["log"]
    return read, lines


@pytest.mark.slow
def test_a_genome_search_tells_as_it_goes(tmp_path):
    found = experiment("hyperparams")
    found.run(found.config.from_preset("smoke", out=tmp_path / "run", log=("tensorboard",)))
    hold_all_told_once("tensorboard", tmp_path / "run", ("metrics", "random_search"))


@pytest.mark.extras
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_pictures_are_shown(name, tmp_path):
    pytest.importorskip(LOGGERS[name].package)
    from PIL import Image

    from jevo.runs.logs import open_logs

    Image.new("RGB", (4, 3)).save(tmp_path / "curves.png")
    (tmp_path / "run").mkdir()
    for _ in range(2):
        with open_logs([name], tmp_path / "run", {"seed": 3, "hidden": [4]}) as logs:
            logs.tell("metrics.jsonl", [{"generation": 1, "best": 0.5}])
            logs.show([tmp_path / "curves.png"])
    found = TOLD[name](tmp_path / "run")
    assert found["metrics/best"] == [(1, 0.5)]
    assert "curves" in found or "curves.png" in found


@pytest.mark.slow
@pytest.mark.extras
def test_another_mlflow_has_all_of_it_too(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    evolve(tmp_path / "run", generations=5, log=["mlflow"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    evolve(tmp_path / "run", log=["mlflow"])
    hold_all_told_once("mlflow", tmp_path / "run")


def test_scalars_of_a_line():
    line = {"generation": 3, "best": 0.5, "validation": None, "loss": [1.0, None, [2]], "plan": "2 programs", "b": True}
    assert scalars(line) == {"generation": 3, "best": 0.5, "loss/0": 1.0, "loss/2/0": 2}
    assert scalars({"mean": math.nan, "best": math.inf}) == {}


class Failing:
    """Fails at one of the things that it is asked for; an error that a server sends has several lines."""

    def __init__(self, at):
        self.at, self.rows = at, []

    def known(self):
        return {"metrics": 2}

    def tell(self, rows):
        self.rows += rows
        self.fail("tell")

    def show(self, pictures):
        self.fail("show")

    def close(self):
        self.fail("close")

    def fail(self, at):
        if at == self.at:
            raise ConnectionError("no\nserver")


@pytest.mark.parametrize("at", ["tell", "show", "close"])
def test_a_logger_that_fails_is_a_line_and_no_lost_run(at, tmp_path, capsys):
    one, other = Failing(at), Failing("")
    logs = Logs({"wandb": one, "mlflow": other})
    for generation in (2, 3, 4):
        logs.tell("metrics.jsonl", [{"generation": generation, "best": 1.0}])
    logs.show([tmp_path / "a.png"])
    logs.close()
    said = capsys.readouterr().out
    assert said == "log wandb: ConnectionError: no server; the run goes on without it\n"
    rows = [Row("metrics", n, {"generation": n, "best": 1.0}) for n in (3, 4)]
    assert other.rows == rows
    assert one.rows == (rows[:1] if at == "tell" else rows)


def test_a_log_that_cannot_be_opened_is_a_line_and_no_lost_run(tmp_path, monkeypatch, capsys):
    def make(folder, settings):
        raise OSError("no such project")

    monkeypatch.setitem(LOGGERS, "wandb", LOGGERS["tensorboard"]._replace(make=make))
    evolve(tmp_path / "run", generations=2, log=["wandb", "tensorboard"])
    assert "log wandb: OSError: no such project; the run goes on without it" in capsys.readouterr().out
    hold_all_told_once("tensorboard", tmp_path / "run")


def test_a_package_that_is_missing_is_refused_before_the_run_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGERS, "wandb", LOGGERS["wandb"]._replace(package="no_such_package"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "no_such_package").mkdir()  # As wandb makes one of its own name, which can be imported.
    config = masks.Config.from_preset("smoke", out=tmp_path / "run", log=("wandb",))
    for start in (lambda: masks.run(config), lambda: evolve(tmp_path / "run", log=["wandb"])):
        with pytest.raises(InputError, match=r"the log wandb needs the package no_such_package: pip install 'jevo"):
            start()
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="setting log is neptune, but takes tensorboard, wandb, mlflow"):
        evolve(tmp_path / "run", log=["neptune"])
    with pytest.raises(InputError, match="takes a list"):
        evolve(tmp_path / "run", log="wandb")


def test_an_event_file_that_a_kill_cut_short_is_read_as_far_as_it_goes(tmp_path):
    log = TensorBoard(tmp_path, {"seed": 0})
    log.tell([Row("metrics", n, {"generation": n, "best": n / 2}) for n in (1, 2, 3)])
    log.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        again = TensorBoard(tmp_path, {"seed": 0})
        again.tell(
            [
                Row("metrics", n, {"generation": n, "best": n / 2})
                for n in (1, 2, 3)
                if n > again.known().get("metrics", -1)
            ]
        )
        again.close()
        found = told_to_tensorboard(tmp_path)
        assert found["metrics/best"] == [(1, 0.5), (2, 1.0), (3, 1.5)]
        assert [step for step, _ in found["metrics/generation"]] == [1, 2, 3]
        for other in (tmp_path / "tensorboard").iterdir():
            if other != path:
                other.unlink()


@pytest.mark.extras
def test_tensorboard_reads_it(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TensorBoard(tmp_path, {"seed": 0})
    log.tell([Row("metrics", n, {"generation": n, "best": n / 2}) for n in (1, 2, 3)])
    log.close()
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("metrics/best")] == [(1, 0.5), (2, 1.0), (3, 1.5)]
