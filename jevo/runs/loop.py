"""The loop that carries a stage of a run to its end: blocks on the device, lines on disk, checkpoints between."""

import errno
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jevo.devices import abstract, is_exhausted, replicated, require_room, require_room_for, spread
from jevo.errors import InputError
from jevo.runs.checkpoint import Checkpoints
from jevo.runs.lines import Lines, read_lines
from jevo.runs.logs import Tell
from jevo.runs.processes import all_max, population_mesh, several
from jevo.runs.progress import Progress
from jevo.runs.signals import Interrupted, StopSignal

BLOCK = 64
"""The most generations computed in one call, with no host in between."""
BLOCK_SECONDS = 1.0
"""How long a call should take: what Ctrl-C waits for, and how often the live line moves [s]."""

Step = Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
"""`(carry, data) -> (carry, metrics)`: one generation. `best`, `mean` and `validation` are scalars; other metrics may
be vectors, with one entry a seed."""


class Programs(NamedTuple):
    """What a stage computes.

    Attributes:
        start: `data -> carry`, the first one.
        step: one generation. Its metrics have `best` and `mean`, the fitness, and `validation`, which may be NaN
            where the validation set was not looked at.
    """

    start: Callable[[Any], Any]
    step: Step


class Finished(NamedTuple):
    """A stage at its end.

    Attributes:
        carry: as the last generation left it.
        wall_s: seconds that the generations took, compiling excluded, over all the sessions of the run.
        compile_s: seconds that compiling took in this session.
    """

    carry: Any
    wall_s: float
    compile_s: float


@dataclass(frozen=True)
class Stage:
    """A part of a run that has checkpoints of its own.

    Attributes:
        name: of its checkpoints' folder, and on the live line.
        programs: made for so many members at once, at most; how many does not change what they compute.
        generations: how many to run.
        work: for the live line, how much one generation does, and of what, such as (100, "evaluations").
        chunk: members at once to begin with; fewer where the memory is short.
        metrics: name of its metrics file.
        after: generations that the stages before it have written there; its own are numbered from there on.
        advice: what to try when every member has failed.
        stop: told all lines of its file so far every `stop_every` generations, says whether the stage is at its end.
        stop_every: generations between two calls of it.
    """

    name: str
    programs: Callable[[int], Programs]
    generations: int
    work: tuple[int, str]
    chunk: int = 1
    metrics: str = "metrics.jsonl"
    after: int = 0
    advice: str = "use other settings"
    stop: Callable[[Sequence[dict[str, Any]]], bool | None] | None = None
    stop_every: int = 1


def run_stage(
    folder: Path,
    stage: Stage,
    data: Any,
    checkpoint_every: int,
    devices: int = 1,
    tell: Tell = lambda file, lines: None,
    title: str = "",
) -> Finished:
    """Run a stage from its newest checkpoint, or from the start, to its end.

    The result does not depend on where it was interrupted: a generation depends on the carry alone, and lines
    written after the checkpoint are dropped and written again. A program for which there is not enough memory is made
    anew with half as many members at once, and goes on from there. The number of devices may be another each time.

    Args:
        folder: of the run.
        stage: what to run.
        data: handed to start and to every step: arrays that do not change.
        checkpoint_every: generations between checkpoints.
        devices: that the population is spread over; 0 for all there are.
        tell: told of all lines of the stage, those of earlier sessions first.
        title: of the stage on the live line; unset: its name.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when a checkpoint is written.
        InputError: when every member of the population has failed, or the device has no room for a single one.
    """
    mesh, chunk = population_mesh(devices), stage.chunk
    # One for all attempts: what is noted in one that has no room is acted on in the next.
    progress = Progress(title or stage.name, stage.generations, stage.work)
    with StopSignal() as stop, spread(mesh), progress:
        data = jax.device_put(data, replicated(mesh))
        while True:
            try:
                return _run(folder, stage, stage.programs(chunk), data, checkpoint_every, mesh, stop, tell, progress)
            except jax.errors.JaxRuntimeError as error:
                if not is_exhausted(error):
                    raise
            if several():
                # They would have to agree on a program anew, and some may be waiting in the old one.
                raise InputError(f"{stage.name}: no room for {chunk} members at once; take a chunk of half as many")
            if chunk <= 1:
                raise InputError(
                    f"{stage.name} needs more memory than there is, even with one member at a time; "
                    "take a smaller population, network or batch"
                )
            progress.say(f"{stage.name}: no room for {chunk} members at once, goes on with {chunk // 2}")
            chunk //= 2


def _run(
    folder: Path,
    stage: Stage,
    programs: Programs,
    data: Any,
    checkpoint_every: int,
    mesh: Mesh | None,
    stop: StopSignal,
    tell: Tell,
    progress: Progress,
) -> Finished:
    checkpoints = Checkpoints(folder / "checkpoints" / stage.name)
    progress.compiling()
    began = time.perf_counter()
    everywhere = jax.tree.map(lambda array: array.sharding, data)
    start = _Start(stage, programs, data, everywhere, mesh)
    done, saved, warnings = checkpoints.restore(_saved(start.carry, 0.0))
    for warning in warnings:
        progress.say(warning)
    if 0 < done < stage.generations:
        progress.say(f"{stage.name} goes on from generation {done}")

    def stays(line: dict[str, Any]) -> bool:
        return isinstance(line.get("generation"), int) and line["generation"] <= stage.after + done

    if done > 0:
        tell(stage.metrics, list(filter(stays, read_lines(folder / stage.metrics))))
    if done >= stage.generations:
        return Finished(saved["carry"], float(saved["wall_s"]), 0.0)
    # The carry comes out as it went in, so that it can go in again.
    places = jax.tree.map(lambda array: array.sharding, start.carry)
    block = jax.jit(
        block_of(programs.step),
        donate_argnums=0,
        in_shardings=(places, everywhere, None),
        out_shardings=(places, replicated(mesh)),
    )
    with ThreadPoolExecutor(1) as beside:
        # Where a core is idle, the first population's program is compiled beside the block's.
        first = beside.submit(lambda: start.compiled) if done < 0 else None
        advance = block.lower(abstract(start.carry), abstract(data), 0).compile()
    if first:
        require_room(first.result())
        done, saved = 0, _saved(first.result()(data), 0.0)
        checkpoints.save(done, saved)
    carry, wall_s = saved["carry"], float(saved["wall_s"])
    require_room(advance)
    compile_s = time.perf_counter() - began
    (stopped,) = all_max(stop.received)
    if stopped:
        raise _stopped(stage, done)

    with Lines(folder / stage.metrics, stays) as metrics:
        if metrics.damaged:
            progress.say(f"{folder / stage.metrics}: {metrics.damaged} damaged lines were dropped")
        seen = read_lines(folder / stage.metrics) if stage.stop else []

        def ended() -> bool:
            return bool(stage.stop and done and done % stage.stop_every == 0 and stage.stop(seen))

        # A single generation first: the user sees a line at once, and it times the rest.
        length, over = 1, ended()
        while done < stage.generations and not over:
            every = (checkpoint_every, *([stage.stop_every] if stage.stop else []))
            count = min(length, stage.generations - done, *(each - done % each for each in every))
            tick = time.perf_counter()
            carry, values = advance(carry, data, count)
            lines = _lines(values, stage.after + done, count)
            # What all processes must do alike they agree on: how many generations a call has, and when to stop.
            seconds, stopped = all_max(time.perf_counter() - tick, stop.received)
            wall_s += seconds
            done += count
            length = max(1, min(BLOCK, round(count * BLOCK_SECONDS / max(seconds, 1e-6))))
            metrics.append(lines)
            tell(stage.metrics, lines)
            if stage.stop:
                seen += lines
            progress.show(done, lines[-1], count, seconds)
            _require_alive(stage, lines, folder)
            over = ended()
            if done % checkpoint_every == 0 or done == stage.generations or stopped or over:
                _require_there(folder / stage.metrics)
                checkpoints.save(done, _saved(carry, wall_s))
            if stopped and not over:
                raise _stopped(stage, done)
    return Finished(carry, wall_s, compile_s)


class _Start:
    """The program of a stage's first carry, lowered; compiled when it is needed.

    Attributes:
        carry: shapes, dtypes and places of what it makes.

    Raises:
        InputError: if the carry is too large to count, or to fit.
    """

    def __init__(self, stage: Stage, programs: Programs, data: Any, everywhere: Any, mesh: Mesh | None):
        try:
            self._lowered = jax.jit(programs.start, in_shardings=(everywhere,)).lower(abstract(data))
        except OverflowError:
            raise InputError(
                f"{stage.name}: the population, or something else, is larger than {2**31 - 1:,}, as far as JAX counts; "
                "take smaller settings"
            ) from None
        made = self._lowered.out_info
        require_room_for(made, f"{stage.name}: its first population")
        # Over several devices the compiler says where things are. On a single one all is where the data are, if any.
        here = [*jax.tree.leaves(everywhere), jax.device_put(0).sharding][0]
        places = jax.tree.map(lambda _: here, made) if mesh is None else self.compiled.output_shardings
        placed = lambda of, place: jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=place)  # noqa: E731
        self.carry = jax.tree.map(placed, made, places)

    @cached_property
    def compiled(self) -> jax.stages.Compiled:
        return self._lowered.compile()


def _saved(carry: Any, wall_s: float) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {"carry": carry, "wall_s": np.asarray(wall_s, np.float32)}


def _stopped(stage: Stage, done: int) -> Interrupted:
    return Interrupted(f"{stage.name} stopped at generation {done} of {stage.generations}; the same command goes on")


def _require_there(path: Path) -> None:
    """Raise an OSError if a file that is open for writing has been deleted, perhaps with its folder: what is written
    then goes nowhere, and what is saved beside it is half a run."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "deleted while the run went on", str(path))


def _require_alive(stage: Stage, lines: list[dict[str, Any]], folder: Path) -> None:
    """Raise an InputError if the whole population has failed in any of these generations."""
    failed = next((line["generation"] for line in lines if line["best"] is None), None)
    if failed:
        raise InputError(
            f"{stage.name}: every member failed (its fitness is NaN or -inf) at generation {failed}; "
            f"{stage.advice}; the last good state is kept in {folder / 'checkpoints' / stage.name}"
        )


def block_of(step: Step) -> Callable[[Any, Any, jax.Array], tuple[Any, dict[str, jax.Array]]]:
    """Many generations in one call. How many is an argument, not a shape: one program serves every length."""

    def block(carry: Any, data: Any, count: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        once = jax.jit(step)  # What is jitted is traced once, for its shapes and for the loop.
        _, shapes = jax.eval_shape(once, carry, data)
        values = {name: jnp.zeros((BLOCK, *shape.shape), shape.dtype) for name, shape in shapes.items()}

        def body(i: jax.Array, loop: tuple[Any, dict[str, jax.Array]]) -> tuple[Any, dict[str, jax.Array]]:
            carry, values = loop
            carry, new = once(carry, data)
            return carry, {name: values[name].at[i].set(new[name]) for name in values}

        return jax.lax.fori_loop(0, count, body, (carry, values))

    return block


def _lines(values: dict[str, jax.Array], done: int, count: int) -> list[dict[str, Any]]:
    """One dict a generation; what is not finite (a validation not made, a failed population) is None."""
    host = jax.device_get(values)
    return [{"generation": done + i + 1, **{name: _number(host[name][i]) for name in host}} for i in range(count)]


def _number(value: Any) -> Any:
    if value.ndim:
        return [_number(entry) for entry in value]
    return float(value) if math.isfinite(value) else None
