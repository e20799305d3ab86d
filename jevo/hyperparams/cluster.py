"""A crew on a Ray cluster: a worker on every node, or every GPU, each with its own programs and its copy of the data.

Ray says who is there, moves jobs and results, and notices who is gone. What a worker that dies was training is trained
again by another; since a job's result depends on the job alone, the search ends as it would have.
"""

import logging
import os
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from jevo.data.task import Task
from jevo.hyperparams.worker import Job, Learnt, Site, Training, Worker, jobs_at_once
from jevo.types import InputError

_log = logging.getLogger("jevo")

LOCAL = "local"
"""The address of a cluster that is started for this search alone, on this machine."""
TRIES = 3
"""How many workers may die of a job before its genomes are given up."""
KNOCK_S = 10.0
"""How long a cluster may take to answer [s]."""
LOOK_S = 5.0
"""How often to look for new nodes [s]."""


@contextmanager
def ray_cluster(address: str, at_once: int) -> Iterator[Site]:
    """Connect to a Ray cluster. Every node must have jevo installed.

    Args:
        address: as Ray takes it (`auto`, `HOST:PORT`, `ray://HOST:PORT`), or `local` for one of this machine alone.
        at_once: jobs that a worker on a CPU trains at once; 0 for as many as its node has cores, up to 4.

    Returns:
        Its site. If any node has a GPU or TPU, only such nodes get workers.

    Raises:
        InputError: if Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's future default, for which it otherwise asks in a warning: who wants no GPU sees none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed; pip install 'jevo[ray]', here and on every node") from None
    quiet: Any = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _knock(address)
        with warnings.catch_warnings():
            # JAX warns of any fork: what Ray starts here becomes another program at once.
            warnings.filterwarnings("ignore", r"os.fork\(\) was called", RuntimeWarning)
            if address == LOCAL:
                ray.init(include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"no Ray cluster at {address} ({reason}); start one with `ray start --head`, or give --ray local"
        ) from None
    try:
        there = ray.cluster_resources()
        platform = next((name for name in ("gpu", "tpu") if there.get(name.upper())), "cpu")
        yield Site(platform, lambda task, training: _RayCrew(task, training, platform, at_once))
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise a ConnectionError at once where nobody answers: Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
        except OSError as error:
            raise ConnectionError(error.strerror or str(error)) from None


class _Seat(NamedTuple):
    """A place for a worker: a node, or one of its GPUs."""

    node: str
    number: int


class _Hired:
    """A worker and what it is known to do."""

    def __init__(self, actor: Any, room: int):
        self.actor, self.room = actor, room
        self.programs: set[Any] = set()


class _RayCrew:
    def __init__(self, task: Task, training: Training, platform: str, at_once: int):
        import ray

        self._ray, self._training, self._platform, self._at_once = ray, training, platform, at_once
        self._task = ray.put(jax.tree.map(np.asarray, task))
        self._hired: dict[_Seat, _Hired] = {}

    def results(self, jobs: Sequence[Job]) -> Iterator[list[Learnt]]:
        ray, gone = self._ray, self._ray.exceptions
        # What Ray raises when a worker, its process, its node, or a result that lay there is gone.
        lost = (gone.RayActorError, gone.WorkerCrashedError, gone.NodeDiedError, gone.ObjectLostError)
        left, busy, deaths = list(jobs), {}, Counter()
        while left or busy:
            self._hire()
            for seat, worker in self._hired.items():
                while left and worker.room:
                    job = self._next(left, worker)
                    left.remove(job)
                    worker.room -= 1
                    worker.programs.add(job.compiled)
                    busy[worker.actor.train.remote(job)] = job, seat, worker
            if not busy:
                _log.info("no node of the Ray cluster has room for a worker; waiting")
                time.sleep(LOOK_S)
                continue
            for reference in ray.wait(list(busy), timeout=LOOK_S)[0]:
                job, seat, worker = busy.pop(reference)
                try:
                    learnt = ray.get(reference)
                except lost as error:
                    if self._hired.get(seat) is worker:
                        del self._hired[seat]
                    deaths[job] += 1
                    why = str(error).strip().splitlines()[-1].strip()
                    _log.info("a worker on node %s is lost (%s)", seat.node[:8], why)
                    if deaths[job] < TRIES:
                        left.insert(0, job)
                        continue
                    reason = f"{TRIES} workers died of it, perhaps for want of memory ({why})"
                    learnt = [Learnt(pupil, None, None, reason) for pupil in job.pupils]
                else:
                    worker.room += 1
                yield learnt

    def _hire(self) -> None:
        """A worker for every seat that has none: those of nodes that have come, and of workers that have died."""
        ray = self._ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        for seat in [seat for seat in self._hired if seat.node not in nodes]:
            del self._hired[seat]
        for node, resources in nodes.items():
            if self._platform == "cpu":
                seats = int(resources.get("CPU", 0) >= 1)
                room = jobs_at_once(self._at_once, self._platform, int(resources.get("CPU", 1)))
            else:
                seats, room = int(resources.get(self._platform.upper(), 0)), 1
            for number in range(seats):
                seat = _Seat(node, number)
                if seat not in self._hired:
                    share = {"gpu": {"num_gpus": 1}, "tpu": {"resources": {"TPU": 1}}}.get(self._platform, {})
                    actor = ray.remote(Worker).options(
                        num_cpus=1 if self._platform == "cpu" else 0,
                        max_concurrency=room,
                        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
                        **share,
                    )
                    self._hired[seat] = _Hired(actor.remote(self._task, self._training), room)

    def _next(self, jobs: Sequence[Job], worker: _Hired) -> Job:
        """The job for a worker: one whose program it has, else one whose program nobody has, else the first."""
        others = {program for each in self._hired.values() for program in each.programs}
        known = (job for job in jobs if job.compiled in worker.programs)
        new = (job for job in jobs if job.compiled not in others)
        return next(known, None) or next(new, jobs[0])
