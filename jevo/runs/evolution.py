"""A run of any algorithm and any scoring: what `jevo.experiments` have, for functions of your own."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import yaml

from jevo import genetics
from jevo import population as pop
from jevo.data.files import atomic_write
from jevo.devices import is_spread, spread
from jevo.errors import InputError, is_whole, require
from jevo.genetics import Algorithm, Evaluate, Learn, Search, State, update_champion
from jevo.genetics.selection import descending
from jevo.programs import Closed, closed
from jevo.runs.checkpoint import load_arrays, save_arrays
from jevo.runs.compiled import use_compile_cache
from jevo.runs.folder import Folder, open_folder, sha256
from jevo.runs.lines import read_lines
from jevo.runs.loggers import FILES, require_loggers
from jevo.runs.logs import open_logs
from jevo.runs.loop import Programs, Stage, run_stage
from jevo.runs.machine import device, versions
from jevo.runs.portable import Portable, card, save_portable
from jevo.runs.processes import gather, population_mesh
from jevo.types import Fitness, Key, Member, Population
from jevo.version import __version__

METRICS = "metrics.jsonl"
RESULT = "evolved.json"

Stop = Callable[[Sequence[Mapping[str, Any]]], bool | None]
"""`(lines) -> whether to stop`, of all lines of `metrics.jsonl` so far: one a generation, with `generation`, `best`,
`mean`, `validation` (None where nobody looked) and what else is measured."""


class Evolved(NamedTuple):
    """What a run has come to.

    Attributes:
        champion: the best member by validation; by fitness, if there is none.
        worth: its validation, or fitness.
        found: the generation that it is of.
        state: the last generation's. Of several processes, each has its own part of the population.
        lines: a dict for each generation, as `metrics.jsonl` has them.
    """

    champion: Member
    worth: float
    found: int
    state: State
    lines: list[dict[str, Any]]


def evolve(
    out: str | Path,
    algorithm: Algorithm,
    init: Callable[[Key], Member],
    *,
    population: int,
    generations: int,
    evaluate: Evaluate | None = None,
    learn: Learn | None = None,
    first: Population | None = None,
    validate: Callable[[Population], Fitness] | None = None,
    validate_every: int = 10,
    validate_top: int = 5,
    measure: Callable[[State], Mapping[str, jax.Array]] = lambda state: {},
    stop: Stop | None = None,
    stop_every: int = 10,
    seed: int = 0,
    checkpoint_every: int = 50,
    devices: int = 0,
    chunk: int = 64,
    fresh: bool = False,
    log: Sequence[str] = (),
) -> Evolved:
    """Run an algorithm in a folder, or go on with it: with a live line, `metrics.jsonl`, checkpoints, and a champion.

    The same call goes on where a run was stopped or killed, and comes to the same; with more generations it goes on
    after the last. It is the same call if its functions make the same programs, and close over the same numbers: of
    others in the same folder it will not hear. What a function of the host (`pure_callback`) holds is part of it, also
    what it counts or keeps as it goes. (Another version of JAX, or another kind of device, may make others.)

    All functions but `stop` are traced: once, and run on the device.

    Args:
        out: folder of the run, made if need be.
        algorithm: such as `genetics.genetic(...)`; whatever has an `init`, an `ask` and a `tell`.
        init: `key -> member`, such as `network.init`, or `training.learner(network.init, optimizer)`.
        population: how many members.
        generations: after the first population.
        evaluate: scores members, such as `genetics.scored(score)`. Arrays that it closes over (the examples) are
            handed to the program, not compiled into it.
        learn: instead of `evaluate`: trains members and scores them (`genetics.lamarckian`).
        first: members `[n, ...]` that take the first places of the first population, instead of those that `init`
            makes: trained ones, or another run's.
        validate: `members [n, ...] -> worth [n]`, by which the champion is chosen. None: by their fitness, which
            flatters a member that was lucky with its examples.
        validate_every: generations between two looks of it; the last generation is looked at, too.
        validate_top: how many of the fittest it looks at.
        measure: `state -> scalars` that go on each line, by name.
        stop: looks at the lines, every `stop_every` generations, and may end the run. Of a run that was killed and
            goes on it sees all lines; so one that remembers nothing itself ends it at the same generation.
        stop_every: generations between two calls of it.
        seed: of all that is random, from 0.
        checkpoint_every: generations between two checkpoints: what a crash can lose.
        devices: that members are spread over; 0 for all there are. Their number changes no result.
        chunk: members made at once, at most.
        fresh: whether to start over, deleting what an earlier run has written in the folder.
        log: who else is told of the lines as they come: any of tensorboard, wandb and mlflow.

    Raises:
        InputError: in one line: for a folder that holds another run, or something else; for arguments that cannot be
            used; if every member has failed (its fitness is NaN), or there is no room for them.
        Interrupted: after Ctrl-C or SIGTERM, when a checkpoint is written.

    Sources of what is evolved are those of the algorithm.
    """
    require((evaluate is None) != (learn is None), "evaluate", evaluate, "a function, or else learn is one")
    population, generations = _whole("population", population), _whole("generations", generations)
    validate_every, validate_top = _whole("validate_every", validate_every), _whole("validate_top", validate_top)
    stop_every, checkpoint_every = _whole("stop_every", stop_every), _whole("checkpoint_every", checkpoint_every)
    chunk, devices, seed = _whole("chunk", chunk), _whole("devices", devices, 0), _whole("seed", seed, 0)
    require(seed < 2**32, "seed", seed, f"a whole number from 0 to {2**32 - 1:,}")
    require_loggers(log)
    if first is not None:
        require(pop.size(first) <= population, "first", pop.size(first), f"at most the population of {population}")
    search = _Search(
        algorithm, init, evaluate, learn, validate, measure, first, population, validate_every, validate_top, chunk,
        seed,
    )  # fmt: skip
    use_compile_cache()
    start, step = search.programs()
    settings = {
        "population": population, "generations": generations, "validate_every": validate_every,
        "validate_top": validate_top, "stop_every": stop_every, "seed": seed, "checkpoint_every": checkpoint_every,
        "devices": devices,
    }  # fmt: skip
    contents = {"program": start.digest + step.digest, "data": sha256("".join(start.names + step.names).encode())}
    free = frozenset({"generations", "checkpoint_every", "devices"})
    home = Folder(Path(out), "evolve", settings, contents, free, (METRICS, RESULT), fresh)
    with ExitStack() as stack:
        stack.enter_context(open_folder(home))
        home = stack.enter_context(home.begun())
        home.claim(FILES if log else ())
        logs = stack.enter_context(open_logs(log, home.path, settings))
        stage = Stage(
            "search", search.handed(start, step), generations, (search.candidates(start), "eval"), metrics=METRICS,
            stop=stop, stop_every=stop_every,
        )  # fmt: skip
        finished = run_stage(
            home.path, stage, start.arrays | step.arrays, checkpoint_every, devices, logs.tell, home.path.name
        )
        found: Search = finished.carry
        done = int(found.state.generation)
        if done > generations:
            raise InputError(f"{out} has {done} generations already; ask for as many or more, or start over with fresh")
        if validate is not None and done % validate_every:
            # The last generation is looked at, too; not in the checkpoint, so that more generations come to the same.
            found = search.crowned(found, devices)
        champion = gather(found.champion)
        worth, when = float(found.validation), int(found.found)
        save_arrays(home.path / "champion", champion)
        if jax.process_index() == 0:
            by = "fitness" if validate is None else "validation"
            _leave(home.path, champion, f"{by} {worth:.6g}, of generation {when} of {done}", settings)
        result = {
            "generations": done,
            "champion": {"worth": worth, "generation": when},
            "evaluations": population + done * search.candidates(start),
            "wall_s": round(finished.wall_s, 3),
            "device": device(),
            "versions": versions(),
        }
        text = json.dumps(result, indent=2) + "\n"
        atomic_write(home.path / RESULT, text)
        home.seal(text.encode())
        return Evolved(champion, worth, when, found.state, read_lines(home.path / METRICS))


def _whole(name: str, value: Any, least: int = 1) -> int:
    """A setting as Python's own integer: one of NumPy, which a loop over its arrays gives, JSON does not know."""
    require(is_whole(value) and value >= least, name, value, f"a whole number from {least}")
    return int(value)


def load_champion(out: str | Path, init: Callable[[Key], Member]) -> Member:
    """The champion of a run of `evolve`, `init` being what made its members.

    Raises:
        InputError: if it is not there, or damaged, or of another structure.
    """
    return load_arrays(Path(out) / "champion", jax.eval_shape(lambda: init(jax.random.key(0))))


_LOADED = """
from safetensors.numpy import load_file

t = load_file("champion.safetensors")
for name, array in t.items():
    print(name, array.dtype, array.shape)
"""


def _leave(folder: Path, champion: Member, worth: str, settings: Mapping[str, Any]) -> None:
    """Write the champion for whoever has no jevo, and its card."""
    portable = Portable(champion, code=_LOADED)
    written = yaml.safe_dump(dict(settings), sort_keys=False).strip()
    said = [
        f"Found by `jevo.runs.evolve` of jevo {__version__}: {worth}. What that was measured on, and what a control at "
        "the same budget comes to, the functions that it was given know.",
        f"Settings:\n\n```yaml\n{written}\n```",
    ]
    try:
        save_portable(folder, portable, card("The champion of a run", said, portable))
    except InputError as error:
        print(f"the champion is only in jevo's own form: {error}", flush=True)


@dataclass(frozen=True)
class _Search:
    """What `evolve` was given, as programs."""

    algorithm: Algorithm
    init: Callable[[Key], Member]
    evaluate: Evaluate | None
    learn: Learn | None
    validate: Callable[[Population], Fitness] | None
    measure: Callable[[State], Mapping[str, jax.Array]]
    first: Population | None
    population: int
    every: int
    top: int
    chunk: int
    seed: int

    def start(self) -> Search:
        """The first population, scored."""
        init_key, score_key = jax.random.split(jax.random.key(self.seed))
        members = pop.init(init_key, self.init, self.population, self.chunk)
        if self.first is not None:
            pop.require_alike([members, self.first], 1)
            members = jax.tree.map(lambda made, given: made.at[: len(given)].set(given), members, self.first)
        if self.learn is not None:
            members, fitness = self.learn(score_key, members)
        else:
            assert self.evaluate is not None
            fitness = self.evaluate(score_key, members, None)
        state = self.algorithm.init(members, fitness)
        search = Search(state, pop.take(members, 0), jnp.float32(-jnp.inf), jnp.int32(0))
        return self._crowned(search)[0]

    def step(self, search: Search) -> tuple[Search, dict[str, jax.Array]]:
        """A generation."""
        key = jax.random.fold_in(jax.random.key(self.seed), 1)
        if self.learn is not None:
            state = genetics.lamarckian(self.algorithm, self.learn, key, search.state)
        else:
            assert self.evaluate is not None
            state = genetics.generation(self.algorithm, self.evaluate, key, search.state)
        search = search._replace(state=state)
        validation = jnp.float32(jnp.nan)
        if self.validate is None:
            search, _ = self._crowned(search)
        else:
            due = state.generation % self.every == 0
            search, validation = jax.lax.cond(due, self._crowned, lambda search: (search, validation), search)
        own = {"best": jnp.max(state.fitness), "mean": jnp.mean(state.fitness), "validation": validation}
        return search, {**self.measure(state), **own}

    def _crowned(self, search: Search) -> tuple[Search, jax.Array]:
        """The best stand for champion."""
        state = search.state
        best = descending(state.fitness)[: self.top if self.validate is not None else 1]
        members = pop.take(state.population, best)
        worth = state.fitness[best] if self.validate is None else self.validate(members)
        search = update_champion(search, members, worth, state.generation)
        return search, jnp.max(worth)

    def crowned(self, search: Search, devices: int) -> Search:
        """After a look at its generation, on as many devices as a run."""
        with spread(population_mesh(devices)):
            last = closed(lambda search: self._crowned(search)[0], search)
            return jax.jit(lambda arrays, search: last(arrays, search))(last.arrays, search)

    def programs(self) -> tuple[Closed, Closed]:
        """Both, as they are on a single device."""
        start = closed(self.start)
        return start, closed(self.step, start.result)

    def handed(self, start: Closed, step: Closed) -> Callable[[int], Programs]:
        """Both, on the devices there are, as they take the arrays that they close over."""

        def programs(_: int) -> Programs:
            # Whatever spreads members over devices has to be traced where these are known.
            first, further = self.programs() if is_spread() else (start, step)
            return Programs(lambda arrays: first(arrays), lambda search, arrays: further(arrays, search))

        return programs

    def candidates(self, start: Closed) -> int:
        """How many are scored in a generation."""
        asked = jax.eval_shape(self.algorithm.ask, jax.random.key(0), start.result.state)
        return int(asked.places.size)
