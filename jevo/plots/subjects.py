"""What is drawn, as plain tuples: whoever says what a picture shows need not wait for matplotlib."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from jevo.plots.palette import Style


class Curve(NamedTuple):
    """What is drawn of one who competes, or of a level to compare with.

    Attributes:
        name: in the legend.
        style: that tells whose it is.
        x, y: the points. A y value is a number, or a list with one number a seed, of which the median is drawn in a
            band from the least to the greatest; None where there is none.
        form: a `line`; a `thin` one, of what stands beside; `steps`, of what stays until it changes; `dots`; or a
            `level`, of one y value.
    """

    name: str
    style: Style
    x: Sequence[Any]
    y: Sequence[Any]
    form: Literal["line", "thin", "steps", "dots", "level"] = "line"


class Panel(NamedTuple):
    """Curves over one pair of axes.

    The experiment's own, wide and solid, lies below the dashes of the others: where they meet, both can be seen.

    Attributes:
        x, y: labels of the axes.
        curves: what is drawn.
        log: whether the y axis is logarithmic; then the least is best, of dots.
    """

    x: str
    y: str
    curves: Sequence[Curve]
    log: bool = False


class Layer(NamedTuple):
    """A layer as it is drawn.

    Attributes:
        name: such as "conv 5x5".
        shape: of what comes out of it for one example: `[height, width, channels]` or `[units]`.
        note: such as "stride 2, same, relu"; broken into lines at its commas.
    """

    name: str
    shape: tuple[int, ...]
    note: str


class Individual(NamedTuple):
    """A genome of a search and where it came from.

    Attributes:
        number: its own, unlike any other's.
        generation: that it was born in.
        parents: their numbers; all of earlier generations.
        score: NaN or infinite where there is none.
        label: what else to write beside it, a few words or nothing.
    """

    number: int
    generation: int
    parents: tuple[int, ...]
    score: float
    label: str
