"""The live line of a run; plain lines where the output is not a terminal."""

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

PLAIN_SECONDS = 5.0
"""Seconds between two lines where the output is not a terminal."""


class Progress:
    """Shows one stage: generation, best and mean fitness, validation, evaluations per second, time left.

    Args:
        name: of the stage.
        total: generations.
        work: how much one generation does, and of what, such as (100, "evaluations").
    """

    def __init__(self, name: str, total: int, work: tuple[int, str]):
        self._name, self._total, self._work = name, total, work
        self._console = Console(highlight=False)
        self._live: Live | None = None
        self._validation: float | None = None
        self._printed = 0.0

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live:
            self._live.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(Text(line), soft_wrap=True)

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
            f"{_duration((self._total - done) / rate)} left",
        ]
        text = "  ".join(parts)
        if self._live:
            self._live.update(Text(text))
        elif done == self._total or self._printed == 0 or time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            print(text, flush=True)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
