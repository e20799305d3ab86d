"""Ctrl-C and SIGTERM: a run ends between two calls, with its state saved."""

import signal
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


class StopSignal:
    """Notes the first Ctrl-C or SIGTERM in `received`; a second one ends the process at once.

    Whoever holds it acts on what is noted when its state is saved, by raising `Interrupted`. What was noted, and not
    acted on by the end, is then handed to those who handle signals otherwise: none is lost.
    """

    def __enter__(self) -> "StopSignal":
        self.received = False
        self._number = 0
        self._old = {}
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[name] = signal.signal(name, self._note)
            except ValueError:  # Not the main thread (a notebook's worker): its owner handles signals.
                break
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.received, self._number = True, number
        self._restore()

    def _restore(self) -> None:
        for name, handler in self._old.items():
            signal.signal(name, handler)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._restore()
        if self.received and error is None:
            signal.raise_signal(self._number)


def terminate_as_interrupt() -> None:
    """Have SIGTERM, where no `StopSignal` notes it, do as Ctrl-C does: what is open is closed on the way out."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
