"""The examples, as a user runs them: each ends well, and shows what it is there to show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def numbers(text, pattern):
    return [float(number) for number in re.findall(pattern, text)]


def masks_are_better(out):
    masks, drawn = numbers(out, r"test accuracy ([\d.]+) after")
    return masks > 0.9 > 0.5 > drawn


def quantiles_hold(out):
    (loss,), (inside,) = numbers(out, r"test  hybrid: loss ([\d.]+)"), numbers(out, r"test  hybrid:.* inside ([\d.]+)")
    return loss < 0.25 and inside > 0.4


def learning_rates_grow(out):
    (copied, kept), (high, low) = numbers(out, r"test loss ([\d.]+)"), numbers(out, r"Array\(([\d.]+)")
    return copied < kept / 2 and high > 2 * low


def the_pole_stays_up(out):
    return numbers(out, r"from 50 other starts: ([\d.]+)")[0] > 10


def both_find_one(out):
    found = numbers(out, r"r2 ([\d.]+) in")
    return len(found) == 2 and min(found) > 0.4


SHOWN = {
    "external_simulator": the_pole_stays_up,
    "optuna_beside": both_find_one,
    "own_masks": masks_are_better,
    "own_regression": quantiles_hold,
    "population_based_training": learning_rates_grow,
}


def test_all_are_there_and_short():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(SHOWN)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path


@pytest.mark.slow
@pytest.mark.parametrize("name", SHOWN)
def test_it_shows_what_it_is_for(name, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert SHOWN[name](ran.stdout), ran.stdout
