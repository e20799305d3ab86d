"""A worker trains batches. Data and compiled programs stay with it, so it can be on another machine."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jevo import devices
from jevo import population as pop
from jevo.data.task import Task
from jevo.kept import Kept
from jevo.mixed.architectures import Architecture
from jevo.mixed.programs import Choices, Program, choices
from jevo.mixed.progress import Progress, Trained, begin, padded, unpadded
from jevo.mixed.trainer import train
from jevo.training.criterion import Criterion
from jevo.types import Member

KEPT = 256
"""Compiled programs that a worker keeps."""


class Training(NamedTuple):
    """How members are trained.

    Attributes:
        batch_size: train examples in a gradient step.
        patience: epochs without a better validation after which it stops.
        precision: of matrix products.
        criterion: what outputs are for.
    """

    batch_size: int
    patience: int
    precision: str
    criterion: Criterion


class MemberSpec(NamedTuple):
    """One member of a batch: a genome with one of its seeds.

    Attributes:
        genome, repeat: which one it is, for whoever gathers the results.
        architecture: of its network; its epochs are where it is to be then.
        seed: of its weights and batches.
    """

    genome: int
    repeat: int
    architecture: Architecture
    seed: int


@dataclass(frozen=True, eq=False)
class Job:
    """Members of one program that train in one call.

    Attributes:
        program: that they share.
        members: who they are.
        starts: gives how far each is, unpadded, None for one that begins; called when its turn comes, as all of them
            together would fill the memory. None: they all begin.
        go_on: whether they may be asked to go on, and shall tell how far they are.
    """

    program: Program
    members: tuple[MemberSpec, ...]
    starts: Callable[[], Sequence[Progress | None]] | None = None
    go_on: bool = False

    @property
    def compiled(self) -> tuple[Program, int]:
        """What must be compiled for it: a program, and for how many members."""
        return self.program, len(self.members)

    def part(self, which: slice) -> "Job":
        """Some of its members, in a call of their own."""
        starts = self.starts and (lambda starts=self.starts: starts()[which])
        return replace(self, members=self.members[which], starts=starts)

    def loaded(self) -> "Job":
        """With all that it takes in it, to be sent to another process."""
        return replace(self, starts=self.starts and partial(tuple, self.starts()))


class MemberResult(NamedTuple):
    """What became of a member.

    Attributes:
        spec: which one it is.
        trained: without its padded weights; None if it could not be trained.
        params: its own weights, as `network` takes them; None if it could not be trained.
        progress: how far it is, if it may go on.
        reason: why it failed, or nothing.
        seconds, compile_s: its share of the training and the compiling of its batch [s].
    """

    spec: MemberSpec
    trained: Trained | None
    params: Member
    progress: Progress | None = None
    reason: str = ""
    seconds: float = 0.0
    compile_s: float = 0.0


class _Members(NamedTuple):
    """What a call takes for each of its members, `[members, ...]`."""

    key: jax.Array
    before: Progress
    chosen: Choices


class Worker:
    """Trains jobs one by one, or several at once from as many threads; a CPU trains one while another is compiled.

    Args:
        task: the examples.
        training: how members are trained.
        mesh: devices that the members of a job are spread over; None for one.
    """

    def __init__(self, task: Task, training: Training, mesh: Mesh | None = None):
        self._training, self._mesh = training, mesh
        self._task = jax.device_put(task, devices.replicated(mesh))
        self._programs: Kept[jax.stages.Compiled] = Kept(KEPT)
        self._uncounted: dict[tuple[Program, int], float] = {}
        self._compiling = threading.Lock()
        # Two programs that run at once on the threads of a CPU come to other numbers every time (jaxlib 0.10.2), and
        # nothing could be repeated. So there one runs while the next is compiled.
        self._running = threading.Lock() if jax.default_backend() == "cpu" else nullcontext()

    def has_compiled(self, job: Job) -> bool:
        """Whether the program of a job is compiled."""
        return job.compiled in self._programs

    def train(self, job: Job) -> list[MemberResult]:
        """One call of a program. Members that do not fit the memory together are tried in halves, then given up."""
        program, specs = job.program, job.members
        try:
            call = self.compile(job)
            devices.require_room(call)
            # The batch that is trained first counts the compiling as its own.
            compile_s = self._uncounted.pop(job.compiled, 0.0)
            members = _members(job)
            with self._running:
                began = time.perf_counter()
                after = jax.device_get(call(members, self._task))
        except jax.errors.JaxRuntimeError as error:
            if not devices.is_exhausted(error):
                raise
            if len(specs) == 1:
                return [MemberResult(specs[0], None, None, reason="it needs more memory than there is")]
            middle = len(specs) // 2
            halves = job.part(slice(middle)), job.part(slice(middle, None))
            return [result for half in halves for result in self.train(half)]
        times = (time.perf_counter() - began) / len(specs), compile_s / len(specs)
        results = []
        for i, spec in enumerate(specs):
            own = unpadded(pop.take(after, i), spec.architecture, program)
            one: Trained = own.so_far
            sound = np.isfinite(one.curve).all() and np.isfinite(one.loss)
            reason = "" if sound else f"diverged in epoch {one.epochs}"
            # Views of what the call gave would keep all of it.
            progress = jax.tree.map(np.array, own) if job.go_on else None
            results.append(MemberResult(spec, one._replace(params=None), one.params, progress, reason, *times))
        return results

    def compile(self, job: Job) -> jax.stages.Compiled:
        """The program of a job, compiled unless it is here."""
        # What is here does not wait for another that is being compiled.
        if found := self._programs.get(job.compiled):
            return found
        with self._compiling:
            if found := self._programs.get(job.compiled):
                return found
            began = time.perf_counter()
            compiled = self.traced(job).lower().compile()
            self._uncounted[job.compiled] = time.perf_counter() - began
            self._programs.keep(job.compiled, compiled)
            return compiled

    def traced(self, job: Job) -> jax.stages.Traced:
        """The program of a job, not compiled yet."""
        program = job.program
        one = train(program, self._training.criterion, self._training.batch_size, self._training.patience)
        alone = jax.default_backend() == "cpu"

        def several(members: _Members, task: Task) -> Progress:
            def each(member: _Members) -> Progress:
                return one(member.key, member.before, member.chosen, task)

            # One at a time, a layer that is passed by costs nothing; side by side, they fill a GPU.
            share = (lambda some: jax.lax.map(each, some)) if alone else jax.vmap(each)
            return devices.over_devices(share, members)

        largest = MemberSpec(0, 0, program.padded, 0)
        like = _members(Job(program, (largest,) * len(job.members)))
        everywhere = jax.tree.map(lambda array: array.sharding, self._task)
        # The precision and the mesh are settings of the thread.
        with jax.default_matmul_precision(self._training.precision), devices.spread(self._mesh):
            return jax.jit(several, in_shardings=(None, everywhere)).trace(
                devices.abstract(like), devices.abstract(self._task)
            )


def _members(job: Job) -> _Members:
    """What a call takes, stacked on the host."""
    program, starts = job.program, job.starts() if job.starts else [None] * len(job.members)
    each = []
    for (_, _, of, seed), start in zip(job.members, starts, strict=True):
        before = start or begin(of, seed, program.epochs)
        each.append((padded(before, of, program), choices(of, program)))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    seeds = np.asarray([spec.seed for spec in job.members])
    return _Members(jax.vmap(jax.random.key)(seeds), *stacked)
