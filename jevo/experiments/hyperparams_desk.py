"""The books of a hyperparameter run: what is known, what is shown, what is kept, and when to stop."""

import hashlib
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jevo.experiments.hyperparams_report import describe
from jevo.hyperparams import Generation, Known, Mixed, Plan, Score, Strategy, Trial, Watch, champion, identity
from jevo.hyperparams import search as run_search
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.ledger import Ledger
from jevo.runs.loop import Interrupted, Patience
from jevo.runs.progress import Board, duration
from jevo.types import InputError, Member

SHOWN = 5
"""Genomes in the live table."""


class Weights:
    """The weights of every genome that was the best of its search for a time, on disk while the run lasts.

    Args:
        folder: of them alone.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def save(self, genome: Any, params: Member) -> None:
        """Save the weights of a genome."""
        save_arrays(self._path(genome), params)

    def load(self, genome: Any, like: Any) -> Member | None:
        """The weights of a genome, or None if they are not there or damaged."""
        try:
            return load_arrays(self._path(genome), like)
        except InputError:
            return None

    def clear(self) -> None:
        """Delete them all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, genome: Any) -> Path:
        return self._folder / hashlib.sha256(identity(genome).encode()).hexdigest()[:16]


class Found(NamedTuple):
    """A search that is done.

    Attributes:
        trials: every proposal.
        generations: every one.
        wall_s, compile_s: seconds that it took, over all sessions of the run.
    """

    trials: Sequence[Trial]
    generations: Sequence[Generation]
    wall_s: float
    compile_s: float


class Desk:
    """Where the searches of one run keep their books: what is known, what is shown, and when to stop.

    Args:
        folder: of the run.
        ledger: open, with what earlier sessions of the run have paid for.
        board: to show it on.
        patience: lost when the run shall stop.
    """

    def __init__(self, folder: Path, ledger: Ledger, board: Board, patience: Patience):
        self._folder, self._ledger, self._board, self._patience = folder, ledger, board, patience
        self.weights = Weights(folder / "checkpoints" / "weights")
        self.known = {
            identity(entry["genome"]): Known(_score(entry), entry["search"], entry["generation"])
            for entry in ledger.entries
        }
        self._clocks: dict[str, float] = {}
        for entry in ledger.entries:
            self._clocks[entry["search"]] = entry["clock"]
        if ledger.entries:
            board.say(f"goes on with {len(ledger.entries)} genomes trained")

    def search(self, name: str, generations: int, strategy: Strategy, trainable: Mixed) -> Found:
        """Run a strategy, with books."""
        began, before = time.perf_counter(), self._clocks.get(name, 0.0)
        trials: list[Trial] = []
        progress = {"expected": 0, "done": 0, "since": began, "generation": 0}
        written = set(self.known)

        def clock() -> float:
            return before + time.perf_counter() - began

        def planned(generation: int, genomes: int, plan: Plan) -> None:
            progress.update(expected=genomes, done=0, since=time.perf_counter(), generation=generation)
            if genomes:
                self._board.say(f"{name} {generation}/{generations}: {plan}")

        def scored(trial: Trial) -> None:
            trials.append(trial)
            key, score = identity(trial.genome), trial.score
            leader = champion(trials)
            if key not in written:
                written.add(key)
                if leader is trial:
                    self.weights.save(trial.genome, score.params)
                self._ledger.add(_entry(name, trial, clock()))
                if score.reason:
                    self._board.say(f"genome {trial.number} failed: {score.reason} ({describe(trial.genome)})")
            progress["done"] += 1
            ranked = sorted((t for t in trials if not t.score.reason), key=lambda t: -t.score.value)[:SHOWN]
            self._board.rank([(f"{t.score.value:.4f}", str(t.generation), describe(t.genome)) for t in ranked])
            spent = time.perf_counter() - progress["since"]
            left = spent / progress["done"] * (progress["expected"] - progress["done"])
            best = f"best {leader.score.value:.4f}  " if leader else ""
            self._board.show(
                f"{name}  generation {progress['generation']}/{generations}  {best}"
                f"trained {progress['done']}/{progress['expected']}  {duration(left)} left in it"
            )
            if self._patience.lost:
                raise Interrupted(f"stopped with {len(written)} genomes trained; the same command goes on")

        def done(generation: Generation) -> None:
            trials.extend(t for t in generation.trials if not t.trained)
            self._board.say(
                f"{name}  generation {generation.number}/{generations}  best {generation.best:.4f}  "
                f"mean {generation.mean:.4f}  {duration(clock())}"
            )
            if self._patience.lost:
                raise Interrupted(f"stopped with {len(written)} genomes trained; the same command goes on")

        found = run_search(strategy, trainable, self.known, name, Watch(planned, scored, done))
        if not champion(found[0]):
            reason = found[0][0].score.reason
            raise InputError(f"{name}: every genome failed ({reason}); try another space, or smaller learning rates")
        mine = [entry for entry in self._ledger.entries if entry["search"] == name]
        wall_s = max([entry["clock"] for entry in mine], default=0.0)
        return Found(*found, wall_s, sum(entry["compile_s"] for entry in mine))


def _entry(search: str, trial: Trial, clock: float) -> dict[str, Any]:
    score = trial.score
    return {
        "search": search,
        "generation": trial.generation,
        "genome": trial.genome,
        "value": score.value if math.isfinite(score.value) else None,
        "seconds": round(score.seconds, 3),
        "compile_s": round(score.compile_s, 3),
        "reason": score.reason,
        "details": dict(score.details),
        "clock": round(clock, 3),
    }


def _score(entry: dict[str, Any]) -> Score:
    value = math.nan if entry["value"] is None else entry["value"]
    return Score(value, entry["seconds"], entry["compile_s"], entry["reason"], entry["details"])
