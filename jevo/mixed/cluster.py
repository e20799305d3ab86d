"""An executor on a Ray cluster: a worker on every node, or every GPU, each with its own programs and copy of the data.

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
from jevo.errors import InputError
from jevo.mixed.executors import Backend, jobs_at_once
from jevo.mixed.worker import Job, MemberResult, Training, Worker

_log = logging.getLogger("jevo")

LOCAL = "local"
"""The address of a cluster that is started for this search alone, on this machine."""
TRIES = 3
"""How many workers may die of a job before its genomes are given up."""
PING_S = 10.0
"""How long a cluster may take to answer [s]."""
POLL_S = 5.0
"""How often to look for new nodes [s]."""


@contextmanager
def ray_backend(address: str, at_once: int) -> Iterator[Backend]:
    """Connect to a Ray cluster while the context lasts. Every node must have jevo installed.

    Args:
        address: as Ray takes it (`auto`, `HOST:PORT`, `ray://HOST:PORT`), or `local` for one of this machine alone.
        at_once: jobs that a worker on a CPU trains at once; 0 for as many as its node has cores, up to 4.

    Yields:
        The backend. If any node has a GPU or TPU, only such nodes get workers.

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
        _ping(address)
        with warnings.catch_warnings():
            # JAX warns of any fork: what Ray starts here becomes another program at once.
            warnings.filterwarnings("ignore", r"os.fork\(\) was called", RuntimeWarning)
            if address == LOCAL:
                with _on_loopback():
                    ray.init(include_dashboard=False, **quiet)
            else:
                ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"no Ray cluster at {address} ({reason}); start one with `ray start --head`, or take the address local"
        ) from None
    try:
        there = ray.cluster_resources()
        platform = next((name for name in ("gpu", "tpu") if there.get(name.upper())), "cpu")
        yield Backend(platform, lambda task, training: _RayExecutor(task, training, platform, at_once))
    finally:
        ray.shutdown()


@contextmanager
def _on_loopback() -> Iterator[None]:
    """What Ray starts in this context listens on the loopback interface alone.

    Ray does so by itself on systems whose firewalls ask the user. Elsewhere it would listen on all interfaces, and who
    reaches it may run any code: `_node_ip_address="127.0.0.1"` is put back to the host's own address.
    """
    from ray._private import ray_constants

    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before, here = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = here
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _ping(address: str) -> None:
    """Raise a ConnectionError at once where nobody answers: Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=PING_S).close()
        except OSError as error:
            raise ConnectionError(error.strerror or str(error)) from None


class _Slot(NamedTuple):
    """A place for a worker: a node, or one of its GPUs."""

    node: str
    number: int


class _RemoteWorker:
    """A worker, how many more jobs it takes, and the programs that it has."""

    def __init__(self, actor: Any, free: int):
        self.actor, self.free = actor, free
        self.programs: set[Any] = set()


class _RayExecutor:
    def __init__(self, task: Task, training: Training, platform: str, at_once: int):
        import ray

        self._ray, self._training, self._platform, self._at_once = ray, training, platform, at_once
        self._task = ray.put(jax.tree.map(np.asarray, task))
        self._workers: dict[_Slot, _RemoteWorker] = {}

    def results(self, jobs: Sequence[Job]) -> Iterator[list[MemberResult]]:
        ray, gone = self._ray, self._ray.exceptions
        # What Ray raises when a worker, its process, its node, or a result that lay there is gone.
        lost = (gone.RayActorError, gone.WorkerCrashedError, gone.NodeDiedError, gone.ObjectLostError)
        left, running, deaths = list(jobs), {}, Counter()
        while left or running:
            self._start_workers()
            for slot, worker in self._workers.items():
                while left and worker.free:
                    job = self._next_job(left, worker)
                    left.remove(job)
                    worker.free -= 1
                    worker.programs.add(job.compiled)
                    running[worker.actor.train.remote(job.loaded())] = job, slot, worker
            if not running:
                _log.info("no node of the Ray cluster has room for a worker; waiting")
                time.sleep(POLL_S)
                continue
            for reference in ray.wait(list(running), timeout=POLL_S)[0]:
                job, slot, worker = running.pop(reference)
                try:
                    results = ray.get(reference)
                except lost as error:
                    if self._workers.get(slot) is worker:
                        del self._workers[slot]
                    deaths[job] += 1
                    why = str(error).strip().splitlines()[-1].strip()
                    _log.info("a worker on node %s is lost (%s)", slot.node[:8], why)
                    if deaths[job] < TRIES:
                        left.insert(0, job)
                        continue
                    reason = f"{TRIES} workers died of it, perhaps for want of memory ({why})"
                    results = [MemberResult(spec, None, None, reason=reason) for spec in job.members]
                else:
                    worker.free += 1
                yield results

    def _start_workers(self) -> None:
        """A worker in every slot that has none: those of nodes that have come, and of workers that have died."""
        nodes = {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}
        for slot in [slot for slot in self._workers if slot.node not in nodes]:
            del self._workers[slot]
        for node, resources in nodes.items():
            if self._platform == "cpu":
                slots = int(resources.get("CPU", 0) >= 1)
                at_once = jobs_at_once(self._at_once, self._platform, int(resources.get("CPU", 1)))
            else:
                slots, at_once = int(resources.get(self._platform.upper(), 0)), 1
            for number in range(slots):
                slot = _Slot(node, number)
                if slot not in self._workers:
                    self._workers[slot] = self._started(node, at_once)

    def _started(self, node: str, at_once: int) -> _RemoteWorker:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        share = {"gpu": {"num_gpus": 1}, "tpu": {"resources": {"TPU": 1}}}.get(self._platform, {})
        actor = self._ray.remote(Worker).options(
            num_cpus=1 if self._platform == "cpu" else 0,
            max_concurrency=at_once,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            **share,
        )
        return _RemoteWorker(actor.remote(self._task, self._training), at_once)

    def _next_job(self, jobs: Sequence[Job], worker: _RemoteWorker) -> Job:
        """The job for a worker: one whose program it has, else one whose program nobody has, else the first."""
        others = {program for each in self._workers.values() for program in each.programs}
        known = (job for job in jobs if job.compiled in worker.programs)
        new = (job for job in jobs if job.compiled not in others)
        return next(known, None) or next(new, jobs[0])
