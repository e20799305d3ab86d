"""What all plots share: files that are whole or not there, and text in lines."""

import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from jevo.data.files import atomic_file


def save(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write `path` as a PNG, whole or not at all, with so many pixels to the inch."""
    with atomic_file(path) as file:
        figure.savefig(file, dpi=dpi, format="png")


def wrapped(text: str, letters: int) -> list[str]:
    """Lines of at most so many letters, broken between parts rather than within one: "dropout .1" stays together."""
    parts = [part if len(part) >= letters else part.replace(" ", "\xa0") for part in text.split(", ")]
    return textwrap.wrap(", ".join(parts), letters, break_on_hyphens=False)
