"""Experiments as a user starts them: real processes, small runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

from jevo.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent

SEARCHES = [
    ["--search", "perturbation"],
    ["--search", "perturbation", "--noise", "masks"],
    ["--search", "distribution", "--learning-rate", "20"],
]
RUNS = [
    *((name, []) for name in EXPERIMENTS),
    *(("masks", settings) for settings in SEARCHES),
    ("weights", ["--search", "strategy"]),
    ("autoencoder", ["--method", "ga", "--objectives", "fitness", "zeros", "--validate-top", 6]),
    ("autoencoder", ["--method", "perturbation", "--steps", 40]),
]
"""A small run of each experiment, and of each search that none of these is: its name, and settings."""


def command(name, *settings, out):
    """What starts a small run of an experiment."""
    return [sys.executable, "-m", EXPERIMENTS[name], "--preset", "smoke", *map(str, settings), "--out", str(out)]


def start(arguments, **environment):
    """A process, from the root of the checkout."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(arguments, cwd=ROOT, env=os.environ | environment, **pipes)


def devices(count):
    """Environment in which one CPU pretends to be so many."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"}


def result(out):
    """What a run's `result.json` holds."""
    return json.loads((out / "result.json").read_text())


def deterministic(out):
    """What a run leaves that must not depend on how often it was interrupted: all but seconds, and where it is."""
    found = result(out)
    for entry in (found, found["control"], *found["references"].values()):
        del entry["budget"]["wall_s"], entry["budget"]["compile_s"]
    del found["config"]["out"], found["config"]["checkpoint_every"], found["config"]["fresh"]
    lines = {path.name: path.read_text() for path in out.glob("*.jsonl") if path.name != "genomes.jsonl"}
    return found, lines
