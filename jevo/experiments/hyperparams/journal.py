"""The journal of a genome search: what is known, what is shown, what is kept, and when to stop."""

import hashlib
import io
import math
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jevo.data.files import atomic_write
from jevo.errors import InputError
from jevo.experiments.hyperparams.genomes import describe
from jevo.experiments.hyperparams.study import Study
from jevo.hyperparams import (
    Callbacks,
    Generation,
    Genome,
    Known,
    KnownScore,
    Objectives,
    Score,
    Strategy,
    Trial,
    best_trial,
    identity,
    search,
)
from jevo.mixed import Architecture, MixedTrainer, Progress
from jevo.runs import (
    Interrupted,
    Lines,
    LiveTable,
    StopSignal,
    duration,
    load_arrays,
    read_lines,
    save_arrays,
    write_lines,
)
from jevo.types import Member

SHOWN = 5
"""Genomes in the live table."""


class WeightStore:
    """The weights of every genome that was the best of its search for a time, or on its front, as they were then, on
    disk while the run lasts.

    Args:
        folder: of them alone.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def save(self, trial: Trial, params: Member) -> None:
        """Save the weights of a genome at the rung that it has reached."""
        save_arrays(self._path(trial), params)

    def load(self, trial: Trial, like: Any) -> Member | None:
        """The weights of a genome, or None if they are not there or damaged."""
        try:
            return load_arrays(self._path(trial), like)
        except InputError:
            return None

    def _path(self, trial: Trial) -> Path:
        return self._folder / f"{_digest(trial.genome)}-{trial.until or 'end'}"


class ProgressStore:
    """How far those genomes are that may go on, on disk: what a stopped run has trained is not lost.

    Args:
        folder: of them alone.
        begin: how far a genome is before its first epoch, for each repeat: what is read has the same shapes.
    """

    def __init__(self, folder: Path, begin: Callable[[Genome], Sequence[Progress]]):
        self._folder, self._begin = folder, begin
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, genome: Genome, progress: Sequence[Progress]) -> None:
        """Save how far a genome is, for each repeat."""
        file = io.BytesIO()
        np.savez(file, *jax.tree.leaves(progress))
        atomic_write(self._path(genome), file.getvalue())

    def load(self, genome: Genome) -> Sequence[Progress] | None:
        """How far it is; None if that is not there, or damaged: NumPy's files hold a checksum of each array."""
        like, treedef = jax.tree.flatten(self._begin(genome))
        try:
            with np.load(self._path(genome), allow_pickle=False) as file:
                leaves = list(file.values())
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        fits = [leaf.shape for leaf in leaves] == [np.shape(leaf) for leaf in like]
        return jax.tree.unflatten(treedef, leaves) if fits else None

    def drop(self, genome: Genome) -> None:
        """Delete it."""
        self._path(genome).unlink(missing_ok=True)

    def _path(self, genome: Genome) -> Path:
        return self._folder / f"{_digest(genome)}.npz"


class OnFront(NamedTuple):
    """A trial on the front of its search.

    Attributes:
        trial: it.
        network: its network, and the weights that it was scored with.
        metrics: by split, and by name.
    """

    trial: Trial
    network: Callable[[], tuple[Architecture, Member]]
    metrics: Mapping[str, Mapping[str, float]]


class Found(NamedTuple):
    """A search that is done.

    Attributes:
        trials: every proposal.
        generations: every one.
        budget: what it spent, as `result.json` holds it; what it did not train because it was known counts, too.
        front: of a search of more than one objective, from the dearest to the cheapest.
    """

    trials: Sequence[Trial]
    generations: Sequence[Generation]
    budget: dict[str, Any]
    front: Sequence[OnFront] = ()

    def write_metrics(self, path: Path) -> None:
        """Write a line a generation."""
        write_lines(path, map(_line, self.generations))


class Journal:
    """The journal of one search: every score is on disk before the next is asked for, and shown as it comes.

    Args:
        name: of the search.
        generations: how many it will ask for, if that is known.
        path: of the file of all scores of the run, of this search and of others.
        lines: that file, open.
        weights: where the weights of the best are kept.
        table: to show it on.
        stop: received when the run shall stop.
        tell: told a line for every generation, known ones first.
        objectives: of a search for a front, which is kept, too.
        study: told of every generation, too.
    """

    def __init__(
        self,
        name: str,
        generations: int | None,
        path: Path,
        lines: Lines,
        weights: WeightStore,
        table: LiveTable,
        stop: StopSignal,
        tell: Callable[[Sequence[dict[str, Any]]], None],
        objectives: Objectives | None = None,
        study: Study | None = None,
    ):
        self._name, self._path, self._lines = name, path, lines
        self._of = f"/{generations - 1}" if generations else ""
        self._weights, self._table, self._stop, self._tell = weights, table, stop, tell
        self._objectives, self._study = objectives, study
        entries = read_lines(path)
        if lines.damaged:
            table.say(f"{path}: {lines.damaged} damaged lines were dropped: the genomes in them are trained again")
        self.known: Known = {
            (identity(entry["genome"]), entry.get("until")): KnownScore(
                _score(entry), entry["search"], entry["generation"]
            )
            for entry in entries
        }
        self._written = set(self.known)
        # Of a run that an earlier jevo began, there is no time: now is the best that can be said.
        self._ended_at = {
            (identity(entry["genome"]), entry.get("until")): entry.get("time", time.time()) for entry in entries
        }
        self._trials: list[Trial] = []
        self._before = max((entry["clock"] for entry in entries if entry["search"] == name), default=0.0)
        self._began = self._since = time.perf_counter()
        self._generation = self._expected = self._done = 0

    def search(self, strategy: Strategy, trainer: MixedTrainer) -> Found:
        """Run a strategy to its end.

        Raises:
            Interrupted: when the run shall stop; what is scored by then is known.
            InputError: if every genome has failed.
        """
        callbacks = Callbacks(self._planned, self._scored, self._ended)
        trials, generations = search(strategy, trainer, self.known, self._name, callbacks)
        if self._study:
            self._study.close(self._when)
        own = [entry for entry in read_lines(self._path) if entry["search"] == self._name]
        furthest: dict[str, Score] = {}
        for trial in sorted(trials, key=lambda trial: trial.score.spent):
            furthest[identity(trial.genome)] = trial.score
        spent = {
            "evaluations": len(furthest) * trainer.repeats,
            "epochs": sum(sum(score.details.get("epochs", ())) for score in furthest.values()),
            "gradient_steps": sum(score.details.get("steps", 0) for score in furthest.values()),
            "wall_s": max((entry["clock"] for entry in own), default=0.0),
            "compile_s": round(sum(entry["compile_s"] for entry in own), 3),
        }
        return Found(trials, generations, spent)

    def _clock(self) -> float:
        """Seconds that this search has taken, over all sessions of the run."""
        return self._before + time.perf_counter() - self._began

    def _when(self, trial: Trial) -> tuple[float, float]:
        """When the training of a genome began and ended, wherever it was trained."""
        keys = [(identity(trial.genome), until) for until in trial.rungs or (None,)]
        return min(self._ended_at[key] - self.known[key].score.seconds for key in keys), self._ended_at[keys[-1]]

    def _planned(self, generation: int, genomes: int, plan: Any) -> None:
        self._generation, self._expected, self._done, self._since = generation, genomes, 0, time.perf_counter()
        # A strategy that asks for one genome after another would fill the screen.
        if genomes > 1:
            self._table.say(f"{self._name} {generation}{self._of}: {plan}")

    def _scored(self, trial: Trial) -> None:
        trial, params = trial._replace(score=trial.score._replace(params=None)), trial.score.params
        self._trials.append(trial)
        key, score, leader = (identity(trial.genome), trial.until), trial.score, best_trial(self._trials)
        if key not in self._written:
            self._written.add(key)
            front = front_of(self._trials, self._objectives) if self._objectives else [leader]
            if leader is trial or any(one is trial for one in front):
                self._weights.save(trial, params)
            self._ended_at[key] = round(time.time(), 3)
            self._lines.append([{**_entry(self._name, trial, self._clock()), "time": self._ended_at[key]}])
            if score.reason:
                self._table.say(f"genome {trial.number} failed: {score.reason} ({describe(trial.genome)})")
        self._done += 1
        self._show(leader)
        self._stop_if_asked()

    def _ended(self, generation: Generation) -> None:
        self._trials.extend(trial for trial in generation.trials if not trial.trained)
        self._tell([_line(generation)])
        if self._study:
            self._study.tell(generation, self._when)
        champions = {trial.number for trial in generation.trials} & {generation.champion}
        if len(generation.trials) == 1 and not champions:
            return self._stop_if_asked()
        self._table.say(
            f"{self._name}  generation {generation.number}{self._of}  best {generation.best:.4f}  "
            f"mean {generation.mean:.4f}  {duration(self._clock())}"
        )
        self._stop_if_asked()

    def _show(self, leader: Trial | None) -> None:
        # Of a genome at several rungs, the furthest.
        each = {identity(t.genome): t for t in sorted(self._trials, key=lambda t: t.until or 0) if not t.score.reason}
        ranked = sorted(each.values(), key=lambda t: -t.score.value)[:SHOWN]
        self._table.rank([(f"{t.score.value:.4f}", str(t.generation), describe(t.genome)) for t in ranked])
        spent = time.perf_counter() - self._since
        left = spent / self._done * (self._expected - self._done)
        best = f"best {leader.score.value:.4f}  " if leader else ""
        self._table.show(
            f"{self._name}  generation {self._generation}{self._of}  {best}"
            f"trained {self._done}/{self._expected}  {duration(left)} left in it"
        )

    def _stop_if_asked(self) -> None:
        if self._stop.received:
            raise Interrupted(f"stopped with {len(self._written)} genomes trained; the same command goes on")


def front_of(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """Those that no other is better than in all, from the dearest to the cheapest; of equals the first."""
    alive = [trial for trial in trials if math.isfinite(trial.score.value)]
    values = {id(trial): tuple(objectives(trial.score)) for trial in alive}
    found: dict[tuple[float, ...], Trial] = {}
    for trial in alive:
        own = values[id(trial)]
        if not any(other != own and all(o >= v for o, v in zip(other, own, strict=True)) for other in values.values()):
            found.setdefault(own, trial)
    return [found[own] for own in sorted(found, reverse=True)]


def _entry(search: str, trial: Trial, clock: float) -> dict[str, Any]:
    score = trial.score
    return {
        "search": search,
        "generation": trial.generation,
        "genome": trial.genome,
        "until": trial.until,
        "value": score.value if math.isfinite(score.value) else None,
        "seconds": round(score.seconds, 3),
        "compile_s": round(score.compile_s, 3),
        "reason": score.reason,
        "details": dict(score.details),
        "clock": round(clock, 3),
    }


def _score(entry: dict[str, Any]) -> Score:
    value = math.nan if entry["value"] is None else entry["value"]
    epochs = entry["details"].get("epochs", [])
    spent = sum(epochs) / max(len(epochs), 1)
    return Score(value, spent, entry["seconds"], entry["compile_s"], entry["reason"], entry["details"])


def _digest(genome: Genome) -> str:
    """What names the files of a genome."""
    return hashlib.sha256(identity(genome).encode()).hexdigest()[:16]


def _line(generation: Generation) -> dict[str, Any]:
    """A generation as a line of metrics holds it."""
    best, mean = (value if math.isfinite(value) else None for value in (generation.best, generation.mean))
    return {
        "generation": generation.number,
        "best": best,
        "mean": mean,
        "validation": best,
        "champion": generation.champion,
        "trained": generation.trained,
        "epochs": generation.spent,
        "plan": generation.plan,
    }
