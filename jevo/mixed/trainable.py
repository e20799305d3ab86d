"""Trains genomes of different widths, depths, activations and optimizers in a few shared compiled programs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import NamedTuple

import numpy as np

from jevo.data.task import Task
from jevo.hyperparams import Genome, Halving, Score, identity
from jevo.mixed.architectures import Architecture, architecture
from jevo.mixed.executors import Executor, MakeExecutor, thread_executor
from jevo.mixed.planner import COSTS, Costs, Plan, Work, plan
from jevo.mixed.programs import Program
from jevo.mixed.progress import Kept, KeptInMemory, Progress, begin
from jevo.mixed.worker import Job, MemberResult, MemberSpec, Training
from jevo.training.criterion import Criterion

TIE = 1e-5
"""What a nat of validation loss takes off an accuracy: less than one example, so that it decides between equals."""


class RungPlan(NamedTuple):
    """Who trains with whom, and how far.

    Attributes:
        plan: who with whom.
        until: epochs; None for each genome's own.
        go_on: whether some may go on from there.
    """

    plan: Plan
    until: int | None = None
    go_on: bool = False

    def __str__(self) -> str:
        return str(self.plan) + (f", to epoch {self.until}" if self.until else "")


@dataclass(eq=False)
class MixedTrainer:
    """A trainable for networks: call `score` with decoded genomes.

    It remembers which programs its plans have had compiled, and the next plan counts on them: what `plan` gives, and
    with it the last bits of a score, depends on the plans before it. A genome that goes on stays in the program that it
    began in: trained in parts, it has every bit that it has when trained at once.

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
        kept: keeps how far those are that may go on.
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
    kept: Kept = field(default_factory=KeptInMemory)
    _compiled: set[Program] = field(default_factory=set, init=False, repr=False)
    _settled: dict[tuple[str, int], Program] = field(default_factory=dict, init=False, repr=False)

    def architecture(self, genome: Genome) -> tuple[Architecture, list[str]]:
        """The network of a genome, and what had to be repaired."""
        return architecture(genome, self.task.train.x.shape[1:], self.criterion.outputs, self.epochs)

    def begin(self, genome: Genome) -> list[Progress]:
        """How far a genome is before its first epoch, for each repeat."""
        of, _ = self.architecture(genome)
        return [begin(of, self.seed + repeat, self.max_epochs) for repeat in range(self.repeats)]

    def _until(self, genome: Genome, epochs: int | None) -> Architecture:
        """Its network, trained no further than so many epochs, if any are said."""
        of, _ = self.architecture(genome)
        return of if epochs is None else of._replace(epochs=min(epochs, of.epochs))

    @property
    def work(self) -> Work:
        """What the planner must know of the training."""
        size = min(self.batch_size, len(self.task.train.y))
        return Work(size, len(self.task.train.y) // size, self.max_epochs)

    @property
    def training(self) -> Training:
        """How members are trained, for whoever trains them."""
        return Training(self.batch_size, self.patience, self.precision, self.criterion)

    def plan(self, genomes: Sequence[Genome], halving: Halving | None = None, rung: int = 0) -> RungPlan:
        """Which members share a program; from now on these programs count as compiled."""
        until = halving.rungs[rung] if halving else None
        who = [(genome, repeat) for repeat in range(self.repeats) for genome in genomes]
        names = [(identity(genome), repeat) for genome, repeat in who]
        settled = {i: self._settled[name] for i, name in enumerate(names) if halving and name in self._settled}
        epochs = None
        if halving:
            # What one is expected to train in all: the program that it begins in is the one that it will have.
            epochs = halving.rungs[rung] - halving.rungs[rung - 1] if rung else halving.expected
        members = [self._until(genome, epochs) for genome, _ in who]
        found = plan(members, self._compiled, self.work, self.costs, settled)
        self._compiled.update(found.compiled)
        if halving:
            self._settled |= {names[i]: batch.program for batch in found.batches for i in batch.members}
        return RungPlan(found, until, bool(halving and until != halving.rungs[-1]))

    def forget(self, genome: Genome) -> None:
        """Drop what was kept for a genome to go on."""
        self.kept.drop(genome)

    def score(self, genomes: Sequence[Genome], plan: RungPlan, skip: Sequence[int] = ()) -> Iterator[tuple[int, Score]]:
        """Train genomes, and give the score of each as soon as all its repeats are done.

        Args:
            genomes: decoded.
            plan: for them.
            skip: those that need no training, since an earlier session finished them: the plan, and with it every
                bit of the others' results, is the same.

        Yields:
            The index of a genome, and its score.
        """
        networks = [self._until(genome, plan.until) for genome in genomes]
        jobs = []
        for batch in plan.plan.batches:
            members = [(i % len(genomes), i // len(genomes)) for i in batch.members]
            specs = [MemberSpec(i, repeat, networks[i], self.seed + repeat) for i, repeat in members if i not in skip]
            if specs:
                starts = partial(self._starts, [genomes[spec.genome] for spec in specs], specs) if plan.until else None
                jobs.append(Job(batch.program, tuple(specs), starts, plan.go_on))
        finished: dict[int, list[MemberResult]] = {}
        for result in chain.from_iterable(self._executor.results(jobs)):
            genome = result.spec.genome
            finished.setdefault(genome, []).append(result)
            if len(finished[genome]) == self.repeats:
                repeats = sorted(finished.pop(genome), key=lambda one: one.spec.repeat)
                progress = [one.progress for one in repeats if one.progress]
                if plan.go_on and len(progress) == self.repeats:
                    self.kept.save(genomes[genome], progress)
                yield genome, self._score(repeats, genomes[genome])

    def _starts(self, genomes: Sequence[Genome], specs: Sequence[MemberSpec]) -> list[Progress | None]:
        """Where members go on. What is kept may be of a later rung than theirs, if their scores were lost."""
        kept = [self.kept.load(genome) for genome in genomes]
        starts = [own[spec.repeat] if own else None for own, spec in zip(kept, specs, strict=True)]
        ends = [spec.architecture.epochs for spec in specs]
        return [s if s and s.so_far.epochs <= end else None for s, end in zip(starts, ends, strict=True)]

    @cached_property
    def _executor(self) -> Executor:
        return self.make_executor(self.task, self.training)

    def _score(self, repeats: Sequence[MemberResult], genome: Genome) -> Score:
        """The score of a genome, all of whose repeats are done."""
        reason = next((member.reason for member in repeats if member.reason), "")
        trained = [member.trained for member in repeats if member.trained]
        epochs, (of, repairs) = [int(one.epochs) for one in trained], self.architecture(genome)
        scores = [] if reason else [round(float(one.score), 6) for one in trained]
        details = {
            "epochs": epochs,
            "best_epoch": [int(one.best) for one in trained],
            "steps": sum(epochs) * self.work.steps,
            **({"validation_accuracy": scores} if self.criterion.classifies else {}),
            "validation_loss": [] if reason else [round(float(one.loss), 6) for one in trained],
            "curve": [] if reason else [[round(float(loss), 6) for loss in one.curve[: one.epochs]] for one in trained],
            "repairs": repairs,
            "parameters": of.parameters,
            "flops": of.flops,
        }
        seconds, compile_s = (sum(getattr(member, name) for member in repeats) for name in ("seconds", "compile_s"))
        spent = sum(epochs) / self.repeats
        if reason:
            return Score(math.nan, spent, seconds, compile_s, reason, details)
        values = [self._value(float(one.score), float(one.loss)) for one in trained]
        best = repeats[int(np.argmax(values))]
        return Score(float(np.mean(values)), spent, seconds, compile_s, "", details, best.params)

    def _value(self, score: float, loss: float) -> float:
        by_accuracy = self.fitness == "accuracy" and self.criterion.classifies
        return score - TIE * min(loss, 10.0) if by_accuracy else -loss
