"""The command line of an experiment: settings in, a line on the way out, and nothing but plain lines for errors."""

import logging
import sys
import traceback
from typing import Any

from jevo.errors import InputError
from jevo.runs.arguments import from_command_line
from jevo.runs.experiment import Experiment
from jevo.runs.processes import exit_process, is_peer_lost, several
from jevo.runs.signals import Interrupted


def main(experiment: Experiment) -> None:
    """Run an experiment as a command. Exits with 0 when done, 2 for bad input, 1 when the system refuses (a full
    disk), 130 when interrupted."""
    # What takes long before the run begins, such as preparing a data set, is said here.
    log = logging.getLogger("jevo")
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.setLevel(logging.INFO)
    log.propagate = False  # A library may have given the root logger a handler, which would say it again.
    with plain_errors():
        experiment.run(from_command_line(experiment.config))


class plain_errors:
    """Turns what a user can cause into one line on standard error and an exit code."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, InputError):
            print(f"error: {error}", file=sys.stderr)
            exit_process(2)
        if isinstance(error, OSError):
            # Nothing of what is on disk is lost by it: files are written whole, and the run can go on.
            print(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", file=sys.stderr)
            exit_process(1)
        if error and is_peer_lost(error):
            print(
                f"error: another process of this run was lost ({str(error).splitlines()[0]}); "
                "start all of them again: the run goes on from its last checkpoint",
                file=sys.stderr,
            )
            exit_process(1)
        if isinstance(error, (Interrupted, KeyboardInterrupt)):
            print(str(error) or "interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
            # All processes have agreed to stop; a second Ctrl-C is this one's alone.
            sys.exit(130) if isinstance(error, Interrupted) else exit_process(130)
        if isinstance(error, Exception) and several():
            traceback.print_exception(error)
            exit_process(1)
