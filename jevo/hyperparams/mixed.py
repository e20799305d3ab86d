"""Trains genomes of different widths, depths, activations and optimizers in a few shared compiled programs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from jevo.data.task import Task
from jevo.hyperparams.architecture import Architecture, architecture
from jevo.hyperparams.layers import Program
from jevo.hyperparams.planner import COSTS, Costs, Plan, Work, plan
from jevo.hyperparams.search import Score
from jevo.hyperparams.worker import Crew, Hire, Job, Learnt, Pupil, Training, threads

TIE = 1e-5
"""What a nat of validation loss takes off an accuracy: less than one example, so that it decides between equals."""


@dataclass(frozen=True)
class Mixed:
    """A trainable for networks: call `score` with decoded genomes.

    Attributes:
        task: the examples.
        classes: how many.
        batch_size: train examples in a gradient step.
        epochs: the most that a genome trains, where it does not say itself.
        longest: the most that any genome of the space trains.
        patience: epochs without a better validation after which it stops.
        repeats: seeds of each genome, whose mean is its score.
        seed: the first of them.
        fitness: what a score is: validation accuracy (equals told apart by loss), or minus the loss.
        precision: of matrix products.
        hire: finds those who train.
        costs: of their devices, for the planner.
    """

    task: Task
    classes: int
    batch_size: int
    epochs: int
    longest: int
    patience: int
    repeats: int = 1
    seed: int = 0
    fitness: str = "accuracy"
    precision: str = "float32"
    hire: Hire = field(default_factory=threads)
    costs: Costs = COSTS["cpu"]
    _planned: set[Program] = field(default_factory=set, repr=False)

    def architecture(self, genome: Mapping[str, Any]) -> tuple[Architecture, list[str]]:
        """The network of a genome, and what had to be repaired."""
        return architecture(genome, self.task.train.x.shape[1:], self.classes, self.epochs)

    @property
    def work(self) -> Work:
        """What the planner must know of the training."""
        size = min(self.batch_size, len(self.task.train.y))
        return Work(size, len(self.task.train.y) // size, self.longest)

    def plan(self, genomes: Sequence[Mapping[str, Any]]) -> Plan:
        """Which members share a program; from now on these programs count as compiled."""
        found = plan(
            [self.architecture(genome)[0] for genome in genomes] * self.repeats, self._planned, self.work, self.costs
        )
        self._planned.update(found.compiled)
        return found

    def score(
        self, genomes: Sequence[Mapping[str, Any]], by: Plan, skip: Sequence[int] = ()
    ) -> Iterator[tuple[int, Score]]:
        """Train genomes, and give the score of each as soon as all its repeats are done.

        Args:
            genomes: decoded.
            by: the plan for them.
            skip: those that need no training, since an earlier session finished them: the plan, and with it every
                bit of the others' results, is the same.

        Yields:
            The index of a genome, and its score.
        """
        networks = [self.architecture(genome)[0] for genome in genomes]
        jobs = []
        for batch in by.batches:
            members = [(i % len(genomes), i // len(genomes)) for i in batch.members]
            pupils = [Pupil(i, repeat, networks[i], self.seed + repeat) for i, repeat in members if i not in skip]
            if pupils:
                jobs.append(Job(batch.program, tuple(pupils)))
        finished: dict[int, list[Learnt]] = {}
        for learnt in chain.from_iterable(self._crew.results(jobs)):
            genome = learnt.pupil.genome
            finished.setdefault(genome, []).append(learnt)
            if len(finished[genome]) == self.repeats:
                repeats = sorted(finished.pop(genome), key=lambda one: one.pupil.repeat)
                yield genome, self._score(repeats, genomes[genome])

    @cached_property
    def _crew(self) -> Crew:
        return self.hire(self.task, Training(self.batch_size, self.patience, self.precision))

    def _score(self, repeats: Sequence[Learnt], genome: Mapping[str, Any]) -> Score:
        """The score of a genome, all of whose repeats are done."""
        reason = next((member.reason for member in repeats if member.reason), "")
        trained = [member.trained for member in repeats if member.trained]
        epochs = [int(one.epochs) for one in trained]
        details = {
            "epochs": epochs,
            "best_epoch": [int(one.best) for one in trained],
            "steps": sum(epochs) * self.work.steps,
            "validation_accuracy": [] if reason else [round(float(one.accuracy), 6) for one in trained],
            "validation_loss": [] if reason else [round(float(one.loss), 6) for one in trained],
            "curve": [] if reason else [[round(float(loss), 6) for loss in one.curve[: one.epochs]] for one in trained],
            "repairs": self.architecture(genome)[1],
        }
        seconds, compile_s = (sum(getattr(member, name) for member in repeats) for name in ("seconds", "compile_s"))
        if reason:
            return Score(math.nan, seconds, compile_s, reason, details)
        values = [self._value(float(one.accuracy), float(one.loss)) for one in trained]
        best = repeats[int(np.argmax(values))]
        return Score(float(np.mean(values)), seconds, compile_s, "", details, best.params)

    def _value(self, accuracy: float, loss: float) -> float:
        return -loss if self.fitness == "loss" else accuracy - TIE * min(loss, 10.0)
