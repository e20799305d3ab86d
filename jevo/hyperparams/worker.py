"""Whoever trains a batch: data and compiled programs stay with it, so it can be this process's or another machine's."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from jevo import population as pop
from jevo.data.task import Task
from jevo.hyperparams.architecture import Architecture, first_weights
from jevo.hyperparams.layers import Choices, Program, choices, padded, unpadded
from jevo.hyperparams.trainer import Trained, train
from jevo.types import Member


class Training(NamedTuple):
    """How members are trained.

    Attributes:
        batch_size: train examples in a gradient step.
        patience: epochs without a better validation after which it stops.
        precision: of matrix products.
    """

    batch_size: int
    patience: int
    precision: str = "float32"


class Pupil(NamedTuple):
    """One member of a batch: a genome with one of its seeds.

    Attributes:
        genome, repeat: which one it is, for whoever gathers the results.
        of: its network.
        seed: of its weights and batches.
    """

    genome: int
    repeat: int
    of: Architecture
    seed: int


class Job(NamedTuple):
    """Members of one program that train in one call."""

    program: Program
    pupils: tuple[Pupil, ...]

    @property
    def compiled(self) -> tuple[Program, int]:
        """What must be compiled for it: a program, and for how many members."""
        return self.program, len(self.pupils)


class Learnt(NamedTuple):
    """What became of a pupil: `Trained` without its padded weights, its own weights, or the reason why there is
    neither."""

    pupil: Pupil
    trained: Trained | None
    params: Member
    reason: str
    seconds: float = 0.0
    compile_s: float = 0.0


class _Members(NamedTuple):
    """What a call takes for each of its members, `[members, ...]`."""

    key: jax.Array
    first: Member
    chosen: Choices


class Worker:
    """Trains jobs one by one, or several at once from as many threads.

    Args:
        task: the examples.
        training: how members are trained.
        mesh: devices that the members of a job are spread over; None for one.
    """

    def __init__(self, task: Task, training: Training, mesh: Mesh | None = None):
        self._training, self._mesh = training, mesh
        self._task = jax.device_put(task, pop.replicated(mesh))
        self._programs: dict[tuple[Program, int], Any] = {}
        self._unpaid: dict[tuple[Program, int], float] = {}
        self._compiling = threading.Lock()

    def knows(self, job: Job) -> bool:
        """Whether the program of a job is compiled."""
        return job.compiled in self._programs

    def train(self, job: Job) -> list[Learnt]:
        """One call of a program. Members that do not fit the memory together are tried in halves, then given up."""
        program, pupils = job
        own, seeds = [pupil.of for pupil in pupils], [pupil.seed for pupil in pupils]
        first = [padded(first_weights(of, seed), of, program) for of, seed in zip(own, seeds, strict=True)]
        try:
            self.compile(job)
            # Whoever is trained first pays for the compiling.
            call, compile_s = self._programs[job.compiled], self._unpaid.pop(job.compiled, 0.0)
            began = time.perf_counter()
            members = _members(program, own, first, seeds)
            trained = jax.device_get(call(members, self._task))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if len(pupils) == 1:
                return [Learnt(pupils[0], None, None, "it needs more memory than there is")]
            middle = len(pupils) // 2
            return [learnt for half in (pupils[:middle], pupils[middle:]) for learnt in self.train(Job(program, half))]
        times = (time.perf_counter() - began) / len(pupils), compile_s / len(pupils)
        found = []
        for i, pupil in enumerate(pupils):
            one: Trained = pop.take(trained, i)
            params = unpadded(one.params, pupil.of, program)
            sound = np.isfinite(one.curve).all() and np.isfinite(one.loss)
            reason = "" if sound else f"diverged in epoch {one.epochs}"
            found.append(Learnt(pupil, one._replace(params=None), params, reason, *times))
        return found

    def compile(self, job: Job) -> None:
        """Compile the program of a job, unless that is done."""
        with self._compiling:
            if not self.knows(job):
                began = time.perf_counter()
                compiled = self.traced(job).lower().compile()
                self._unpaid[job.compiled] = time.perf_counter() - began
                self._programs[job.compiled] = compiled

    def traced(self, job: Job) -> jax.stages.Traced:
        """The program of a job, not compiled yet."""
        program, pupils = job
        one = train(program, self._training.batch_size, self._training.patience)
        alone = jax.default_backend() == "cpu"

        def several(members: _Members, task: Task) -> Trained:
            def each(member: _Members) -> Trained:
                return one(member.key, member.first, member.chosen, task)

            # One at a time, a layer that is passed by costs nothing; side by side, they fill a GPU.
            share = (lambda some: jax.lax.map(each, some)) if alone else jax.vmap(each)
            return pop.over_devices(share, members)

        largest = program.padded
        zeros = jax.tree.map(np.zeros_like, padded(first_weights(largest, 0), largest, program))
        like = _members(program, [largest] * len(pupils), [zeros] * len(pupils), [0] * len(pupils))
        everywhere = jax.tree.map(lambda array: array.sharding, self._task)
        # The precision and the mesh are settings of the thread.
        with jax.default_matmul_precision(self._training.precision), pop.spread(self._mesh):
            return jax.jit(several, in_shardings=(None, everywhere)).trace(pop.bare(like), pop.bare(self._task))


class Crew(Protocol):
    """Those who train the jobs of a search."""

    def results(self, jobs: Sequence[Job]) -> Iterator[list[Learnt]]:
        """What became of each job, in the order in which they are done."""
        ...


Hire = Callable[[Task, Training], Crew]
"""Finds a crew for a task."""


class Site(NamedTuple):
    """Where a crew can be found.

    Attributes:
        platform: of its devices: cpu, gpu or tpu.
        hire: finds the crew.
        devices: of each worker.
    """

    platform: str
    hire: Hire
    devices: int = 1


def jobs_at_once(asked: int, platform: str, cores: int) -> int:
    """How many jobs a worker trains at once: what was asked for, or for 0 as many as a CPU has cores, up to 4, and 1 on
    a GPU or TPU."""
    return asked or (min(4, cores) if platform == "cpu" else 1)


def threads(workers: int = 1, mesh: Mesh | None = None) -> Hire:
    """A crew of threads, which share one Worker: on a CPU, small networks leave cores idle.

    Args:
        workers: jobs at once.
        mesh: devices that the members of a job are spread over; None for one.
    """
    return lambda task, training: _Threads(Worker(task, training, mesh), workers)


class _Threads:
    def __init__(self, worker: Worker, at_once: int):
        self._worker, self._at_once = worker, at_once

    def results(self, jobs: Sequence[Job]) -> Iterator[list[Learnt]]:
        left, worker = list(jobs), self._worker
        executor = ThreadPoolExecutor(self._at_once)
        try:
            waiting: set[Future[list[Learnt]]] = set()
            compiling: set[Future[Any]] = set()
            while left or waiting:
                # No more are handed over than can run, so that an interrupted search has little to wait for.
                while len(waiting) + len(compiling) < self._at_once:
                    strange = next((job for job in left if not worker.knows(job)), None)
                    known = next((job for job in left if worker.knows(job)), None)
                    if strange and not compiling and (waiting or not known):
                        # One at a time, while others train: two that compile at once take longer than in turn.
                        compiling = {executor.submit(worker.compile, strange)}
                    elif known:
                        left.remove(known)
                        waiting.add(executor.submit(worker.train, known))
                    else:
                        break
                ready, _ = wait(waiting | compiling, return_when=FIRST_COMPLETED)
                for future in ready & compiling:
                    future.result()
                compiling, done, waiting = compiling - ready, ready & waiting, waiting - ready
                for future in done:
                    yield future.result()
        finally:
            executor.shutdown(cancel_futures=True)


def _members(program: Program, own: Sequence[Architecture], first: Sequence[Member], seeds: Sequence[int]) -> _Members:
    """What a call takes, stacked on the host."""
    pairs = [(weights, choices(of, program)) for weights, of in zip(first, own, strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    return _Members(jax.vmap(jax.random.key)(np.asarray(seeds)), *stacked)
