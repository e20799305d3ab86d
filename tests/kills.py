"""Runs that are killed at random moments, again and again, and shall end as an uninterrupted one.

`python -m tests.kills` kills real processes of every experiment with SIGKILL, from their first millisecond to
their last; now and then one is started over with --fresh, and killed in that, too.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jevo.experiments import EXPERIMENTS
from tests.commands import command, deterministic, start

SETTINGS = {"hyperparams": ()}
"""What makes a run of an experiment save often; others take `OFTEN`."""
OFTEN = ("--checkpoint-every", "1")
ATTEMPTS = 200
"""Starts of one run, at most."""


def plain(arguments):
    """Run to the end, and return how long it took [s]."""
    began = time.perf_counter()
    process = start(arguments)
    _, complaint = process.communicate(timeout=300)
    if process.returncode:
        raise AssertionError(f"exit code {process.returncode}: {complaint}")
    return time.perf_counter() - began


def battered(arguments, kills, seconds, generator):
    """Run to the end, with so many kills on the way. Each moment is drawn from the time that a whole run takes."""
    done = 0
    for _ in range(ATTEMPTS):
        over = ["--fresh"] if done and generator.random() < 0.1 else []
        process = start([*arguments, *over])
        if done >= kills and not over:
            _, complaint = process.communicate(timeout=300)
            if process.returncode:
                raise AssertionError(f"after {done} kills, exit code {process.returncode}: {complaint}")
            return done
        try:
            _, complaint = process.communicate(timeout=generator.uniform(0, seconds))
            if process.returncode:
                raise AssertionError(f"after {done} kills, exit code {process.returncode}: {complaint}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
    raise AssertionError(f"not done after {ATTEMPTS} starts")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[name for name in EXPERIMENTS if name != "signs"])
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--each", type=int, default=5, help="kills of one run")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    generator, folder, total, runs = random.Random(asked.seed), Path(tempfile.mkdtemp(prefix="jevo-kills-")), 0, 0
    whole = {}
    for name in asked.names:
        often = SETTINGS.get(name, OFTEN)
        plain(command(name, *often, out=folder / name))  # Compiles, for all that follow.
        shutil.rmtree(folder / name)
        seconds = plain(command(name, *often, out=folder / name))
        whole[name] = (command(name, *often, out=folder / "run"), deterministic(folder / name), seconds)
    while total < asked.kills:
        name = asked.names[runs % len(asked.names)]
        arguments, expected, seconds = whole[name]
        total += battered(arguments, min(asked.each, asked.kills - total), seconds, generator)
        runs += 1
        if deterministic(folder / "run") != expected:
            print(json.dumps({"name": name, "kept": str(folder)}))
            sys.exit(f"{name}: run {runs} ends otherwise than an uninterrupted one")
        shutil.rmtree(folder / "run")
        print(f"{total} kills, {runs} runs, all as uninterrupted", flush=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
