"""The live line of a run, or its live table; plain lines where the output is not a terminal."""

import time
from collections.abc import Sequence
from typing import Any, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 5.0
"""Seconds between two lines where the output is not a terminal."""
_BAR = 24
"""Letters of a bar, at most."""


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
    """Shows one stage: that it compiles, and for how long; then generation, best and mean fitness, validation,
    evaluations per second, time left. On a terminal that is one line with a bar, as wide as the terminal at most.

    Args:
        name: of the stage.
        total: generations.
        work: how much one generation does, and of what, such as (100, "evaluations").
    """

    def __init__(self, name: str, total: int, work: tuple[int, str]):
        super().__init__()
        self._name, self._total, self._work = name.replace("_", " "), total, work
        self._validation: float | None = None
        self._printed = 0.0

    def compiling(self) -> None:
        """Tell that the stage's programs are made: nothing else will move until they are."""
        if self._live:
            self._live.update(_Clock(f"{self._name}  compiling"), refresh=True)
        else:
            print(f"{self._name}  compiling", flush=True)

    def show(self, done: int, line: dict[str, Any], count: int, seconds: float) -> None:
        """Tell of the generations up to `done`, the last `count` of which took `seconds`."""
        if line.get("validation") is not None:
            self._validation = line["validation"]
        rate = count / max(seconds, 1e-9)
        work, unit = self._work
        best, mean, found = (_number(value) for value in (line["best"], line["mean"], self._validation))
        speed, left = f"{rate * work:,.0f} {unit}/s", duration((self._total - done) / rate)
        if self._live:
            row = [self._name, f"{done:,}/{self._total:,}", f"best {best}", f"valid {found}", speed, left]
            self._live.update(_Row(row, done / max(self._total, 1)))
        elif done == self._total or self._printed == 0 or time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            parts = [f"generation {done}/{self._total}", f"best {best}", f"mean {mean}", f"validation {found}", speed]
            print("  ".join([self._name, *parts, f"{left} left"]), flush=True)


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


class _Clock:
    """Words, and how long they have been true."""

    def __init__(self, words: str):
        self._words, self._began = words, time.monotonic()

    def __rich__(self) -> Text:
        return Text(f"{self._words}  {duration(time.monotonic() - self._began)}")


class _Row:
    """Words on one line with a bar behind the first; the bar takes what room is left, and the last words go first
    where there is none.

    Args:
        words: most important first.
        share: of the bar that is full.
    """

    def __init__(self, words: Sequence[str], share: float):
        self._words, self._share = words, share

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words = list(self._words)
        while len(words) > 2 and len("  ".join(words)) > options.max_width:
            words.pop()
        room = min(options.max_width - len("  ".join(words)) - 2, _BAR)
        grid = Table.grid(padding=(0, 2, 0, 0))
        bar = [ProgressBar(total=1.0, completed=self._share, width=room)] if room >= 4 else []
        grid.add_row(Text(words[0]), *bar, *map(Text, words[1:]))
        yield grid


def duration(seconds: float) -> str:
    """`1:05` for 65 seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
