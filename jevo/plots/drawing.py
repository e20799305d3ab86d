"""What all plots share: files that are whole or not there, of bounded size, and text that is taken by the letter."""

import textwrap
import warnings
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from jevo.data.files import atomic_file

_MOST = 40.0
"""Width and height of a figure, at most [inches]."""
_LETTERS = 80
"""In a line of text, at most."""


def save(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write `path` as a PNG, whole or not at all, with so many pixels to the inch."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(min(width, _MOST), min(height, _MOST))
    logarithms = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for label in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))
    }
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in logarithms:
            # A name may hold a dollar, and is no formula.
            text.set_parse_math(False)
            text.set_text("\n".join(shortened(line, _LETTERS) for line in text.get_text().splitlines()))
    with atomic_file(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Letters that the font lacks, labels that leave no room.
        figure.savefig(file, dpi=dpi, format="png")


def shortened(text: str, letters: int) -> str:
    """A text on one line, of at most so many letters."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= letters else f"{text[: letters - 3]}..."


def label(name: str, letters: int = 24) -> str:
    """A name for a legend, which hides those that begin with an underscore."""
    short = shortened(name, letters)
    return f" {short}" if short.startswith("_") else short


def wrapped(text: str, letters: int) -> list[str]:
    """Lines of at most so many letters, broken between parts rather than within one: "dropout .1" stays together."""
    parts = [part if len(part) >= letters else part.replace(" ", "\xa0") for part in text.split(", ")]
    return textwrap.wrap(", ".join(parts), letters, break_on_hyphens=False)
