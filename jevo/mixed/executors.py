"""Executors run jobs: as many at once as there is room for, on workers of this process or of other machines."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple, Protocol

from jax.sharding import Mesh

from jevo.data.task import Task
from jevo.mixed.worker import Job, MemberResult, Training, Worker


class Executor(Protocol):
    """Runs the jobs of a search."""

    def results(self, jobs: Sequence[Job]) -> Iterator[list[MemberResult]]:
        """What became of the members of each job, in the order in which jobs are done."""
        ...


MakeExecutor = Callable[[Task, Training], Executor]
"""Makes the executor that trains on a task."""


class Backend(NamedTuple):
    """Where jobs run.

    Attributes:
        platform: of its devices: cpu, gpu or tpu.
        make_executor: makes the executor that runs them there.
        devices: of each worker.
    """

    platform: str
    make_executor: MakeExecutor
    devices: int = 1


def jobs_at_once(asked: int, platform: str, cores: int) -> int:
    """How many jobs a worker trains at once: what was asked for, or for 0 as many as a CPU has cores, up to 4, and 1 on
    a GPU or TPU.

    >>> jobs_at_once(0, "cpu", 16), jobs_at_once(0, "gpu", 16), jobs_at_once(3, "gpu", 16)
    (4, 1, 3)
    """
    return asked or (min(4, cores) if platform == "cpu" else 1)


def thread_executor(workers: int = 1, mesh: Mesh | None = None) -> MakeExecutor:
    """Threads of this process, which share one Worker: on a CPU, small networks leave cores idle.

    Args:
        workers: jobs at once.
        mesh: devices that the members of a job are spread over; None for one.
    """
    return lambda task, training: _ThreadExecutor(Worker(task, training, mesh), workers)


class _ThreadExecutor:
    def __init__(self, worker: Worker, at_once: int):
        self._worker, self._at_once = worker, at_once

    def results(self, jobs: Sequence[Job]) -> Iterator[list[MemberResult]]:
        left, worker = list(jobs), self._worker
        pool = ThreadPoolExecutor(self._at_once)
        try:
            waiting: set[Future[list[MemberResult]]] = set()
            compiling: set[Future[Any]] = set()
            while left or waiting:
                # No more are handed over than can run, so that an interrupted search has little to wait for.
                while len(waiting) + len(compiling) < self._at_once:
                    new = next((job for job in left if not worker.has_compiled(job)), None)
                    known = next((job for job in left if worker.has_compiled(job)), None)
                    if new and not compiling and (waiting or not known):
                        # One at a time, while others train: two that compile at once take longer than in turn.
                        compiling = {pool.submit(worker.compile, new)}
                    elif known:
                        left.remove(known)
                        waiting.add(pool.submit(worker.train, known))
                    else:
                        break
                ready, _ = wait(waiting | compiling, return_when=FIRST_COMPLETED)
                for future in ready & compiling:
                    future.result()
                compiling, done, waiting = compiling - ready, ready & waiting, waiting - ready
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
