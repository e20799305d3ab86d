"""What loggers are told of a run: the numbers on the lines of its metrics files, and its pictures."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from jevo.errors import shortened
from jevo.runs.loggers import LOGGERS, Logger, Row

Tell = Callable[[str, Sequence[Mapping[str, Any]]], None]
"""`(name of a metrics file, lines)`: tells of lines that are written there. What was told before is not told again."""


class Logs:
    """The loggers of a run. One that fails is left out from there on, and that is said: no run is lost for a log.

    Args:
        loggers: by name.
    """

    def __init__(self, loggers: Mapping[str, Logger]):
        self._loggers = dict(loggers)
        self._known = {name: dict(logger.known()) for name, logger in loggers.items()}

    def tell(self, file: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Tell of lines of a metrics file, in order; of those that a logger knows from before, it hears nothing."""
        part = Path(file).stem
        for name in list(self._loggers):
            last = self._known[name].get(part, -1)
            rows = [Row(part, line["generation"], scalars(line)) for line in lines if _number(line) > last]
            if rows and self._try(name, lambda logger, rows=rows: logger.tell(rows)):
                self._known[name][part] = rows[-1].generation

    def show(self, pictures: Sequence[Path]) -> None:
        """Show pictures, PNGs."""
        for name in list(self._loggers) if pictures else ():
            self._try(name, lambda logger: logger.show(pictures))

    def close(self) -> None:
        """Have what was told be where it belongs."""
        for name in list(self._loggers):
            self._try(name, lambda logger: logger.close())

    def _try(self, name: str, what: Callable[[Logger], None]) -> bool:
        try:
            with quietly():
                what(self._loggers[name])
        except Exception as error:  # Whatever a logger, or a server far away, may raise.
            _complain(name, error)
            del self._loggers[name]
            return False
        return True


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers on a line, by name; those in a list by name and place, as `best/0`."""
    found: dict[str, float] = {}

    def take(name: str, value: Any) -> None:
        if isinstance(value, list | tuple):
            for i, each in enumerate(value):
                take(f"{name}/{i}", each)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = float(value)

    for name, value in line.items():
        take(name, value)
    return found


@contextmanager
def open_logs(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Iterator[Logs]:
    """The logs of the run in a folder, each as far as it was told before, if the run goes on.

    Of several processes, the first one tells all.

    Args:
        names: of loggers.
        folder: of the run.
        settings: of the run, by name.
    """
    loggers = {}
    for name in dict.fromkeys(names) if jax.process_index() == 0 else ():
        try:
            with quietly():
                loggers[name] = LOGGERS[name].make(folder, settings)
        except Exception as error:  # As above.
            _complain(name, error)
    logs = Logs(loggers)
    try:
        yield logs
    finally:
        logs.close()


@contextmanager
def quietly() -> Iterator[None]:
    """Leaves out what loggers warn of in their own code, such as what a library that they use will no longer have."""
    with warnings.catch_warnings():
        for package in ("mlflow", "tensorboardX", "wandb"):
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=rf"{package}(\.|$)")
        yield


def _number(line: Mapping[str, Any]) -> int:
    number = line.get("generation")
    return number if isinstance(number, int) else -1


def _complain(name: str, error: Exception) -> None:
    reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()), 200)
    print(f"log {name}: {reason}; the run goes on without it", flush=True)
