"""Compiled programs that outlive their process, in real processes."""

import json
import os
import subprocess
import sys

import pytest

from jevo.experiments import EXPERIMENTS
from tests.commands import ROOT

RUN = """
import importlib, json, sys, jax
from jax import monitoring

events = {"compile_requests_use_cache": 0, "cache_hits": 0}
def count(event, **_):
    name = event.rpartition("/")[2]
    if name in events:
        events[name] += 1

monitoring.register_event_listener(count)
found = importlib.import_module(sys.argv[3]).EXPERIMENT
# Of genomes that are trained side by side, which one is the best so far (and saved) depends on who is done first.
alone = {"workers": 1} if "workers" in found.config.__dataclass_fields__ else {}
config = found.config.from_preset("smoke", out=sys.argv[1], compile_cache=sys.argv[2] == "on", **alone)
result = found.run(config)
print(json.dumps([events, result["metrics"]]))
"""


@pytest.fixture
def start(tmp_path):
    """Starts a run in a process of its own, and gives how often it asked for a program, how often it was there, and
    its metrics."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"JEVO_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}

    def run(number, cache="on", experiment="masks", **more):
        script = [sys.executable, "-c", RUN, str(tmp_path / f"run{number}"), cache, EXPERIMENTS[experiment]]
        done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, env=environment | more, check=True)
        events, metrics = json.loads(done.stdout.splitlines()[-1])
        return events["compile_requests_use_cache"], events["cache_hits"], metrics, done.stderr

    return run


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_second_start_compiles_nothing(experiment, start):
    asked, _, metrics, _ = start(1, experiment=experiment)
    assert asked > 10
    asked, found, again, warnings = start(2, experiment=experiment)
    assert found == asked > 10
    assert again == metrics
    assert warnings == ""


@pytest.mark.slow
def test_a_damaged_program_is_compiled_again(start, tmp_path):
    _, _, metrics, _ = start(1)
    programs = sorted((tmp_path / "cache" / "programs").iterdir(), key=lambda path: path.stat().st_size)
    programs[-1].write_bytes(programs[-1].read_bytes()[:100])
    asked, found, again, warnings = start(2)
    assert found == asked - 1
    assert again == metrics
    assert "Error reading persistent compilation cache entry" in warnings


@pytest.mark.slow
def test_nothing_is_kept_where_the_user_says_so(start, tmp_path):
    start(1, cache="off")
    start(2, JAX_ENABLE_COMPILATION_CACHE="0")
    assert not any((tmp_path / "cache").rglob("*-cache"))
    start(3, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
    assert not any((tmp_path / "cache").rglob("*-cache"))
    assert any((tmp_path / "mine").iterdir())


def test_the_oldest_programs_go_first(tmp_path):
    from jevo.runs.compiled import evict_oldest

    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / name
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    evict_oldest(tmp_path, 1000)
    assert len(list(tmp_path.iterdir())) == 3
    evict_oldest(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}


def test_what_another_process_deletes_meanwhile_is_no_error(tmp_path, monkeypatch):
    from jevo.runs.compiled import evict_oldest

    for name in "ab":
        (tmp_path / name).write_bytes(bytes(100))
    entries = list(os.scandir(tmp_path))
    monkeypatch.setattr(os, "scandir", lambda folder: entries)
    (tmp_path / "a").unlink()
    evict_oldest(tmp_path, 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_that_takes_nothing_is_no_reason_to_fail(start, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "programs").write_text("a file in place of the folder")
    _, found, _, warnings = start(1)
    assert (found, warnings) == (0, "")
