"""How those who compete look: each has one colour, line and marker, in every figure of every experiment."""

from typing import Any, NamedTuple

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, ORANGE, YELLOW, BLACK = "#56B4E9", "#E69F00", "#F0E442", "#000000"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK, YELLOW)
"""Colours that those who see fewer tell apart, too (Okabe and Ito, "Color universal design", 2008)."""
GREY = "0.55"
"""What is beside the point."""


class Style(NamedTuple):
    """What a contestant looks like; line and marker tell it without colour, too.

    Attributes:
        colour: of its line and its points.
        line: solid, or dashes as matplotlib has them.
        marker: of its points, as matplotlib has it.
        width: of its line [points].
    """

    colour: str
    line: Any
    marker: str
    width: float


OWN = Style(BLUE, "solid", "o", 2.0)
CONTROL = Style(VERMILION, (0, (5, 2)), "s", 1.5)
REFERENCES = (
    Style(GREEN, (0, (6, 2, 1, 2)), "^", 1.5),
    Style(PURPLE, (0, (1, 1.3)), "D", 1.7),
    Style(ORANGE, (0, (9, 3)), "v", 1.5),
    Style(SKY, (0, (6, 2, 1, 2, 1, 2)), "P", 1.5),
)
LEVEL = Style("0.4", (0, (1, 3)), "", 1.3)
"""A number to compare with, that nobody has sought: zero, or what the mean image would get."""


def style(place: int) -> Style:
    """Of the one in that place of a contest: 0 is the experiment, 1 its control, and all others are references."""
    return (OWN, CONTROL)[place] if place < 2 else REFERENCES[(place - 2) % len(REFERENCES)]
