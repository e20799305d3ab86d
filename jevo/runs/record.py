"""What a run leaves on disk: RUN/config.yaml, metrics.jsonl, result.json. Files are written whole or not at all."""

import errno
import json
import os
import platform
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import yaml

from jevo.data.datasets import Dataset
from jevo.data.files import write_whole
from jevo.runs.compiled import keep_programs
from jevo.runs.config import Config, RunConfig, as_arguments, differences, from_settings, read_yaml, resolved
from jevo.runs.processes import join, own_books, said_by_first, several
from jevo.runs.report import report
from jevo.types import InputError

LOCK = ".lock"
OURS = (
    "config.yaml",
    "result.json",
    "report.md",
    "champion",
    "svm.skops",
    "checkpoints",
    "*.jsonl",
    "genomes.csv",
    "*.png",
)
"""What a run may write into its folder, and what starting over deletes: nothing else in it is touched."""


@contextmanager
def open_run(experiment: str, config: RunConfig) -> Iterator["Run"]:
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
        keep_programs()
    default = f"runs/{experiment}-{Path(config.data).stem}-{config.preset}-seed{config.seed}"
    folder = Path(config.out or default)
    with ExitStack() as stack:
        complaint = ""
        if not several() or jax.process_index() == 0:
            try:
                stack.enter_context(_prepared(folder, config))
            except InputError as error:
                complaint = str(error)
        if complaint := said_by_first(complaint):
            raise InputError(complaint)
        yield Run(stack.enter_context(own_books(folder)), experiment, config)


@contextmanager
def _prepared(folder: Path, config: RunConfig) -> Iterator[None]:
    """Holds the folder of a run, which has its settings."""
    stored = folder / "config.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {folder} ({error.strerror}); give another --out") from None
    if not stored.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"the run folder {folder} holds files that are not a run's; give another --out")
    with _locked(folder / LOCK):
        if config.fresh:
            for pattern in OURS:
                for path in folder.glob(pattern):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        # Settings of a run that never got as far as computing (its data were not found, say) bind nobody.
        begun = stored.exists() and (folder / "checkpoints").exists()
        changed = differences(read_yaml(stored), config) if begun else []
        if changed:
            raise InputError(
                f"{folder} holds a run with other settings ({'; '.join(changed)}); "
                "give another --out, or --fresh to start over"
            )
        write_whole(stored, yaml.safe_dump(resolved(config), sort_keys=False))
        yield


@dataclass(frozen=True)
class Run:
    """The folder of one run, as `open_run` gives it.

    Attributes:
        folder: where it is.
        experiment: its name.
        config: its settings.
    """

    folder: Path
    experiment: str
    config: RunConfig

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, after saying that it is done; or None."""
        if not (self.folder / "result.json").exists():
            return None
        print(f"{self.folder} is done: see {self.folder / 'report.md'}, or start over with --fresh")
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
        splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
        return {
            "experiment": self.experiment,
            "preset": self.config.preset,
            "config": resolved(self.config),
            "seed": self.config.seed,
            "data": {
                "name": dataset.name,
                **{name: len(split.y) for name, split in splits.items()},
                "shape": list(dataset.train.x.shape[1:]),
                "classes": list(dataset.classes),
                "top": dataset.top,
                "note": dataset.note,
            },
            "device": device(),
            "precision": precision(self.config),
            "versions": versions(),
        }

    def finish(self, result: Mapping[str, Any], figures: Mapping[str, str], notes: Sequence[str] = ()) -> None:
        """Write `report.md`, then `result.json`: from now on the run is done.

        Args:
            result: what `result.json` shall hold.
            figures: for each PNG in the folder, what it shows.
            notes: paragraphs for the report.
        """
        command = shlex.join(["python", "-m", f"jevo.experiments.{self.experiment}", *as_arguments(self.config)])
        write_whole(self.folder / "report.md", report(result, command, figures, notes))
        write_whole(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
        for name, entry in ((self.experiment, result), (f"{result['control']['name']} (control)", result["control"])):
            measured = ", ".join(f"{metric} {value:.4f}" for metric, value in entry["metrics"]["test"].items())
            print(f"test  {name}: {measured}")
        print(f"report in {self.folder / 'report.md'}", flush=True)


class Metrics:
    """A `.jsonl` file with one line a generation, which goes on after the last generation of a checkpoint.

    Args:
        path: the file.
        until: lines of later generations are dropped: they were written after the checkpoint that the run goes
            on from, and will be written again.
    """

    def __init__(self, path: Path, until: int):
        kept = [line for line in read_metrics(path) if line["generation"] <= until] if path.exists() else []
        write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Add lines, and hand them to the operating system."""
        self._file.write("".join(json.dumps(line) + "\n" for line in lines))
        self._file.flush()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `.jsonl` file; one that a crash cut short is left out."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


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
        raise InputError(f"{path} cannot be read ({error}); run the experiment again with --fresh") from None


def described(kind: type[Config], folder: Path, result: Mapping[str, Any]) -> tuple[Config, tuple[int, ...], int]:
    """What a finished run was: its settings, the shape of an example, and the number of classes."""
    config = from_settings(kind, result["config"], str(folder / "result.json"))
    return config, tuple(result["data"]["shape"]), len(result["data"]["classes"])


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
            raise InputError(
                f"another process is running in {path.parent}; wait for it, or give another --out"
            ) from None
        except OSError as error:  # Some network file systems, such as a notebook's Google Drive, have no locks either.
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                raise
        yield


def precision(config: RunConfig, platform: str = "") -> str:
    """The precision of matrix products that a setting means on a platform, by default that of this process."""
    native = {"cpu": "float32", "gpu": "tensorfloat32", "tpu": "bfloat16"}
    return native.get(platform or jax.default_backend(), "float32") if config.precision == "auto" else config.precision


def device() -> dict[str, Any]:
    """Where the run computes: `platform`, `kind`, `count`."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processes": jax.process_count(),
        "cores": os.cpu_count(),
    }


def versions() -> dict[str, str]:
    """The versions that the result depends on."""
    packages = ("jevo", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
