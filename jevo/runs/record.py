"""What a run leaves on disk: RUN/config.yaml, metrics.jsonl, result.json. Files are written whole or not at all."""

import errno
import json
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import jax
import yaml

from jevo.data.datasets import SPLITS, Dataset
from jevo.data.files import atomic_write
from jevo.errors import InputError
from jevo.runs.arguments import as_arguments, differences, read_yaml, resolved
from jevo.runs.compiled import use_compile_cache
from jevo.runs.config import Config, RunConfig
from jevo.runs.machine import device, precision, versions
from jevo.runs.processes import broadcast, join, process_folder, several
from jevo.runs.report import report

LOCK = ".lock"


@contextmanager
def open_run(experiment: str, config: Config) -> Iterator["Run[Config]"]:
    """The folder of one run, which no other process can have at the same time.

    It writes `config.yaml`, or checks that a run already there has the same settings.

    Args:
        experiment: its name.
        config: the settings of the run; with `fresh` what an earlier run left is deleted first.

    Raises:
        InputError: if the folder holds a run with other settings, or something that is not a run, or another
            process is at work in it, or the other processes of the run cannot be reached.
    """
    join(config.coordinator, config.processes, config.process_id)
    if config.compile_cache:
        use_compile_cache()
    default = f"runs/{experiment}-{Path(config.data).stem}-{config.preset}-seed{config.seed}"
    folder = Path(config.out or default)
    with ExitStack() as stack:
        complaint = ""
        if not several() or jax.process_index() == 0:
            try:
                stack.enter_context(_prepared(folder, config))
            except InputError as error:
                complaint = str(error)
        if complaint := broadcast(complaint):
            raise InputError(complaint)
        yield Run(stack.enter_context(process_folder(folder)), experiment, config)


@contextmanager
def _prepared(folder: Path, config: RunConfig) -> Iterator[None]:
    """Holds the folder of a run, which has its settings."""
    stored = folder / "config.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {folder} ({error.strerror}); give another out") from None
    if not stored.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"the run folder {folder} holds files that are not a run's; give another out")
    with _locked(folder / LOCK):
        if config.fresh:
            for pattern in config.files:
                for path in folder.glob(pattern):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        # Settings of a run that never got as far as computing (its data were not found, say) bind nobody.
        begun = stored.exists() and (folder / "checkpoints").exists()
        changed = differences(read_yaml(stored), config) if begun else []
        if changed:
            raise InputError(
                f"{folder} holds a run with other settings ({'; '.join(changed)}); "
                "give another out, or start over with fresh"
            )
        atomic_write(stored, yaml.safe_dump(resolved(config), sort_keys=False))
        yield


@dataclass(frozen=True)
class Run(Generic[Config]):
    """The folder of one run, as `open_run` gives it.

    Attributes:
        folder: where it is.
        experiment: its name.
        config: its settings.
    """

    folder: Path
    experiment: str
    config: Config

    @property
    def scratch(self) -> Path:
        """A folder for what is needed until the run is done; then it is deleted."""
        return self.folder / "checkpoints" / "scratch"

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, after saying that it is done; or None."""
        if not all((self.folder / name).exists() for name in ("result.json", "report.md")):
            return None
        print(f"{self.folder} is done: see {self.folder / 'report.md'}, or start over with fresh")
        return read_result(self.folder)

    def announce(self, dataset: Dataset) -> None:
        """Say what begins, on what device."""
        where, note = device(), f" ({dataset.note})" if dataset.note else ""
        print(
            f"{self.experiment} on {dataset.name}{note}, on {where['count']} x {where['kind']} "
            f"with {precision(self.config)} products, into {self.folder}",
            flush=True,
        )

    def describe(self, dataset: Dataset) -> dict[str, Any]:
        """The part of `result.json` that says what was run, on what."""
        return {
            "experiment": self.experiment,
            "preset": self.config.preset,
            "config": resolved(self.config),
            "seed": self.config.seed,
            "data": {
                "name": dataset.name,
                **{name: len(getattr(dataset, name).y) for name in SPLITS},
                "shape": list(dataset.train.x.shape[1:]),
                "classes": list(dataset.classes),
                "white": dataset.white,
                "note": dataset.note,
            },
            "device": device(),
            "precision": precision(self.config),
            "versions": versions(),
        }

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and say how the experiment and its control did."""
        atomic_write(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
        for name, entry in ((self.experiment, result), (f"{result['control']['name']} (control)", result["control"])):
            measured = ", ".join(f"{metric} {value:.4f}" for metric, value in entry["metrics"]["test"].items())
            print(f"test  {name}: {measured}", flush=True)

    def write_report(
        self,
        result: Mapping[str, Any],
        module: str,
        figures: Mapping[str, Callable[[Path], str]],
        notes: Sequence[str] = (),
    ) -> None:
        """Draw the figures and write `report.md`: from now on the run is done.

        Args:
            result: what `result.json` holds.
            module: that `python -m` runs.
            figures: for each PNG's name, what draws it at a path, and says what it shows. One that fails is a note in
                the report: no run is lost for a picture.
            notes: paragraphs for the report.
        """
        captions, failures = {}, []
        for name, draw in figures.items():
            try:
                captions[name] = draw(self.folder / name)
            except Exception as error:  # Whatever a drawing may raise.
                failures.append(f"{name} could not be drawn: {type(error).__name__}: {error}")
                print(failures[-1], flush=True)
        command = shlex.join(["python", "-m", module, *as_arguments(self.config)])
        atomic_write(self.folder / "report.md", report(result, command, captions, [*notes, *failures]))
        shutil.rmtree(self.scratch, ignore_errors=True)
        print(f"report in {self.folder / 'report.md'}", flush=True)


def read_result(folder: Path) -> dict[str, Any]:
    """The `result.json` of a finished run.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    path = folder / "result.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(
            f"{folder} holds no finished run (no result.json there); run the experiment to its end"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the experiment again with fresh") from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a file as a lock among processes; one that dies, however it may, lets it go."""
    with path.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Not POSIX: two runs in one folder are then the user's to avoid.
            pass
        except BlockingIOError:
            raise InputError(f"another process is running in {path.parent}; wait for it, or give another out") from None
        except OSError as error:  # Some network file systems, such as a notebook's Google Drive, have no locks either.
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                raise
        yield
