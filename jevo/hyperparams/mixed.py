"""Trains genomes of different widths, depths, activations and optimizers in a few shared compiled programs."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from jevo import population as pop
from jevo.data.task import Task
from jevo.hyperparams.architecture import Architecture, architecture, first_weights
from jevo.hyperparams.layers import Choices, Program, choices, padded, unpadded
from jevo.hyperparams.planner import COSTS, Costs, Plan, Work, plan
from jevo.hyperparams.search import Score
from jevo.hyperparams.trainer import Trained, train
from jevo.types import Member

TIE = 1e-5
"""What a nat of validation loss takes off an accuracy: less than one example, so that it decides between equals."""


class _Run(NamedTuple):
    """One member's training: a genome with one of its seeds."""

    genome: int
    repeat: int


class _Batch(NamedTuple):
    """Members of one program that train in one call."""

    program: Program
    runs: list[_Run]

    @property
    def compiled(self) -> tuple[Program, int]:
        """What must be compiled for it: a program, and for how many members."""
        return self.program, len(self.runs)


class _Members(NamedTuple):
    """What a call takes for each of its members, `[members, ...]`."""

    key: jax.Array
    first: Member
    chosen: Choices


class _Member(NamedTuple):
    """What became of one: `Trained` without its padded weights, its own weights, or the reason why there is neither."""

    run: _Run
    trained: Trained | None
    params: Member
    reason: str
    seconds: float
    compile_s: float


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
        workers: batches trained at once. On a CPU small networks leave cores idle.
        costs: of this device, for the planner.
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
    workers: int = 1
    costs: Costs = COSTS["cpu"]
    _programs: dict[tuple[Program, int], Any] = field(default_factory=dict, repr=False)
    _unpaid: dict[tuple[Program, int], float] = field(default_factory=dict, repr=False)
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
        finished: dict[int, list[_Member]] = {}
        batches: list[_Batch] = []
        for batch in by.batches:
            runs = [_Run(i % len(genomes), i // len(genomes)) for i in batch.members]
            if runs := [run for run in runs if run.genome not in skip]:
                batches.append(_Batch(batch.program, runs))
        executor = ThreadPoolExecutor(self.workers)
        try:
            waiting: set[Future[list[_Member]]] = set()
            compiling: set[Future[Any]] = set()
            while batches or waiting:
                # No more are handed over than can run, so that an interrupted search has little to wait for.
                while len(waiting) + len(compiling) < self.workers:
                    strange = next((batch for batch in batches if batch.compiled not in self._programs), None)
                    known = next((batch for batch in batches if batch.compiled in self._programs), None)
                    if strange and not compiling and (waiting or not known):
                        # One at a time, while others train: two that compile at once take longer than in turn.
                        compiling = {executor.submit(self._compile, strange)}
                    elif known:
                        batches.remove(known)
                        waiting.add(executor.submit(self._train, known, networks))
                    else:
                        break
                ready, _ = wait(waiting | compiling, return_when=FIRST_COMPLETED)
                for future in ready & compiling:
                    future.result()
                compiling, finished_now, waiting = compiling - ready, ready & waiting, waiting - ready
                for member in [member for future in finished_now for member in future.result()]:
                    genome = member.run.genome
                    finished.setdefault(genome, []).append(member)
                    if len(finished[genome]) == self.repeats:
                        repeats = sorted(finished.pop(genome), key=lambda one: one.run.repeat)
                        yield genome, self._score(repeats, genomes[genome])
        finally:
            executor.shutdown(cancel_futures=True)

    def _train(self, batch: _Batch, networks: Sequence[Architecture]) -> list[_Member]:
        """One call of a program. Members that do not fit the memory together are tried in halves, then given up."""
        program, runs = batch
        own = [networks[run.genome] for run in runs]
        seeds = [self.seed + run.repeat for run in runs]
        first = [padded(first_weights(of, seed), of, program) for of, seed in zip(own, seeds, strict=True)]
        try:
            self._compile(batch)
            # Whoever is trained first pays for the compiling.
            call, compile_s = self._programs[batch.compiled], self._unpaid.pop(batch.compiled, 0.0)
            began = time.perf_counter()
            members = _members(program, own, first, seeds)
            trained = jax.device_get(call(members, self.task))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if len(runs) == 1:
                return [_Member(runs[0], None, None, "it needs more memory than there is", 0.0, 0.0)]
            middle = len(runs) // 2
            halves = [_Batch(program, half) for half in (runs[:middle], runs[middle:])]
            return [member for half in halves for member in self._train(half, networks)]
        times = (time.perf_counter() - began) / len(runs), compile_s / len(runs)
        found = []
        for i, run in enumerate(runs):
            one: Trained = pop.take(trained, i)
            params = unpadded(one.params, own[i], program)
            sound = np.isfinite(one.curve).all() and np.isfinite(one.loss)
            reason = "" if sound else f"diverged in epoch {one.epochs}"
            found.append(_Member(run, one._replace(params=None), params, reason, *times))
        return found

    def _compile(self, batch: _Batch) -> None:
        """Compile the program of a batch for so many members, unless that is done."""
        program, runs = batch
        if batch.compiled not in self._programs:
            one = train(program, self.batch_size, self.patience)
            alone = jax.default_backend() == "cpu"

            def several(members: _Members, task: Task) -> Trained:
                def each(member: _Members) -> Trained:
                    return one(member.key, member.first, member.chosen, task)

                # One at a time, a layer that is passed by costs nothing; side by side, they fill a GPU.
                return jax.lax.map(each, members) if alone else jax.vmap(each)(members)

            largest = program.padded
            zeros = jax.tree.map(np.zeros_like, padded(first_weights(largest, 0), largest, program))
            like = _members(program, [largest] * len(runs), [zeros] * len(runs), [0] * len(runs))
            began = time.perf_counter()
            # The precision is a setting of the thread.
            with jax.default_matmul_precision(self.precision):
                compiled = jax.jit(several).lower(like, self.task).compile()
            self._unpaid[batch.compiled] = time.perf_counter() - began
            self._programs[batch.compiled] = compiled

    def _score(self, repeats: Sequence[_Member], genome: Mapping[str, Any]) -> Score:
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


def _members(program: Program, own: Sequence[Architecture], first: Sequence[Member], seeds: Sequence[int]) -> _Members:
    """What a call takes, stacked on the host."""
    pairs = [(weights, choices(of, program)) for weights, of in zip(first, own, strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    return _Members(jax.vmap(jax.random.key)(np.asarray(seeds)), *stacked)
