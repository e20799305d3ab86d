"""Grids of pictures: grey, in colour, or of any other number of channels, of which the mean is shown."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jevo.plots.drawing import save


def image_grid(path: Path, images: np.ndarray, titles: Sequence[str], columns: int = 10) -> None:
    """Grey or colour pictures in a grid.

    Args:
        path: the PNG to write.
        images: `[n, height, width]` or `[n, height, width, channels]`; what is outside 0..1 is cut.
        titles: one each.
        columns: pictures in a row.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.3 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, title in zip(grid, images, titles, strict=False):
        axes.imshow(shown(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=7)
    save(figure, path)


def image_rows(path: Path, rows: Sequence[tuple[str, np.ndarray]]) -> None:
    """Rows of pictures one above another, each with its name.

    Args:
        path: the PNG to write.
        rows: name and images `[n, height, width, channels]`, as many in each; what is outside 0..1 is cut.
    """
    columns = len(rows[0][1])
    figure = Figure(figsize=(0.9 * columns + 1.2, 0.95 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, images) in zip(grid, rows, strict=True):
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
        for axes, image in zip(line, images, strict=True):
            axes.imshow(shown(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axes in grid.ravel():
        axes.axis("off")
    save(figure, path)


def shown(image: np.ndarray) -> np.ndarray:
    """`[height, width]`, or `[height, width, 3 or 4]` in colour, of a picture with any number of channels, in 0..1."""
    return np.clip(image if image.ndim == 2 or image.shape[2] in (3, 4) else image.mean(axis=2), 0, 1)
