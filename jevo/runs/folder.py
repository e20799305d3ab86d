"""The folder of a run: whose it is, what it is known by, and what may be deleted in it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import yaml

from jevo.data.cache import lock
from jevo.data.files import atomic_write, read_file
from jevo.errors import InputError
from jevo.runs.processes import all_max, broadcast, process_folder, several
from jevo.version import __version__

MARKER = "run.json"
"""What a run is known by: its settings, digests of what these only name, and which files are its own."""
FORMAT = 1
"""Of run folders; a folder of a later one is left alone."""
LOCK = ".lock"
_DELETED = ".deleted"
"""Where checkpoints go, all at once, when a run starts over: to delete them takes time."""
_FILES = ("config.yaml", "champion", "champion.safetensors", "champion.md", "checkpoints")
"""What every run writes."""
_END = ("result.json", "report.md")
"""What a run writes last."""
_MARKER = {"format": int, "experiment": str, "settings": {}, "contents": {str: str}, "files": [str], "result": str}


@dataclass(frozen=True)
class Folder:
    """The folder of one run; `open_folder` says that it can be used.

    Attributes:
        path: where it is.
        experiment: what kind of run it holds.
        settings: of the run, as JSON holds them.
        contents: digests of what these only name, or leave out.
        free: settings that may be others when the run goes on: none of them changes its result.
        files: names of what this kind of run writes, beside what all do.
        fresh: whether to start over.
        longer: the setting that may be greater when the run goes on, even after its end.
        scheduled: why it may not, in words.
    """

    path: Path
    experiment: str
    settings: Mapping[str, Any]
    contents: Mapping[str, str]
    free: frozenset[str]
    files: tuple[str, ...] = ()
    fresh: bool = False
    longer: str = ""
    scheduled: str = ""

    def grows(self, marker: Mapping[str, Any]) -> bool:
        """Whether this run goes further than one that is there, and may differ from it in that."""
        old, new = (settings.get(self.longer) for settings in (marker["settings"], self.settings))
        return bool(self.longer) and isinstance(old, int) and isinstance(new, int) and new > old

    def differences(self, marker: Mapping[str, Any]) -> list[str]:
        """In what a run that is there differs from this one, as 'name: old -> new', or nothing."""
        if marker["experiment"] != self.experiment:
            return [f"experiment: {marker['experiment']} -> {self.experiment}"]
        old, new, absent = marker["settings"], self.settings, "(absent)"
        free = self.free | ({self.longer} if self.grows(marker) and not self.scheduled else set())
        changed = [
            f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}"
            for name in {**old, **new}
            if name not in free and old.get(name, absent) != new.get(name, absent)
        ]
        before = marker["contents"]
        edited = [name for name in {**before, **self.contents} if before.get(name) != self.contents.get(name)]
        return changed or [f"{name}: its contents have changed" for name in edited]

    @contextmanager
    def begun(self) -> Iterator["Folder"]:
        """The folder to write to, after what an earlier run left is deleted if it is to start over.

        Of several processes, all but the first get a copy of their own.
        """
        if not several() or jax.process_index() == 0:
            marker = read_marker(self.path) if (self.path / MARKER).exists() else None
            if marker and self.fresh:
                self._delete(marker["files"])
            elif marker and self.grows(marker):  # What is there is not its end.
                self._delete([name for name in marker["files"] if name in _END])
            self._mark(marker["files"] if marker and not self.fresh else ())
            settings = yaml.safe_dump(dict(self.settings), sort_keys=False, allow_unicode=True)
            atomic_write(self.path / "config.yaml", settings)
            shutil.rmtree(self.path / _DELETED, ignore_errors=True)
        with process_folder(self.path) as path:
            yield replace(self, path=path)

    def claim(self, names: Iterable[str]) -> None:
        """Say that files of these names, in the folder, are the run's: starting over will delete them."""
        files = read_marker(self.path)["files"]
        if new := set(names) - set(files):
            self._mark([*files, *sorted(new)])

    def seal(self, result: bytes) -> None:
        """Keep the digest of what the run has come to, so that a change of it is noticed."""
        self._mark(read_marker(self.path)["files"], sha256(result))

    def _mark(self, files: Iterable[str], result: str = "") -> None:
        marker = {
            "jevo": __version__,
            "format": FORMAT,
            "experiment": self.experiment,
            "settings": dict(self.settings),
            "contents": dict(self.contents),
            "files": list(dict.fromkeys([*_FILES, *self.files, *files])),
            "result": result,
        }
        atomic_write(self.path / MARKER, json.dumps(marker, indent=2) + "\n")

    def _delete(self, files: Iterable[str]) -> None:
        """Delete files and folders; a kill on the way leaves a run that is not done and has no checkpoints, or all."""
        there = [self.path / name for name in files if os.path.lexists(self.path / name)]
        checkpoints = self.path / "checkpoints"
        for path in sorted(there, key=lambda path: path.name not in _END):
            if path == checkpoints:
                shutil.rmtree(self.path / _DELETED, ignore_errors=True)
                path = checkpoints.rename(self.path / _DELETED)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def open_folder(folder: Folder) -> Iterator[None]:
    """Hold the folder of one run, which no other process can have at the same time. Nothing in it is changed.

    Raises:
        InputError: if it holds a run with other settings or contents, and is not to start over, or something that
            is not a run, or another process is at work in it.
    """
    seen = sha256(json.dumps(folder.contents).encode())
    if any(all_max(broadcast(seen) != seen)):
        raise InputError("the processes of the run do not read the same data; give all of them the same files")
    with ExitStack() as stack:
        complaint = ""
        if not several() or jax.process_index() == 0:
            try:
                stack.enter_context(_checked(folder))
            except InputError as error:
                complaint = str(error)
        if complaint := broadcast(complaint):
            raise InputError(complaint)
        yield


@contextmanager
def _checked(folder: Folder) -> Iterator[None]:
    """Holds the folder of a run, which is new, or has its settings and contents."""
    path = folder.path
    try:
        path.mkdir(parents=True, exist_ok=True)
        strangers = sorted(found.name for found in path.iterdir() if found.name not in (LOCK, f".{MARKER}.partial"))
    except (OSError, ValueError) as error:  # A path with a NUL is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot make the run folder {path} ({reason}); give another out") from None
    if strangers and not (path / MARKER).exists():
        raise InputError(
            f"the run folder {path} holds files that are not a run's ({', '.join(strangers[:3])}); give another out"
        )
    with _locked(path / LOCK):
        marker = read_marker(path) if strangers else None
        if marker and not folder.fresh and (changed := folder.differences(marker)):
            planned = folder.scheduled and folder.grows(marker)
            why = f", and cannot go on for more: {folder.scheduled}" if planned else ""
            raise InputError(
                f"{path} holds a run with other settings ({'; '.join(changed)}){why}; "
                "give another out, or start over with fresh"
            )
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a file as a lock among processes; one that dies, however it may, lets it go."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock(path, wait=False))
        except BlockingIOError:
            raise InputError(f"another process is running in {path.parent}; wait for it, or give another out") from None
        yield


def read_marker(folder: Path) -> dict[str, Any]:
    """What `run.json` says of the run in a folder.

    Raises:
        InputError: if it is damaged, or of a later version.
    """
    path = folder / MARKER
    advice = "give another out, or delete the folder"
    marker = read_json(path, advice)
    if isinstance(marker, dict) and isinstance(marker.get("format"), int) and marker["format"] > FORMAT:
        raise InputError(
            f"{folder} holds a run of a later jevo ({marker.get('jevo')}); update jevo, or give another out"
        )
    require_shape(marker, _MARKER, path, advice)
    # What is deleted by these names lies in the folder.
    if any(name in ("", ".", "..") or Path(name).name != name for name in marker["files"]):
        raise InputError(f"{path} is damaged (files); {advice}")
    return marker


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_json(path: Path, advice: str) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: if it cannot be read, with advice.
    """
    try:
        return json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
        raise InputError(f"{path} cannot be read ({reason}); {advice}") from None


def require_shape(value: Any, shape: Any, path: Path, advice: str) -> None:
    """Raise an InputError, with advice, for a value read from a file that does not have its shape.

    A shape is a type, `[type]` for a list, `{str: type}` for any keys, else keys to be there.
    """
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
