"""Ctrl-C and SIGTERM: a run ends between two calls, with its state saved."""

import signal
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop, and has saved its state."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


class StopSignal:
    """Notes the first Ctrl-C or SIGTERM in `received`; a second one ends the process at once."""

    def __enter__(self) -> "StopSignal":
        self.received = False
        self._old = {}
        for name in (signal.SIGINT, signal.SIGTERM):
            try:
                self._old[name] = signal.signal(name, self._note)
            except ValueError:  # Not the main thread (a notebook's worker): its owner handles signals.
                break
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.received = True
        self._restore()

    def _restore(self) -> None:
        for name, handler in self._old.items():
            signal.signal(name, handler)

    def __exit__(self, *_: Any) -> None:
        self._restore()
