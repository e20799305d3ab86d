"""Trains genomes of different widths, depths, activations and optimizers in a few shared compiled programs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import numpy as np

from jevo.data.task import Task
from jevo.hyperparams import Genome, Score
from jevo.mixed.architectures import Architecture, architecture
from jevo.mixed.executors import Executor, MakeExecutor, thread_executor
from jevo.mixed.planner import COSTS, Costs, Plan, Work, plan
from jevo.mixed.programs import Program
from jevo.mixed.worker import Job, MemberResult, MemberSpec, Training
from jevo.training.criterion import Criterion

TIE = 1e-5
"""What a nat of validation loss takes off an accuracy: less than one example, so that it decides between equals."""


@dataclass(eq=False)
class MixedTrainer:
    """A trainable for networks: call `score` with decoded genomes.

    It remembers which programs its plans have had compiled, and the next plan counts on them: what `plan` gives, and
    with it the last bits of a score, depends on the plans before it.

    Attributes:
        task: the examples.
        criterion: what outputs are for.
        batch_size: train examples in a gradient step.
        epochs: the most that a genome trains, where it does not say itself.
        max_epochs: the most that any genome of the space trains.
        patience: epochs without a better validation after which it stops.
        repeats: seeds of each genome, whose mean is its score.
        seed: the first of them.
        fitness: what a score is: validation accuracy (equals told apart by loss), or minus the loss, as it always is
            where there are no classes.
        precision: of matrix products.
        make_executor: makes what runs the jobs.
        costs: of its devices, for the planner.
    """

    task: Task
    criterion: Criterion
    batch_size: int
    epochs: int
    max_epochs: int
    patience: int
    repeats: int = 1
    seed: int = 0
    fitness: str = "accuracy"
    precision: str = "float32"
    make_executor: MakeExecutor = field(default_factory=thread_executor)
    costs: Costs = COSTS["cpu"]
    _compiled: set[Program] = field(default_factory=set, init=False, repr=False)

    def architecture(self, genome: Genome) -> tuple[Architecture, list[str]]:
        """The network of a genome, and what had to be repaired."""
        return architecture(genome, self.task.train.x.shape[1:], self.criterion.outputs, self.epochs)

    @property
    def work(self) -> Work:
        """What the planner must know of the training."""
        size = min(self.batch_size, len(self.task.train.y))
        return Work(size, len(self.task.train.y) // size, self.max_epochs)

    @property
    def training(self) -> Training:
        """How members are trained, for whoever trains them."""
        return Training(self.batch_size, self.patience, self.precision, self.criterion)

    def plan(self, genomes: Sequence[Genome]) -> Plan:
        """Which members share a program; from now on these programs count as compiled."""
        members = [self.architecture(genome)[0] for genome in genomes] * self.repeats
        found = plan(members, self._compiled, self.work, self.costs)
        self._compiled.update(found.compiled)
        return found

    def score(self, genomes: Sequence[Genome], plan: Plan, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
        """Train genomes, and give the score of each as soon as all its repeats are done.

        Args:
            genomes: decoded.
            plan: for them.
            skip: those that need no training, since an earlier session finished them: the plan, and with it every
                bit of the others' results, is the same.

        Yields:
            The index of a genome, and its score.
        """
        networks = [self.architecture(genome)[0] for genome in genomes]
        jobs = []
        for batch in plan.batches:
            members = [(i % len(genomes), i // len(genomes)) for i in batch.members]
            specs = [MemberSpec(i, repeat, networks[i], self.seed + repeat) for i, repeat in members if i not in skip]
            if specs:
                jobs.append(Job(batch.program, tuple(specs)))
        finished: dict[int, list[MemberResult]] = {}
        for result in chain.from_iterable(self._executor.results(jobs)):
            genome = result.spec.genome
            finished.setdefault(genome, []).append(result)
            if len(finished[genome]) == self.repeats:
                repeats = sorted(finished.pop(genome), key=lambda one: one.spec.repeat)
                yield genome, self._score(repeats, genomes[genome])

    @cached_property
    def _executor(self) -> Executor:
        return self.make_executor(self.task, self.training)

    def _score(self, repeats: Sequence[MemberResult], genome: Genome) -> Score:
        """The score of a genome, all of whose repeats are done."""
        reason = next((member.reason for member in repeats if member.reason), "")
        trained = [member.trained for member in repeats if member.trained]
        epochs = [int(one.epochs) for one in trained]
        scores = [] if reason else [round(float(one.score), 6) for one in trained]
        details = {
            "epochs": epochs,
            "best_epoch": [int(one.best) for one in trained],
            "steps": sum(epochs) * self.work.steps,
            **({"validation_accuracy": scores} if self.criterion.classifies else {}),
            "validation_loss": [] if reason else [round(float(one.loss), 6) for one in trained],
            "curve": [] if reason else [[round(float(loss), 6) for loss in one.curve[: one.epochs]] for one in trained],
            "repairs": self.architecture(genome)[1],
        }
        seconds, compile_s = (sum(getattr(member, name) for member in repeats) for name in ("seconds", "compile_s"))
        if reason:
            return Score(math.nan, seconds, compile_s, reason, details)
        values = [self._value(float(one.score), float(one.loss)) for one in trained]
        best = repeats[int(np.argmax(values))]
        return Score(float(np.mean(values)), seconds, compile_s, "", details, best.params)

    def _value(self, score: float, loss: float) -> float:
        by_accuracy = self.fitness == "accuracy" and self.criterion.classifies
        return score - TIE * min(loss, 10.0) if by_accuracy else -loss
