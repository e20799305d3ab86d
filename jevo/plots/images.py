"""Grids of pictures: grey, in colour, or of any other number of channels, of which the mean is shown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jevo.plots.drawing import save

SIDE, GAP = 0.9, 0.1
"""Of a picture, and between two [inches]."""
TITLE = 0.18
"""Height of the title over a picture [inches]."""
LETTER = 0.078
"""Width of a letter of 8 points, about [inches]."""


def image_grid(path: Path, images: np.ndarray, titles: Sequence[str], columns: int = 10) -> None:
    """Grey or colour pictures in a grid, each in a frame.

    Args:
        path: the PNG to write.
        images: `[n, height, width]` or `[n, height, width, channels]`; what is outside 0..1 is cut.
        titles: one each.
        columns: pictures in a row.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    axes = _sheet(columns * (SIDE + GAP) + GAP, rows * (SIDE + GAP + TITLE) + GAP)
    for i, (image, title) in enumerate(zip(images, titles, strict=False)):
        row, column = divmod(i, columns)
        left, top = GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP + TITLE)
        axes.text(left, top + TITLE - 0.05, title, ha="left", va="baseline", fontsize=7)
        _framed(axes, image, left, top + TITLE)
    save(_figure(axes), path)


def image_rows(path: Path, rows: Sequence[tuple[str, np.ndarray]]) -> None:
    """Rows of pictures one above another, each with its name.

    Args:
        path: the PNG to write.
        rows: name and images `[n, height, width, channels]`, as many in each; what is outside 0..1 is cut.
    """
    names = LETTER * max(min(len(name), 80) for name, _ in rows) + GAP
    axes = _sheet(names + len(rows[0][1]) * (SIDE + GAP) + GAP, len(rows) * (SIDE + GAP) + GAP)
    for i, (name, images) in enumerate(rows):
        top = GAP + i * (SIDE + GAP)
        axes.text(names - 0.02, top + SIDE / 2, name, ha="right", va="center", fontsize=8)
        for j, image in enumerate(images):
            _framed(axes, image, names + GAP / 2 + j * (SIDE + GAP), top)
    save(_figure(axes), path)


def shown(image: np.ndarray) -> np.ndarray:
    """`[height, width]`, or `[height, width, 3 or 4]` in colour, of a picture with any number of channels, in 0..1."""
    return np.clip(image if image.ndim == 2 or image.shape[2] in (3, 4) else image.mean(axis=2), 0, 1)


def _sheet(width: float, height: float) -> Axes:
    """A figure of one pair of axes, on which a unit is an inch, from its upper left corner: everything is in line."""
    axes = Figure(figsize=(width, height)).add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return axes


def _framed(axes: Axes, image: np.ndarray, left: float, top: float) -> None:
    """A picture in a square of `SIDE`, or in as much of its height or width as is its own shape."""
    height, width = image.shape[:2]
    width, height = SIDE * width / max(height, width), SIDE * height / max(height, width)
    left, top = left + (SIDE - width) / 2, top + (SIDE - height) / 2
    extent, limits = (left, left + width, top + height, top), (axes.get_xlim(), axes.get_ylim())
    axes.imshow(shown(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)
    axes.set(xlim=limits[0], ylim=limits[1])
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="0.6", lw=0.6))


def _figure(axes: Axes) -> Figure:
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure
