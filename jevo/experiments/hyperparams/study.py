"""The searches of a run as studies of Optuna's, for its dashboard, its plots and its measures of importance."""

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from jevo.data.files import expanded
from jevo.errors import InputError, require, shortened
from jevo.hyperparams import Generation, Space, Trial, identity, parameters

TAKES = "the URL of a database, as sqlite:///study.db, or the path of a journal file, as study.log"
JOURNALS = (".log", ".journal")
"""How the name of a new journal ends: so that study.db, and a URL that is misspelt, make none."""
NUMBER = "jevo_number"
"""The attribute of a trial by which it is not written again: its number in `genomes.csv`."""
When = Callable[[Trial], tuple[float, float]]
"""When the training of a trial began and ended, in seconds since 1970."""


def open_storage(where: str) -> Any:
    """One of Optuna's storages: a database if `where` is a URL, else a journal in a file, each made if need be.

    Args:
        where: may name environment variables, as `$PASSWORD`.

    Raises:
        InputError: if Optuna is not installed, or the storage cannot be used.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise InputError("study needs Optuna, which is not installed; install jevo[optuna], or leave it out") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if re.search(r"://[^/@]*:[^$/@][^/@]*@", where):
        raise InputError(
            "setting study has a password, which the files of the run would show; put it into an environment variable "
            "that the URL names, as in postgresql://me:$PASSWORD@host/name"
        )
    try:
        if "://" in where:
            return RDBStorage(os.path.expandvars(where))
        path = expanded(os.path.expandvars(where))
        _require_journal(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except InputError:
        raise
    except Exception as error:  # Whatever a database, or its driver, may raise.
        raise InputError(f"setting study is {shortened(where)}, but {_reason(error)}; it takes {TAKES}") from None


def close_storage(storage: Any) -> None:
    """Let its connections go, if there is one."""
    with suppress(Exception):  # As above; what was written is there.
        if storage is not None:
            storage.remove_session()
        if engine := getattr(storage, "engine", None):
            engine.dispose()


def new_name(folder: Path) -> str:
    """What the studies of a run begin with: a name that no other run has, be it in a folder of the same name."""
    return f"jevo-{folder.resolve().name[:80]}-{secrets.token_hex(3)}"


class Study:
    """A search as a study: a trial for every proposal, with its genes, values at rungs, state, times and attributes.

    It is told of generations again when a run goes on, and writes none of their trials twice. If the storage fails,
    that is said, and the search goes on without it.

    Args:
        storage: Optuna's.
        name: of the study.
        space: of the genomes.
        last: the last rung, if genomes are halved: whoever did not reach it was pruned.
        about: attributes of the study.
    """

    def __init__(self, storage: Any, name: str, space: Space, last: int | None, about: Mapping[str, Any]):
        self._storage, self._name, self._space, self._last, self._about = storage, name, space, last, about
        self._study: Any = None
        self._written: dict[int, tuple[Any, float | None]] = {}
        self._undecided: dict[str, Trial] = {}

    def tell(self, generation: Generation, when: When) -> None:
        """Write the trials of a generation. Those that the next one may train further wait for it."""
        trials, waiting = [], self._undecided
        for trial in generation.trials:
            before = waiting.get(identity(trial.genome))
            if before and max(before.rungs) < min(trial.rungs, default=0):  # The same one, trained further.
                del waiting[identity(trial.genome)]
                trial = before._replace(score=trial.score, until=trial.until, rungs={**before.rungs, **trial.rungs})
            trials.append(trial)
        self._undecided = {identity(trial.genome): trial for trial in trials} if generation.undecided else {}
        self._write([*waiting.values(), *(() if generation.undecided else trials)], when)

    def close(self, when: When) -> None:
        """Write the trials that wait: the search is over."""
        self._write([*self._undecided.values()], when)
        self._undecided = {}

    def _write(self, trials: list[Trial], when: When) -> None:
        if self._storage is None:
            return
        try:
            study = self._opened()
            for number, trial in ((trial.number, self._as_optuna(trial, when)) for trial in trials):
                if number not in self._written:
                    study.add_trial(trial)
                elif self._written[number] != (trial.state, trial.value):
                    # Its generation was the last one, and smaller, before the run was made longer.
                    print(
                        f"study {self._name}: trial {number} stays as it was written, though the run has another score"
                    )
                self._written[number] = trial.state, trial.value
        except Exception as error:  # Whatever a storage, or a server far away, may raise.
            self._storage = None
            print(f"study {self._name}: {_reason(error)}; the run goes on without it", flush=True)

    def _opened(self) -> Any:
        if self._study is None:
            import optuna

            self._study = optuna.create_study(
                study_name=self._name, storage=self._storage, direction="maximize", load_if_exists=True
            )
            there = self._study.get_trials(deepcopy=False)
            self._written = {trial.user_attrs.get(NUMBER, -1): (trial.state, trial.value) for trial in there}
            about = self._study.user_attrs
            for name, value in self._about.items():
                if about.get(name) != value:
                    self._study.set_user_attr(name, value)
        return self._study

    def _as_optuna(self, trial: Trial, when: When) -> Any:
        from optuna.trial import TrialState, create_trial

        score, genes = trial.score, parameters(self._space, trial.genome)
        failed = not math.isfinite(score.value)
        pruned = trial.until is not None and trial.until != self._last
        about = {
            NUMBER: trial.number,
            "generation": trial.generation,
            "parents": list(trial.parents),
            "trained": trial.trained,
            **({"reason": score.reason} if failed else {}),
            **{name: score.details[name] for name in ("epochs", "steps", "repairs") if score.details.get(name)},
            "genome": trial.genome,
        }
        found = create_trial(
            state=TrialState.FAIL if failed else TrialState.PRUNED if pruned else TrialState.COMPLETE,
            value=None if failed else score.value,
            params={name: value for name, (value, _) in genes.items()},
            distributions={name: of for name, (_, of) in genes.items()},
            user_attrs=about,
            intermediate_values={rung: value for rung, value in trial.rungs.items() if math.isfinite(value)},
        )
        found.datetime_start, found.datetime_complete = map(datetime.fromtimestamp, when(trial))
        return found


def _require_journal(path: Path) -> None:
    """Raise an InputError if there is a file that is something else, to which Optuna would write, or if a new one is
    not called a journal."""
    if not path.is_file():
        require(path.suffix in JOURNALS, "study", shortened(path), TAKES)
        return
    with path.open("rb") as file:
        first = file.readline(10_000)
    try:
        journal = not first or "op_code" in json.loads(first)
    except (ValueError, TypeError):
        journal = False
    if not journal:
        hint = f"sqlite:///{path}" if first.startswith(b"SQLite format 3") else "another path"
        raise InputError(f"setting study is {shortened(path)}, a file that is no journal of Optuna's; give {hint}")


def _reason(error: Exception) -> str:
    # SQLAlchemy's first line says it; after it come the statement and a link.
    line = str(error).strip().partition("\n")[0]
    return shortened(f"{type(error).__name__}: {line}", 200)
