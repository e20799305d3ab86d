"""The command line of an experiment: settings in, a line on the way out, and nothing but plain lines for errors."""

import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jevo.devices import is_exhausted
from jevo.errors import InputError
from jevo.runs.arguments import from_command_line
from jevo.runs.experiment import Experiment
from jevo.runs.processes import exit_process, is_peer_lost, several
from jevo.runs.signals import Interrupted, terminate_as_interrupt
from jevo.runs.system import system_reason


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> None:
    """Run an experiment as a command. Exits with 0 when done, 2 for bad input, 1 when the system refuses (a full
    disk), 130 when interrupted.

    Args:
        experiment: to run.
        arguments: its settings; by default the process's own.
    """
    with plain_errors():
        # What takes long before the run begins, such as preparing a data set, is said here.
        log = logging.getLogger("jevo")
        log.addHandler(logging.StreamHandler(sys.stdout))
        log.setLevel(logging.INFO)
        log.propagate = False  # A library may have given the root logger a handler, which would say it again.
        _hush_threads()
        terminate_as_interrupt()
        experiment.run(from_command_line(experiment.config, arguments))


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns what a user can cause into one line on standard error and an exit code; and has any text be written to a
    terminal of any encoding, or to none.

    Raises:
        SystemExit: 2 for bad input, 1 when the system refuses, 130 when interrupted, 141 when nobody reads the output.
    """
    _prepare_streams()
    try:
        _require_text(sys.argv)
        yield
        sys.stdout.flush()
    except BaseException as error:
        _end_plainly(error)
        raise


def _end_plainly(error: BaseException) -> None:
    """End the process with a line if the error is one that a user can cause."""
    if isinstance(error, InputError):
        _end(2, f"error: {error}")
    if is_exhausted(error):
        _end(2, f"error: not enough memory ({_first_line(error)}); take a smaller population, network or data set")
    if isinstance(error, UnicodeEncodeError):
        _end(2, f"error: {error.object!a} cannot be written as {error.encoding}; have a UTF-8 locale (LC_ALL)")
    if isinstance(error, BrokenPipeError):
        _end(141)
    if is_peer_lost(error):
        _end(
            1,
            f"error: another process of this run was lost ({_first_line(error)}); "
            "start all of them again: the run goes on from its last checkpoint",
        )
    # Nothing of what is on disk is lost by it: files are written whole, and the run can go on.
    if reason := system_reason(error):
        _end(1, f"error: {reason}; once that is mended, the same command goes on")
    if isinstance(error, OSError):
        _end(1, f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    if isinstance(error, Interrupted):
        # All processes have agreed to stop, and can leave in the ordinary way.
        print(error, file=sys.stderr)
        sys.exit(130)
    if isinstance(error, KeyboardInterrupt):
        _end(130, str(error) or "interrupted; the same command goes on from the last checkpoint")
    if isinstance(error, Exception) and several():
        traceback.print_exception(error)
        exit_process(1)


def _end(code: int, line: str = "") -> None:
    """Say a line, and end the process."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop(sys.stdout)
    if line:
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)
    # What libraries left half done is not complained of as the process ends: the line says all.
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    exit_process(code)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _prepare_streams() -> None:
    """Have the standard streams take any text. Those that were closed by whoever started this process lead nowhere: the
    next file that is opened would take their place, and be written into."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding has no character for, such as the end of a class called café, becomes \xe9.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _hush_threads() -> None:
    """Have nobody speak of an error beside the one line: Orbax's threads and asyncio's tasks log what they also raise,
    and TensorStore calls back into a loop that has ended with an error."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Where nobody reads what is logged, the next line that is printed tells.
    logging.raiseExceptions = False
    usual = sys.unraisablehook
    sys.unraisablehook = lambda it: None if str(it.exc_value) == "Event loop is closed" else usual(it)


def _drop(stream: Any) -> None:
    """Lead a stream nowhere, so that what it still holds is not complained of at the exit."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _require_text(arguments: list[str]) -> None:
    """Raise an InputError for an argument of bytes that are no text: it could not be written into the run's files."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raw = os.fsencode(argument)
            raise InputError(
                f"the argument {ascii(raw)[1:]} is not text in the encoding {sys.getfilesystemencoding()}; "
                "give it as UTF-8, or rename the file"
            ) from None
