"""Compiled programs that outlive their process, in real processes."""

import json
import os
import subprocess
import sys

import pytest

RUN = """
import importlib, json, sys, jax
from jax import monitoring

events = {"compile_requests_use_cache": 0, "cache_hits": 0}
def count(event, **_):
    name = event.rpartition("/")[2]
    if name in events:
        events[name] += 1

monitoring.register_event_listener(count)
experiment = importlib.import_module(f"jevo.experiments.{sys.argv[3]}")
settings = {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(sys.argv[4]).items()}
result = experiment.run(experiment.Config(out=sys.argv[1], compile_cache=sys.argv[2] == "on", **settings))
print(json.dumps([events, result["metrics"]]))
"""


SMALL = {
    "masks": {"hidden": (8,), "population": 12, "parents": 4, "generations": 2, "validate_every": 1},
    "hybrid": {"hidden": (8,), "members": 4, "cycles": 2, "steps": 6, "legs": 2},
    "autoencoder": {"shape": (64, 8), "population": 4, "generations": 2, "steps": 4, "images": 50},
    "hyperparams": {"population": 3, "generations": 1, "lucky": 0, "epochs": 1, "keep": 0.5},
}


@pytest.fixture
def start(tmp_path):
    """Starts a run in a process of its own, and gives how often it asked for a program, how often it was there, and
    its metrics."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"JEVO_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}

    def run(number, cache="on", experiment="masks", **more):
        out, settings = str(tmp_path / f"run{number}"), json.dumps(SMALL[experiment])
        command = [sys.executable, "-c", RUN, out, cache, experiment, settings]
        done = subprocess.run(command, capture_output=True, text=True, env=environment | more, check=True)
        events, metrics = json.loads(done.stdout.splitlines()[-1])
        return events["compile_requests_use_cache"], events["cache_hits"], metrics, done.stderr

    return run


@pytest.mark.slow
@pytest.mark.parametrize("experiment", SMALL)
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
    from jevo.runs.compiled import forget_oldest

    for age, name in enumerate(("new", "middle", "old")):
        path = tmp_path / name
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    forget_oldest(tmp_path, 1000)
    assert len(list(tmp_path.iterdir())) == 3
    forget_oldest(tmp_path, 250)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
