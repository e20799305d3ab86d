"""The live line of a run, or its live table; plain lines where the output is not a terminal."""

import time
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 5.0
"""Seconds between two lines where the output is not a terminal."""


class _Screen:
    """Where a run is shown: something that moves, if the output is a terminal, and lines that stay above it.

    Args:
        transient: whether what moves is gone at the end.
    """

    def __init__(self, transient: bool = False):
        self._console = Console(highlight=False)
        self._transient = transient
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8, transient=self._transient)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(Text(line), soft_wrap=True)


class Progress(_Screen):
    """Shows one stage: generation, best and mean fitness, validation, evaluations per second, time left.

    Args:
        name: of the stage.
        total: generations.
        work: how much one generation does, and of what, such as (100, "evaluations").
    """

    def __init__(self, name: str, total: int, work: tuple[int, str]):
        super().__init__()
        self._name, self._total, self._work = name, total, work
        self._validation: float | None = None
        self._printed = 0.0

    def show(self, done: int, line: dict[str, Any], count: int, seconds: float) -> None:
        """Tell of the generations up to `done`, the last `count` of which took `seconds`."""
        if line.get("validation") is not None:
            self._validation = line["validation"]
        rate = count / max(seconds, 1e-9)
        work, unit = self._work
        parts = [
            f"{self._name}  generation {done}/{self._total}",
            f"best {_number(line['best'])}",
            f"mean {_number(line['mean'])}",
            f"validation {_number(self._validation)}",
            f"{rate * work:,.0f} {unit}/s",
            f"{duration((self._total - done) / rate)} left",
        ]
        text = "  ".join(parts)
        if self._live:
            self._live.update(Text(text))
        elif done == self._total or self._printed == 0 or time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            print(text, flush=True)


class LiveTable(_Screen):
    """Shows a search: the best so far in a table, and a line below it; plain lines where there is no terminal.

    Args:
        columns: of the table.
    """

    def __init__(self, columns: Sequence[str]):
        super().__init__(transient=True)
        self._columns = columns
        self._rows: Sequence[Sequence[str]] = ()
        self._line, self._printed = "", time.monotonic()

    def rank(self, rows: Sequence[Sequence[str]]) -> None:
        """Show these as the best so far."""
        self._rows = rows
        self._draw()

    def show(self, line: str) -> None:
        """Show how far it is; where there is no terminal, every few seconds."""
        self._line = line
        if self._live:
            self._draw()
        elif time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            print(line, flush=True)

    def _draw(self) -> None:
        if self._live:
            table = Table(*self._columns, title="the best so far", title_justify="left", box=None, pad_edge=False)
            for row in self._rows:
                table.add_row(*row)
            self._live.update(Group(table, Text(self._line)) if self._rows else Text(self._line))


def duration(seconds: float) -> str:
    """`1:05` for 65 seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
