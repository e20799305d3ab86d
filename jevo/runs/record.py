"""What a run leaves on disk, and what it is known by. Files are written whole or not at all."""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

import jax
import yaml

from jevo.data.cache import lock
from jevo.data.datasets import SPLITS, Dataset
from jevo.data.files import atomic_write, read_file
from jevo.errors import InputError, shortened
from jevo.runs.arguments import as_arguments, differences, resolved
from jevo.runs.config import Config
from jevo.runs.machine import device, precision, versions
from jevo.runs.processes import all_max, broadcast, process_folder, several
from jevo.runs.report import report
from jevo.version import __version__

MARKER = "run.json"
"""What a run is known by: its settings, digests of what these only name, and which files are its own."""
FORMAT = 1
"""Of run folders; a folder of a later one is left alone."""
LOCK = ".lock"
_DELETED = ".deleted"
"""Where checkpoints go, all at once, when a run starts over: to delete them takes time."""


@contextmanager
def open_run(experiment: str, config: Config, contents: Mapping[str, str] = {}) -> Iterator["Run[Config]"]:
    """The folder of one run, which no other process can have at the same time. Nothing in it is changed.

    Args:
        experiment: its name.
        config: the settings of the run.
        contents: digests of what the settings only name, such as the data.

    Raises:
        InputError: if the folder holds a run with other settings or contents, and `fresh` is not set, or something that
            is not a run, or another process is at work in it.
    """
    folder = Path(
        config.out or f"runs/{_clean(f'{experiment}-{Path(config.data).stem}-{config.preset}')}-seed{config.seed}"
    )
    run = Run(folder, experiment, config, contents)
    seen = _sha256(json.dumps(contents).encode())
    if any(all_max(broadcast(seen) != seen)):
        raise InputError("the processes of the run do not read the same data; give all of them the same files")
    with ExitStack() as stack:
        complaint = ""
        if not several() or jax.process_index() == 0:
            try:
                stack.enter_context(_checked(run))
            except InputError as error:
                complaint = str(error)
        if complaint := broadcast(complaint):
            raise InputError(complaint)
        yield run


def _clean(name: str) -> str:
    """A name of letters, digits, dots and dashes alone, which no shell and no library takes for a pattern."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name)[:80].strip("-.")


@contextmanager
def _checked(run: "Run[Any]") -> Iterator[None]:
    """Holds the folder of a run, which is new, or has its settings and contents."""
    folder = run.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, f".{MARKER}.partial"))
    except (OSError, ValueError) as error:  # A path with a NUL is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot make the run folder {folder} ({reason}); give another out") from None
    if strangers and not (folder / MARKER).exists():
        raise InputError(
            f"the run folder {folder} holds files that are not a run's ({', '.join(strangers[:3])}); give another out"
        )
    with _locked(folder / LOCK):
        marker = read_marker(folder) if strangers else None
        if marker and not run.config.fresh and (changed := run.differences(marker)):
            raise InputError(
                f"{folder} holds a run with other settings ({'; '.join(changed)}); "
                "give another out, or start over with fresh"
            )
        yield


@dataclass(frozen=True)
class Run(Generic[Config]):
    """The folder of one run, as `open_run` gives it.

    Attributes:
        folder: where it is.
        experiment: its name.
        config: its settings.
        contents: digests of what these only name.
    """

    folder: Path
    experiment: str
    config: Config
    contents: Mapping[str, str]

    def differences(self, marker: Mapping[str, Any]) -> list[str]:
        """In what a run that is there differs from this one, as 'name: old -> new', or nothing."""
        if marker["experiment"] != self.experiment:
            return [f"experiment: {marker['experiment']} -> {self.experiment}"]
        old = marker["contents"]
        edited = [name for name in {**old, **self.contents} if old.get(name) != self.contents.get(name)]
        return differences(marker["settings"], self.config) or [f"{name}: its contents have changed" for name in edited]

    @contextmanager
    def begun(self) -> Iterator["Run[Config]"]:
        """The folder to write to, after what an earlier run left is deleted if the settings say `fresh`.

        Of several processes, all but the first get a copy of their own.
        """
        if not several() or jax.process_index() == 0:
            marker = read_marker(self.folder) if (self.folder / MARKER).exists() else None
            if marker and self.config.fresh:
                self._delete(marker["files"])
            self._mark(marker["files"] if marker and not self.config.fresh else ())
            settings = resolved(self.config)
            atomic_write(self.folder / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
            shutil.rmtree(self.folder / _DELETED, ignore_errors=True)
        with process_folder(self.folder) as folder:
            yield replace(self, folder=folder)

    def claim(self, names: Iterable[str]) -> None:
        """Say that files of these names, in the folder, are the run's: starting over will delete them."""
        files = read_marker(self.folder)["files"]
        if new := set(names) - set(files):
            self._mark([*files, *sorted(new)])

    def _mark(self, files: Iterable[str], result: str = "") -> None:
        own = ("config.yaml", "result.json", "report.md", "champion", "checkpoints", *self.config.files)
        marker = {
            "jevo": __version__,
            "format": FORMAT,
            "experiment": self.experiment,
            "settings": resolved(self.config),
            "contents": dict(self.contents),
            "files": list(dict.fromkeys([*own, *files])),
            "result": _sha256(result.encode()) if result else "",
        }
        atomic_write(self.folder / MARKER, json.dumps(marker, indent=2) + "\n")

    def _delete(self, files: Iterable[str]) -> None:
        """Delete files and folders; a kill on the way leaves a run that is not done and has no checkpoints, or all."""
        there = [self.folder / name for name in files if os.path.lexists(self.folder / name)]
        checkpoints = self.folder / "checkpoints"
        for path in sorted(there, key=lambda path: path.name not in ("result.json", "report.md")):
            if path == checkpoints:
                shutil.rmtree(self.folder / _DELETED, ignore_errors=True)
                path = checkpoints.rename(self.folder / _DELETED)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @property
    def scratch(self) -> Path:
        """A folder for what is needed until the run is done; then it is deleted."""
        return self.folder / "checkpoints" / "scratch"

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run, after saying that it is done; or None."""
        if self.config.fresh or not all((self.folder / name).exists() for name in ("result.json", "report.md")):
            return None
        if jax.process_index() == 0:
            print(f"{self.folder} is done: see {self.folder / 'report.md'}, or start over with fresh")
        return read_result(self.folder)

    def announce(self, dataset: Dataset) -> None:
        """Say what begins, on what device."""
        where, note = device(), f" ({dataset.note})" if dataset.note else ""
        print(
            f"{self.experiment} on {dataset.name}{note}, on {where['count']} x {where['kind']} "
            f"with {precision(self.config)} products, into {self.folder}",
            *dataset.taken,
            sep="\n",
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
                "values": dataset.values.to_json(),
                "note": dataset.note,
                "taken": list(dataset.taken),
            },
            "contents": dict(self.contents),
            "device": device(),
            "precision": precision(self.config),
            "versions": versions(),
        }

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and say how the experiment and its control did."""
        text = json.dumps(result, indent=2) + "\n"
        atomic_write(self.folder / "result.json", text)
        # The digest lies beside it: what is in the result itself is the same however often a run was interrupted.
        self._mark(read_marker(self.folder)["files"], result=text)
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
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                failures.append(f"{name} could not be drawn: {shortened(reason, 200)}")
                print(failures[-1], flush=True)
        command = shlex.join(["python", "-m", module, *as_arguments(self.config)])
        atomic_write(self.folder / "report.md", report(result, command, captions, [*notes, *failures]))
        shutil.rmtree(self.scratch, ignore_errors=True)
        print(f"report in {self.folder / 'report.md'}", flush=True)


def read_marker(folder: Path) -> dict[str, Any]:
    """What `run.json` says of the run in a folder.

    Raises:
        InputError: if it is damaged, or of a later version.
    """
    path = folder / MARKER
    marker = _read_json(path, "give another out, or delete the folder")
    if isinstance(marker, dict) and isinstance(marker.get("format"), int) and marker["format"] > FORMAT:
        raise InputError(
            f"{folder} holds a run of a later jevo ({marker.get('jevo')}); update jevo, or give another out"
        )
    _require_shape(marker, _MARKER, path, "give another out, or delete the folder")
    # What is deleted by these names lies in the folder.
    if any(name in ("", ".", "..") or Path(name).name != name for name in marker["files"]):
        raise InputError(f"{path} is damaged (files); give another out, or delete the folder")
    return marker


def read_result(folder: Path) -> dict[str, Any]:
    """The `result.json` of a finished run.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    path = folder / "result.json"
    if not path.exists():
        raise InputError(f"{folder} holds no finished run (no result.json there); run the experiment to its end")
    advice = "run the experiment again with fresh"
    result = _read_json(path, advice)
    _require_shape(result, _RESULT, path, advice)
    _require_shape(result, _even(result), path, advice)
    if _written(folder) not in ("", _sha256(read_file(path))):
        raise InputError(f"{path} was changed, or damaged, since it was written; {advice}")
    return result


def _written(folder: Path) -> str:
    """The digest of the result that a run has written; "" where the result alone was kept, or its marker is damaged."""
    try:
        return read_marker(folder)["result"]
    except InputError:
        return ""


def _even(result: Mapping[str, Any]) -> dict[str, Any]:
    """The shape that a result has beyond that of all: each of those compared has the same metrics, in every repeat, and
    spends of the same."""

    def compared(judged: Any) -> dict[str, Any]:
        return {**judged, "control": judged, "references": dict.fromkeys(result["references"], judged)}

    judged = {"metrics": {split: dict.fromkeys(result["metrics"]["test"], _NUMBER) for split in SPLITS}}
    passes = {"example_passes": int} if "example_passes" in result["budget"] else {}
    front = [{"metrics": {split: {str: _NUMBER} for split in SPLITS}}]  # Of some experiments it is judged by fewer.
    optional = {"contents": {str: str}, "front": front, "repeats": [{"seed": int, **compared(judged)}]}
    return compared(judged | {"budget": passes}) | {name: shape for name, shape in optional.items() if name in result}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_json(path: Path, advice: str) -> Any:
    try:
        return json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read ({reason}); {advice}") from None


_NUMBER = (int, float)
_METRICS = {split: {str: _NUMBER} for split in SPLITS}
_BUDGET = {"evaluations": int, "gradient_steps": int, "wall_s": _NUMBER, "compile_s": _NUMBER}
_MARKER = {"format": int, "experiment": str, "settings": {}, "contents": {str: str}, "files": [str], "result": str}
_RESULT = {
    "experiment": str, "preset": str, "config": {}, "seed": int, "metrics": _METRICS, "budget": _BUDGET,
    "data": {"name": str, "shape": [int], "classes": [str], "note": str, **dict.fromkeys(SPLITS, int)},
    "control": {"name": str, "metrics": _METRICS, "budget": _BUDGET},
    "references": {str: {"metrics": _METRICS, "budget": _BUDGET}},
}  # fmt: skip
"""The shapes of what is read back: a type, `[type]` for a list, `{str: type}` for any keys, else keys to be there."""


def _require_shape(value: Any, shape: Any, path: Path, advice: str) -> None:
    if wrong := _misshapen(value, shape, ""):
        raise InputError(f"{path} is damaged, or not jevo's ({wrong}); {advice}")


def _misshapen(value: Any, shape: Any, name: str) -> str:
    """What in a value does not have its shape, or nothing."""
    kind = type(shape) if isinstance(shape, list | dict) else shape
    if not isinstance(value, kind) or isinstance(value, bool):
        return f"{name or 'all of it'} is {type(value).__name__}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{name}[{i}]", entry, shape[0]) for i, entry in enumerate(value)]
    elif isinstance(shape, dict):
        prefix = f"{name}." if name else ""
        if missing := [key for key in shape if key not in value and key is not str]:
            return f"{prefix}{missing[0]} is missing"
        names = value if str in shape else shape
        parts = [(f"{prefix}{key}", value[key], shape.get(str, shape.get(key))) for key in names]
    return next(filter(None, (_misshapen(part, of, called) for called, part, of in parts)), "")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a file as a lock among processes; one that dies, however it may, lets it go."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait=False))
        except BlockingIOError:
            raise InputError(f"another process is running in {path.parent}; wait for it, or give another out") from None
        yield
