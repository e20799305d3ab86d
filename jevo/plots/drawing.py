"""What all plots share: files that are whole or not there, of bounded size, numbers and text as people write them."""

import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWNBASE, CARETUPBASE
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, Formatter, Locator, LogFormatter, MaxNLocator, NullLocator, ScalarFormatter

from jevo.data.files import atomic_file

WIDTH = 10.0
"""Of most figures [inches]: a page shows them some 850 pixels wide, where letters of 10 points can still be read."""
DPI = 144
"""Pixels to the inch."""
_MOST = 40.0
"""Width and height of a figure, at most [inches]."""
LINE_LETTERS = 80
"""In a line of text, at most."""
_FENCE = 1.5
"""How far below the lower quartile a value may lie to be shown where it is, in distances of the quartiles (Tukey)."""


def save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write `path` as a PNG, whole or not at all, with so many pixels to the inch."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(min(width, _MOST), min(height, _MOST))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Where names are written, they stay.
            if isinstance(axis.get_major_formatter(), LogFormatter):
                if not isinstance(axis.get_major_locator(), FixedLocator):
                    axis.set_major_locator(_Logarithms())
                axis.set_major_formatter(_Numbers())
                axis.set_minor_locator(NullLocator())
            elif isinstance(axis.get_major_formatter(), ScalarFormatter):
                axis.set_major_formatter(_Numbers())
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            # A name may hold a dollar, and is no formula.
            text.set_parse_math(False)
            text.set_text("\n".join(shortened(line, LINE_LETTERS) for line in text.get_text().splitlines()))
    with atomic_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Letters that the font lacks, labels that leave no room.
        figure.savefig(file, dpi=dpi, format="png")


def bare(axes: Axes) -> None:
    """Axes with a light grid, and no frame that looks like a line."""
    axes.grid(alpha=0.25, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def number(value: float) -> str:
    """A number as people write it: `0.06`, `10,000`, `2.5M`; and `10⁻⁶` where there would be too many zeros.

    >>> [number(value) for value in (0.06, 10000.0, 2.5e6, 1e-6)]
    ['0.06', '10,000', '2.5M', '10⁻⁶']
    """
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.6f}".rstrip("0").rstrip(".")
    if 1e6 <= abs(value) < 1e12:
        return f"{value / 1e6:,.6f}".rstrip("0").rstrip(".") + "M"
    digits, _, power = f"{value:.3e}".partition("e")
    digits = digits.rstrip("0").rstrip(".")
    sign = {"1": "", "-1": "-"}.get(digits, f"{digits}\N{MULTIPLICATION SIGN}")
    return f"{sign}10{str(int(power)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def log_ticks(low: float, high: float) -> list[float]:
    """Three to nine round numbers from low to high, both above 0: powers of ten, or others where these are too few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, -(-(last - first) // 8))
    choices = [[10.0**power for power in range(first - first % every, last + 1, every)]]
    for digits in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        choices.append([digit * 10.0**power for power in range(first, last + 1) for digit in digits])
    # What is less than a decade may have no three round numbers of those.
    choices.append(list(MaxNLocator(5).tick_values(low, high)))
    within = [[tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)] for ticks in choices]
    return next((ticks for ticks in within if 4 <= len(ticks) <= 9), within[-1])


def fence(values: Sequence[float] | np.ndarray, log: bool = False) -> float:
    """The worst of many values that their axis need show: what is far worse would leave the best ones a flat line.

    Args:
        values: of which the highest is best; on a logarithmic axis they are losses, all above 0, and the least is best.
        log: whether it is such an axis.
    """
    scores = -np.log(values) if log else np.asarray(values, float)
    low, high = np.quantile(scores, [0.25, 0.75])
    worst = low - _FENCE * (high - low)
    return float(np.exp(-worst) * (1 + 1e-9) if log else worst)  # What is rounded on the way is not far worse.


def worse(values: np.ndarray, fence: float, log: bool) -> np.ndarray:
    """Which values lie beyond the fence, bool `[n]`."""
    return values > fence if log else values < fence


def dots(axes: Axes, x: Sequence[Any] | np.ndarray, y: np.ndarray, fence: float, log: bool, **look: Any) -> bool:
    """Values as dots; those beyond the fence are carets at the edge. Returns whether there are such."""
    beyond = worse(y, fence, log)
    axes.plot(np.compress(~beyond, x), y[~beyond], ls="", **look)
    if beyond.any():
        at_edge = {**look, "marker": caret(log), "ms": 6, "transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(np.compress(beyond, x), np.full(beyond.sum(), float(log)), ls="", **at_edge)
    return bool(beyond.any())


def caret(log: bool) -> Any:
    """The marker of what lies beyond the edge of an axis: upwards where low is good, else downwards."""
    return CARETUPBASE if log else CARETDOWNBASE


def shortened(text: str, letters: int) -> str:
    """A text on one line, of at most so many letters."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= letters else f"{text[: letters - 3]}..."


def label(name: str, letters: int = 40) -> str:
    """A name for a legend, which hides those that begin with an underscore."""
    short = shortened(name, letters)
    return f" {short}" if short.startswith("_") else short


def wrapped(text: str, letters: int) -> list[str]:
    """Lines of at most so many letters, broken between parts rather than within one: "dropout .1" stays together."""
    parts = [part if len(part) >= letters else part.replace(" ", "\xa0") for part in text.split(", ")]
    return textwrap.wrap(", ".join(parts), letters, break_on_hyphens=False)


class _Logarithms(Locator):
    """Round numbers on a logarithmic axis."""

    def __call__(self) -> list[float]:
        assert self.axis
        return self.tick_values(*sorted(self.axis.get_view_interval()))

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        return log_ticks(max(vmin, 1e-300), max(vmax, 1e-300))


class _Numbers(Formatter):
    """Numbers as people write them, all with as many decimals as tell the ticks apart, unless they are far apart."""

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        ticks = [float(f"{tick:.12g}") for tick in values]  # 0.1 may have come as 0.30000000000000004 - 0.2.
        sizes = [abs(tick) for tick in ticks]
        if sizes and (max(sizes) >= 1e6 or 0 < max(sizes) < 1e-4 or 0 < 50 * min(sizes) < max(sizes)):
            return [number(tick) for tick in ticks]
        decimals = max((len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in ticks), default=0)
        return [f"{round(tick, decimals) + 0.0:,.{decimals}f}" for tick in ticks]  # No minus before a zero.

    def __call__(self, x: float, pos: int | None = None) -> str:
        return number(float(f"{x:.12g}"))
