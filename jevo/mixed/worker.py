"""A worker trains batches. Data and compiled programs stay with it, so it can be on another machine."""

import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jevo import devices
from jevo import population as pop
from jevo.data.task import Task
from jevo.mixed.architectures import Architecture
from jevo.mixed.programs import Choices, Program, choices, pad, unpad
from jevo.mixed.trainer import Trained, train
from jevo.mixed.unpadded import first_weights
from jevo.training.criterion import Criterion
from jevo.types import Member


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
        architecture: of its network.
        seed: of its weights and batches.
    """

    genome: int
    repeat: int
    architecture: Architecture
    seed: int


class Job(NamedTuple):
    """Members of one program that train in one call."""

    program: Program
    members: tuple[MemberSpec, ...]

    @property
    def compiled(self) -> tuple[Program, int]:
        """What must be compiled for it: a program, and for how many members."""
        return self.program, len(self.members)


class MemberResult(NamedTuple):
    """What became of a member.

    Attributes:
        spec: which one it is.
        trained: without its padded weights; None if it could not be trained.
        params: its own weights, as `network` takes them; None if it could not be trained.
        reason: why it failed, or nothing.
        seconds, compile_s: its share of the training and the compiling of its batch [s].
    """

    spec: MemberSpec
    trained: Trained | None
    params: Member
    reason: str = ""
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
        self._task = jax.device_put(task, devices.replicated(mesh))
        self._programs: dict[tuple[Program, int], Any] = {}
        self._uncounted: dict[tuple[Program, int], float] = {}
        self._compiling = threading.Lock()

    def has_compiled(self, job: Job) -> bool:
        """Whether the program of a job is compiled."""
        return job.compiled in self._programs

    def train(self, job: Job) -> list[MemberResult]:
        """One call of a program. Members that do not fit the memory together are tried in halves, then given up."""
        program, specs = job
        try:
            self.compile(job)
            devices.require_room(self._programs[job.compiled])
            first = [pad(first_weights(spec.architecture, spec.seed), spec.architecture, program) for spec in specs]
            # The batch that is trained first counts the compiling as its own.
            call, compile_s = self._programs[job.compiled], self._uncounted.pop(job.compiled, 0.0)
            began = time.perf_counter()
            members = _members(program, [spec.architecture for spec in specs], first, [spec.seed for spec in specs])
            trained = jax.device_get(call(members, self._task))
        except jax.errors.JaxRuntimeError as error:
            if not devices.is_exhausted(error):
                raise
            if len(specs) == 1:
                return [MemberResult(specs[0], None, None, "it needs more memory than there is")]
            middle = len(specs) // 2
            return [result for half in (specs[:middle], specs[middle:]) for result in self.train(Job(program, half))]
        times = (time.perf_counter() - began) / len(specs), compile_s / len(specs)
        results = []
        for i, spec in enumerate(specs):
            one: Trained = pop.take(trained, i)
            params = unpad(one.params, spec.architecture, program)
            sound = np.isfinite(one.curve).all() and np.isfinite(one.loss)
            reason = "" if sound else f"diverged in epoch {one.epochs}"
            results.append(MemberResult(spec, one._replace(params=None), params, reason, *times))
        return results

    def compile(self, job: Job) -> None:
        """Compile the program of a job, unless that is done."""
        with self._compiling:
            if not self.has_compiled(job):
                began = time.perf_counter()
                compiled = self.traced(job).lower().compile()
                self._uncounted[job.compiled] = time.perf_counter() - began
                self._programs[job.compiled] = compiled

    def traced(self, job: Job) -> jax.stages.Traced:
        """The program of a job, not compiled yet."""
        program, specs = job
        one = train(program, self._training.criterion, self._training.batch_size, self._training.patience)
        alone = jax.default_backend() == "cpu"

        def several(members: _Members, task: Task) -> Trained:
            def each(member: _Members) -> Trained:
                return one(member.key, member.first, member.chosen, task)

            # One at a time, a layer that is passed by costs nothing; side by side, they fill a GPU.
            share = (lambda some: jax.lax.map(each, some)) if alone else jax.vmap(each)
            return devices.over_devices(share, members)

        largest = program.padded
        zeros = jax.tree.map(np.zeros_like, pad(first_weights(largest, 0), largest, program))
        like = _members(program, [largest] * len(specs), [zeros] * len(specs), [0] * len(specs))
        everywhere = jax.tree.map(lambda array: array.sharding, self._task)
        # The precision and the mesh are settings of the thread.
        with jax.default_matmul_precision(self._training.precision), devices.spread(self._mesh):
            return jax.jit(several, in_shardings=(None, everywhere)).trace(
                devices.abstract(like), devices.abstract(self._task)
            )


def _members(program: Program, own: Sequence[Architecture], first: Sequence[Member], seeds: Sequence[int]) -> _Members:
    """What a call takes, stacked on the host."""
    pairs = [(weights, choices(of, program)) for weights, of in zip(first, own, strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    return _Members(jax.vmap(jax.random.key)(np.asarray(seeds)), *stacked)
