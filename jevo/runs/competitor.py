"""Who competed in a finished run, as its folder tells of them: what curves are drawn from, and can be drawn again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jevo.errors import InputError
from jevo.plots import Curve, Style, style
from jevo.runs.champion import Saved
from jevo.runs.contest import metrics_file
from jevo.runs.lines import read_generations
from jevo.runs.report import entries


class Competitor(NamedTuple):
    """One of those who competed.

    Attributes:
        title: what tables and figures call it.
        style: what it looks like.
        entry: its budget and metrics, as `result.json` holds them.
        file: of its metrics.
        lines: of that file, one for every generation; none if it is not there.
    """

    title: str
    style: Style
    entry: Mapping[str, Any]
    file: Path
    lines: Sequence[Mapping[str, Any]]

    def series(self, key: str) -> list[Any]:
        """A metric of every generation; None where a line is lost, or has none.

        Raises:
            InputError: if there is no line.
        """
        if not self.lines:
            raise InputError(f"{self.file} is not there, or holds no line that can be read: it is drawn from that")
        return [line.get(key) for line in self.lines]

    def has(self, key: str) -> bool:
        """Whether its last line has such a metric."""
        return bool(self.lines) and key in self.lines[-1]

    def by_generation(self, key: str, what: str = "", form: Any = "line") -> Curve:
        """A metric by generation; `what` says what it is, if the axis does not."""
        ys = self.series(key)
        return Curve(f"{self.title}, {what}" if what else self.title, self.style, range(1, len(ys) + 1), ys, form)

    def level(self, value: float) -> Curve:
        """What it has come to, beside the ways of others."""
        return Curve(self.title, self.style, [0], [value], "level")


def competitors(saved: Saved) -> list[Competitor]:
    """All who competed in a run: the experiment's own first, then its control, then any references."""
    names = ["", saved.result["control"]["name"], *saved.result["references"]]
    found = []
    for place, (name, (title, entry)) in enumerate(zip(names, entries(saved.result).items(), strict=True)):
        file = saved.folder / metrics_file(name.replace(" ", "_"), own="")
        found.append(Competitor(title, style(place), entry, file, read_generations(file)))
    return found
